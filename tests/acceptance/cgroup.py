"""A memory cgroup of one's own, version 1 or 2 (man 7 cgroups; the kernel's
Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/memory.rst). Needs root.
"""

import contextlib
import itertools
import os
import pathlib
import threading
import time

ROOT = pathlib.Path("/sys/fs/cgroup")
_counter = itertools.count()  # one that a dying process still holds is not met again


class CgroupError(Exception):
    """Why there can be no such cgroup here, and what to do."""


def numbers(text):
    """The lines "name value" of a statistics file, as a dictionary."""
    fields = (line.split() for line in text.splitlines())
    return {pair[0]: int(pair[1]) for pair in fields if len(pair) == 2 and pair[1].isdigit()}


class MemoryCgroup:
    """Made with the object, removed by close() or at the end of a `with`.

    `limit` sets its size; `enter`, as a preexec_fn, puts a child into it. Memory is charged to the
    cgroup that a process is in when it first touches a page, and stays charged there.
    """

    def __init__(self, name="weir", root=ROOT):
        self.is_v1 = (root / "memory/memory.limit_in_bytes").exists()
        parent = root / "memory" if self.is_v1 else root
        try:
            if not self.is_v1:
                _enable_memory(root)
            self.path = parent / f"{name}_{os.getpid()}_{next(_counter)}"
            self.path.mkdir()
        except OSError as error:
            raise CgroupError(f"no memory cgroup can be made in {parent}: {error.strerror}; this "
                              "needs root, and in a container a writable /sys/fs/cgroup") from error

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    @property
    def procs(self):
        return self.path / "cgroup.procs"

    def limit(self, size_bytes):
        name = "memory.limit_in_bytes" if self.is_v1 else "memory.max"
        (self.path / name).write_text(str(size_bytes))

    def forbid_swap(self, size_bytes):
        """To be called after limit() with the same size; without swap accounting, a no-op."""
        name, value = (("memory.memsw.limit_in_bytes", size_bytes) if self.is_v1 else
                       ("memory.swap.max", 0))
        with contextlib.suppress(OSError):
            if (self.path / name).exists():
                (self.path / name).write_text(str(value))

    def enter(self):
        self.procs.write_text(str(os.getpid()))

    def pages(self):
        """(bytes of files in the page cache, bytes of anonymous memory) charged to it now."""
        stat = numbers((self.path / "memory.stat").read_text())
        return (stat["cache"], stat["rss"]) if self.is_v1 else (stat["file"], stat["anon"])

    def peak_bytes(self):
        """The most that was ever charged; None where the kernel does not say (v2 before 5.19)."""
        path = self.path / ("memory.max_usage_in_bytes" if self.is_v1 else "memory.peak")
        return int(path.read_text()) if path.exists() else None

    def oom_kills(self):
        name = "memory.oom_control" if self.is_v1 else "memory.events"
        return numbers((self.path / name).read_text()).get("oom_kill", 0)

    def close(self):
        for _ in range(50):  # a killed process takes a moment to leave
            try:
                self.path.rmdir()
                return
            except FileNotFoundError:
                return
            except OSError:
                time.sleep(0.05)


def _enable_memory(root):
    controllers = root / "cgroup.controllers"
    if not controllers.exists() or "memory" not in controllers.read_text().split():
        raise CgroupError(f"{root} is neither a cgroup v2 hierarchy with the memory controller nor "
                          "does it hold memory/ of v1")
    control = root / "cgroup.subtree_control"
    if "memory" not in control.read_text().split():
        control.write_text("+memory")


class Watch:
    """Looks at a cgroup's pages from a thread, for the length of a `with`."""

    def __init__(self, cgroup, interval_s=0.1):
        self.samples = []  # (file bytes, anonymous bytes)
        self._cgroup = cgroup
        self._interval_s = interval_s
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._ended.set()
        self._thread.join()

    def _look(self):
        while not self._ended.wait(self._interval_s):
            self.samples.append(self._cgroup.pages())

    def peaks(self):
        """(most file bytes, most anonymous bytes) that were seen."""
        return tuple(max(values) for values in zip(*self.samples)) if self.samples else (0, 0)
