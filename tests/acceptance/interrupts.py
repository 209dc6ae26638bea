#!/usr/bin/env python3
"""Signals at random moments of a run: it ends at once, with the right code, and leaves nothing.

    tests/acceptance/interrupts.py [--weir build/weir] [--runs 100] [--seed 1] [--json OUT] MODEL

Each run streams MODEL from disk, writes --json and --trace, and is sent SIGTERM (one in four:
SIGINT) at a moment drawn between its start and its end; in some its standard output is a pipe that
nobody reads, in some a read hangs. It must end within ten seconds with 143 or 130, or with 0 if it
was over; before the program has taken over, the signal itself ends it, which a shell shows as the
same numbers. No process may be left, no file beside the two, and those must be whole.
"""

import json
import os
import pathlib
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time

import measure

PROMPT = "Write one sentence about rivers."
LIMIT_S = 10
KINDS = ("reads its output", "reads its output", "reads its output", "full pipe", "stuck read")
CODES = {signal.SIGTERM: 143, signal.SIGINT: 130}


def command(weir, model, random_, folder, faults):
    options = ["--reader", random_.choice(("uring", "threads")), "-t", random_.choice(("1", "2")),
               "--resident", f"{random_.choice((0, 25, 50, 75))}%"]
    if faults:
        options += ["--faults", faults]
    return [weir, "run", model, PROMPT, "--temp", "0", "-n", "24", "-c", "256", "--ignore-eos",
            "--json", str(folder / "run.json"), "--trace", str(folder / "run.trace"), *options]


def children():
    """Processes whose parent this one is, dead ones included."""
    own = pathlib.Path("/proc/self/task")
    found = []
    for task in own.iterdir():
        found += (task / "children").read_text(encoding="ascii").split()
    return found


def leftovers(folder, code):
    problems = [f"process {child} is left" for child in children()]
    for path in sorted(folder.iterdir()):
        if path.name not in ("run.json", "run.trace"):
            problems.append(f"{path.name} is left")
            continue
        try:
            json.loads(path.read_text(encoding="utf-8"))
        except ValueError:
            problems.append(f"{path.name} is not whole")
    if code == 0 and not (folder / "run.json").exists():
        problems.append("no run.json")
    return problems


def interrupted_run(weir, model, random_, length_s, folder):
    """One run; (seconds from signal to end, exit code, what is wrong)."""
    kind = random_.choice(KINDS)
    number = signal.SIGINT if random_.randrange(4) == 0 else signal.SIGTERM
    moment_s = random_.uniform(0, length_s)
    faults = f"stuck_at={random_.randrange(1000)}" if kind == "stuck read" else ""
    pipe_ends = full_pipe() if kind == "full pipe" else ()
    sink = pipe_ends[1] if pipe_ends else subprocess.DEVNULL
    with subprocess.Popen(command(weir, model, random_, folder, faults), stdin=subprocess.DEVNULL,
                          stdout=sink, stderr=subprocess.PIPE) as process:
        time.sleep(moment_s)
        begin = time.monotonic()
        process.send_signal(number)
        try:
            code = process.wait(timeout=LIMIT_S)
            seconds = time.monotonic() - begin
        except subprocess.TimeoutExpired:
            process.kill()
            return {"kind": kind, "signal": number.name, "moment_s": moment_s, "code": None,
                    "seconds": LIMIT_S, "problems": [f"no end within {LIMIT_S} s"]}
        finally:
            for end in pipe_ends:
                os.close(end)
    expected = {CODES[number]} | (set() if kind == "full pipe" else {0})
    shell_code = 128 - code if code < 0 else code
    problems = leftovers(folder, code)
    if seconds > LIMIT_S:
        problems.append(f"{seconds:.1f} s until its end")
    if shell_code not in expected:
        problems.append(f"exit code {code}")
    return {"kind": kind, "signal": number.name, "moment_s": moment_s, "code": shell_code,
            "seconds": seconds, "problems": problems}


def full_pipe():
    """Both ends of a pipe that takes not a byte more."""
    ends = os.pipe()
    os.set_blocking(ends[1], False)
    try:
        while True:
            os.write(ends[1], bytes(4096))
    except BlockingIOError:
        os.set_blocking(ends[1], True)
    return ends


def main():
    arguments = measure.seeded_runs(__doc__, runs=100)
    random_ = random.Random(arguments.seed)
    results = []
    with tempfile.TemporaryDirectory() as scratch:
        whole = pathlib.Path(scratch) / "whole"
        whole.mkdir()
        begin = time.monotonic()
        subprocess.run(command(arguments.weir, arguments.model, random.Random(0), whole, ""),
                       check=True, capture_output=True, stdin=subprocess.DEVNULL)
        length_s = (time.monotonic() - begin) * 1.1
        for run in range(arguments.runs):
            folder = pathlib.Path(scratch) / str(run)
            folder.mkdir()
            result = interrupted_run(arguments.weir, arguments.model, random_, length_s, folder)
            results.append(result)
            if result["problems"]:
                print(f"FAILED after {result['moment_s']:.3f} s, {result['kind']}: "
                      f"{'; '.join(result['problems'])}", flush=True)
    wrong = sum(1 for result in results if result["problems"])
    for kind in dict.fromkeys(KINDS):
        times = [result["seconds"] for result in results if result["kind"] == kind]
        codes = sorted({result["code"] for result in results if result["kind"] == kind}, key=str)
        if times:
            print(f"{kind:18s} {len(times):4d} runs, exit codes {codes}, from the signal to the "
                  f"end: median {statistics.median(times) * 1000:.0f} ms, "
                  f"most {max(times) * 1000:.0f} ms")
    print(f"{len(results)} runs of {length_s:.1f} s, {wrong} wrong")
    measure.write_json(arguments.json, {"seed": arguments.seed, "wrong": wrong, "runs": results})
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
