"""The parts of gpu_check: each measures one thing within a bound of time and leaves what it has in
the dictionary that it is given, also when it is stopped."""

import dataclasses
import json
import os
import shutil
import sys

from gpu_check_setup import GB, ROOT, TOOLKIT, OutOfTime, Skipped, run_group
from measure import MIB, RunFailed, rotated

sys.path.insert(0, str(ROOT / "tests"))

from run_suites import count_json, count_text  # noqa: E402

TEST_BINARIES = ("kernels_test", "engine_test")
GPU_TESTS = "--gtest_filter=*Gpu*"
SANITIZER_TOOLS = ("memcheck", "racecheck")
SANITIZER_FOUND = 99  # its exit code when the program is to blame
PROMPT, LONG_PROMPT, DEEP, GENERATED = 2048, 4096, 32768, 128  # tokens
KEPT = ("device", "predicted_decode_tokens_per_s", "predicted_bottleneck", "startup_s", "ttft_s",
        "weights", "hbm_bytes", "peak_rss_bytes", "links", "decode", "time_s")  # of a bench's JSON
MOST_CHUNK = 4096  # tokens of a prompt in one pass
RING = 128 * MIB  # beside what a run takes without its weights
HBM_OF_70B = 22 * GB


@dataclasses.dataclass(frozen=True)
class Part:
    name: str
    bound_s: float
    run: object  # run(check, result)
    about: str
    is_default: bool = True


@dataclasses.dataclass(frozen=True)
class Setting:
    """A model and how it is placed: what `weir plan` and `weir bench` are both told."""

    model: str  # a key of gpu_check_setup.LARGE
    context: int  # tokens
    chunk: int  # tokens of a prompt in one pass
    options: tuple = ()

    def arguments(self, check):
        return ["-c", self.context, "-b", self.chunk, *check.device_options, *self.options]


@dataclasses.dataclass(frozen=True)
class Arm:
    """One run of `weir bench` that every round of a part repeats."""

    name: str
    setting: Setting
    kind: str  # "decode" or "prompt"
    tokens: int  # that are generated, or of the prompt
    repetitions: int = 1
    depth: int = 0  # tokens before those that are generated

    def arguments(self, check, path):
        prompt, generate = (self.depth, self.tokens) if self.kind == "decode" else (self.tokens, 0)
        return ["bench", path, "-p", prompt, "-n", generate, "-r", self.repetitions,
                *self.setting.arguments(check)]


def placement_of(plan):
    """What a decode pass moves and multiplies where, in bytes, of the --json of `weir plan`."""
    weights = plan["resident_payload_bytes"] + plan["streamed_payload_bytes"]
    part = plan["accelerator"]
    return {"weights": weights, "hbm": part["device_payload_bytes"],
            "copied": part["copied_payload_bytes"], "in_place": part["in_place_payload_bytes"],
            "streamed": plan["streamed_payload_bytes"],
            "kv_per_token": part["overhead_bytes"]["kv"] / plan["shape"]["context_tokens"],
            "chunk_tokens": plan["shape"]["chunk_tokens"], "hbm_taken": part["hbm_bytes"],
            "dram_taken": plan["dram_bytes"]}


def sample_of(arm, report):
    """What is kept of the --json of a bench."""
    speed = report["bench"][f"{arm.kind}_tokens_per_s"]
    kept = {"tokens_per_s": speed["median"], "low": speed["min"], "high": speed["max"]}
    for name in KEPT:
        kept[name] = report.get(name)
    return kept


def run_arm(check, arm, row, placements):
    """One more sample of an arm; what is planned for its setting is asked once."""
    try:
        path = check.model(arm.setting.model)
        if arm.setting not in placements:
            plan = check.weir("plan", path, *arm.setting.arguments(check))
            placements[arm.setting] = placement_of(plan)
        row["placement"] = placements[arm.setting]
        row["samples"].append(sample_of(arm, check.weir(*arm.arguments(check, path))))
    except RunFailed as error:  # the other arms go on
        row["error"] = str(error)


