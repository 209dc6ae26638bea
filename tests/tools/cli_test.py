"""The built `weir` as its users meet it: output, messages, exit codes, signals, memory.

Runs build/weir, or $WEIR_BINARY, on tests/data/tiny.gguf.
"""

import json
import os
import pathlib
import resource
import select
import signal
import struct
import subprocess
import tempfile
import time
import unittest
import zipfile

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
WEIR = os.environ.get("WEIR_BINARY", str(ROOT / "build/weir"))
TINY = "tests/data/tiny.gguf"
MIB = 1 << 20
TIMEOUT_S = 120
PROMPT = "The water in the river"


def weir(*arguments, stdin=b""):
    return subprocess.run([WEIR, *map(str, arguments)], cwd=ROOT, input=stdin, capture_output=True,
                          timeout=TIMEOUT_S, check=False)


def gguf_of(architecture):
    """A header with nothing but an architecture."""
    def text(value):
        return struct.pack("<Q", len(value)) + value.encode()
    return (b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + text("general.architecture")
            + struct.pack("<I", 8) + text(architecture))


class CliTest(unittest.TestCase):
    def setUp(self):
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.folder = pathlib.Path(scratch.name)

    def write(self, name, data):
        path = self.folder / name
        path.write_bytes(data if isinstance(data, bytes) else data.encode())
        return path

    def good(self, *arguments, stdin=b""):
        result = weir(*arguments, stdin=stdin)
        self.assertEqual(result.returncode, 0, result.stderr.decode("utf-8", "replace"))
        return result

    def run_json(self, *options, prompt=PROMPT):
        path = self.folder / "result.json"
        result = self.good("run", TINY, prompt, "--temp", "0", "--json", path, *options)
        return json.loads(path.read_text()), result

    def refused(self, code, *arguments, says=(), stdin=b""):
        """One paragraph on stderr, nothing on stdout, the documented exit code."""
        result = weir(*arguments, stdin=stdin)
        message = result.stderr.decode("utf-8", "replace")
        self.assertEqual(result.returncode, code, message)
        self.assertEqual(result.stdout, b"")
        self.assertTrue(message.startswith("weir: "), message)
        self.assertEqual(message.count("\n"), 1, message)
        self.assertGreater(len(message), 30, message)
        for part in says:
            self.assertIn(part, message)


class RunTest(CliTest):
    def test_json_has_the_documented_names(self):
        report, result = self.run_json("-n", 8, "--resident", "50%", "--ignore-eos")
        self.assertEqual(report["generated_tokens"], 8)
        self.assertEqual(len(report["tokens"]), 8)
        self.assertGreater(report["prompt_tokens"], 4)
        for name in ("prompt_tokens_per_s", "decode_tokens_per_s", "ttft_s", "peak_rss_bytes",
                     "predicted_decode_tokens_per_s"):
            self.assertGreater(report[name], 0, name)
        for name in ("bytes", "seconds", "gb_per_s", "ceiling_gb_per_s"):
            self.assertGreater(report["links"]["disk"][name], 0, name)
        for name in ("compute", "disk_stall", "other"):
            self.assertGreaterEqual(report["time_s"][name], 0, name)
        self.assertEqual(report["stop"], "length")
        footer = result.stderr.decode()
        for word in ("tok/s", "first token", "predicted", "disk", "compute", "stall", "peak"):
            self.assertIn(word, footer)

    def test_stdout_is_the_text_of_the_tokens(self):
        report, result = self.run_json("-n", 24, "--ignore-eos")
        ids = self.write("ids.json", json.dumps(report["tokens"]))
        text = self.good("tokenize", TINY, "-f", ids, "--decode").stdout
        # Control tokens have no text of their own, and the last line is ended.
        for control in (b"<|im_start|>", b"<|im_end|>"):
            text = text.replace(control, b"")
        self.assertEqual(result.stdout.rstrip(b"\n"), text.rstrip(b"\n"))

    def test_same_tokens_under_every_budget_reader_and_fault(self):
        expected = self.run_json("-n", 12, "--resident", "100%")[0]["tokens"]
        for options in (["--resident", "0%"], ["--resident", "10%", "-t", 1],
                        ["--resident", "50%", "-t", 2, "--reader", "threads"],
                        ["--dram", "3MiB"], ["--dram", "4MiB", "-b", 5],
                        ["--resident", "0%", "--read-ahead", "off", "--read-depth", 1],
                        ["--resident", "25%", "--faults", "seed=3,short=5%,spike=5%:2ms"]):
            with self.subTest(options=options):
                self.assertEqual(self.run_json("-n", 12, *options)[0]["tokens"], expected)

    def test_peak_memory_stays_within_budget_and_64_mib(self):
        for dram in ("3MiB", "4MiB", "8MiB"):
            report, _ = self.run_json("-n", 4, "--dram", dram)
            self.assertLessEqual(report["peak_rss_bytes"], report["dram_budget_bytes"] + 64 * MIB)
            self.assertEqual(report["dram_budget_bytes"], int(dram[0]) * MIB)

    def test_prompts_from_everywhere_are_the_same(self):
        path = self.write("prompt.txt", PROMPT)
        common = ["-n", 6, "--temp", 0]
        outputs = {self.good("run", TINY, PROMPT, *common).stdout,
                   self.good("run", TINY, "-p", PROMPT, *common).stdout,
                   self.good("run", TINY, "-f", path, *common).stdout,
                   self.good("run", TINY, *common, stdin=PROMPT.encode()).stdout}
        self.assertEqual(len(outputs), 1)

    def test_seeds(self):
        def text(seed):
            return self.good("run", TINY, PROMPT, "-n", 12, "--temp", 1.5, "-s", seed).stdout
        self.assertEqual(text(1), text(1))
        self.assertNotEqual(text(1), text(2))

    def test_trace_is_json_with_events(self):
        path = self.folder / "trace.json"
        self.good("run", TINY, PROMPT, "-n", 4, "--resident", "20%", "--trace", path)
        events = json.loads(path.read_text())["traceEvents"]
        self.assertGreater(len(events), 20)

    def test_saved_plan(self):
        plan = self.folder / "plan.json"
        out = self.good("plan", TINY, "--dram", "4MiB", "--json", plan).stdout.decode()
        self.assertIn("DRAM", out)
        expected = self.run_json("-n", 8)[0]
        report = self.run_json("-n", 8, "--plan", plan)[0]
        self.assertEqual(report["tokens"], expected["tokens"])
        self.assertEqual(report["dram_budget_bytes"], 4 * MIB)
        self.refused(2, "run", TINY, PROMPT, "--plan", plan, "-c", 99, says=["-c"])
        self.refused(2, "run", TINY, PROMPT, "--plan", plan, "--dram", "1G", says=["--plan"])


