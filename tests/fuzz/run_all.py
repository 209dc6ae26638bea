#!/usr/bin/env python3
"""Runs every fuzz target for a while and says what came of it, as a table and as JSON.

  tools/build fuzz && tests/fuzz/run_all.py [--minutes 30] [--jobs 2] [--json FILE] [TARGET...]

Builds nothing. Each target starts from tests/fuzz/corpus/STEM, with tests/fuzz/STEM.dict where
there is one; new inputs and findings go to OUT/STEM/ (--out). --merge adds new inputs that cover
anything new to the committed corpus, minimised. Exits with 1 on any finding.
"""

import argparse
import concurrent.futures
import json
import os
import pathlib
import platform
import re
import shutil
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
FUZZ = ROOT / "tests/fuzz"
ENVIRONMENT = {
    "ASAN_OPTIONS": "detect_stack_use_after_return=1:strict_string_checks=1:detect_leaks=1",
    "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1",
}
# One input may take this long and this much memory; more is a finding.
LIMIT_S = 10
LIMITS = [f"-timeout={LIMIT_S}", "-rss_limit_mb=1536", "-malloc_limit_mb=512"]
TIMED_OUT = 70  # libFuzzer's exit code
FINDINGS = ("crash", "oom", "leak", "timeout")
# Of inputs, in bytes; 2048 for the others.
MAX_LENGTH = {"gguf": 16384, "plan": 8192, "tokenizer": 4096, "chat_template": 4096}
# Inputs that a name describes are kept whatever they cover.
HASH_NAME = re.compile(r"[0-9a-f]{40}")


def machine():
    text = pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8")
    model = re.search(r"model name\s*: (.*)", text)
    return f"{model.group(1) if model else platform.machine()}, {os.cpu_count()} CPUs"


def inputs_of(folder):
    return [path for path in folder.glob("*") if path.is_file()]


def read_log(text):
    """What libFuzzer says at its end, and the coverage of its last status line."""
    result = {}
    for key, pattern in (("executions", r"stat::number_of_executed_units:\s+(\d+)"),
                         ("peak_rss_mb", r"stat::peak_rss_mb:\s+(\d+)")):
        found = re.findall(pattern, text)
        result[key] = int(found[-1]) if found else None
    status = re.findall(r"cov: (\d+) ft: (\d+) corp: (\d+)/(\S+)", text)
    if status:
        result["cov"], result["ft"], result["corpus"] = map(int, status[-1][:3])
        result["corpus_bytes"] = status[-1][3]
    if result["executions"] is None:  # it ended with a finding
        counted = re.findall(r"^#(\d+)\s", text, re.MULTILINE)
        result["executions"] = int(counted[-1]) if counted else 0
    return result


