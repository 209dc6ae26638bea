"""From the measured figures to passed or failed, one line for each promise."""

import dataclasses
import statistics

from measure import MARGIN_BYTES, MIB, machine, write_json

MIN_OF_DISK = 0.95  # of the probe's and fio's rate, nothing resident
MIN_OF_BOUND = 0.93  # of max(disk, compute)
MAX_ERROR_PERCENT = 10  # of any prediction
MAX_MEDIAN_ERROR_PERCENT = 5
MIN_OF_LINK = 0.97  # of the rate that an emulated link was given, as the bottleneck
# The bottleneck's idle share near token boundaries, above that inside passes.
MAX_BOUNDARY_IDLE = 0.05
KERNEL_TOLERANCE = 0.02  # reads in flight at both ends are counted by one side only


@dataclasses.dataclass(frozen=True)
class Verdict:
    what: str
    passed: bool | None  # None: it was not measured
    found: str

    def line(self):
        word = {True: "passed", False: "FAILED", None: "not measured"}[self.passed]
        return f"{word}: {self.what}: {self.found}"


def conclude(judged, results, json_path):
    """Prints the verdicts, writes all to `json_path` if there is one; the script's exit code."""
    print()
    for verdict in judged:
        print(verdict.line())
    write_json(json_path, {"machine": machine(), "results": results,
                           "verdicts": [dataclasses.asdict(verdict) for verdict in judged]})
    return 1 if any(verdict.passed is False for verdict in judged) else 0


def at_least(what, minimum, values):
    """`values`: {name: ratio}. None of them may be below the minimum."""
    if not values:
        return Verdict(what, None, "no such run")
    lowest = min(values, key=values.get)
    return Verdict(what, values[lowest] >= minimum,
                   f"least {100 * values[lowest]:.1f} % ({lowest}), wanted {100 * minimum:.0f} %")


def errors_within(what, errors, median_matters=True):
    """`errors`: {name: percent}, signed."""
    if not errors:
        return Verdict(what, None, "the report holds none")
    worst = max(errors, key=lambda name: abs(errors[name]))
    median = statistics.median(abs(error) for error in errors.values())
    passed = abs(errors[worst]) <= MAX_ERROR_PERCENT and (
        not median_matters or median <= MAX_MEDIAN_ERROR_PERCENT)
    wanted = f"{MAX_ERROR_PERCENT} %"
    if median_matters:
        wanted += f", in the median {MAX_MEDIAN_ERROR_PERCENT} %"
    return Verdict(what, passed, f"at most {errors[worst]:+.1f} % ({worst}), median of the sizes "
                                 f"{median:.1f} %, wanted {wanted}")


def _rows(results):
    for result in results:
        stem = result["model"].rsplit("/", 1)[-1].removesuffix(".gguf")
        for row in result["shares"]:
            yield f"{stem} {row['share']} %", row


def _numbered(results, field, shares=range(101)):
    return {f"{name} round {index + 1}": value for name, row in _rows(results)
            if row["share"] in shares for index, value in enumerate(row[field] or [])}


def _kernel_confirms(results):
    process = _numbered(results, "kernel_bytes_ratio", range(100))
    device = _numbered(results, "device_bytes_ratio")
    if not process:
        return Verdict("kernel's count of the bytes", None, "no bytes were streamed")
    worst = max(process, key=lambda name: abs(process[name] - 1))
    passed = abs(process[worst] - 1) <= KERNEL_TOLERANCE
    found = f"process count / weir's count at worst {process[worst]:.4f} ({worst})"
    if device:
        # Others may read meanwhile; less than ours it cannot be.
        low, high = min(device.values()), max(device.values())
        passed = passed and low >= 1 - KERNEL_TOLERANCE
        found += f"; device / process {low:.4f} to {high:.4f}"
    return Verdict("kernel's count of the bytes", passed, found)


