"""Builds and runs the test suites for tools/test and counts their cases.

Prints one line for each suite and closes with "N passed, N failed", where N counts test cases:
GoogleTest's from its JSON report, Python's from unittest. What could not be counted (a build that
fails, a program that crashes or hangs, a suite in which no case ran) counts as one failed case, so
that nothing passes by not running. Only Python's standard library is used.
"""

import dataclasses
import json
import os
import pathlib
import re
import subprocess
import sys
import time
import unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent
BUILD = ROOT / "build"
LOGS = BUILD / "test"
BINARY_TIMEOUT_S = 900
FUZZ_RUNS = 20000  # new inputs for each target, at most
FUZZ_SECONDS = 15  # and for no longer than this

# Sanitizers: every finding is fatal; the build options say so too.
SANITIZER_ENVIRONMENT = {
    "ASAN_OPTIONS": "detect_stack_use_after_return=1:strict_string_checks=1:detect_leaks=1",
    "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1",
    "TSAN_OPTIONS": "halt_on_error=0:second_deadlock_stack=1",
}


@dataclasses.dataclass
class Counts:
    """Test cases by outcome, and what to say about each failed one."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0
    failures: list = dataclasses.field(default_factory=list)

    def add(self, other):
        self.passed += other.passed
        self.failed += other.failed
        self.skipped += other.skipped
        self.failures += other.failures

    def fail(self, name, message=""):
        self.failed += 1
        self.failures.append((name, message))

    def line(self):
        text = f"{self.passed} passed, {self.failed} failed"
        return text + (f", {self.skipped} skipped" if self.skipped else "")


def tail(text, lines=40):
    return "\n".join(text.rstrip().splitlines()[-lines:])


def count_json(report):
    """Counts of a GoogleTest JSON report (the parsed object)."""
    counts = Counts()
    for suite in report.get("testsuites", []):
        for case in suite.get("testsuite", []):
            name = f"{suite['name']}.{case['name']}"
            if case.get("status") == "NOTRUN":
                continue
            if case.get("failures"):
                counts.fail(name, "\n".join(f["failure"] for f in case["failures"]))
            elif case.get("result") == "SKIPPED":
                counts.skipped += 1
            else:
                counts.passed += 1
    return counts


def count_text(output, reason):
    """Counts of a GoogleTest program that left no report: what ran and what ended it."""
    counts = Counts()
    counts.passed = len(re.findall(r"\[       OK \] .* \(\d+ ms\)", output))
    counts.skipped = len(re.findall(r"\[  SKIPPED \] .* \(\d+ ms\)", output))
    for name in re.findall(r"\[  FAILED  \] (\S+).* \(\d+ ms\)", output):
        counts.fail(name)
    started = re.findall(r"\[ RUN      \] (\S+)", output)
    counts.fail(started[-1] if started else "(before the first test)", f"{reason}\n{tail(output)}")
    return counts


def run_logged(command, log, timeout_s=None, environment=None):
    """Runs a command from the root, its output going to the log as it comes.

    Returns (exit code, output); the exit code is None when it did not end in time.
    """
    log.write(f"$ {' '.join(map(str, command))}\n")
    log.flush()
    begin_bytes = os.fstat(log.fileno()).st_size
    try:
        code = subprocess.run(command, cwd=ROOT, env=dict(os.environ, **(environment or {})),
                              stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                              timeout=timeout_s, check=False).returncode
    except subprocess.TimeoutExpired:
        code = None
    with open(log.name, "rb") as written:
        written.seek(begin_bytes)
        return code, written.read().decode("utf-8", "replace")


def run_gtest(binary, gtest_filter, log, prefix=(), environment=None):
    report_path = LOGS / f"{binary.name}.json"
    report_path.unlink(missing_ok=True)
    command = [*prefix, str(binary), f"--gtest_filter={gtest_filter}",
               f"--gtest_output=json:{report_path}"]
    code, output = run_logged(command, log, BINARY_TIMEOUT_S, environment)
    if code is None:
        return count_text(output, f"{binary.name} did not end within {BINARY_TIMEOUT_S} s")
    try:
        counts = count_json(json.loads(report_path.read_text()))
    except (OSError, ValueError):
        return count_text(output, f"{binary.name} ended with exit code {code} and no report")
    if code != 0 and counts.failed == 0:  # such as a leak or a race found at exit
        counts.fail(binary.name, f"exit code {code} although every case passed\n{tail(output)}")
    return counts


def test_folders():
    """Folders of tests/ that hold GoogleTest sources; each is one binary, FOLDER_test."""
    return sorted({path.parent.name for path in ROOT.glob("tests/*/*_test.cc")})


def fuzz_targets():
    return sorted(path.stem for path in ROOT.glob("tests/fuzz/*_fuzz.cc"))


def build(preset, targets, log, counts):
    code, output = run_logged(["tools/build", preset, *targets], log)
    if code != 0:
        errors = [line for line in output.splitlines() if re.search(r"\b[Ee]rror\b", line)]
        counts.fail(f"build {preset}", "\n".join(errors[:15]) or tail(output))
    return code == 0


def run_binaries(preset, folders, targets, gtest_filter, log, prefix=()):
    """Builds and runs FOLDER_test for each folder and TARGET_replay for each fuzz target."""
    counts = Counts()
    names = [f"{folder}_test" for folder in folders] + [f"{target}_replay" for target in targets]
    program = ["weir"] if preset == "release" else []
    if not build(preset, names + program, log, counts):
        return counts
    directory = BUILD if preset == "release" else BUILD / preset
    environment = None if preset == "release" else SANITIZER_ENVIRONMENT
    for name in names:
        subfolder = "tests/fuzz" if name.endswith("_replay") else "tests"
        counts.add(run_gtest(directory / subfolder / name, gtest_filter, log, prefix, environment))
    return counts


def count_unittest(result):
    """Counts of a unittest result: a case fails once, however many of its subtests do."""
    counts = Counts()
    messages = {}
    for case, message in result.failures + result.errors:
        messages.setdefault(getattr(case, "test_case", case), []).append(message)
    for case, texts in messages.items():
        counts.fail(str(case), "\n".join(texts))
    # What fails before a case begins (in setUpClass, say) is no TestCase and did not count as run.
    ran = sum(isinstance(case, unittest.TestCase) for case in messages)
    counts.skipped = len(result.skipped)
    counts.passed = result.testsRun - ran - counts.skipped
    return counts


def run_python_tests(pattern, log):
    """Runs unittest files in this process."""
    counts = Counts()
    for path in sorted(ROOT.glob(pattern)):
        suite = unittest.defaultTestLoader.discover(str(path.parent), pattern=path.name,
                                                    top_level_dir=str(path.parent))
        result = unittest.TextTestRunner(stream=log, verbosity=2).run(suite)
        counts.add(count_unittest(result))
    return counts


def suite_unit(log):
    counts = run_binaries("release", test_folders(), fuzz_targets(), "-*Slow*", log)
    counts.add(run_python_tests("tests/tools/*_test.py", log))
    return counts


def suite_slow(log):
    counts = run_binaries("release", test_folders(), [], "*Slow*", log)
    counts.add(run_python_tests("tests/style/*_slow.py", log))
    return counts


def suite_style(log):
    counts = Counts()
    code, output = run_logged(["cmake", "--preset", "release"], log)  # compile_commands.json
    if code != 0:
        counts.fail("configure release", tail(output))
    counts.add(run_python_tests("tests/style/*_test.py", log))
    return counts


def suite_asan(log):
    # The fuzz preset is the asan preset with the fuzzers added: one build serves both suites.
    return run_binaries("fuzz", test_folders(), fuzz_targets(), "-*Slow*", log)


def suite_tsan(log):
    # clang 14's runtime cannot place its shadow memory under the address randomisation of newer
    # kernels; switching it off for the process is the documented way out.
    prefix = ["setarch", os.uname().machine, "-R"]
    code, _ = run_logged([*prefix, "true"], log)
    threaded = sorted({"cuda", "engine", "io", "kernels"} & set(test_folders()))
    return run_binaries("tsan", threaded, [], "-*Slow*", log, prefix if code == 0 else ())


def suite_fuzz(log):
    counts = Counts()
    targets = fuzz_targets()
    if not build("fuzz", targets, log, counts):
        return counts
    for target in targets:
        corpus = ROOT / "tests/fuzz/corpus" / target.removesuffix("_fuzz")
        found = BUILD / "fuzz/found" / target
        found.mkdir(parents=True, exist_ok=True)
        common = [str(BUILD / "fuzz/tests/fuzz" / target), "-seed=1", "-timeout=20",
                  "-rss_limit_mb=2048", "-print_final_stats=1", f"-artifact_prefix={found}/"]
        for case, options in (
            ("corpus", ["-runs=0", str(corpus)]),
            ("new inputs", [f"-runs={FUZZ_RUNS}", f"-max_total_time={FUZZ_SECONDS}", str(corpus)]),
        ):
            # libFuzzer writes new inputs to its first folder: not the committed one.
            scratch = [str(found)] if case == "new inputs" else []
            command = common + options[:-1] + scratch + options[-1:]
            code, output = run_logged(command, log, BINARY_TIMEOUT_S, SANITIZER_ENVIRONMENT)
            if code == 0:
                counts.passed += 1
            else:
                counts.fail(f"{target}, {case}",
                            f"exit code {code}; input in {found}\n{tail(output)}")
    return counts


SUITES = {
    "unit": suite_unit,
    "style": suite_style,
    "asan": suite_asan,
    "tsan": suite_tsan,
    "fuzz": suite_fuzz,
    "slow": suite_slow,
}
DEFAULT_SUITES = ["unit", "style", "asan", "tsan", "fuzz"]


def run_suite(name):
    start = time.monotonic()
    log_path = LOGS / f"{name}.log"
    log_path.unlink(missing_ok=True)
    with open(log_path, "a", encoding="utf-8") as log:
        counts = SUITES[name](log)
    if counts.passed + counts.failed + counts.skipped == 0:
        counts.fail(f"suite {name}", "no test case ran")
    for case, message in counts.failures:
        print(f"FAILED {name}: {case}\n{message}")
    seconds = time.monotonic() - start
    print(f"{name:6} {counts.line()}  ({seconds:.0f} s, {log_path.relative_to(ROOT)})", flush=True)
    return counts


def main(arguments):
    unknown = [name for name in arguments if name not in SUITES]
    if unknown:
        known = " ".join(SUITES)
        print(f"tools/test: unknown suite '{unknown[0]}' (known: {known})", file=sys.stderr)
        return 2
    LOGS.mkdir(parents=True, exist_ok=True)
    total = Counts()
    for name in arguments or DEFAULT_SUITES:
        total.add(run_suite(name))
    print(total.line())
    return 1 if total.failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