def run_once(command, log):
    """Exit code and seconds of processor time."""
    with open(log, "w", encoding="utf-8") as output:
        process = subprocess.Popen(command, env=dict(os.environ, **ENVIRONMENT), cwd=ROOT,
                                   stdout=output, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    return process.returncode, usage.ru_utime + usage.ru_stime


def drop_stalls(binary, out):
    """libFuzzer's clock is the wall's: on a machine that stands still an input looks slow.

    An input that takes no time on its own is renamed and no finding.
    """
    stalls = 0
    for path in inputs_of(out):
        if not path.name.startswith("timeout-"):
            continue
        try:
            code = subprocess.run([binary, path], env=dict(os.environ, **ENVIRONMENT), cwd=ROOT,
                                  stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                  timeout=LIMIT_S, check=False).returncode
        except subprocess.TimeoutExpired:
            continue
        if code == 0:
            path.rename(out / path.name.replace("timeout-", "stalled-"))
            stalls += 1
    return stalls


def run_target(target, options):
    """Runs one target until its minutes are over; again after a stall."""
    stem = target.removesuffix("_fuzz")
    out = options.out / stem
    (out / "inputs").mkdir(parents=True, exist_ok=True)
    binary = str(options.build / "tests/fuzz" / target)
    dictionary = FUZZ / f"{stem}.dict"
    result = {"target": target, "executions": 0, "cpu_minutes": 0.0, "stalls": 0}
    start = time.monotonic()
    for part in range(100):
        left_s = int(options.minutes * 60 - (time.monotonic() - start))
        if part > 0 and left_s < 5:
            break
        command = [binary, *LIMITS, "-print_final_stats=1", f"-max_total_time={max(left_s, 1)}",
                   f"-seed={options.seed + part}", f"-max_len={MAX_LENGTH.get(stem, 2048)}",
                   f"-artifact_prefix={out}/"]
        command += [f"-dict={dictionary}"] if dictionary.exists() else []
        command += [str(out / "inputs"), str(FUZZ / "corpus" / stem)]
        code, cpu_s = run_once(command, out / "log")
        read = read_log((out / "log").read_text(encoding="utf-8", errors="replace"))
        result["executions"] += read.pop("executions")
        result["cpu_minutes"] = round(result["cpu_minutes"] + cpu_s / 60, 1)
        result.update(read, exit_code=code)
        if code != TIMED_OUT or drop_stalls(binary, out) == 0:
            break
        result["stalls"] += 1
        result["exit_code"] = 0
    result["minutes"] = round((time.monotonic() - start) / 60, 1)
    result["findings"] = sorted(path.name for path in inputs_of(out)
                                if path.name.split("-")[0] in FINDINGS)
    return result


def merge(target, options):
    """Replaces the nameless inputs of the corpus by a minimal set that covers as many places."""
    stem = target.removesuffix("_fuzz")
    corpus = FUZZ / "corpus" / stem
    merged = options.out / stem / "merged"
    shutil.rmtree(merged, ignore_errors=True)
    merged.mkdir(parents=True)
    named = [path for path in inputs_of(corpus) if not HASH_NAME.fullmatch(path.name)]
    for path in named:
        shutil.copy(path, merged / path.name)
    limit = options.merge_kib * 1024
    small = options.out / stem / "small"
    shutil.rmtree(small, ignore_errors=True)
    small.mkdir()
    for path in inputs_of(options.out / stem / "inputs") + inputs_of(corpus):
        if HASH_NAME.fullmatch(path.name) and path.stat().st_size <= options.merge_input_bytes:
            shutil.copy(path, small / path.name)
    subprocess.run([str(options.build / "tests/fuzz" / target), "-merge=1", "-use_counters=0",
                    str(merged), str(small)], env=dict(os.environ, **ENVIRONMENT), cwd=ROOT,
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
    for path in inputs_of(corpus):
        if HASH_NAME.fullmatch(path.name):
            path.unlink()
    total = sum(path.stat().st_size for path in named)
    added = [path for path in inputs_of(merged) if HASH_NAME.fullmatch(path.name)]
    # The smallest first, until the corpus is as large as it may be.
    for path in sorted(added, key=lambda p: (p.stat().st_size, p.name)):
        total += path.stat().st_size
        if total > limit:
            break
        shutil.copy(path, corpus / path.name)
    return f"{stem}: {len(inputs_of(corpus))} inputs, {len(added)} covered something new"


def print_table(results):
    columns = ("target", "minutes", "cpu_minutes", "executions", "cov", "ft", "corpus",
               "peak_rss_mb", "stalls", "findings")
    rows = [columns] + [
        tuple(str(len(result["findings"]) if column == "findings" else result.get(column))
              for column in columns) for result in results]
    widths = [max(len(row[i]) for row in rows) for i in range(len(columns))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("targets", nargs="*", help="gguf_fuzz, ...; all without")
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--jobs", type=int, default=2, help="targets at a time")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build/fuzz")
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "build/fuzz/found")
    parser.add_argument("--json", type=pathlib.Path)
    parser.add_argument("--merge", action="store_true", help="and merge into the corpora")
    parser.add_argument("--merge-kib", type=int, default=96, help="of one corpus, at most")
    parser.add_argument("--merge-input-bytes", type=int, default=4096, help="of one input")
    options = parser.parse_args()
    options.build, options.out = options.build.resolve(), options.out.resolve()
    targets = options.targets or sorted(path.stem for path in FUZZ.glob("*_fuzz.cc"))
    missing = [name for name in targets if not (options.build / "tests/fuzz" / name).exists()]
    if missing:
        print(f"not built: {', '.join(missing)}. Run tools/build fuzz {' '.join(missing)}",
              file=sys.stderr)
        return 2
    results = []
    if options.minutes > 0:
        with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
            results = list(pool.map(lambda target: run_target(target, options), targets))
        print_table(results)
    if options.json:
        report = {"machine": machine(), "sanitizers": "address, undefined", "targets": results}
        options.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    failed = [result for result in results if result["exit_code"] != 0 or result["findings"]]
    for result in failed:
        print(f"{result['target']}: exit code {result['exit_code']}, "
              f"{', '.join(result['findings']) or 'no artifact'}; see "
              f"{options.out / result['target'].removesuffix('_fuzz')}")
    if options.merge and not failed:
        for target in targets:
            print(merge(target, options))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
