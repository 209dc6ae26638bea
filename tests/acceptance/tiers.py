#!/usr/bin/env python3
"""Three tiers on an emulated accelerator: the same tokens, both budgets kept, links at their rates.

    tests/acceptance/tiers.py [--only tokens,link,disk] [--rounds 3] [--json F] MODEL [MODEL ...]

tokens: for every pair of --hbm and --dram, each with 10, 50 and 100 % of the weights above what a
    run needs there at least, and for --in-place auto, on and off: the greedy tokens of `--device
    cpu`; peak memory within both budgets and 64 MiB; nothing allocated while generating.
link: with DRAM for all weights, little HBM and a link of --link (2GB/s), so that the link is the
    bottleneck: the rate of copies while generating, as a share of that.
disk: with little of both, so that the disk is: its rate while generating, as a share of what `weir
    probe disk` and a run of `--device cpu --resident 0%` reach in the same round; arms interleave,
    beginning with another one every round. The link has --disk-link (4GB/s).

link and disk also make a --trace: how much of the time two and three legs (disk, link, compute) are
busy at once, and whether the bottleneck rests at token boundaries more than inside passes.

Emulated: the CPU poses as an accelerator; the figures say nothing about a GPU. Prints tables and
verdicts; exit code 1 when one of them is a failure.
"""

import argparse
import dataclasses
import itertools
import os
import sys
import tempfile

import legs
import verdicts
from measure import (MARGIN_BYTES, MIB, MeasureError, RunFailed, column, default_weir, greedy_run,
                     median_ratio, probe_disk, rotated, spread, table, weir_json)

SHARES = (10, 50, 100)  # of the weights
IN_PLACE = ("auto", "on", "off")
PARTS = ("tokens", "link", "disk")
CONTEXT = ("-c", "256", "-b", "64")
EMULATED = ("--device", "emulated")
TRACE_TOKENS = 24


