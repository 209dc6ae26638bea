"""`weir wall` as its users meet it: what it measures, its JSON, interruption, resuming, refusals.

Runs build/weir, or $WEIR_BINARY, on tests/data/tiny.gguf, with a folder of its own for journals.
"""

import json
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
TIMEOUT_S = 300
EXTRAS = ("--skip", "hierarchy,training,levers,precision")
QUICK = ("-r", "1", "-n", "2", "--passes", "1,8", *EXTRAS)
CPU_ARMS = ["resident", "half on disk", "3/4 on disk", "on disk, read ahead", "on disk, literally"]


class WallTest(unittest.TestCase):
    def setUp(self):
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.folder = pathlib.Path(scratch.name)
        self.environment = {**os.environ, "XDG_CACHE_HOME": scratch.name}

    def command(self, *options):
        return [WEIR, "wall", TINY, *map(str, options)]

    def wall(self, *options, code=0):
        result = subprocess.run(self.command(*options), cwd=ROOT, stdin=subprocess.DEVNULL,
                                capture_output=True, timeout=TIMEOUT_S, check=False, text=True,
                                env=self.environment)
        self.assertEqual(result.returncode, code, result.stderr)
        return result

    def wall_json(self, *options):
        path = self.folder / "wall.json"
        result = self.wall("--json", path, *options)
        return json.loads(path.read_text()), result.stdout

    def test_arms_passes_and_sentence(self):
        report, text = self.wall_json("--device", "cpu", *QUICK)
        self.assertEqual((report["format"], report["version"]), ("weir-wall", 1))
        names = [arm["name"] for arm in report["arms"]]
        self.assertEqual(names[:5], CPU_ARMS)
        self.assertEqual(names[-1], "on disk, page by page")
        arms = {arm["name"]: arm for arm in report["arms"]}
        self.assertEqual(arms["resident"]["slowdown"], 1)
        # All weights, once a token; the first token's are read before it is timed.
        for name in CPU_ARMS[3:]:
            self.assertGreater(arms[name]["bytes_per_token"], 0.7 * report["weight_bytes"])
        self.assertLess(arms["half on disk"]["bytes_per_token"],
                        arms["on disk, literally"]["bytes_per_token"])
        self.assertTrue(arms["on disk, page by page"]["scaled"])
        self.assertNotIn("prediction_error", arms["on disk, page by page"])
        self.assertEqual([one["tokens"] for one in report["passes"]], [1, 8])
        self.assertTrue(all(one["predicted_disk_s"] > 0 for one in report["passes"]))
        self.assertTrue(report["sentence"].startswith("On this machine parameters on disk cost"))
        self.assertTrue(text.endswith(report["sentence"]), text)
        self.assertEqual(list((self.folder / "weir/wall").iterdir()), [], "the journal is gone")

    def test_emulated_ladder(self):
        report, text = self.wall_json("--device", "emulated", "--link-h2d", "1GB/s", *QUICK)
        self.assertEqual(report["ladder"], "emulated")
        self.assertIn("no figure is a GPU's", text)
        arms = {arm["name"]: arm for arm in report["arms"]}
        self.assertEqual(arms["resident"]["link_bytes_per_token"], 0)
        self.assertGreater(arms["on disk, literally"]["link_bytes_per_token"], 0)
        self.assertNotIn("on disk, through mmap", arms)

    def test_an_interrupted_wall_goes_on(self):
        options = ("--device", "cpu", "-r", "200", "-n", "1", "--passes", "1", *EXTRAS)
        journals = self.folder / "weir/wall"
        with subprocess.Popen(self.command(*options), cwd=ROOT, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                              env=self.environment) as process:
            deadline = time.monotonic() + TIMEOUT_S
            while not any(path.read_text().count("\n") > 4 for path in journals.glob("*.jsonl")):
                self.assertIsNone(process.poll(), "it ended by itself")
                self.assertLess(time.monotonic(), deadline)
                time.sleep(0.01)
            process.send_signal(signal.SIGINT)
            _, stderr = process.communicate(timeout=TIMEOUT_S)
        self.assertEqual(process.returncode, 130)
        self.assertIn("--resume goes on", stderr)
        [journal] = journals.iterdir()
        # Of another measurement it is refused; so are options that differ.
        for other in (QUICK, ("-r", "200", "-n", "2", "--passes", "1", *EXTRAS)):
            message = self.wall("--device", "cpu", "--resume", *other, code=2).stderr
            self.assertIn("is of another measurement", message)
        lines = journal.read_text().splitlines(keepends=True)
        # As if it had come as far as the last pass, and with a figure that no machine measures.
        head, first = json.loads(lines[0]), json.loads(lines[1])
        head["identity"]["rounds"] = 1
        self.assertEqual(first["key"], "arm 0, round 1")
        first["value"]["tokens_per_s"] = 1e9
        journal.write_text(json.dumps(head) + "\n" + json.dumps(first) + "\n" + "".join(lines[2:]))
        report, _ = self.wall_json("--device", "cpu", "--resume", "-r", "1", "-n", "1",
                                   "--passes", "1", *EXTRAS)
        self.assertEqual(report["arms"][0]["tokens_per_s"]["median"], 1e9, "it was measured again")
        self.assertFalse(journal.exists())
        self.assertIn("nothing was interrupted",
                      self.wall("--device", "cpu", "--resume", *QUICK, code=2).stderr)

    def test_training_and_levers(self):
        text = self.folder / "text.txt"
        text.write_text("The water in the river runs over the weir and on to the sea.")
        # Beside the build there is a disk, if anywhere.
        with tempfile.TemporaryDirectory(dir=pathlib.Path(WEIR).parent) as scratch:
            report, output = self.wall_json("--device", "cpu", "-r", "1", "-n", "1",
                                            "--passes", "1", "--text", text,
                                            "--scratch", scratch, "--skip", "hierarchy")
            self.assertEqual(os.listdir(scratch), [])
        flows = report["training"]["flows"]
        self.assertGreater(sum(flow["bytes"] for flow in flows), report["weight_bytes"])
        self.assertGreater(report["training"]["measured"]["achieved_s"], 0)
        ladder = {row["format"]: row for row in report["levers"]["precision"]}
        self.assertEqual(list(ladder), ["F32", "BF16", "Q8_0", "Q4_K"])
        self.assertEqual(ladder["F32"]["bytes"], 2 * ladder["BF16"]["bytes"])
        self.assertLess(ladder["Q4_K"]["bytes"], ladder["Q8_0"]["bytes"])
        # The same weights: little is lost down to 8 bits.
        for name in ("BF16", "Q8_0"):
            self.assertLess(abs(ladder[name]["perplexity"] / ladder["F32"]["perplexity"] - 1), 0.1)
        for row in report["levers"]["attention"]:
            self.assertLess(row["same"], 1e-4)
            self.assertLess(row["tiled_bytes"], row["naive_bytes"])
        self.assertIn("sequences of 4096", output)

    def test_refusals(self):
        for options, says, code in ((("-n", "0"), "-n", 2), (("-r", "0"), "-r", 2),
                                    (("--passes", "4,4"), "ascending", 2),
                                    (("--passes", "1000000"), "context", 7),
                                    (("--device", "gpu"), "--device", 2),
                                    (("--skip", "arms"), "--skip", 2),
                                    (("--text", "/nowhere"), "/nowhere", 3),
                                    (("--scratch", "/nowhere"), "--scratch", 2),
                                    (("--text", "t", "--skip", "precision"), "--text", 2),
                                    (("--scratch", ".", *EXTRAS), "--scratch", 2),
                                    (("--short", "-r", "3"), "--short", 2),
                                    (("--short", "--text", "t"), "--short", 2),
                                    (("--device", "cpu", "--link-h2d", "1GB/s"), "--link-h2d", 2)):
            self.assertIn(says, self.wall(*options, code=code).stderr)


if __name__ == "__main__":
    unittest.main()