def of_disk_leg(results):
    """The verdicts on disk_leg's results (its JSON's "results")."""
    rows = list(_rows(results))
    disk = {f"{name} of {of}": ratios["of_medians"] for name, row in rows
            if row["share"] == 0 and row["is_disk_bound"] for of, ratios in row["of"].items()}
    bounds = {name: row["of_bound"] for name, row in rows if 0 < row["share"] < 100}
    over = {name: row["most_over_budget_bytes"] for name, row in rows}
    most = max(over, key=over.get)
    judged = [
        at_least("disk's rate, nothing resident", MIN_OF_DISK, disk),
        at_least("tok/s of max(disk, compute)", MIN_OF_BOUND, bounds),
        _kernel_confirms(results),
        errors_within("predicted tok/s", _numbered(results, "prediction_errors_percent")),
        errors_within("simulated tok/s", _numbered(results, "simulation_errors_percent"), False),
        Verdict("peak memory", over[most] <= MARGIN_BYTES,
                f"at most {over[most] / MIB:.1f} MiB above the budget ({most}), allowed "
                f"{MARGIN_BYTES // MIB} MiB"),
    ]
    problems = {name: row["cgroup_problem"] for name, row in rows if "cgroup_problem" in row}
    failed = [f"{name}: {problem}" for name, problem in problems.items() if problem]
    judged.append(Verdict("a cgroup of exactly budget and margin", not failed if problems else None,
                          "; ".join(failed) or (f"{len(problems)} runs, none killed" if problems
                                                else "give --cgroup")))
    allocations = {name: row["decode_allocations"] for name, row in rows
                   if row["decode_allocations"] is not None}
    judged.append(Verdict("allocations while generating",
                          not any(allocations.values()) if allocations else None,
                          str(allocations) if allocations else "the report holds none"))
    return judged


def _tokens_verdict(rows):
    if not rows:
        return Verdict("tokens, budgets and allocations", None, "--only left it out")
    wrong = [f"{row['model']} HBM {row['hbm']} % DRAM {row['dram']} % in place {row['in_place']}: "
             f"{row['problem']}" for row in rows if row["problem"]]
    return Verdict("tokens, budgets and allocations", not wrong,
                   "; ".join(wrong) or f"{len(rows)} runs, all as on the CPU")


def _boundaries_verdict(rows):
    more = {f"{row['model']}, {row['legs']['bottleneck']}":
            row["legs"]["idle_at_boundaries"] - row["legs"]["idle_inside"] for row in rows}
    what = "no gap of the bottleneck at token boundaries"
    if not more:
        return Verdict(what, None, "--only left it out")
    worst = max(more, key=more.get)
    return Verdict(what, more[worst] <= MAX_BOUNDARY_IDLE,
                   f"idle there at most {100 * more[worst]:+.1f} points of what it is inside "
                   f"passes ({worst}), allowed {100 * MAX_BOUNDARY_IDLE:+.0f}")


def _overlap_verdict(rows):
    three = {f"{row['model']}, {row['legs']['bottleneck']}": row["legs"]["three_legs"]
             for row in rows if row["legs"]["busy"]["disk"] > 0}
    what = "three legs at once"
    if not three:
        return Verdict(what, None, "--only left it out")
    least = min(three, key=three.get)
    return Verdict(what, three[least] > 0,
                   f"at least {100 * three[least]:.1f} % of the time ({least})")


def of_tiers(results):
    """The verdicts on the results of tiers (its JSON's "results").

    The disk's ceiling is the probe's rate. A run on the CPU alone in the same round is shown beside
    it: the emulated link's copies and the second team take memory and cores from the virtual disk.
    """
    disk = {row["model"]: row["of"]["probe"]["of_medians"] for row in results["disk"]}
    return [_tokens_verdict(results["tokens"]),
            at_least("link's rate, being the bottleneck", MIN_OF_LINK,
                     {row["model"]: row["of_asked"] for row in results["link"]}),
            at_least("disk's rate, being the bottleneck", MIN_OF_DISK, disk),
            _overlap_verdict(results["disk"]),
            _boundaries_verdict(results["link"] + results["disk"])]
