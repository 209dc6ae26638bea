"""`weir quantize` as its users meet it: every format runs, refusals, interruption.

Runs build/weir, or $WEIR_BINARY, on tests/data/tiny.gguf and a synthetic model.
"""

import json
import math
import os
import pathlib
import signal
import subprocess
import tempfile
import time
import unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
WEIR = os.environ.get("WEIR_BINARY", str(ROOT / "build/weir"))
TINY = "tests/data/tiny.gguf"
# How far the logarithm of the perplexity of a few hundred characters may move, about twice of what
# it did.
FORMATS = {"F32": 0, "F16": 0.01, "BF16": 0.03, "Q8_0": 0.1, "Q6_K": 0.15, "Q5_K": 0.25,
           "Q5_1": 0.25, "Q5_0": 0.25, "Q4_K": 0.4, "Q4_1": 0.4, "Q4_0": 0.4}
TIMEOUT_S = 300


def weir(*words, code=0):
    result = subprocess.run([WEIR, *map(str, words)], cwd=ROOT, stdin=subprocess.DEVNULL,
                            capture_output=True, timeout=TIMEOUT_S, check=False, text=True,
                            errors="replace")  # a random model's text
    if result.returncode != code:
        raise AssertionError(f"{words}: {result.returncode}\n{result.stderr}")
    return result


def tensors(path):
    described = json.loads(weir("inspect", path, "--json", "-").stdout)
    return {tensor["name"]: tensor for tensor in described["tensors"]}, described["metadata"]


class QuantizeTest(unittest.TestCase):
    def setUp(self):
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.folder = pathlib.Path(scratch.name)
        self.target = self.folder / "target.gguf"

    def perplexity(self, path):
        text = self.folder / "text.txt"
        text.write_text((ROOT / "tests/data/texts/english.txt").read_text()[:300])
        report = self.folder / "eval.json"
        weir("eval", path, "-f", text, "--device", "cpu", "--activations", "f32",
             "--json", report)
        return json.loads(report.read_text())["perplexity"]

    def test_every_format_runs(self):
        source = self.folder / "source.gguf"
        weir("quantize", TINY, source, "--format", "F32")
        wanted = self.perplexity(source)
        before, _ = tensors(source)
        for name, tolerance in FORMATS.items():
            with self.subTest(format=name):
                result = weir("quantize", source, self.target, "--format", name.lower(),
                              "--overwrite", "-t", 2)
                self.assertIn(f", {name}; ", result.stderr)
                after, metadata = tensors(self.target)
                self.assertEqual(list(after), list(before))
                self.assertEqual(metadata["tokenizer.ggml.tokens"]["length"], 512)
                formats = {tensor["format"] for tensor in after.values()}
                self.assertEqual(formats, {"F32", name})
                shift = math.log(self.perplexity(self.target) / wanted)
                self.assertAlmostEqual(shift, 0, delta=tolerance)
                weir("run", self.target, "word", "-n", 4, "--temp", 0, "--device", "cpu",
                     "--ignore-eos")
        self.assertLess(self.target.stat().st_size, 0.3 * source.stat().st_size)

    def test_formats_of_output_and_embedding(self):
        source = self.folder / "source.gguf"
        weir("synth", source, "--format", "F32", "--layers", 1, "--columns", 64)
        result = weir("quantize", source, self.target, "--format", "Q4_K", "--output-format",
                      "F16", "--embedding-format", "Q5_1")
        after, _ = tensors(self.target)
        self.assertEqual(after["output.weight"]["format"], "F16")
        self.assertEqual(after["token_embd.weight"]["format"], "Q5_1")
        self.assertEqual(after["blk.0.attn_q.weight"]["format"], "Q8_0")
        self.assertIn("rows of 64 are not whole blocks of 256, as Q4_K has them", result.stderr)

    def test_refusals(self):
        self.assertIn("--format", weir("quantize", TINY, self.target, code=2).stderr)
        for options, text in [(("--format", "Q2_K"), "no format that can be written"),
                              (("--format", "Q4_0", "--output-format", "x"), "--output-format"),
                              (("--format", "Q4_0", "--isa", "x"), "instruction set")]:
            self.assertIn(text, weir("quantize", TINY, self.target, *options, code=2).stderr)
        self.assertFalse(self.target.exists())
        self.target.write_text("mine")
        result = weir("quantize", TINY, self.target, "--format", "Q8_0", code=2)
        self.assertIn("exists", result.stderr)
        self.assertEqual(self.target.read_text(), "mine")
        result = weir("quantize", self.target, self.folder / "b", "--format", "Q8_0", code=3)
        result = weir("quantize", TINY, "/dev/null/x", "--format", "Q8_0", code=6)
        link = self.folder / "link.gguf"
        link.symlink_to(ROOT / TINY)
        result = weir("quantize", link, TINY, "--format", "Q8_0", "--overwrite", code=2)
        self.assertIn("the source itself", result.stderr)

    def test_an_interrupt_leaves_nothing(self):
        source = self.folder / "source.gguf"
        weir("synth", source, "--format", "F16", "--layers", 24, "--columns", 1024)
        output = self.folder / "output"
        output.mkdir()
        with subprocess.Popen([WEIR, "quantize", source, output / "target.gguf", "--format",
                               "Q5_K", "-t", "1"], cwd=ROOT, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            deadline = time.monotonic() + TIMEOUT_S
            while not any(output.iterdir()) and time.monotonic() < deadline:
                time.sleep(0.005)
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=TIMEOUT_S)
        self.assertEqual(process.returncode, 130, errors)
        self.assertIn("interrupted", errors)
        self.assertEqual(list(output.iterdir()), [])


if __name__ == "__main__":
    unittest.main()
