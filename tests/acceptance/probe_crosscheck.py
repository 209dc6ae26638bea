#!/usr/bin/env python3
"""What `weir probe` measures against independent tools, in the same run: every round visits both,
by turns, and medians over the rounds are held against each other.

    tests/acceptance/probe_crosscheck.py [--rounds 5] [--seconds 2] [--json F] FILE

- the disk against fio with the same block size and depth, O_DIRECT, within 5 %: reading on, and
  4 KiB anywhere. As root fio reads into huge pages, as weir does, and vm.nr_hugepages is set for
  that; else into small ones, and a disk that takes few segments at a time is then slower for fio;
- memory's read rate against likwid-bench's load_avx, within 10 %. Of Debian's tools it alone does
  what is measured here: vector loads and nothing else, on every hardware thread at once, each
  pinned, over memory of one's choice. mbw copies (its rate counts one side of a copy, of one
  thread), and sysbench reads a word at a time, which a core's arithmetic bounds before memory does;
- where latency leaves each cache against the size that the machine tells: from half to double; of
  the last cache from a quarter on, since others use it, too;
- bytes read against the kernel's count for the process and for the device, within 2 %.

lmbench, which would measure latencies, is not in Debian's main archive, so it is left out.

Needs fio and likwid (Debian: apt-get install fio likwid), AVX, and a machine that does nothing
else. Prints tables and verdicts; exit code 1 when one of them is a failure.
"""

import argparse
import os
import pathlib
import re
import statistics
import subprocess
import sys

import fio
import rounds
from measure import (MeasureError, RunFailed, column, default_weir, device_read_bytes,
                     find_program, parse_size, probe_disk, spread, table, weir_json)
from verdicts import KERNEL_TOLERANCE, Verdict, conclude

DISK_TOLERANCE = 0.05
DRAM_TOLERANCE = 0.10
STEP_RANGE = (0.5, 2)
LAST_STEP_RANGE = (0.25, 2)
MIB = 1 << 20
# Reading on, then small reads alone and many at once: block size, depth, random.
# weir's go through a ring of 24 MiB at least, fio's through what is in flight alone, and little
# memory stays in caches: large reads are compared where as much is in flight.
READS = ((MIB, 32, False), (4 * MIB, 8, False), (4096, 1, True), (4096, 64, True))
MEMORY_BYTES = 1 << 30
CACHES = pathlib.Path("/sys/devices/system/cpu/cpu0/cache")


def ratio_verdict(what, own, other, tolerance, name):
    """Of medians over the rounds: what weir measured by what `name` did."""
    ratio = statistics.median(own) / statistics.median(other)
    return Verdict(what, abs(ratio - 1) <= tolerance,
                   f"weir {spread(own).text(3)}, {name} {spread(other).text(3)} GB/s: "
                   f"{100 * ratio:.1f} %, wanted within {100 * tolerance:.0f} %")


def parse_likwid(text):
    """GB/s of likwid-bench's report, which counts in 10^6 bytes."""
    found = re.search(r"^MByte/s:\s+([0-9.]+)$", text, re.MULTILINE)
    if not found:
        raise ValueError("likwid-bench told no rate")
    return float(found.group(1)) * 1e-3


def run_likwid(threads):
    """Vector loads of as many threads over as much memory as `weir probe memory` reads. malloc
    asks for huge pages, as weir does: small ones halve the rate of some machines, whoever reads."""
    command = [find_program("likwid-bench", "likwid"), "-t", "load_avx", "-w",
               f"N:{MEMORY_BYTES // 10**6}MB:{threads}"]
    environment = {**os.environ, "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment,
                          stdin=subprocess.DEVNULL)
    try:
        return {"gb_per_s": parse_likwid(done.stdout)}
    except ValueError as error:
        raise RunFailed(done.returncode, (done.stderr or str(error)).strip()[-300:]) from error


def step_verdicts(levels):
    """`levels`: {name: (capacity in bytes, where latency left it in each round)}, nearest first."""
    judged = []
    for index, (name, (capacity, steps)) in enumerate(levels.items()):
        low, high = LAST_STEP_RANGE if index == len(levels) - 1 else STEP_RANGE
        found = statistics.median(steps)
        judged.append(Verdict(
            f"latency leaves {name} near its size", low <= found / capacity <= high,
            f"at {found / 1024:.0f} KiB of {capacity // 1024}, {found / capacity:.2f} of it, "
            f"wanted {low} to {high}"))
    return judged


def kernel_verdict(samples):
    """Of weir's arms on the disk: bytes read, and the kernel's count of them."""
    ratios = [sample["kernel_bytes"] / sample["bytes"] for sample in samples
              if sample["kernel_bytes"] is not None]
    what = "kernel's count of the bytes"
    if not ratios:
        return Verdict(what, None, "the kernel does not count")
    worst = max(ratios, key=lambda ratio: abs(ratio - 1))
    passed = abs(worst - 1) <= KERNEL_TOLERANCE
    found = f"process count / weir's count at worst {worst:.4f}"
    device = [sample["device_bytes"] / sample["bytes"] for sample in samples
              if sample["device_bytes"] is not None]
    if device:  # Others may read meanwhile, and the file's own blocks are found there.
        passed = passed and min(device) >= 1 - KERNEL_TOLERANCE
        found += f"; device's count / weir's {min(device):.4f} to {max(device):.4f}"
    return Verdict(what, passed, found)


