#!/usr/bin/env python3
"""Ways to read a file in large blocks, against plain io_uring: rate and CPU time per GB, by fio.

    tests/bench/uring_modes.py [--block 1M] [--depth 32] [--rounds 5] [--json F] FILE

Registered buffers, registered files, both, SQPOLL (a kernel thread submits), IOPOLL (completions
are polled for), libaio, and as many threads as the depth with blocking reads. O_DIRECT, sequential,
the file read once before anything counts; every round visits all, beginning with another each time.
CPU time is user and system time of fio's process, the SQPOLL thread included, less what fio takes
to start and to read one block; beside it the busy time of the whole machine (interrupts, kernel
workers, and everything else that runs: have nothing else run).

Needs fio (Debian: apt-get install fio), a file larger than the disk's own cache, and 1 GiB of free
memory at most. SQPOLL needs root or Linux 5.11; IOPOLL needs a device with polled queues, which
most virtual disks lack: then its row says so.
"""

import argparse
import dataclasses
import os
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "acceptance"))

import fio
from measure import (MeasureError, RunFailed, device_folder, machine, median_ratio, parse_size,
                     rotated, spread, table, write_json)

PLAIN = "io_uring"


def modes(block_bytes, depth, file_bytes):
    """{name: fio.Setting}, plain io_uring first."""
    def uring(*options):
        return fio.Setting(block_bytes, depth, "io_uring", options)

    # Each thread reads a part of its own, in whole blocks.
    part_bytes = max(file_bytes // depth // block_bytes, 1) * block_bytes
    threads = (f"--numjobs={depth}", f"--offset_increment={part_bytes}", f"--size={part_bytes}")
    return {
        PLAIN: uring(),
        "registered buffers": uring("--fixedbufs=1"),
        "registered file": uring("--registerfiles=1"),
        "both": uring("--fixedbufs=1", "--registerfiles=1"),
        "SQPOLL": uring("--sqthread_poll=1"),
        "SQPOLL and both": uring("--sqthread_poll=1", "--fixedbufs=1", "--registerfiles=1"),
        "IOPOLL": uring("--hipri=1"),
        "libaio": fio.Setting(block_bytes, depth, "libaio"),
        "threads, pread": fio.Setting(block_bytes, 1, "psync", threads),
    }


def has_polled_queues(path):
    """None: not known. Partitions have no queue of their own: the disk's counts."""
    folder = device_folder(path)
    if folder is None:
        return None
    folder = folder.resolve()
    disk = folder if (folder / "queue").exists() else folder.parent
    switch = disk / "queue/io_poll"
    return switch.read_text().strip() == "1" if switch.exists() else None


def machine_busy_s():
    """Seconds that all CPUs together were busy, since they came up (man 5 proc)."""
    ticks = map(int, pathlib.Path("/proc/stat").read_text().splitlines()[0].split()[1:9])
    user, nice, system, _idle, _iowait, irq, softirq, _steal = ticks
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")


def why_not(name, path, error):
    if name == "IOPOLL" and has_polled_queues(path) is False:
        return "not supported: the device has no polled queues (queue/io_poll is 0)"
    if isinstance(error, RunFailed):
        return f"not supported here: {str(error).splitlines()[-1]}"
    return ""


def try_modes(path, candidates):
    """({name: Setting} of what works, {name: why not}): one short run of each."""
    working, refused = {}, {}
    for name, setting in candidates.items():
        try:
            if name == "IOPOLL" and has_polled_queues(path) is False:
                raise RunFailed(None, "no polled queues")
            fio.run(path, setting, fio.for_seconds(1))
            working[name] = setting
        except RunFailed as error:
            refused[name] = why_not(name, path, error)
    return working, refused


def measure(path, setting, seconds):
    own_s = fio.run(path, setting, fio.one_block(setting))["cpu_s"]
    busy_before_s = machine_busy_s()
    result = fio.run(path, setting, fio.for_seconds(seconds))
    gigabytes = result["bytes"] * 1e-9
    return {"gb_per_s": result["gb_per_s"],
            "cpu_s_per_gb": max(result["cpu_s"] - own_s, 0) / gigabytes,
            "machine_s_per_gb": (machine_busy_s() - busy_before_s) / gigabytes}


def run_rounds(path, working, options):
    samples = {name: [] for name in working}
    for index in range(options.rounds):
        for name in rotated(list(working), index):
            samples[name].append(measure(path, working[name], options.seconds))
            print(f"  round {index + 1} {name:18s} {samples[name][-1]['gb_per_s']:6.2f} GB/s",
                  file=sys.stderr, flush=True)
    return samples


def rows(samples):
    plain = [sample["gb_per_s"] for sample in samples[PLAIN]]
    for name, runs in samples.items():
        rates = [run["gb_per_s"] for run in runs]
        yield [name, spread(rates).text(), f"{100 * median_ratio(rates, plain):.1f} %",
               *(spread(1e3 * run[field] for run in runs).text(0)
                 for field in ("cpu_s_per_gb", "machine_s_per_gb"))]


def parse_options():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", metavar="FILE")
    parser.add_argument("--block", type=parse_size, default=1 << 20, help="of each read (1M)")
    parser.add_argument("--depth", type=int, default=32, help="reads in flight (32)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=2, help="of each run")
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args()
    if min(options.rounds, options.seconds, options.depth, options.block) < 1:
        parser.error("--block, --depth, --rounds and --seconds are at least 1")
    return options


def main():
    options = parse_options()
    try:
        file_bytes = os.stat(options.file).st_size
        candidates = modes(options.block, options.depth, file_bytes)
        working, refused = try_modes(options.file, candidates)
        if PLAIN not in working:
            raise MeasureError(f"io_uring itself does not work here: {refused[PLAIN]}")
        fio.run(options.file, candidates[PLAIN], fio.WHOLE_FILE)
        samples = run_rounds(options.file, working, options)
    except MeasureError as error:
        sys.exit(f"uring_modes: {error}")
    except RunFailed as failed:
        sys.exit(f"uring_modes: fio failed: {failed}")
    except OSError as error:
        sys.exit(f"uring_modes: {error.filename}: {error.strerror}")
    print(f"Reads of {candidates[PLAIN].text()}, {options.rounds} rounds of {options.seconds} s; "
          "median (min to max)\n")
    print(table(["how", "GB/s", "of plain io_uring", "CPU, ms per GB", "machine, ms per GB"],
                [*rows(samples), *([name, why, "", "", ""] for name, why in refused.items())]))
    write_json(options.json, {"machine": machine(), "file": options.file, "samples": samples,
                              "not_supported": refused,
                              "settings": {name: dataclasses.asdict(setting)
                                           for name, setting in candidates.items()}})
    return 0


if __name__ == "__main__":
    sys.exit(main())