class OtherCommandsTest(CliTest):
    def test_chat_answers_every_line_and_keeps_the_conversation(self):
        result = self.good("chat", TINY, "-n", 5, "--temp", 0, stdin=b"hello\nand then?\n")
        self.assertGreaterEqual(result.stdout.count(b"\n"), 2)
        alone = self.good("chat", TINY, "-n", 5, "--temp", 0, stdin=b"hello\n")
        self.assertTrue(result.stdout.startswith(alone.stdout))

    def test_eval(self):
        text = self.write("text.txt", "The water in the river rises every spring. " * 8)
        lines = self.folder / "tokens.jsonl"
        summary = self.folder / "eval.json"
        self.good("eval", TINY, "-f", text, "--per-token", lines, "--json", summary)
        rows = [json.loads(line) for line in lines.read_text().splitlines()]
        ids = json.loads(self.good("tokenize", TINY, "-f", text).stdout)
        self.assertEqual([row["id"] for row in rows], ids)
        self.assertIsNone(rows[0]["logprob"])
        mean = sum(row["logprob"] for row in rows[1:]) / (len(rows) - 1)
        self.assertAlmostEqual(json.loads(summary.read_text())["nats_per_token"], -mean, places=4)

    def test_bench(self):
        path = self.folder / "bench.json"
        self.good("bench", TINY, "-p", 8, "-n", 4, "-r", 2, "--json", path)
        rates = json.loads(path.read_text())["bench"]["decode_tokens_per_s"]
        self.assertGreater(rates["median"], 0)

    def test_bench_profile(self):
        path = self.folder / "profile.json"
        shape = ["-n", 6, "-r", 2, "-t", 2, "--device", "cpu"]
        for resident in ("50%", "100%"):
            with self.subTest(resident):
                text = self.good("bench", TINY, *shape, "-p", 40, "--resident", resident,
                                 "--profile", "--json", path).stdout.decode()
                profile = json.loads(path.read_text())["profile"]
                for name in ("dram_gb_per_s", "byte_gop_per_s", "float_gop_per_s"):
                    self.assertGreater(profile["ceilings"][name], 0, name)
                self.assertEqual(profile["ceilings"]["threads"], 2)
                for part, unit in (("prompt", "prompt"), ("generation", "token")):
                    self.check_profile(profile[part], unit)
                    self.assertIn(f"a {unit} took", text)
        self.good("bench", TINY, *shape, "-p", 0, "--profile", "--json", path)
        self.assertNotIn("prompt", json.loads(path.read_text())["profile"])
        self.good("bench", TINY, *shape, "-p", 40, "--json", path)
        self.assertNotIn("profile", json.loads(path.read_text()))

        self.refused(2, "bench", TINY, "-n", 2, "--depths", "16,64", "--profile",
                     says=["--profile", "--depths"])

    def check_profile(self, table, unit):
        """All of the time, and of the work what can be known of it."""
        self.assertEqual(table["unit"], unit)
        rows = table["rows"]
        for name in ("ms", "bytes", "share"):
            self.assertAlmostEqual(sum(row[name] for row in rows), table["sum"][name],
                                   delta=1e-6 * table["sum"][name])
        ops = {row["op"] for row in rows}
        self.assertLessEqual({"norm", "q/k/v", "attention", "attention output", "gate/up", "down",
                              "head", "waiting: between passes"}, ops)
        for row in rows:
            self.assertGreaterEqual(row["ms"], 0, row)
            self.assertEqual(row["gop_per_s"] > 0, row["op"] in
                             {"q/k/v", "attention", "attention output", "gate/up", "down", "head"})
        above = any(row["dram_share"] > 1 or row["peak_share"] > 1
                    for row in [*rows, table["sum"]])
        self.assertEqual(above, any(note.startswith("*") for note in table["notes"]))

    def test_inspect_tokenize_synth_probe(self):
        self.assertIn(b"llama", self.good("inspect", TINY).stdout)
        path = self.write("t.txt", "the water")
        self.assertIsInstance(json.loads(self.good("tokenize", TINY, "-f", path).stdout), list)
        model = self.folder / "made.gguf"
        self.good("synth", model, "--preset", "tiny")
        self.good("run", model, "hi", "-n", 2)
        self.good("probe", "disk", TINY)

    def test_bench_at_depths(self):
        path = self.folder / "depths.json"
        self.good("bench", TINY, "--depths", "5,20", "-n", 4, "--json", path)
        report = json.loads(path.read_text())
        rows = report["bench"]["depths"]
        self.assertEqual([row["depth"] for row in rows], [5, 20])
        # Behind the first depth the 4 generated stay in the context.
        self.assertEqual([row["prompt_tokens"] for row in rows], [5, 11])
        # Tokens at 5 to 8 and 20 to 23 attend to themselves, too.
        per_position = rows[0]["kv_bytes_per_token"] / 7.5
        self.assertAlmostEqual(rows[1]["kv_bytes_per_token"], 22.5 * per_position)
        self.assertGreater(report["weight_bytes_per_token"], 0)

    def test_bench_after_a_short_warm_up(self):
        self.good("bench", TINY, "-p", 8, "-n", 2, "-r", 1, "--short-warm-up")

    def test_help_and_version(self):
        for arguments in (["--help"], ["run", "--help"], ["chat", "--help"], ["--version"]):
            self.assertGreater(len(self.good(*arguments).stdout), 4)


