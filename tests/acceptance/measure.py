"""What the measuring scripts share: running weir, counters of the kernel, medians, tables."""

import argparse
import dataclasses
import json
import math
import os
import pathlib
import re
import shutil
import statistics
import subprocess
import tempfile

MIB = 1 << 20
MARGIN_BYTES = 64 * MIB  # beside the budget: program, stacks, vocabulary
SECTOR_BYTES = 512  # of /sys/block/*/stat, whatever the device's own

_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "KIB": 1 << 10, "MIB": 1 << 20,
          "GIB": 1 << 30, "KB": 10**3, "MB": 10**6, "GB": 10**9, "B": 1}


class MeasureError(Exception):
    """What cannot be measured here and what to do, for the user."""


class RunFailed(Exception):
    """A program ended with an error; `code` is negative for a signal, None if it took too long."""

    def __init__(self, code, message):
        super().__init__(message)
        self.code = code


@dataclasses.dataclass(frozen=True)
class Spread:
    median: float
    low: float
    high: float

    def text(self, digits=2):
        return f"{self.median:.{digits}f} ({self.low:.{digits}f} to {self.high:.{digits}f})"


def spread(values):
    values = list(values)
    return Spread(statistics.median(values), min(values), max(values))


def column(samples, field):
    return [sample[field] for sample in samples]


def median_ratio(numerators, denominators):
    """The median over the rounds of each round's own ratio."""
    return statistics.median(a / b for a, b in zip(numerators, denominators, strict=True))


def error_percent(predicted, achieved):
    return 100 * (predicted / achieved - 1)


def parse_size(text):
    """Bytes of "600MB", "500MiB", "1M" (as fio and weir: binary) or "12345"."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)", text.strip())
    if not match or match.group(2).upper() not in _UNITS:
        raise argparse.ArgumentTypeError(f"'{text}' is no size; write it like 500MiB, 600MB or 1M")
    return math.floor(float(match.group(1)) * _UNITS[match.group(2).upper()])


def parse_shares(text):
    """Percentages such as "0,25,50"."""
    parts = text.split(",")
    if not all(part.isdecimal() and int(part) <= 100 for part in parts):
        raise argparse.ArgumentTypeError(f"'{text}': write shares of the weights like 0,25,50")
    return [int(part) for part in parts]


def rotated(arms, round_index):
    """The arms of one round: each round begins with another, so that none always comes first."""
    begin = round_index % len(arms)
    return arms[begin:] + arms[:begin]


def find_program(name, package):
    path = shutil.which(name)
    if path is None:
        raise MeasureError(f"{name} is not installed; on Debian: apt-get install {package}")
    return path


def default_weir():
    return str(pathlib.Path(__file__).resolve().parent.parent.parent / "build/weir")


def seeded_runs(description, runs):
    """The arguments of a script that does many seeded runs of one model."""
    parser = argparse.ArgumentParser(description=description,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weir", default=default_weir())
    parser.add_argument("--runs", type=int, default=runs)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", help="write all results here")
    parser.add_argument("model", metavar="MODEL")
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}")
    return arguments


def run_json(command, out_path, preexec=None, limit_s=3600):
    """Runs `command`, which writes JSON to `out_path`, and returns that. Raises RunFailed."""
    try:
        done = subprocess.run(command, check=False, stdin=subprocess.DEVNULL, capture_output=True,
                              text=True, errors="replace", preexec_fn=preexec, timeout=limit_s)
    except subprocess.TimeoutExpired as error:
        raise RunFailed(None, f"no end within {limit_s} s") from error
    except FileNotFoundError as error:
        raise MeasureError(f"{command[0]} is not there; build it with tools/build, or name it with "
                           "--weir") from error
    if done.returncode != 0:
        raise RunFailed(done.returncode, (done.stderr or done.stdout).strip()[-400:])
    return json.loads(pathlib.Path(out_path).read_text(encoding="utf-8"))


def weir_json(weir, arguments, preexec=None, limit_s=3600, prefix=()):
    """The --json of one run of weir. `prefix`: words before the command."""
    with tempfile.TemporaryDirectory() as folder:
        out = os.path.join(folder, "out.json")
        command = [*prefix, weir, *map(str, arguments), "--json", out]
        return run_json(command, out, preexec, limit_s)


PROMPT = "Write one sentence about rivers."


def greedy_run(weir, model, options, tokens, preexec=None):
    """The --json of `weir run` with a prompt that is always the same, temperature 0."""
    return weir_json(weir, ["run", model, PROMPT, "--temp", "0", "-n", tokens, "-c", "256",
                            *options], preexec=preexec)


def probe_disk(weir, path, block_bytes, depth, seconds, is_random=False):
    """`weir probe disk` with reads of one size and depth: its rate and the bytes it read."""
    order = ["--random"] if is_random else []
    probed = weir_json(weir, ["probe", "disk", path, "--reader", "uring", "--block", block_bytes,
                              "--depth", depth, "--seconds", seconds, "--rounds", 1,
                              *order])
    cell = probed["cells"][0]
    return {"gb_per_s": cell["gb_per_s"], "bytes": cell["read_bytes"],
            "kernel_bytes": cell["kernel_read_bytes"]}


def device_folder(path):
    """The folder in /sys of the device or partition that holds a file; None if it has none."""
    number = os.stat(path).st_dev
    folder = pathlib.Path(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}")
    return folder if (folder / "stat").exists() else None


def device_read_bytes(path):
    """Read from the device that holds a file since it came up, by everybody; None: not known."""
    folder = device_folder(path)
    if folder is None:
        return None
    return int((folder / "stat").read_text().split()[2]) * SECTOR_BYTES


def drop_page_cache(path):
    """Asks the kernel to drop the file's pages; those that somebody maps or writes stay."""
    with open(path, "rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def table(header, rows):
    """Markdown, so that it can be pasted into docs/performance.md."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def write_json(path, document):
    if path:
        text = json.dumps(document, indent=1) + "\n"
        pathlib.Path(path).write_text(text, encoding="utf-8")


def machine():
    """What a table must say of where it was made."""
    names = re.findall(r"^model name\s*: (.*)$", pathlib.Path("/proc/cpuinfo").read_text(),
                       re.MULTILINE)
    release = os.uname()
    memory_kib = int(re.search(r"MemTotal:\s+(\d+)",
                               pathlib.Path("/proc/meminfo").read_text()).group(1))
    return {"cpu": names[0] if names else release.machine, "cpus": len(os.sched_getaffinity(0)),
            "memory_gib": round(memory_kib / (1 << 20), 1), "kernel": release.release}
