#!/usr/bin/env python3
"""Runs of the real program under injected faults: the same tokens, or one error that says all.

    tests/acceptance/faults.py [--weir build/weir] [--runs 200] [--seed 1] [--json OUT] MODEL

Each run draws a reader, threads, a share of resident weights and one of the mixes of faults below,
from the seed. It must end within its limit and either give the tokens and the text of the clean run
with exit code 0, or exit code 5 with one line on stderr that names the file, the offset, the bytes
wanted and got, and on stdout the beginning of that text. Mixes that every run must survive may not
fail. A further set of runs changes the model's file (a copy) while it is read: cut, written to,
replaced by another. Prints a table of the kinds and fails when any run did otherwise.
"""

import collections
import json
import pathlib
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time

import measure

PROMPT = "Write one sentence about rivers."
LIMIT_S = 180
SHARES = (0, 25, 50, 75)
# Name, faults, whether the run must succeed. A number in braces is drawn from 200 to 1500: most
# runs read more than that.
MIXES = (
    ("short", "short=20%", True),
    ("again", "again=20%", True),
    ("eio, then good", "eio=5%", True),
    ("spikes", "spike=3%:10ms", True),
    ("reordered", "reorder=20%", True),
    ("slow reads", "slow=10%:x10", True),
    ("a tenth of the rate", "slow_from={}:x10", True),
    ("all that recover", "short=5%,again=5%,eio=2%,spike=2%:5ms,reorder=10%,slow=2%:x5", True),
    ("eio for ever", "eio_forever=0.1%", False),
    ("eio for ever, at once", "eio_at={}", False),
    ("stuck", "stuck=0.05%", False),
    ("stuck, at once", "stuck_at={}", False),
    ("unplugged", "unplug_at={}", False),
    ("everything", "short=5%,eio=2%,reorder=5%,eio_forever=0.05%,stuck=0.03%", False),
)
NAMED = re.compile(r"^weir: (?P<file>\S+): offset \d+: wanted \d+ bytes, got \d+: .{20,}$")
# What a run says beside its error: the forecast, how far it is when it takes its time, and that
# there is no GPU.
ASIDE = re.compile(r"^weir: (predicted [\d.]+ tok/s, bound by |prompt: +\d+ %|the CPU computes: )")
CHANGED = re.compile(r"^weir: (?P<file>\S+): it (had|was written to) .{20,}$")


def command(weir, model, options, out):
    return [weir, "run", model, PROMPT, "--temp", "0", "-n", "16", "-c", "256",
            "--json", str(out), *options]


def judge(done, out, clean, model, may_fail, pattern):
    """'same', 'error', or what is wrong with how a run ended."""
    text = done.stderr.decode("utf-8", "replace")
    if done.returncode == 0:
        report = json.loads(out.read_text(encoding="utf-8"))
        if report["tokens"] != clean["tokens"] or done.stdout != clean["text"]:
            return f"other tokens: {report['tokens']}"
        return "same"
    if done.returncode != 5 or not may_fail:
        return f"exit code {done.returncode}: {text[-300:]}"
    lines = [line for line in text.splitlines() if not ASIDE.match(line)]
    match = pattern.match(lines[0]) if len(lines) == 1 else None
    if match is None or match["file"] != str(model):
        return f"unclear message: {text!r}"
    if not clean["text"].startswith(done.stdout.rstrip(b"\n")):
        return f"other text: {done.stdout!r}"
    return "error" if not out.exists() else f"{out.name} was left behind"


def run(weir, model, options, clean, may_fail, folder):
    out = folder / "run.json"
    out.unlink(missing_ok=True)
    begin = time.monotonic()
    try:
        done = subprocess.run(command(weir, model, options, out), check=False, capture_output=True,
                              stdin=subprocess.DEVNULL, timeout=LIMIT_S)
    except subprocess.TimeoutExpired:
        return f"no end within {LIMIT_S} s", LIMIT_S
    return judge(done, out, clean, model, may_fail, NAMED), time.monotonic() - begin


