"""What gpu_check finds on the machine: its own files (of a bundle or of a checkout), the GPU, time,
and the synthetic models that it writes."""

import contextlib
import ctypes
import dataclasses
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

from measure import MeasureError, RunFailed, run_json

ROOT = pathlib.Path(__file__).resolve().parent.parent
GIB = 1 << 30
GB = 10**9
DAY_S = 86400
TOOLKIT = pathlib.Path("/usr/local/cuda")
ROOM_BYTES = 2 * GIB  # of a disk, that stays free


class Skipped(Exception):
    """A part that cannot be measured here; the reason, for the user."""


class OutOfTime(Exception):
    """A part has reached its bound: what it has so far counts."""


@dataclasses.dataclass(frozen=True)
class Place:
    """Where the programs and the data are."""

    kind: str  # "bundle" or "checkout"
    weir: pathlib.Path
    tests: pathlib.Path  # the folder of the test binaries
    root: pathlib.Path = ROOT  # the tests run here

    def build(self):
        """What is known of how it was built."""
        if self.kind == "bundle":
            return json.loads((self.root / "BUILD.json").read_text(encoding="utf-8"))
        done = subprocess.run(["git", "-C", str(self.root), "describe", "--always", "--abbrev=40",
                               "--dirty"], check=False, capture_output=True, text=True)
        return {"commit": done.stdout.strip() or "unknown"}


def find_place(root=ROOT):
    if (root / "BUILD.json").exists():
        return Place("bundle", root / "bin/weir", root / "bin", root)
    return Place("checkout", root / "build/weir", root / "build/tests", root)


@dataclasses.dataclass(frozen=True)
class Gpu:
    name: str
    memory_bytes: int
    driver: str  # the newest CUDA that it serves, such as "13.0"


def _ask(driver, function, *arguments):
    code = getattr(driver, function)(*arguments)
    if code != 0:
        raise MeasureError(f"the NVIDIA driver answers {function} with error {code}"
                           + (" (no GPU is there)" if code == 100 else ""))


def find_gpu(number, library="libcuda.so.1"):
    """The GPU as the driver describes it. MeasureError says why there is none."""
    try:
        driver = ctypes.CDLL(library)
    except OSError as error:
        raise MeasureError(f"the NVIDIA driver's library cannot be loaded ({error})") from error
    _ask(driver, "cuInit", 0)
    count, handle, version = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
    _ask(driver, "cuDeviceGetCount", ctypes.byref(count))
    if number >= count.value:
        raise MeasureError(f"there is no GPU number {number}: the driver has {count.value}")
    _ask(driver, "cuDeviceGet", ctypes.byref(handle), number)
    _ask(driver, "cuDriverGetVersion", ctypes.byref(version))
    name, memory = ctypes.create_string_buffer(256), ctypes.c_size_t()
    _ask(driver, "cuDeviceGetName", name, len(name), handle)
    _ask(driver, "cuDeviceTotalMem_v2", ctypes.byref(memory), handle)
    return Gpu(name.value.decode(errors="replace"), memory.value,
               f"{version.value // 1000}.{version.value % 1000 // 10}")


def find_cublas():
    """Where the system has no cuBLAS but a package of this Python has one, the programs that this
    script starts shall find that."""
    for name in ("libcublas.so.13", "libcublas.so.12"):
        if (TOOLKIT / "lib64" / name).exists():
            return
        with contextlib.suppress(OSError):
            ctypes.CDLL(name)
            return
    for entry in sys.path:
        for library in sorted(pathlib.Path(entry).glob("nvidia/*/lib/libcublas.so.*")):
            before = os.environ.get("LD_LIBRARY_PATH")
            os.environ["LD_LIBRARY_PATH"] = ":".join(filter(None, [before, str(library.parent)]))
            return


def run_group(command, limit_s, cwd=None):
    """(exit code, output) of a program; the code is None when it had to be stopped, with all the
    programs that it started."""
    with subprocess.Popen(command, cwd=cwd, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, errors="replace",
                          start_new_session=True) as process:
        try:
            output, _ = process.communicate(timeout=min(max(limit_s, 0.01), DAY_S))
            return process.returncode, output
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            output, _ = process.communicate()
            return None, output