class RefusalTest(CliTest):
    def test_models(self):
        tiny = (ROOT / TINY).read_bytes()
        for name, data in (
                ("truncated.gguf", tiny[:300000]), ("header.gguf", tiny[:2000]),
                ("empty.gguf", b""),
                ("model.safetensors", struct.pack("<Q", 54)
                 + b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}' + bytes(4)),
                ("unknown.gguf", gguf_of("perceptron9000"))):
            with self.subTest(name):
                self.refused(3, "run", self.write(name, data), "hi", says=[name])
        self.refused(3, "run", self.folder / "unknown.gguf", "hi", says=["perceptron9000", "llama"])
        with zipfile.ZipFile(self.folder / "model.pt", "w") as archive:
            archive.writestr("archive/data.pkl", b"x")
        self.refused(3, "run", self.folder / "model.pt", "hi", says=["PyTorch"])
        self.refused(3, "run", self.folder, "hi", says=["directory"])
        self.refused(3, "run", self.folder / "none.gguf", "hi", says=["none.gguf", "no such file"])
        self.refused(3, "run", "no-such-model", "hi", says=["tools/fetch_model"])

    def test_budgets(self):
        self.refused(4, "run", TINY, "hi", "--dram", "1MiB", says=["floor", "KV", "--dram"])
        self.refused(4, "run", TINY, "hi", "--dram", "4MiB", "-b", 2000, "-c", 2000, says=["floor"])

    def test_bench(self):
        self.refused(2, "bench", TINY, "--depths", "8,10", "-n", 2, says=["--depths", "exceed"])
        self.refused(2, "bench", TINY, "--depths", "0,10", "-n", 2, says=["--depths"])
        self.refused(2, "bench", TINY, "--depths", "8", "-n", 0, says=["-n"])
        self.refused(2, "bench", TINY, "--depths", "8", "-p", 4, says=["depths"])
        self.refused(7, "bench", TINY, "--depths", "8", "-n", 4, "-c", 9, says=["-c"])

    def test_probe_memory(self):
        self.refused(2, "probe", "memory", "--size", "1MiB", says=["--size", "1.0 GiB"])
        self.refused(2, "probe", "memory", "--rounds", 0, says=["--rounds"])

    def test_prompts(self):
        long_prompt = self.write("long.txt", "the river " * 3000)
        self.refused(7, "run", TINY, "-f", long_prompt, says=["2048"])
        self.refused(7, "run", TINY, PROMPT, "-c", 16, "-n", 100, says=["-c"])
        self.refused(7, "eval", TINY, "-f", long_prompt)
        self.refused(2, "run", TINY, "one", "-p", "two", says=["once"])
        self.refused(3, "run", TINY, "-f", self.folder / "none.txt", says=["none.txt"])

    def test_outputs(self):
        for option in ("--json", "--trace"):
            self.refused(6, "run", TINY, "hi", option, "/no/such/folder/x", says=["/no/such/"])
        self.refused(2, "chat", TINY, "--json", self.folder / "x", stdin=b"hi\n")
        self.refused(2, "chat", TINY, "--trace", self.folder / "x", stdin=b"hi\n")
        with open("/dev/full", "wb") as full:
            result = subprocess.run([WEIR, "run", TINY, "hi", "-n", "8"], cwd=ROOT, stdout=full,
                                    stderr=subprocess.PIPE, timeout=TIMEOUT_S, check=False)
        self.assertEqual(result.returncode, 6, result.stderr)

    def test_a_refused_run_destroys_no_file(self):
        precious = self.write("precious.json", "{}")
        self.refused(4, "run", TINY, "hi", "--dram", "1MiB", "--json", precious)
        self.assertEqual(precious.read_text(), "{}")

    def test_option_values(self):
        for options in (["--reader", "pigeon"], ["--activations", "x"], ["--temp", "-1"],
                        ["--resident", "101%"], ["--resident", "half"], ["--dram", "lots"],
                        ["--top-p", "0"], ["--min-p", "2"], ["--repeat-penalty", "0"],
                        ["--read-ahead", "far"], ["--cache-type-k", "q4_0"],
                        ["--cache-type-v", "f64"], ["--faults", "rain"], ["--isa", "abacus"],
                        ["-n", "-5"], ["-n", "few"], ["-t", "-1"], ["-t", "100000"],
                        ["-c", "1000000"], ["--bogus"],
                        ["--dram", "4MiB", "--resident", "50%"]):
            with self.subTest(options):
                self.refused(2, "run", TINY, "hi", *options)
        self.refused(2)
        self.refused(2, "run")
        self.refused(2, "walk", TINY)

    def test_reads_that_fail_while_running(self):
        self.refused(5, "run", TINY, "hi", "--faults", "seed=1,eio_forever=100%", says=["offset"])
        for faults in ("unplug_at=0", "stuck=100%"):
            self.refused(5, "run", TINY, "hi", "--read-timeout", "200ms", "--faults", faults,
                         says=["tiny.gguf: offset ", "wanted ", "got 0"])
        for timeout in ("0s", "soon", "5"):
            self.refused(2, "run", TINY, "hi", "--read-timeout", timeout, says=["--read-timeout"])