def run_rounds(check, arms, result, rounds):
    """Round after round, each beginning with another arm, as long as there is time. An arm that
    fails has an "error" in its row."""
    rows = [{"name": arm.name, "model": arm.setting.model, "kind": arm.kind, "tokens": arm.tokens,
             "depth": arm.depth, "samples": []} for arm in arms]
    result.setdefault("rows", []).extend(rows)
    took_s = [0.0] * len(arms)
    placements = {}  # by setting
    for number in range(1 if check.small else rounds):
        for index in rotated(list(range(len(arms))), number):
            if "error" in rows[index]:
                continue
            check.need_time(took_s[index])
            begin = check.clock()
            run_arm(check, arms[index], rows[index], placements)
            took_s[index] = check.clock() - begin


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
        result["binaries"][name] = tests_result(code, output, report)
        result["said"] = output[-400:]
        if code is None:
            raise OutOfTime
    binaries = result["binaries"].items()
    if any(counts["failed"] for _, counts in binaries):
        raise RunFailed(1, "; ".join(f"{name}: {', '.join(counts['failures'])}"
                                     for name, counts in binaries if counts["failed"]))
    if check.gpu and not any(counts["passed"] for _, counts in binaries):
        raise RunFailed(1, "no test ran on the GPU: " + result["said"])


def tests_result(code, output, report):
    """{"passed", "failed", "skipped", "failures"} of one run of a test binary."""
    if report is not None and report.exists():
        counts = count_json(json.loads(report.read_text(encoding="utf-8")))
        if code != 0 and not counts.failed:
            counts.fail("(the program)", f"exit code {code}")
    else:
        counts = count_text(output, f"exit code {code}")
        if not code:  # neither an end nor being stopped is a failure
            counts.failed -= 1
            counts.failures.pop()
    return {"passed": counts.passed, "failed": counts.failed, "skipped": counts.skipped,
            "failures": [name for name, _ in counts.failures], "code": code,
            "output": output[-2000:] if counts.failed else ""}


def run_sanitizer(check, result):
    """compute-sanitizer over the same tests, as far as the time goes."""
    if check.gpu is None:
        raise Skipped("compute-sanitizer needs a GPU")
    path = f"{os.environ.get('PATH', '')}:{TOOLKIT}/bin"
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
                               **tests_result(code, output, None)})
    bad = [run for run in result["runs"] if run["findings"] or run["failed"]]
    if bad:
        raise RunFailed(1, "; ".join(f"{run['tool']} of {run['binary']}" for run in bad))


def run_links(check, result):
    small = ["--max-copy", "1MiB", "--seconds", 0.2, "--rounds", 1] if check.small else []
    result["probe"] = check.weir("probe", "gpu", *check.device_options, *small)


def run_disk(check, result):
    narrow = ["--seconds", 0.2, "--rounds", 2]
    if check.small:
        narrow = ["--seconds", 0.01, "--rounds", 1, "--block", "64K", "--depth", 4]
    result["probe"] = check.weir("probe", "disk", check.model("Q4_K"), *narrow)


def scaled(check, tokens):
    """Tiny models are there to run the script, not to be measured."""
    return min(tokens, 16) if check.small else tokens


def ample(check):
    """Options with which all weights of any model here are in the accelerator's memory; a GPU's
    default is all that it has."""
    return ("--hbm", "1GiB" if check.small else "64GiB") if check.is_emulated else ()


def setting_of(check, model, tokens, options=()):
    """For prompts of so many tokens, each in one pass, and a few tokens more."""
    tokens = scaled(check, tokens)
    return Setting(model, tokens + 64 + GENERATED, min(tokens, MOST_CHUNK), tuple(options))


@dataclasses.dataclass(frozen=True)
class Sizes:
    """What a run takes beside its weights, and these, in bytes."""

    weights: int
    hbm: int
    dram: int


def sizes_of(check, setting):
    plan = check.weir("plan", check.model(setting.model), *setting.arguments(check), *ample(check))
    placement = placement_of(plan)
    return Sizes(placement["weights"], sum(plan["accelerator"]["overhead_bytes"].values()),
                 sum(plan["overhead_bytes"].values()))