def clean_run(weir, model, folder):
    out = folder / "clean.json"
    done = subprocess.run(command(weir, model, ["--resident", "100%"], out), check=True,
                          capture_output=True, stdin=subprocess.DEVNULL, timeout=LIMIT_S)
    return {"tokens": json.loads(out.read_text(encoding="utf-8"))["tokens"], "text": done.stdout}


def draw(random_, mix):
    options = ["--reader", random_.choice(("uring", "threads")), "-t", random_.choice(("1", "2")),
               "--resident", f"{random_.choice(SHARES)}%", "--read-timeout", "3s"]
    faults = mix.format(random_.randrange(200, 1500))
    return options + ["--faults", f"seed={random_.randrange(1 << 32)},{faults}"]


def cut(path, random_):
    with open(path, "r+b") as file:
        file.truncate(int(path.stat().st_size * random_.uniform(0.1, 0.9)))


def write(path, random_):
    with open(path, "r+b") as file:
        file.seek(int(path.stat().st_size * random_.uniform(0.3, 0.9)))
        file.write(random_.randbytes(65536))


def replace(path, random_):
    other = path.with_suffix(".other")
    other.write_bytes(random_.randbytes(1000))
    other.rename(path)


def changed_run(weir, model, change, clean, random_, folder):
    """The file is changed at a moment of a run that was made slow enough to be met."""
    victim = folder / "victim.gguf"
    shutil.copyfile(model, victim)
    out = folder / "run.json"
    out.unlink(missing_ok=True)
    options = ["--resident", f"{random_.choice(SHARES)}%", "--faults", "spike=5%:10ms",
               "--reader", random_.choice(("uring", "threads"))]
    begin = time.monotonic()
    with subprocess.Popen(command(weir, str(victim), options, out), stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, bufsize=0) as process:
        first = process.stdout.read(1)  # it runs
        time.sleep(random_.uniform(0, 0.5))
        change(victim, random_)
        text, errors = process.communicate(timeout=LIMIT_S)
    done = subprocess.CompletedProcess([], process.returncode, first + text, errors)
    may_fail = change is not replace
    verdict = judge(done, out, clean, victim, may_fail, CHANGED)
    if verdict.startswith("unclear"):
        verdict = judge(done, out, clean, victim, may_fail, NAMED)
    return verdict, time.monotonic() - begin


def main():
    arguments = measure.seeded_runs(__doc__, runs=200)
    random_ = random.Random(arguments.seed)
    rows = collections.defaultdict(collections.Counter)
    slowest = collections.Counter()
    results = []

    def note(name, verdict, seconds, options):
        kind = verdict if verdict in ("same", "error") else "wrong"
        rows[name][kind] += 1
        slowest[name] = max(slowest[name], seconds)
        results.append({"mix": name, "options": options, "verdict": verdict, "seconds": seconds})
        if kind == "wrong":
            print(f"FAILED {name}: {' '.join(options)}: {verdict}", flush=True)

    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch).resolve()
        clean = clean_run(arguments.weir, arguments.model, folder)
        for number in range(arguments.runs):
            name, mix, must_succeed = MIXES[number % len(MIXES)]
            options = draw(random_, mix)
            note(name, *run(arguments.weir, arguments.model, options, clean, not must_succeed,
                            folder), options)
        for number in range(max(3, arguments.runs // 8)):
            change = (cut, write, replace)[number % 3]
            note(f"file: {change.__name__}", *changed_run(arguments.weir, arguments.model, change,
                                                          clean, random_, folder), [])
    print(f"{'faults':24s} {'same':>5s} {'error':>6s} {'wrong':>6s} {'slowest':>9s}")
    for name, counts in rows.items():
        print(f"{name:24s} {counts['same']:5d} {counts['error']:6d} {counts['wrong']:6d} "
              f"{slowest[name]:7.1f} s")
    wrong = sum(counts["wrong"] for counts in rows.values())
    print(f"{len(results)} runs, {wrong} wrong")
    measure.write_json(arguments.json, {"seed": arguments.seed, "wrong": wrong, "runs": results})
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
