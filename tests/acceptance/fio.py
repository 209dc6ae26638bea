"""O_DIRECT reads of a file by fio, the figure that others would measure."""

import contextlib
import dataclasses
import json
import os
import pathlib
import resource
import subprocess

import measure

HUGE_PAGE_BYTES = 2 << 20
HUGE_PAGES = pathlib.Path("/proc/sys/vm/nr_hugepages")
HUGE_OPTION = "--iomem=mmaphuge"  # buffers in huge pages, as weir's are
# Small reads anywhere, a block again and again if it comes so; fio takes the last --rw.
RANDOM_OPTIONS = ("--rw=randread", "--norandommap")


@dataclasses.dataclass(frozen=True)
class Setting:
    """How fio reads: size of a read, reads in flight, and options beside them."""

    block_bytes: int
    depth: int
    engine: str = "io_uring"
    options: tuple = ()

    def text(self):
        return f"{self.block_bytes // 1024} KiB x {self.depth}"


WHOLE_FILE = ()  # once


def for_seconds(seconds):
    """From the start of the file, and again after its end."""
    return ("--time_based", f"--runtime={seconds}")


def one_block(setting):
    """To see what fio costs by itself."""
    return (f"--io_size={setting.block_bytes}",)


@contextlib.contextmanager
def huge_pages(setting):
    """Room for fio's buffers in huge pages; what was there before comes back. Needs root."""
    before = HUGE_PAGES.read_text()
    needed = setting.block_bytes * setting.depth // HUGE_PAGE_BYTES + 8
    try:
        HUGE_PAGES.write_text(str(int(before) + needed))
        yield
    finally:
        HUGE_PAGES.write_text(before)


def command(path, setting, length):
    return [measure.find_program("fio", "fio"), "--name=read", f"--filename={path}", "--readonly",
            "--rw=read", "--direct=1", "--thread", f"--ioengine={setting.engine}",
            f"--bs={setting.block_bytes}", f"--iodepth={setting.depth}", "--group_reporting",
            "--output-format=json", *length, *setting.options]


def parse(text):
    """{"gb_per_s", "bytes"} of fio's report, which may follow lines of warnings."""
    begin = text.find("{")
    if begin < 0:
        raise ValueError("fio wrote no JSON")
    jobs = json.loads(text[begin:])["jobs"]
    if jobs[0]["error"] != 0:
        raise ValueError(f"fio reports: {os.strerror(jobs[0]['error'])}")
    read = jobs[0]["read"]
    return {"gb_per_s": read["bw_bytes"] * 1e-9, "bytes": read["io_bytes"]}


def run(path, setting, length):
    """parse()'s and "cpu_s", user and system time of all of fio's threads. Raises RunFailed."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    room = huge_pages(setting) if HUGE_OPTION in setting.options else contextlib.nullcontext()
    with room:
        done = subprocess.run(command(path, setting, length), check=False, capture_output=True,
                              text=True, stdin=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    try:
        result = parse(done.stdout)
    except (ValueError, KeyError, IndexError) as error:
        said = done.stderr.strip() or str(error)
        raise measure.RunFailed(done.returncode, said[-300:]) from error
    if done.returncode != 0:
        raise measure.RunFailed(done.returncode, done.stderr.strip()[-300:])
    cpu_s = (after.ru_utime + after.ru_stime) - (before.ru_utime + before.ru_stime)
    return {**result, "cpu_s": cpu_s}


def sweep(path, settings, seconds, rounds=2):
    """[(Setting, median GB/s)], interleaved, best first."""
    rates = {setting: [] for setting in settings}
    for index in range(rounds):
        for setting in measure.rotated(list(settings), index):
            rates[setting].append(run(path, setting, for_seconds(seconds))["gb_per_s"])
    medians = [(setting, measure.spread(values).median) for setting, values in rates.items()]
    return sorted(medians, key=lambda pair: -pair[1])
