"""Measuring in rounds: every round visits all cells, each cell all of its arms, beginning with
another one each time. Samples are kept in a file as they come, so that what was interrupted goes on
where it stopped."""

import dataclasses
import json
import os
import pathlib
import resource
import sys
import time

from measure import MeasureError, rotated, write_json

MOST_OTHERS_CPUS = 0.1  # the kernel counts in ticks, and something always runs


@dataclasses.dataclass(frozen=True)
class Cell:
    name: str
    arms: list  # of (name, function that returns a sample, a dictionary)


def complete_rounds(samples):
    """{arm: samples} without those of a round in which not all arms ran."""
    rounds = min(map(len, samples.values()), default=0)
    return {arm: column[:rounds] for arm, column in samples.items()}


def resumed(path, settings):
    """The samples of an earlier run with the same settings, {cell: {arm: [sample]}}; none where
    there is no such file. Raises MeasureError where its settings are others."""
    if not pathlib.Path(path).exists():
        return {}
    try:
        results = json.loads(pathlib.Path(path).read_text(encoding="utf-8"))["results"]
        earlier, samples = results["settings"], results["samples"]
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise MeasureError(f"--resume: {path} holds no samples of this script") from error
    for name in sorted({*settings, *earlier}):
        if settings.get(name) != earlier.get(name):
            raise MeasureError(f"--resume: {path} was measured with {name} {earlier.get(name)}, "
                               f"now it is {settings.get(name)}. Begin anew without --resume")
    return {cell: complete_rounds(arms) for cell, arms in samples.items()}


def remaining_s(cells, samples, rounds):
    """Seconds to come, from what the runs so far took; None before the first. A cell that did not
    run yet is taken for one like the mean of those that did."""
    means = {}
    for cell in cells:
        times = [[sample["run_s"] for sample in column] for column in samples[cell.name].values()]
        if all(times):
            means[cell.name] = sum(sum(column) / len(column) for column in times)
    if not means:
        return None
    mean = sum(means.values()) / len(means)
    todo = {cell.name: rounds - len(complete_rounds(samples[cell.name])[cell.arms[0][0]])
            for cell in cells}
    return sum(max(0, todo[cell.name]) * means.get(cell.name, mean) for cell in cells)


def busy_s(stat):
    """CPU seconds of all programs, and of the hypervisor's others where it tells, since the machine
    came up; `stat`: the text of /proc/stat (man 5 proc)."""
    user, nice, system, _, _, irq, softirq, steal = map(int, stat.split("\n")[0].split()[1:9])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def _children_s():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def timed(run):
    """A sample with the seconds it took and how many CPUs were busy meanwhile with anything but its
    programs: more than a little, and the sample is of a machine that did something else, too."""
    stat = pathlib.Path("/proc/stat")
    begin_s, others_s = time.monotonic(), busy_s(stat.read_text()) - _children_s()
    sample = run()
    run_s = time.monotonic() - begin_s
    others_s = busy_s(stat.read_text()) - _children_s() - others_s
    return {**sample, "run_s": run_s, "others_cpus": max(0, others_s / run_s)}


def disturbed(samples):
    """How many of how many samples were taken beside other programs."""
    shares = [sample["others_cpus"] for arms in samples.values() for column in arms.values()
              for sample in column]
    return sum(share > MOST_OTHERS_CPUS for share in shares), len(shares)


def _others_text(sample):
    if sample["others_cpus"] <= MOST_OTHERS_CPUS:
        return ""
    return f"; other programs kept {sample['others_cpus']:.1f} CPUs busy"


def _time_text(seconds):
    return "" if seconds is None else f", {seconds / 60:.0f} min to go"


def measure(cells, rounds, settings, describe, path=None, earlier=None):
    """{cell: {arm: samples in the order of the rounds}}, of as many rounds or more where `earlier`
    has more. `earlier`: as `resumed` gives them, cells that are none of these included;
    `describe(sample)`: what a line of progress says of it; `path`: where samples are kept."""
    earlier = earlier or {}
    samples = {cell.name: {arm: list(earlier.get(cell.name, {}).get(arm, []))
                           for arm, _ in cell.arms} for cell in cells}
    samples = {name: complete_rounds(arms) for name, arms in samples.items()}
    for index in range(rounds):
        for cell in cells:
            own = samples[cell.name]
            if len(own[cell.arms[0][0]]) > index:
                continue  # of an earlier run
            for arm, run in rotated(cell.arms, index):
                own[arm].append(timed(run))
                last = own[arm][-1]
                print(f"  round {index + 1} of {rounds}"
                      f"{_time_text(remaining_s(cells, samples, rounds))}: {cell.name}, {arm}: "
                      f"{describe(last)}{_others_text(last)}", file=sys.stderr, flush=True)
            write_json(path, {"results": {"settings": settings,
                                          "samples": {**earlier, **samples}}})
    return samples
