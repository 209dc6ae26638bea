"""Measuring in rounds: every round visits all cells, each cell all of its arms, beginning with
another one each time. Samples are kept in a file as they come, so that what was interrupted goes on
where it stopped."""

import dataclasses
import json
import pathlib
import sys
import time

from measure import MeasureError, rotated, write_json


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
                begin_s = time.monotonic()
                sample = run()
                own[arm].append({**sample, "run_s": time.monotonic() - begin_s})
                print(f"  round {index + 1} of {rounds}"
                      f"{_time_text(remaining_s(cells, samples, rounds))}: {cell.name}, {arm}: "
                      f"{describe(sample)}", file=sys.stderr, flush=True)
            write_json(path, {"results": {"settings": settings,
                                          "samples": {**earlier, **samples}}})
    return samples
