#!/usr/bin/env python3
"""Streaming at the disk's own rate: what weir reads while it generates, against `weir probe disk`
and fio on the same file in the same minutes, and its speed against max(disk, compute).

    tests/acceptance/disk_leg.py [--rounds 5] [--residents 0,25,50,75] [--json F] MODEL [MODEL ...]

Each round runs, beginning with another arm every time: the probe and fio at the engine's block size
and depth, fio at the best setting of a sweep made first, `weir bench` for every residency, and
once with everything resident for the compute time. All reads are O_DIRECT. Warm means: each file
was read once before, so that caches beyond this machine (a virtual disk's host) serve all arms
alike; each bench has one run before the one that counts. Bytes read are confirmed by the kernel's
count for the process (/proc/self/io) and for the device, on which nothing else should run.

Needs fio (Debian: apt-get install fio) and memory for the whole model. --cgroup (root) also runs
each residency in a memory cgroup of exactly its budget and 64 MiB; --huge-pages (root) has fio read
into huge pages, too, and for that sets vm.nr_hugepages during those runs.

Prints one table and the verdicts; exit code 1 when one of them is a failure.
"""

import argparse
import dataclasses
import pathlib
import statistics
import sys

import fio
import verdicts
from cgroup import CgroupError, MemoryCgroup
from measure import (MARGIN_BYTES, MIB, MeasureError, RunFailed, column, default_weir,
                     device_read_bytes, error_percent, median_ratio, parse_shares,
                     parse_size, probe_disk, rotated, spread, table, weir_json)

PILOT_TOKENS = 4
MIN_TOKENS, MAX_TOKENS = 4, 256


@dataclasses.dataclass
class Arm:
    """One thing that every round measures: run() gives one sample, a dictionary."""

    name: str
    run: object
    share: int | None = None  # of the weights, for a bench


def run_fio(model, setting, seconds):
    return fio.run(model, setting, fio.for_seconds(seconds))


def run_probe(options, model, setting):
    return probe_disk(options.weir, model, setting.block_bytes, setting.depth, options.seconds)


def bench_arguments(model, share, tokens, options):
    return ["bench", model, "-p", 0, "-n", tokens, "-r", 1, "--resident", f"{share}%", "-t",
            options.threads]


def sample_of(report):
    """What is kept of the --json of a bench. `tokens_per_s` etc. are of the repetition that
    counts, the kernel's bytes and the peak are of the whole process."""
    decode = report["decode"]
    return {"tokens_per_s": report["decode_tokens_per_s"], "gb_per_s": decode["gb_per_s"],
            "read_bytes": decode["read_bytes"], "kernel_bytes": decode["kernel_bytes"],
            "decode_s": decode["seconds"],
            "streamed_bytes_per_pass": report["streamed_bytes_per_pass"],
            "process_bytes": report["links"]["disk"]["kernel_bytes"],
            "predicted_tokens_per_s": report["predicted_decode_tokens_per_s"],
            "predicted_bottleneck": report["predicted_bottleneck"],
            "simulated_tokens_per_s": report.get("simulated_decode_tokens_per_s"),
            "decode_allocations": decode.get("allocations"),
            "dram_budget_bytes": report["dram_budget_bytes"],
            "over_budget_bytes": report["peak_rss_bytes"] - report["dram_budget_bytes"]}


def run_bench(options, model, share, tokens):
    before = device_read_bytes(model)
    report = weir_json(options.weir, bench_arguments(model, share, tokens, options))
    after = device_read_bytes(model)
    return {**sample_of(report), "device_bytes": None if before is None else after - before}


def pilot(options, model):
    """Short runs: how many tokens each residency needs to last --decode-seconds, and how the engine
    reads where its report says so."""
    tokens, block_bytes, depth = {}, options.block, options.depth
    for share in [*options.residents, 100]:
        report = weir_json(options.weir, bench_arguments(model, share, PILOT_TOKENS, options))
        wanted = round(report["decode_tokens_per_s"] * options.decode_seconds)
        tokens[share] = options.tokens or min(max(wanted, MIN_TOKENS), MAX_TOKENS)
        disk = report["links"]["disk"]
        block_bytes = options.block or disk.get("block_bytes") or 1 * MIB
        depth = options.depth or disk.get("depth") or 32
    return tokens, fio.Setting(block_bytes, depth)


