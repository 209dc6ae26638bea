"""From the measured figures to passed or failed, one line for each promise."""

import dataclasses
import statistics

from measure import MARGIN_BYTES, MIB

MIN_OF_DISK = 0.95  # of the probe's and fio's rate, nothing resident
MIN_OF_BOUND = 0.93  # of max(disk, compute)
MAX_ERROR_PERCENT = 10  # of any prediction
MAX_MEDIAN_ERROR_PERCENT = 5
KERNEL_TOLERANCE = 0.02  # reads in flight at both ends are counted by one side only


@dataclasses.dataclass(frozen=True)
class Verdict:
    what: str
    passed: bool | None  # None: it was not measured
    found: str

    def line(self):
        word = {True: "passed", False: "FAILED", None: "not measured"}[self.passed]
        return f"{word}: {self.what}: {self.found}"


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