def available_memory_bytes():
    """What the kernel says may still be taken; weir itself knows more (cgroups)."""
    for line in pathlib.Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) << 10
    return 0


@dataclasses.dataclass(frozen=True)
class Model:
    """A synthetic model that gpu_check writes: a preset of `weir synth` in one format."""

    preset: str
    format: str
    gb: float  # of its file, about; 0: too small to count

    @property
    def name(self):
        return f"{self.preset} {self.format}"


LARGE = {"Q4_K": Model("8b", "Q4_K", 4.6), "Q8_0": Model("8b", "Q8_0", 8.6),
         "BF16": Model("8b", "BF16", 16.1), "70b": Model("70b", "Q4_K", 39.8)}
SMALL = {"Q4_K": Model("tiny", "Q4_K", 0), "Q8_0": Model("tiny", "Q8_0", 0),
         "BF16": Model("tiny", "BF16", 0), "70b": Model("tiny", "Q4_K", 0)}


@dataclasses.dataclass
class Check:
    """One run of gpu_check: what the parts share."""

    place: Place
    folder: pathlib.Path
    device: str
    device_options: list  # for weir
    small: bool
    gpu: Gpu | None
    clock: object = time.monotonic
    deadline: float = float("inf")

    @property
    def is_emulated(self):
        return self.device == "emulated"

    def begin(self, bound_s):
        self.deadline = self.clock() + bound_s

    def left_s(self):
        return self.deadline - self.clock()

    def need_time(self, seconds=0.0):
        if self.left_s() <= seconds:
            raise OutOfTime

    def weir(self, *arguments):
        """The --json of one run of weir, which ends with the part at the latest."""
        self.need_time()
        out = self.folder / "out.json"
        out.unlink(missing_ok=True)
        command = [str(self.place.weir), *map(str, arguments), "--json", str(out)]
        try:
            return run_json(command, out, limit_s=self.left_s())
        except RunFailed as error:
            if error.code is None:
                raise OutOfTime from error
            raise

    def model(self, key):
        """The file of a model, written when it is not there."""
        model = (SMALL if self.small else LARGE)[key]
        path = self.folder / f"{model.preset}-{model.format}.gguf"
        if path.exists():
            return path
        self._make_room(model)
        self.need_time()
        begin = self.clock()
        code, output = run_group([str(self.place.weir), "synth", str(path), "--preset",
                                  model.preset, "--format", model.format], self.left_s())
        if code is None:
            for partial in self.folder.glob(f"{path.name}.*.partial"):
                partial.unlink()
            raise OutOfTime
        if code != 0:
            raise RunFailed(code, output.strip()[-400:])
        gigabytes = path.stat().st_size / GB
        print(f"wrote {path.name}: {gigabytes:.1f} GB in {self.clock() - begin:.0f} s", flush=True)
        return path

    def _make_room(self, model):
        """Of models that this script wrote, the others may go; what others own stays."""
        needed = int(model.gb * GB) + ROOM_BYTES
        if self.small or shutil.disk_usage(self.folder).free >= needed:
            return
        for other in LARGE.values():
            path = self.folder / f"{other.preset}-{other.format}.gguf"
            if other != model and path.exists():
                print(f"removes {path.name} to make room", flush=True)
                path.unlink()
        free = shutil.disk_usage(self.folder).free
        if free < needed:
            raise Skipped(f"{model.name} needs {needed / GB:.0f} GB of disk, {self.folder} has "
                          f"{free / GB:.0f} free; name another folder with --folder")

    def need_memory(self, what, needed_bytes):
        free = available_memory_bytes()
        if free < needed_bytes:
            raise Skipped(f"{what} needs {needed_bytes / GB:.1f} GB of memory, "
                          f"{free / GB:.1f} are free")


def make_folder(path):
    path.mkdir(parents=True, exist_ok=True)
    # Where weir keeps what it measured of disks: with the run, not with the user.
    os.environ["XDG_CACHE_HOME"] = str(path / "cache")