@dataclasses.dataclass(frozen=True)
class Sizes:
    """What a model needs: its weights, and the least budgets of both tiers."""

    weight_bytes: int
    dram_floor_bytes: int
    hbm_floor_bytes: int

    def budgets(self, hbm_share, dram_share):
        """The options for shares, in percent, of the weights above the floors."""
        return ["--hbm", str(self.hbm_floor_bytes + self.weight_bytes * hbm_share // 100),
                "--dram", str(self.dram_floor_bytes + self.weight_bytes * dram_share // 100)]


def sizes_of(weir, model):
    plan = weir_json(weir, ["plan", model, *CONTEXT, *EMULATED])
    return Sizes(plan["resident_payload_bytes"] + plan["streamed_payload_bytes"],
                 plan["dram_floor_bytes"], plan["accelerator"]["hbm_floor_bytes"])


def judge(report, expected):
    """What is wrong with a run of the tokens part, or an empty text."""
    if report["tokens"] != expected:
        return f"other tokens: {report['tokens']}"
    if report["emulated"] is not True:
        return "it does not say that it was emulated"
    budget = report["dram_budget_bytes"] + report["hbm_budget_bytes"] + MARGIN_BYTES
    if report["peak_rss_bytes"] > budget:
        return f"{report['peak_rss_bytes'] - budget} bytes over both budgets and the margin"
    if report["hbm_bytes"] > report["hbm_budget_bytes"]:
        return f"{report['hbm_bytes']} bytes of HBM, budget {report['hbm_budget_bytes']}"
    if report["decode"]["allocations"]:  # null in builds that do not count
        return f"{report['decode']['allocations']} allocations while generating"
    return ""


def check_tokens(options, model, sizes):
    """One row for each pair of budgets and way to compute."""
    expected = greedy_run(options.weir, model, [*CONTEXT[2:], "--device", "cpu"],
                          options.tokens)["tokens"]
    rows = []
    for hbm, dram, in_place in itertools.product(SHARES, SHARES, IN_PLACE):
        row = {"model": model, "hbm": hbm, "dram": dram, "in_place": in_place}
        arguments = [*CONTEXT[2:], *EMULATED, *sizes.budgets(hbm, dram), "--in-place", in_place]
        try:
            report = greedy_run(options.weir, model, arguments, options.tokens)
            row |= {"problem": judge(report, expected), "weights": report["weights"],
                    "tokens_per_s": report["decode_tokens_per_s"],
                    "hbm_bytes": report["hbm_bytes"],
                    "hbm_budget_bytes": report["hbm_budget_bytes"],
                    "over_bytes": report["peak_rss_bytes"] - report["dram_budget_bytes"]
                    - report["hbm_budget_bytes"],
                    "allocations": report["decode"]["allocations"]}
        except RunFailed as failed:
            row["problem"] = f"exit code {failed.code}: {failed}"
        print(f"  HBM {hbm:3d} %, DRAM {dram:3d} %, in place {in_place:4s}: "
              f"{row['problem'] or 'the same tokens'}", flush=True)
        rows.append(row)
    return rows


def bench(options, model, arguments, tokens):
    return weir_json(options.weir, ["bench", model, "-p", 0, "-n", tokens, "-r", 1, "-c", 256,
                                    *arguments])


def tokens_for(options, model, arguments):
    """As many as last --decode-seconds."""
    speed = bench(options, model, arguments, 4)["decode_tokens_per_s"]
    return min(max(round(speed * options.decode_seconds), 8), 200)


def traced(options, model, arguments, bottleneck):
    """The legs of a run under these options."""
    with tempfile.TemporaryDirectory() as folder:
        trace = os.path.join(folder, "trace.json")
        report = greedy_run(options.weir, model, [*arguments, "--ignore-eos", "--trace", trace],
                            TRACE_TOKENS)
        return legs.summarise(legs.load(trace), report["decode"]["passes"], bottleneck)


def sample_of(report):
    return {"gb_per_s": report["decode"]["gb_per_s"],
            "link_gb_per_s": report["decode"].get("link_gb_per_s"),
            "tokens_per_s": report["decode_tokens_per_s"],
            "predicted_tokens_per_s": report["predicted_decode_tokens_per_s"],
            "predicted_bottleneck": report["predicted_bottleneck"],
            "simulated_tokens_per_s": report["simulated_decode_tokens_per_s"]}


def measure_link(options, model, sizes):
    arguments = [*EMULATED, *sizes.budgets(10, 100), "--in-place", "off", "--link-h2d",
                 options.link]
    tokens = tokens_for(options, model, arguments)
    asked = float(options.link.removesuffix("GB/s"))
    samples = []
    for index in range(options.rounds):
        samples.append(sample_of(bench(options, model, arguments, tokens)))
        print(f"  round {index + 1} link {samples[-1]['link_gb_per_s']:.3f} of {asked:.2f} GB/s, "
              f"{samples[-1]['tokens_per_s']:.2f} tok/s", flush=True)
    rates = column(samples, "link_gb_per_s")
    return {"model": model, "tokens": tokens, "asked_gb_per_s": asked, "samples": samples,
            "link_gb_per_s": dataclasses.asdict(spread(rates)),
            "of_asked": spread(rates).median / asked,
            "legs": traced(options, model, arguments, "link")}


def measure_disk(options, model, sizes):
    arguments = [*EMULATED, *sizes.budgets(10, 10), "--in-place", "off", "--link-h2d",
                 options.disk_link]
    cpu_arguments = ["--device", "cpu", "--resident", "0%"]
    tokens = tokens_for(options, model, arguments)
    pilot = bench(options, model, cpu_arguments, 4)
    disk = pilot["links"]["disk"]
    arms = [("probe", lambda: probe_disk(options.weir, pilot["model"], disk["block_bytes"],
                                         disk["depth"], options.seconds)),
            ("cpu", lambda: sample_of(bench(options, model, cpu_arguments, tokens))),
            ("tiers", lambda: sample_of(bench(options, model, arguments, tokens)))]
    samples = {name: [] for name, _ in arms}
    for index in range(options.rounds):
        for name, run in rotated(arms, index):
            samples[name].append(run())
            print(f"  round {index + 1} {name:5s} {samples[name][-1]['gb_per_s']:.3f} GB/s",
                  flush=True)
    rates = {name: column(values, "gb_per_s") for name, values in samples.items()}
    return {"model": model, "tokens": tokens, "samples": samples,
            "rates": {name: dataclasses.asdict(spread(values)) for name, values in rates.items()},
            "of": {name: {"of_medians": spread(rates["tiers"]).median / spread(rates[name]).median,
                          "median_of_rounds": median_ratio(rates["tiers"], rates[name])}
                   for name in ("probe", "cpu")},
            "legs": traced(options, model, arguments, "disk")}


def _text(values):
    return f"{values['median']:.3f} ({values['low']:.3f} to {values['high']:.3f})"


def _percents(*ratios):
    return ", ".join(f"{100 * ratio:.1f} %" for ratio in ratios)


def print_tokens(rows):
    print("\nTokens and memory\n")
    header = ["model", "HBM", "DRAM", "in place", "weights: HBM, DRAM, disk; in place", "tok/s",
              "HBM in use of budget, MiB", "above both budgets", "tokens"]
    lines = []
    for row in rows:
        line = [row["model"], f"{row['hbm']} %", f"{row['dram']} %", row["in_place"]]
        if "weights" in row:
            weights = row["weights"]
            line += [_percents(weights["hbm"], weights["dram"], weights["disk"]) + "; "
                     + _percents(weights["in_place"]), f"{row['tokens_per_s']:.2f}",
                     f"{row['hbm_bytes'] / MIB:.1f} of {row['hbm_budget_bytes'] / MIB:.1f}",
                     f"{row['over_bytes'] / MIB:.1f} MiB"]
        else:
            line += [""] * 4
        lines.append([*line, row["problem"] or "the same"])
    print(table(header, lines))


def _leg_cells(found):
    busy = found["busy"]
    return [_percents(busy["disk"], busy["link"], busy["compute"]),
            _percents(found["two_legs"], found["three_legs"]),
            _percents(found["idle_at_boundaries"], found["idle_inside"]),
            f"{found['longest_gap_at_boundaries_ms']:.2f}, {found['longest_gap_inside_ms']:.2f}"]


LEG_HEADER = ["busy: disk, link, compute", "two, three legs at once",
              "bottleneck idle: at boundaries, inside", "longest gap: there, inside, ms"]


def print_link(rows):
    print("\nThe link as bottleneck, emulated: median (min to max) while generating\n")
    print(table(["model", "link, GB/s", "of its rate", *LEG_HEADER],
                [[row["model"], _text(row["link_gb_per_s"]), _percents(row["of_asked"]),
                  *_leg_cells(row["legs"])] for row in rows]))


def print_disk(rows):
    print("\nThe disk as bottleneck, emulated. Ratios: of the medians, then the median of the "
          "rounds' ratios\n")
    print(table(["model", "disk, GB/s", "probe, GB/s", "CPU alone, GB/s", "of the probe",
                 "of the CPU alone", *LEG_HEADER],
                [[row["model"], *(_text(row["rates"][name]) for name in ("tiers", "probe", "cpu")),
                  *(_percents(*row["of"][name].values()) for name in ("probe", "cpu")),
                  *_leg_cells(row["legs"])] for row in rows]))


def parse_options():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", metavar="MODEL", help="GGUF files, or fetched names")
    parser.add_argument("--weir", default=default_weir())
    parser.add_argument("--only", default=",".join(PARTS), help="parts, such as tokens,link")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=16, help="of the tokens part")
    parser.add_argument("--decode-seconds", type=float, default=6)
    parser.add_argument("--seconds", type=float, default=2, help="of the probe")
    parser.add_argument("--link", default="2GB/s", help="rate of the throttled link")
    parser.add_argument("--disk-link", default="4GB/s", help="rate of the link, disk part")
    parser.add_argument("--json", metavar="FILE", help="every sample and every figure")
    options = parser.parse_args()
    options.only = options.only.split(",")
    if options.rounds < 1 or not set(options.only) <= set(PARTS):
        parser.error(f"--rounds is at least 1 and --only some of {','.join(PARTS)}")
    return options


def measure_all(options):
    results = {part: [] for part in PARTS}
    for model in options.models:
        sizes = sizes_of(options.weir, model)
        for part in options.only:
            print(f"{model}, {part}:", flush=True)
            if part == "tokens":
                results[part] += check_tokens(options, model, sizes)
            else:
                run = measure_link if part == "link" else measure_disk
                results[part].append(run(options, model, sizes))
    return results


def main():
    options = parse_options()
    try:
        results = measure_all(options)
    except MeasureError as error:
        sys.exit(f"tiers: {error}")
    except RunFailed as failed:
        sys.exit(f"tiers: a run failed with exit code {failed.code}: {failed}")
    judged = verdicts.of_tiers(results)
    for part, show in (("tokens", print_tokens), ("link", print_link), ("disk", print_disk)):
        if results[part]:
            show(results[part])
    return verdicts.conclude(judged, results, options.json)


if __name__ == "__main__":
    sys.exit(main())