class FaultsTest(CliTest):
    """Whatever happens to the disk: the same text, or its beginning and one line that says why."""

    def test_each_kind(self):
        clean = self.good("run", TINY, PROMPT, "--temp", 0, "-n", 12).stdout
        failed = 0
        for number, faults in enumerate(
                ("short=20%,again=20%", "eio=10%,reorder=20%", "spike=5%:5ms,slow=5%:x5",
                 "slow_from=50:x10", "eio_at=90", "stuck_at=90", "unplug_at=120",
                 "short=5%,eio_forever=1%", "stuck=1%,reorder=10%")):
            reader = ("threads", "auto")[number % 2]
            out = self.folder / f"{number}.json"
            result = weir("run", TINY, PROMPT, "--temp", 0, "-n", 12, "--resident", "25%",
                          "--reader", reader, "--read-timeout", "500ms", "--json", out,
                          "--faults", f"seed={number},{faults}")
            with self.subTest(faults):
                if result.returncode == 0:
                    self.assertEqual(result.stdout, clean)
                    continue
                failed += 1
                self.assertEqual(result.returncode, 5)
                self.assertGreater(number, 3, result.stderr)
                self.assertTrue(clean.startswith(result.stdout.rstrip(b"\n")))
                self.assertRegex(result.stderr.decode(),
                                 r"weir: \S+tiny.gguf: offset \d+: wanted \d+ bytes, got \d+: ")
                self.assertFalse(out.exists())
        self.assertGreaterEqual(failed, 3)

    def test_a_file_that_is_cut_while_it_is_read(self):
        model = self.write("cut.gguf", (ROOT / TINY).read_bytes())
        command = [WEIR, "run", str(model), PROMPT, "--ignore-eos", "--resident", "0%", "--temp",
                   "0", "--faults", "spike=100%:5ms"]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              bufsize=0) as process:
            process.stdout.read(1)
            os.truncate(model, 300000)
            errors = process.stderr.read().decode()
            self.assertEqual(process.wait(timeout=TIMEOUT_S), 5, errors)
        self.assertIn("cut.gguf: ", errors)