def told_caches():
    """{"L1": bytes, ...} of the first CPU's data caches, as the kernel tells them."""
    caches = {}
    for folder in sorted(CACHES.glob("index*")):
        if (folder / "type").read_text().strip() != "Instruction":
            level = "L" + (folder / "level").read_text().strip()
            caches[level] = parse_size((folder / "size").read_text())
    return caches


def size_verdict(levels, told):
    """What weir has from hwloc against what the kernel tells."""
    wrong = [f"{name}: {capacity} and {told.get(name)} bytes"
             for name, (capacity, _) in levels.items() if told.get(name) != capacity]
    return Verdict("sizes of the caches, hwloc and kernel", not wrong if told else None,
                   "; ".join(wrong) or f"{len(levels)} caches, equal")


def disk_cell(options, read):
    block_bytes, depth, is_random = read
    extra = fio.RANDOM_OPTIONS if is_random else ()
    huge = (fio.HUGE_OPTION,) if options.huge_pages else ()
    setting = fio.Setting(block_bytes, depth, options=(*extra, *huge))

    def probe():
        before = device_read_bytes(options.file)
        sample = probe_disk(options.weir, options.file, block_bytes, depth, options.seconds,
                            is_random)
        device = None if before is None else device_read_bytes(options.file) - before
        return {**sample, "device_bytes": device}

    return rounds.Cell(setting.text() + (" anywhere" if is_random else ""),
                       [("weir", probe),
                        ("fio", lambda: fio.run(options.file, setting,
                                                fio.for_seconds(options.seconds)))])


def memory_cell(options):
    threads = len(os.sched_getaffinity(0))

    def probe():
        report = weir_json(options.weir, ["probe", "memory", "--threads", threads, "--rounds", 1,
                                          "--seconds", options.seconds])
        return {"gb_per_s": report["read"]["gb_per_s"], "bytes": report["bytes"]}

    return rounds.Cell("memory read", [("weir", probe), ("likwid", lambda: run_likwid(threads))])


def cache_cell(options):
    def probe():
        levels = weir_json(options.weir, ["probe", "cpu", "--rounds", 3])["levels"]
        return {"levels": {level["level"]: [level["capacity_bytes"], level["step_bytes"] or 0]
                           for level in levels if level["capacity_bytes"]}}

    return rounds.Cell("caches", [("weir", probe)])


def describe(sample):
    if "levels" in sample:
        return ", ".join(f"{name} {step / 1024:.0f} KiB"
                         for name, (_, step) in sample["levels"].items())
    return f"{sample['gb_per_s']:.3f} GB/s"


def judge(samples):
    """The verdicts on rounds.measure()'s samples."""
    judged, rows = [], []
    probed = []
    for name, arms in samples.items():
        if name == "caches":
            continue
        other, tolerance = ("likwid", DRAM_TOLERANCE) if "likwid" in arms else ("fio",
                                                                                DISK_TOLERANCE)
        own, others = column(arms["weir"], "gb_per_s"), column(arms[other], "gb_per_s")
        judged.append(ratio_verdict(name, own, others, tolerance, other))
        rows.append([name, spread(own).text(3), f"{other} {spread(others).text(3)}",
                     f"{100 * statistics.median(own) / statistics.median(others):.1f} %"])
        if other == "fio":
            probed += arms["weir"]
    print("\n" + table(["what", "weir, GB/s", "other, GB/s", "weir of other"], rows))
    judged.append(kernel_verdict(probed))
    first = samples["caches"]["weir"][0]["levels"]
    levels = {name: (capacity, [sample["levels"][name][1]
                                for sample in samples["caches"]["weir"]])
              for name, (capacity, _) in first.items()}
    judged.append(size_verdict(levels, told_caches()))
    return judged + step_verdicts(levels)


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weir", default=default_weir())
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=2, help="of each reading")
    parser.add_argument("--no-huge-pages", dest="huge_pages", action="store_false",
                        default=os.access(fio.HUGE_PAGES, os.W_OK))
    parser.add_argument("--json", help="write all results here")
    parser.add_argument("file", metavar="FILE", help="on the disk; larger than its cache")
    options = parser.parse_args()
    if options.rounds < 1 or options.seconds <= 0:
        parser.error("--rounds and --seconds: more than 0")
    return options


def main():
    options = parse_arguments()
    try:
        find_program("likwid-bench", "likwid")  # before an hour was spent
        find_program("fio", "fio")
        cells = [*(disk_cell(options, read) for read in READS), memory_cell(options),
                 cache_cell(options)]
        settings = {"file": options.file, "seconds": options.seconds,
                    "huge_pages": options.huge_pages}
        samples = rounds.measure(cells, options.rounds, settings, describe, options.json)
    except (MeasureError, RunFailed) as error:
        print(f"probe_crosscheck: {error}", file=sys.stderr)
        return 2
    disturbed, whole = rounds.disturbed(samples)
    print(f"\n{disturbed} of {whole} samples were taken beside other programs. lmbench is not in "
          "Debian's main archive: latencies have no other tool here")
    return conclude(judge(samples), {"settings": settings, "samples": samples}, options.json)


if __name__ == "__main__":
    sys.exit(main())
