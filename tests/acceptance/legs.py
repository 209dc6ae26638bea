"""The three legs of a run with an accelerator, from its --trace: disk, link, compute.

How busy each is, how much they overlap, and whether the bottleneck rests where one token ends and
the next begins. All times in seconds; intervals are (begin, end), sorted and apart where said.
"""

import bisect
import dataclasses
import json
import pathlib

LEGS = ("disk", "link", "compute")
# At both sides of a token boundary: what lies in this share of a pass belongs to the boundary.
NEAR_SHARE = 0.02


def union(intervals):
    """Sorted, apart."""
    merged = []
    for begin, end in sorted(intervals):
        if merged and begin <= merged[-1][1]:
            merged[-1][1] = max(merged[-1][1], end)
        elif end > begin:
            merged.append([begin, end])
    return [tuple(interval) for interval in merged]


def overlap_s(intervals, begin, end):
    """How much of [begin, end] the intervals, sorted and apart, cover."""
    first = max(0, bisect.bisect_left(intervals, (begin,)) - 1)
    covered = 0.0
    for low, high in intervals[first:]:
        if low >= end:
            break
        covered += max(0.0, min(high, end) - max(low, begin))
    return covered


def gaps(intervals, begin, end):
    """What of [begin, end] the intervals, sorted and apart, leave out."""
    found, at = [], begin
    for low, high in intervals:
        if low > at:
            found.append((at, min(low, end)))
        at = max(at, high)
        if at >= end:
            break
    if at < end:
        found.append((at, end))
    return [(low, high) for low, high in found if high > low]


def busy_at_once(legs, begin, end):
    """{k: share of [begin, end] in which at least k legs are busy}. `legs`: {name: intervals}."""
    steps = []
    for intervals in legs.values():
        for low, high in intervals:
            low, high = max(low, begin), min(high, end)
            if high > low:
                steps += [(low, 1), (high, -1)]
    steps.sort()
    shares, busy, at = dict.fromkeys(range(1, len(legs) + 1), 0.0), 0, begin
    for moment, change in steps:
        for count in range(1, busy + 1):
            shares[count] += moment - at
        at, busy = moment, busy + change
    return {count: seconds / (end - begin) for count, seconds in shares.items()}


@dataclasses.dataclass(frozen=True)
class Timeline:
    legs: dict  # {name of LEGS: intervals, sorted and apart}
    passes: list  # (begin, end), in order


def parse(events):
    """From the traceEvents of `weir run --trace`."""
    names = {event["tid"]: event["args"]["name"] for event in events
             if event["ph"] == "M" and event["name"] == "thread_name"}
    found = {leg: [] for leg in LEGS}
    passes = []
    for event in events:
        if event["ph"] != "X":
            continue
        interval = (event["ts"] * 1e-6, (event["ts"] + event["dur"]) * 1e-6)
        track = names[event["tid"]]
        if track == "passes":
            passes.append(interval)
        elif track.startswith("disk "):
            found["disk"].append(interval)
        elif track == "link":
            found["link"].append(interval)
        else:  # the CPU's and the accelerator's steps
            found["compute"].append(interval)
    return Timeline({leg: union(intervals) for leg, intervals in found.items()}, sorted(passes))


def load(path):
    document = json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
    if document["otherData"]["dropped_records"]:
        raise ValueError(f"{path}: the trace was full; generate fewer tokens")
    return parse(document["traceEvents"])


def _share_of(seconds, whole):
    return seconds / whole if whole > 0 else 0.0


def summarise(timeline, passes, bottleneck):
    """The figures of the last `passes` passes. `bottleneck`: which leg must not rest."""
    chosen = timeline.passes[-passes:]
    begin, end = chosen[0][0], chosen[-1][1]
    near_s = NEAR_SHARE * (end - begin) / len(chosen)
    boundaries = [(before[1] - near_s, after[0] + near_s)
                  for before, after in zip(chosen, chosen[1:])]
    idle = gaps(timeline.legs[bottleneck], begin, end)
    idle_s = sum(high - low for low, high in idle)
    boundary_s = sum(high - low for low, high in boundaries)
    idle_at_boundaries_s = sum(overlap_s(idle, low, high) for low, high in boundaries)
    longest_at, longest_inside = 0.0, 0.0
    for low, high in idle:
        if overlap_s(boundaries, low, high) > 0:
            longest_at = max(longest_at, high - low)
        else:
            longest_inside = max(longest_inside, high - low)
    at_once = busy_at_once(timeline.legs, begin, end)
    return {"passes": len(chosen), "seconds": end - begin, "bottleneck": bottleneck,
            "busy": {leg: _share_of(overlap_s(intervals, begin, end), end - begin)
                     for leg, intervals in timeline.legs.items()},
            "two_legs": at_once[2], "three_legs": at_once[3],
            "idle_at_boundaries": _share_of(idle_at_boundaries_s, boundary_s),
            "idle_inside": _share_of(idle_s - idle_at_boundaries_s, end - begin - boundary_s),
            "longest_gap_at_boundaries_ms": longest_at * 1e3,
            "longest_gap_inside_ms": longest_inside * 1e3}
