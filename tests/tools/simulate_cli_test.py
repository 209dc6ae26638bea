"""`weir simulate` as its users meet it: figures, faults, exit codes, files.

Runs build/weir, or $WEIR_BINARY, on tests/data/tiny.gguf. The hardware is always given: nothing
depends on this machine's speed.
"""

import json
import os
import pathlib
import subprocess
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
WEIR = os.environ.get("WEIR_BINARY", str(ROOT / "build/weir"))
TINY = "tests/data/tiny.gguf"
HARDWARE = ("--disk", "1GB/s", "--disk-latency", "10us", "--compute", "2GB/s")
TIMEOUT_S = 120


def weir(*arguments):
    return subprocess.run([WEIR, *map(str, arguments)], cwd=ROOT, stdin=subprocess.DEVNULL,
                          capture_output=True, timeout=TIMEOUT_S, check=False, text=True)


class SimulateTest(unittest.TestCase):
    def setUp(self):
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.folder = pathlib.Path(scratch.name)

    def simulate(self, *options, code=0):
        """(the JSON report, the process) of a simulation on the given hardware."""
        path = self.folder / "result.json"
        result = weir("simulate", TINY, *HARDWARE, "--json", path, *options)
        self.assertEqual(result.returncode, code, result.stderr)
        return json.loads(path.read_text()), result

    def refused(self, *options, code=2, says=()):
        result = weir("simulate", TINY, *options)
        self.assertEqual(result.returncode, code, result.stderr)
        self.assertEqual(result.stdout, "")
        self.assertTrue(result.stderr.startswith("weir: "), result.stderr)
        self.assertEqual(result.stderr.count("\n"), 1, result.stderr)
        for part in says:
            self.assertIn(part, result.stderr)

    def test_figures_follow_from_the_hardware(self):
        report, result = self.simulate("--resident", "50%", "-n", 12)
        self.assertEqual(report["generated_tokens"], 12)
        self.assertEqual(report["hardware"]["disk_gb_per_s"], 1.0)
        self.assertEqual(report["hardware"]["disk_latency_us"], 10.0)
        self.assertAlmostEqual(report["hardware"]["compute_gb_per_s"], 2.0, delta=0.01)
        bound_s = max(report["bound"]["disk_s"], report["bound"]["compute_s"])
        self.assertAlmostEqual(report["share_of_bound"],
                               report["decode_tokens_per_s"] * bound_s, places=6)
        self.assertGreater(report["share_of_bound"], 0.7)
        self.assertLessEqual(report["share_of_bound"], 1.001)
        self.assertLessEqual(report["peak_held_bytes"], report["dram_budget_bytes"])
        self.assertEqual(sum(report["faults"].values()), 0)
        for words in ("Bound:", "Reached:", "disk busy", "compute busy", "trace hash",
                      report["trace_hash"]):
            self.assertIn(words, result.stdout)

    def test_a_faster_disk_gives_more_until_compute_bounds(self):
        speeds = []
        for disk in ("500MB/s", "1GB/s", "50GB/s", "100GB/s"):
            path = self.folder / "result.json"
            weir("simulate", TINY, "--resident", "0%", "--disk", disk, "--disk-latency", "0us",
                 "--compute", "2GB/s", "--json", path)
            report = json.loads(path.read_text())
            speeds.append(report["decode_tokens_per_s"])
            self.assertEqual(report["bound"]["bottleneck"], "compute" if "0GB" in disk else "disk")
        self.assertAlmostEqual(speeds[1] / speeds[0], 2, delta=0.1)
        self.assertAlmostEqual(speeds[3] / speeds[2], 1, delta=0.1)

    def test_equal_seeds_give_equal_traces(self):
        def run(seed):
            return self.simulate("--resident", "20%", "--faults", "slow=10%:x5,eio=5%,reorder=20%",
                                 "--seed", seed)[0]
        first = run(7)
        self.assertEqual(first, run(7))
        self.assertNotEqual(first["trace_hash"], run(8)["trace_hash"])
        self.assertGreater(first["faults"]["slow"], 0)
        self.assertGreater(first["faults"]["eio"], 0)
        # Without faults a seed varies the latencies.
        self.assertNotEqual(self.simulate("--resident", "20%", "--seed", 1)[0]["trace_hash"],
                            self.simulate("--resident", "20%", "--seed", 2)[0]["trace_hash"])

    def test_a_fault_ends_as_a_run_would(self):
        for faults, code, says in (
                ("eio_at=20", 5, ("offset", "wanted", "got 0", "EIO")),
                ("stuck_at=20", 5, ("offset", "no answer within 3 s")),
                ("cancel_at=50", 130, ("interrupted",)),
        ):
            with self.subTest(faults=faults):
                report, result = self.simulate("--resident", "0%", "--faults", faults,
                                               "--read-timeout", "3s", code=code)
                for part in says:
                    self.assertIn(part, result.stderr)
                    self.assertIn(part, report["error"])
                self.assertIn("Events:", result.stdout)
        self.assertEqual(self.simulate("--faults", "eio=50%")[0]["error"], "")

    def test_the_trace_has_the_rows_of_a_real_one(self):
        path = self.folder / "trace.json"
        self.simulate("--resident", "50%", "-n", 3, "--trace", path)
        events = json.loads(path.read_text())["traceEvents"]
        names = {event["args"]["name"] for event in events if event["ph"] == "M"}
        self.assertLessEqual({"weir simulate", "compute", "passes", "disk 0"}, names)
        passes = [event for event in events if event["name"].startswith("pass ")]
        self.assertEqual(len(passes), 4)  # the first fills the memory
        self.assertEqual({event["pid"] for event in events}, {2})

    def test_a_plan_may_be_larger_than_this_machine(self):
        path = self.folder / "plan.json"
        self.assertEqual(weir("plan", TINY, "--resident", "0%", "--json", path).returncode, 0)
        plan = json.loads(path.read_text())
        plan["ring"]["slot_bytes"] = 1 << 40
        plan["dram_budget_bytes"] = 1 << 46
        path.write_text(json.dumps(plan))
        report, _ = self.simulate("--plan", path)
        self.assertEqual(report["ring"]["slot_bytes"], 1 << 40)
        self.assertGreater(report["peak_held_bytes"], 1 << 40)
        self.assertEqual(weir("run", TINY, "hello", "--plan", path, "-n", 1).returncode, 4)

    def test_a_saved_plan_is_followed(self):
        plan = self.folder / "plan.json"
        self.assertEqual(weir("plan", TINY, "--resident", "30%", "--json", plan).returncode, 0)
        report, _ = self.simulate("--plan", plan)
        self.assertAlmostEqual(report["resident_share"], 0.3, delta=0.1)

    def test_what_cannot_be_honoured_is_refused(self):
        self.refused("--disk", "7", says=("--disk", "'7'"))
        self.refused("--disk", "0GB/s", says=("--disk",))
        self.refused("--disk", "1GB/s", "--compute", "fast", says=("--compute", "'fast'"))
        self.refused("--disk-latency", "5", "--compute", "1GB/s", "--disk", "1GB/s",
                     says=("--disk-latency", "'5'"))
        self.refused(*HARDWARE, "--read-timeout", "0s", says=("--read-timeout",))
        self.refused(*HARDWARE, "--isa", "avx2", says=("--isa",))
        self.refused(*HARDWARE, "-n", "0", says=("-n",))
        self.refused(*HARDWARE, "--faults", "sleep=5%", says=("sleep=5%", "--faults"))
        self.refused(*HARDWARE, "--seed", "1", "--faults", "seed=2", says=("--seed",))
        self.refused(*HARDWARE, "--dram", "1KiB", code=4, says=("floor",))
        self.refused(*HARDWARE, "--dram", "1GiB", "--resident", "5%", says=("give one",))
        result = weir("simulate", "no-such-model.gguf", *HARDWARE)
        self.assertEqual(result.returncode, 3, result.stderr)


if __name__ == "__main__":
    unittest.main()