class SignalTest(CliTest):
    def interrupt(self, number):
        path = self.folder / "out.json"
        # Slow enough to be met in the middle.
        command = [WEIR, "run", TINY, PROMPT, "--ignore-eos", "--temp", "0", "--resident", "0%",
                   "--faults", "spike=100%:5ms", "--json", str(path)]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE) as process:
            self.assertTrue(select.select([process.stdout], [], [], TIMEOUT_S)[0])
            process.send_signal(number)
            _, errors = process.communicate(timeout=TIMEOUT_S)
        report = json.loads(path.read_text())
        self.assertEqual(report["stop"], "interrupted")
        self.assertGreater(report["generated_tokens"], 0)
        self.assertIn(b"tok/s", errors)
        return process.returncode

    def test_ctrl_c_ends_with_the_footer(self):
        self.assertEqual(self.interrupt(signal.SIGINT), 130)

    def test_sigterm_too(self):
        self.assertEqual(self.interrupt(signal.SIGTERM), 143)

    def test_at_any_moment(self):
        """From before the start on, with a reader that went to sleep and a disk that hangs."""
        command = [WEIR, "run", TINY, PROMPT, "--ignore-eos", "--resident", "0%", "--json",
                   str(self.folder / "out.json"), "--trace", str(self.folder / "out.trace")]
        ends = os.pipe()
        os.set_blocking(ends[1], False)
        with self.assertRaises(BlockingIOError):
            while True:
                os.write(ends[1], bytes(4096))
        os.set_blocking(ends[1], True)
        for moment_s in (0, 0.05, 0.3):
            for options, sink in (([], ends[1]), (["--faults", "stuck=2%"], subprocess.DEVNULL)):
                with self.subTest(moment_s=moment_s, options=options):
                    with subprocess.Popen(command + options, cwd=ROOT, stdout=sink,
                                          stderr=subprocess.DEVNULL) as process:
                        time.sleep(moment_s)
                        process.send_signal(signal.SIGTERM)
                        # The signal's own doing, as long as the program has not begun.
                        self.assertIn(process.wait(timeout=TIMEOUT_S), (143, -signal.SIGTERM))
                    for path in self.folder.iterdir():
                        self.assertIn(path.name, ("out.json", "out.trace"))
                        json.loads(path.read_text())
        for end in ends:
            os.close(end)

    def test_while_it_waits_for_a_prompt(self):
        with subprocess.Popen([WEIR, "run", TINY], cwd=ROOT, stdin=subprocess.PIPE,
                              stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
            time.sleep(0.3)
            process.send_signal(signal.SIGINT)
            self.assertEqual(process.wait(timeout=TIMEOUT_S), 130, process.stderr.read())

    def test_a_reader_that_went_away(self):
        with subprocess.Popen([WEIR, "run", TINY, PROMPT, "--ignore-eos", "-n", "2000"], cwd=ROOT,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            process.stdout.read(1)
            process.stdout.close()
            errors = process.stderr.read()
            self.assertEqual(process.wait(timeout=TIMEOUT_S), 6, errors)

    def test_limits_of_the_process(self):
        """Where locked memory is not allowed, a run goes on without."""
        def no_locked_memory():
            resource.setrlimit(resource.RLIMIT_MEMLOCK, (0, 0))
        result = subprocess.run([WEIR, "run", TINY, "hi", "-n", "2"], cwd=ROOT, capture_output=True,
                                timeout=TIMEOUT_S, check=False, preexec_fn=no_locked_memory)
        self.assertEqual(result.returncode, 0, result.stderr)


if __name__ == "__main__":
    unittest.main()
