"""The parts of gpu_check: each measures one thing within a bound of time and leaves what it has in
the dictionary that it is given, also when it is stopped."""

import dataclasses
import json
import os
import shutil
import sys

from gpu_check_setup import GB, ROOT, Check, OutOfTime, RunFailed, Skipped, run_group
from measure import rotated

sys.path.insert(0, str(ROOT / "tests"))

from run_suites import count_json, count_text  # noqa: E402

TEST_BINARIES = ("kernels_test", "engine_test")
GPU_TESTS = "--gtest_filter=*Gpu*"
SANITIZER_TOOLS = ("memcheck", "racecheck")
SANITIZER_FOUND = 99  # its exit code when the program is to blame
ROUNDS = 3
PROMPT, LONG_PROMPT, DEEP = 2048, 4096, 32768  # tokens
HBM_OF_70B = 22 * GB


@dataclasses.dataclass(frozen=True)
class Part:
    name: str
    bound_s: float
    run: object  # run(check, result)
    about: str
    is_default: bool = True


@dataclasses.dataclass(frozen=True)
class Arm:
    """One run of `weir bench` that every round of a part repeats."""

    name: str
    model: str  # a key of gpu_check_setup.LARGE
    kind: str  # "decode" or "prompt"
    tokens: int  # that are generated, or of the prompt
    repetitions: int
    options: tuple = ()  # of placement
    depth: int = 0  # tokens before those that are generated

    def arguments(self, path, check):
        prompt, generate = (self.depth, self.tokens) if self.kind == "decode" else (self.tokens, 0)
        return ["bench", path, "-p", prompt, "-n", generate, "-r", self.repetitions,
                *check.device_options, *self.options]


def sample_of(arm, report):
    """What is kept of the --json of a bench."""
    speed = report["bench"][f"{arm.kind}_tokens_per_s"]
    kept = {"tokens_per_s": speed["median"], "low": speed["min"], "high": speed["max"],
            "device": report["device"], "ttft_s": report["ttft_s"],
            "resident_share": report["resident_share"],
            "streamed_bytes_per_pass": report["streamed_bytes_per_pass"]}
    for name in ("predicted_decode_tokens_per_s", "predicted_prompt_tokens_per_s",
                 "predicted_bottleneck", "placement", "links", "time_s", "device_memory"):
        if name in report:
            kept[name] = report[name]
    return kept


def run_rounds(check, arms, rounds, result):
    """Round after round, each beginning with another arm, as long as there is time."""
    rows = result["rows"] = [{"name": arm.name, "model": arm.model, "kind": arm.kind,
                              "tokens": arm.tokens, "depth": arm.depth, "samples": []}
                             for arm in arms]
    row_of = {arm.name: row for arm, row in zip(arms, rows, strict=True)}
    took_s = {}
    for number in range(rounds):
        for arm in rotated(arms, number):
            row = row_of[arm.name]
            if "error" in row:
                continue
            check.need_time(took_s.get(arm.name, 0))
            begin = check.clock()
            try:
                report = check.weir(*arm.arguments(check.model(arm.model), check))
                row["samples"].append(sample_of(arm, report))
            except RunFailed as error:  # the others go on
                row["error"] = str(error)
            took_s[arm.name] = check.clock() - begin
    failed = [row for row in rows if "error" in row]
    if failed:
        raise RunFailed(1, "; ".join(f"{row['name']}: {row['error']}" for row in failed))


def run_tests(check, result):
    """The gpu tests of every folder that has some."""
    result["binaries"] = {}
    for name in TEST_BINARIES:
        check.need_time()
        report = check.folder / f"{name}.json"
        report.unlink(missing_ok=True)
        code, output = run_group([str(check.place.tests / name), GPU_TESTS,
                                  f"--gtest_output=json:{report}"], check.left_s(),
                                 check.place.root)
        result["binaries"][name] = counts = tests_result(code, output, report)
        if code is None:
            raise OutOfTime
        if counts["failed"]:
            result["has_failures"] = True
    if result.get("has_failures"):
        raise RunFailed(1, "; ".join(f"{name}: {', '.join(counts['failures'])}" for name, counts
                                     in result["binaries"].items() if counts["failed"]))


def tests_result(code, output, report):
    """{"passed", "failed", "skipped", "failures"} of one run of a test binary."""
    if code is None:
        counts = count_text(output, "stopped at the part's bound")
        counts.failed -= 1  # being stopped is no failure
        counts.failures.pop()
    elif report is not None and report.exists():
        counts = count_json(json.loads(report.read_text(encoding="utf-8")))
        if code != 0 and not counts.failed:
            counts.fail("(the program)", f"exit code {code}")
    else:
        counts = count_text(output, f"exit code {code}")
    return {"passed": counts.passed, "failed": counts.failed, "skipped": counts.skipped,
            "failures": [name for name, _ in counts.failures], "code": code,
            "output": output[-2000:] if counts.failed else ""}


def run_sanitizer(check, result):
    """compute-sanitizer over the same tests, as far as the time goes."""
    if check.gpu is None:
        raise Skipped("compute-sanitizer needs a GPU")
    path = os.environ.get("PATH", "") + ":/usr/local/cuda/bin"
    sanitizer = shutil.which("compute-sanitizer", path=path)
    if sanitizer is None:
        raise Skipped("compute-sanitizer is neither on PATH nor in /usr/local/cuda/bin")
    runs = [(tool, name) for tool in SANITIZER_TOOLS for name in TEST_BINARIES]
    result["runs"] = []
    for index, (tool, name) in enumerate(runs):
        check.need_time()
        command = [sanitizer, "--tool", tool, "--error-exitcode", str(SANITIZER_FOUND),
                   str(check.place.tests / name), GPU_TESTS]
        code, output = run_group(command, check.left_s() / (len(runs) - index), check.place.root)
        result["runs"].append({"tool": tool, "binary": name,
                               "findings": output.count("========= ERROR: ")
                               if code is None else int(code == SANITIZER_FOUND),
                               **tests_result(code, output, None if code else None)})
    bad = [run for run in result["runs"] if run["findings"] or run["failed"]]
    if bad:
        raise RunFailed(1, "; ".join(f"{run['tool']} of {run['binary']}" for run in bad))


def run_links(check, result):
    small = ["--small"] if check.small else []
    result["probe"] = check.weir("probe", "gpu", *check.device_options, *small)


def run_disk(check, result):
    narrow = ["--seconds", 0.2, "--rounds", 2]
    if check.small:
        narrow = ["--seconds", 0.01, "--rounds", 1, "--block", "64K", "--depth", 4]
    result["probe"] = check.weir("probe", "disk", check.model("Q4_K"), *narrow)


def scaled(check, tokens):
    """Tiny models are there to run the script, not to be measured."""
    return min(tokens, 8) if check.small else tokens


def arms_of(check, name, model, options, decode, prompt, repetitions=1):
    """A decode and a prompt with the same placement; 0 tokens: without."""
    arms = []
    if decode:
        arms.append(Arm(f"{name}, decode", model, "decode", scaled(check, decode), repetitions,
                        tuple(options)))
    if prompt:
        arms.append(Arm(f"{name}, prompt of {prompt}", model, "prompt", scaled(check, prompt),
                        repetitions, tuple(options)))
    return arms