def fio_settings(options, model, engine):
    """The settings to measure in each round, by arm name; the sweep is printed."""
    settings = {engine} | {fio.Setting(block, depth) for block in (MIB // 2, MIB, 2 * MIB, 4 * MIB)
                           for depth in (8, 16, 32, 64)}
    ordered = fio.sweep(model, sorted(settings, key=dataclasses.astuple), options.sweep_seconds)
    best = ordered[0][0]
    rate_of = dict(ordered)
    print(f"fio sweep: best {best.text()} {ordered[0][1]:.2f} GB/s, the engine's {engine.text()} "
          f"{rate_of[engine]:.2f} GB/s, worst {ordered[-1][0].text()} {ordered[-1][1]:.2f} GB/s",
          flush=True)
    arms = {"fio": engine, "fio best": best}
    if options.huge_pages:
        huge = dataclasses.replace(engine, options=(fio.HUGE_OPTION,))
        try:
            run_fio(model, huge, 1)
            arms["fio huge"] = huge
        except (OSError, RunFailed) as error:
            print(f"fio with huge pages is left out: {error}", flush=True)
    return arms


def make_arms(options, model):
    tokens, engine = pilot(options, model)
    arms = [Arm("probe", lambda: run_probe(options, model, engine))]
    for name, setting in fio_settings(options, model, engine).items():
        arms.append(Arm(name, lambda setting=setting: run_fio(model, setting, options.seconds)))
    for share in [*options.residents, 100]:
        arms.append(Arm(f"{share} %", lambda share=share: run_bench(options, model, share,
                                                                    tokens[share]), share))
    return arms, tokens, engine


def measure_rounds(arms, rounds):
    """{arm's name: its samples in the order of the rounds}"""
    samples = {arm.name: [] for arm in arms}
    for index in range(rounds):
        for arm in rotated(arms, index):
            sample = arm.run()
            samples[arm.name].append(sample)
            print(f"  round {index + 1} {arm.name:9s} {sample['gb_per_s']:6.2f} GB/s"
                  + (f" {sample['tokens_per_s']:8.2f} tok/s" if arm.share is not None else ""),
                  flush=True)
    return samples


def disk_rates(samples):
    """GB/s in each round: the best of what the probe and fio reached in it."""
    names = [name for name in samples if name == "probe" or name.startswith("fio")]
    return [max(rates) for rates in zip(*(column(samples[name], "gb_per_s") for name in names))]


def bound(streamed_bytes, gb_per_s, compute_s):
    """Tokens a second that max(disk, compute) allows."""
    return 1 / max(streamed_bytes / (gb_per_s * 1e9), compute_s)


def summarise_share(samples, share):
    """The figures of one residency, from all samples of one model."""
    runs = samples[f"{share} %"]
    speeds, rates = column(runs, "tokens_per_s"), column(runs, "gb_per_s")
    compute_s = [1 / speed for speed in column(samples["100 %"], "tokens_per_s")]
    streamed = runs[0]["streamed_bytes_per_pass"]
    names = [name for name in samples if name == "probe" or name.startswith("fio")]
    best_rate = max(spread(column(samples[name], "gb_per_s")).median for name in names)
    limit = bound(streamed, best_rate, statistics.median(compute_s))
    limits = [bound(streamed, rate, seconds)
              for rate, seconds in zip(disk_rates(samples), compute_s, strict=True)]
    simulated = [run["simulated_tokens_per_s"] for run in runs]
    return {
        "share": share,
        "tokens_per_s": dataclasses.asdict(spread(speeds)),
        "gb_per_s": dataclasses.asdict(spread(rates)),
        "of": {name: {"of_medians": spread(rates).median
                      / spread(column(samples[name], "gb_per_s")).median,
                      "median_of_rounds": median_ratio(rates, column(samples[name], "gb_per_s"))}
               for name in names},
        "bound_tokens_per_s": limit,
        "is_disk_bound": streamed / (best_rate * 1e9) > statistics.median(compute_s),
        "of_bound": spread(speeds).median / limit,
        "of_bound_median_of_rounds": median_ratio(speeds, limits),
        "prediction_errors_percent": [error_percent(run["predicted_tokens_per_s"],
                                                    run["tokens_per_s"]) for run in runs],
        "simulation_errors_percent": None if None in simulated else [
            error_percent(value, speed) for value, speed in zip(simulated, speeds)],
        "most_over_budget_bytes": max(column(runs, "over_budget_bytes")),
        "decode_allocations": runs[-1]["decode_allocations"],
        "kernel_bytes_ratio": [run["kernel_bytes"] / run["read_bytes"] for run in runs
                               if run["read_bytes"] > 0],
        "device_bytes_ratio": [run["device_bytes"] / run["process_bytes"] for run in runs
                               if run["device_bytes"] is not None and run["process_bytes"] > 0],
    }


def run_in_cgroup(options, model, share, tokens, budget_bytes):
    """Whether a run survives a cgroup of exactly its budget and the margin: "" or why not."""
    with MemoryCgroup("weir_disk_leg") as cgroup:
        cgroup.limit(budget_bytes + MARGIN_BYTES)
        arguments = [str(part) for part in bench_arguments(model, share, tokens, options)]
        at = arguments.index("--resident")
        arguments[at:at + 2] = ["--dram", str(budget_bytes)]
        try:
            weir_json(options.weir, arguments, preexec=cgroup.enter)
        except RunFailed as failed:
            return f"exit code {failed.code}, {cgroup.oom_kills()} killed: {failed}"
    return ""


def check_model(options, model):
    print(f"{model}:", flush=True)
    arms, tokens, engine = make_arms(options, model)
    samples = measure_rounds(arms, options.rounds)
    shares = [summarise_share(samples, share) for share in [*options.residents, 100]]
    for row in shares:
        row["tokens"] = tokens[row["share"]]
        if options.cgroup:
            budget_bytes = samples[f"{row['share']} %"][0]["dram_budget_bytes"]
            row["cgroup_problem"] = run_in_cgroup(options, model, row["share"],
                                                  tokens[row["share"]], budget_bytes)
    return {"model": model, "block_bytes": engine.block_bytes, "depth": engine.depth,
            "samples": samples, "shares": shares,
            "rates": {arm.name: dataclasses.asdict(spread(column(samples[arm.name], "gb_per_s")))
                      for arm in arms if arm.share is None}}


def _text(values, digits=2):
    return f"{values['median']:.{digits}f} ({values['low']:.{digits}f} to " \
           f"{values['high']:.{digits}f})"


def _errors(values):
    if values is None:
        return "not available"
    return f"{statistics.median(values):+.1f} % ({min(values):+.1f} to {max(values):+.1f})"


def _percents(*ratios):
    return ", ".join(f"{100 * ratio:.1f} %" for ratio in ratios)


def share_row(name, row):
    ratios = row["of"]
    of_fio = max((key for key in ratios if key != "probe"),
                 key=lambda key: -ratios[key]["of_medians"])
    percent = [_percents(ratios[key]["of_medians"], ratios[key]["median_of_rounds"])
               for key in ("probe", of_fio)]
    against = [f"{row['bound_tokens_per_s']:.2f} ({'disk' if row['is_disk_bound'] else 'compute'})",
               _percents(row["of_bound"], row["of_bound_median_of_rounds"])]
    disk = [_text(row["gb_per_s"]), *percent]
    if row["share"] == 100:
        disk, against = [""] * 3, [""] * 2
    return [name, f"{row['share']} %", *disk, _text(row["tokens_per_s"]), *against,
            _errors(row["prediction_errors_percent"]), _errors(row["simulation_errors_percent"]),
            f"{row['most_over_budget_bytes'] / MIB:.1f} MiB"]


def print_tables(results):
    print("\nCeilings, GB/s: median (min to max)\n")
    print(table(["model", "probe and fio at", "what", "GB/s"],
                [[pathlib.Path(result["model"]).stem,
                  fio.Setting(result["block_bytes"], result["depth"]).text(), name, _text(rate)]
                 for result in results for name, rate in result["rates"].items()]))
    print("\nGenerating. Ratios: of the medians, then the median of the rounds' ratios; `of fio` "
          "is of its fastest arm\n")
    print(table(["model", "resident", "disk, GB/s", "of probe", "of fio", "tok/s", "bound, tok/s",
                 "of the bound", "predicted", "simulated", "above budget"],
                [share_row(pathlib.Path(result["model"]).stem, row)
                 for result in results for row in result["shares"]]))


def parse_options():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", metavar="MODEL", help="GGUF files")
    parser.add_argument("--weir", default=default_weir())
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--residents", type=parse_shares, default=[0, 25, 50, 75],
                        help="percent of the weights")
    parser.add_argument("--tokens", type=int, default=0,
                        help="to generate; default: as many as last --decode-seconds, 4 to 256")
    parser.add_argument("--decode-seconds", type=float, default=6)
    parser.add_argument("--seconds", type=int, default=2, help="of the probe and of fio")
    parser.add_argument("--sweep-seconds", type=int, default=1, help="of fio for each setting")
    parser.add_argument("--block", type=parse_size, default=None,
                        help="of the probe and fio; default: as the engine reports, or 1M")
    parser.add_argument("--depth", type=int, default=None, help="likewise; or 32")
    parser.add_argument("-t", "--threads", type=int, default=0, help="of compute (0: all cores)")
    parser.add_argument("--cgroup", action="store_true")
    parser.add_argument("--huge-pages", action="store_true")
    parser.add_argument("--json", metavar="FILE", help="every sample and every figure")
    options = parser.parse_args()
    if options.rounds < 1 or not options.residents or 100 in options.residents:
        parser.error("--rounds is at least 1 and --residents below 100 (100 % always runs)")
    return options


def main():
    options = parse_options()
    try:
        if options.cgroup:
            MemoryCgroup("weir_disk_leg").close()  # before an hour's work
        results = [check_model(options, model) for model in options.models]
    except (MeasureError, CgroupError) as error:
        sys.exit(f"disk_leg: {error}")
    except RunFailed as failed:
        sys.exit(f"disk_leg: a run failed with exit code {failed.code}: {failed}")
    except OSError as error:
        sys.exit(f"disk_leg: {error.filename}: {error.strerror}")
    judged = verdicts.of_disk_leg(results)
    print_tables(results)
    return verdicts.conclude(judged, results, options.json)


if __name__ == "__main__":
    sys.exit(main())
