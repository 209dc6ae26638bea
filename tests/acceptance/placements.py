#!/usr/bin/env python3
"""The same greedy tokens under every placement, reader, thread count and fault mix, within memory.

    tests/acceptance/placements.py [--weir build/weir] [--cgroup] MODEL [MODEL ...]

For each model: residency of 10, 25, 50, 75 and 100 %, both readers, 1 and 2 threads, and each
residency once more with 5 % of reads cut short and 5 % delayed. Prints one line a run and fails
when tokens differ or the peak memory exceeds the budget and 64 MiB. With --cgroup (root, cgroup v1
or v2 with the memory controller) every run is repeated inside a memory cgroup of exactly that size.
"""

import argparse
import itertools
import sys

from cgroup import CgroupError, MemoryCgroup
from measure import MARGIN_BYTES, RunFailed, greedy_run

SHARES = (10, 25, 50, 75, 100)
FAULTS = "seed=7,short=5%,spike=5%:5ms"


def run(weir, model, options, tokens, cgroup=None):
    """The --json of one run, or an explanation of how it ended."""
    try:
        return greedy_run(weir, model, options, tokens, cgroup.enter if cgroup else None)
    except RunFailed as failed:
        return f"exit code {failed.code}: {failed}"


def variants():
    for share, reader, threads in itertools.product(SHARES, ("uring", "threads"), (1, 2)):
        yield share, ["--reader", reader, "-t", str(threads)], f"{reader} -t {threads}"
    for share in SHARES:
        yield share, ["--faults", FAULTS], "faults"


def judge(result, expected):
    if isinstance(result, str):
        return result
    if expected is not None and result["tokens"] != expected:
        return f"other tokens: {result['tokens']}"
    over = result["peak_rss_bytes"] - result["dram_budget_bytes"] - MARGIN_BYTES
    return f"{over} bytes over budget and margin" if over > 0 else ""


def check_model(weir, model, tokens, cgroup):
    expected, failures, most = None, 0, 0
    budgets = {}
    for share, options, name in variants():
        arguments = options + ["--resident", f"{share}%"]
        result = run(weir, model, arguments, tokens)
        problem = judge(result, expected)
        if not problem:
            expected = expected or result["tokens"]
            budgets[share] = result["dram_budget_bytes"]
            most = max(most, result["peak_rss_bytes"] - result["dram_budget_bytes"])
            inside = ""
            if cgroup:
                cgroup.limit(budgets[share] + MARGIN_BYTES)
                budget = options + ["--dram", str(budgets[share])]
                problem = judge(run(weir, model, budget, tokens, cgroup), expected)
                inside = ", the same in its cgroup" if not problem else ""
            print(f"{model} {share:3d} % {name:11s} budget {budgets[share] / 2**20:7.1f} MiB, peak "
                  f"{result['peak_rss_bytes'] / 2**20:7.1f} MiB, resident "
                  f"{100 * result['resident_share']:5.1f} %, "
                  f"{result['decode_tokens_per_s']:6.2f} tok/s{inside}", flush=True)
        if problem:
            failures += 1
            print(f"FAILED {model} {share} % {name}: {problem}", flush=True)
    print(f"{model}: {len(expected or [])} tokens, the same in all runs but {failures}; at most "
          f"{most / 2**20:.1f} MiB above the budget", flush=True)
    return failures


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weir", default="build/weir")
    parser.add_argument("--cgroup", action="store_true")
    parser.add_argument("-n", type=int, default=16, help="tokens to generate")
    parser.add_argument("models", nargs="+", metavar="MODEL")
    arguments = parser.parse_args()
    try:
        cgroup = MemoryCgroup("weir_placements") if arguments.cgroup else None
    except CgroupError as error:
        parser.error(str(error))
    try:
        failures = sum(check_model(arguments.weir, model, arguments.n, cgroup)
                       for model in arguments.models)
    finally:
        if cgroup:
            cgroup.close()
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