def ring_bytes(sizes):
    return min(RING, sizes.weights // 2)


def decode_and_prompt(check, name, setting, decode, prompt=0, repetitions=1):
    arms = [Arm(f"{name}, decode", setting, "decode", scaled(check, decode), repetitions)]
    if prompt:
        arms.append(Arm(f"{name}, prompt of {scaled(check, prompt)}", setting, "prompt",
                        scaled(check, prompt), repetitions))
    return arms


def run_resident(check, result):
    """Everything in the accelerator's memory."""
    arms = []
    for model in ("Q4_K", "Q8_0", "BF16"):
        setting = setting_of(check, model, LONG_PROMPT, ample(check))
        arms += decode_and_prompt(check, model, setting, GENERATED, LONG_PROMPT, repetitions=3)
    if not check.is_emulated:  # only a GPU has graphs
        alone = setting_of(check, "Q4_K", LONG_PROMPT, ("--cuda-graph", "off"))
        arms += decode_and_prompt(check, "Q4_K without graphs", alone, GENERATED, repetitions=3)
    deep = scaled(check, DEEP)
    setting = Setting("Q4_K", deep + 64, min(deep, MOST_CHUNK), ample(check))
    arms.append(Arm(f"Q4_K, decode at depth {deep}", setting, "decode", scaled(check, 32),
                    depth=deep))
    run_rounds(check, arms, result, rounds=2)


def run_dram(check, result):
    """Weights in DRAM: copied at each use, and multiplied by the CPU where they lie."""
    arms = []
    for model in ("Q4_K", "BF16"):
        setting = setting_of(check, model, LONG_PROMPT)
        sizes = sizes_of(check, setting)
        check.need_memory(f"{model} in DRAM", sizes.weights + sizes.dram)
        hbm = ("--hbm", sizes.hbm + ring_bytes(sizes))
        for name, in_place in (("copied", "off"), ("in place", "on")):
            placed = dataclasses.replace(setting, options=(*hbm, "--in-place", in_place))
            # Prompts are copied in either case.
            prompt = LONG_PROMPT if name == "copied" else 0
            arms += decode_and_prompt(check, f"{model}, {name}", placed, 16, prompt)
    run_rounds(check, arms, result, rounds=2)


def run_disk_homed(check, result):
    """Weights on disk: read, copied and used at each pass."""
    setting = setting_of(check, "Q4_K", 64)
    sizes = sizes_of(check, setting)
    options = ("--hbm", sizes.hbm + ring_bytes(sizes), "--dram", sizes.dram + ring_bytes(sizes),
               "--in-place", "off")
    placed = dataclasses.replace(setting, options=options)
    arms = decode_and_prompt(check, "Q4_K", placed, 3, repetitions=2)
    run_rounds(check, arms, result, rounds=1)


def run_mixed(check, result):
    """Half of the weights in the accelerator's memory, the rest as planned."""
    arms = []
    for model in ("Q4_K", "BF16"):
        setting = setting_of(check, model, PROMPT)
        sizes = sizes_of(check, setting)
        check.need_memory(f"half of {model} in DRAM", sizes.weights // 2 + sizes.dram)
        hbm = sizes.hbm + ring_bytes(sizes) + sizes.weights // 2
        placed = dataclasses.replace(setting, options=("--hbm", hbm))
        arms += decode_and_prompt(check, model, placed, 32, PROMPT)
    run_rounds(check, arms, result, rounds=2)


def run_mixed70b(check, result):
    """A model that no single memory here holds."""
    setting = setting_of(check, "70b", PROMPT)
    sizes = sizes_of(check, setting)
    hbm = sizes.hbm + ring_bytes(sizes) + sizes.weights // 2 if check.small else HBM_OF_70B
    check.need_memory("70b beside 22 GB of HBM", sizes.weights - hbm + sizes.dram)
    placed = dataclasses.replace(setting, options=("--hbm", hbm))
    run_rounds(check, decode_and_prompt(check, "70b Q4_K", placed, 16, PROMPT), result, rounds=2)


def run_wall(check, result):
    """What parameters on disk cost against HBM: weir wall."""
    narrow = ("-n", 2, "-r", 1, "--passes", "1,8") if check.small else ("-n", 4, "-r", 2)
    result["wall"] = check.weir("wall", check.model("Q4_K"), *check.device_options, *narrow)


# In the order of running; the bounds of those that run by default stay below LIMIT_S together.
PARTS = [
    Part("tests", 60, run_tests, "the tests that need a GPU"),
    Part("links", 30, run_links, "copies, HBM and DRAM: weir probe gpu"),
    Part("disk", 30, run_disk, "weir probe disk"),
    Part("resident", 150, run_resident, "8b in HBM: Q4_K, Q8_0, BF16; depth 32,768"),
    Part("dram", 110, run_dram, "8b in DRAM: copied, and multiplied there"),
    Part("mixed", 60, run_mixed, "8b with half of its weights in HBM"),
    Part("disk_homed", 60, run_disk_homed, "8b on disk"),
    Part("sanitizer", 40, run_sanitizer, "compute-sanitizer over the tests"),
    Part("wall", 400, run_wall, "8b from HBM to disk, passes; takes a run of its own", False),
    Part("mixed70b", 540, run_mixed70b, "70b with 22 GB of HBM; takes a run of its own", False),
]
LIMIT_S = 540
