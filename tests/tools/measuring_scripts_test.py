"""The pure parts of the measuring scripts: what they parse, how they summarise, when they fail."""

import argparse
import importlib.util
import json
import pathlib
import sys
import tempfile
import unittest
from importlib.machinery import SourceFileLoader

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tests/acceptance"))

import cgroup  # noqa: E402
import disk_leg  # noqa: E402
import fio  # noqa: E402
import measure  # noqa: E402
import probe_crosscheck  # noqa: E402
import verdicts  # noqa: E402


def load_script(name, path):
    loader = SourceFileLoader(name, str(ROOT / path))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(name, loader))
    loader.exec_module(module)
    return module


compare_mmap = load_script("compare_mmap", "tools/compare_mmap")
uring_modes = load_script("uring_modes", "tests/bench/uring_modes.py")
MIB = 1 << 20
Refused = argparse.ArgumentTypeError


class MeasureTest(unittest.TestCase):
    def test_sizes(self):
        for text, size in (("12345", 12345), ("1M", MIB), ("500MiB", 500 * MIB),
                           ("0.5g", 512 * MIB), ("600MB", 600_000_000), (" 2 GB", 2_000_000_000)):
            with self.subTest(text=text):
                self.assertEqual(measure.parse_size(text), size)
        for text in ("", "half", "-1", "3 apples", "1e9"):
            with self.subTest(text=text), self.assertRaisesRegex(Refused, "is no size"):
                measure.parse_size(text)

    def test_shares(self):
        self.assertEqual(measure.parse_shares("0,25,50"), [0, 25, 50])
        for text in ("101", "-1", "", "5%"):
            with self.subTest(text=text), self.assertRaises(Refused):
                measure.parse_shares(text)

    def test_medians_and_ratios(self):
        self.assertEqual(measure.spread([3, 1, 2, 10]), measure.Spread(2.5, 1, 10))
        self.assertEqual(measure.spread([3.14159]).text(1), "3.1 (3.1 to 3.1)")
        # A disk that changes its pace changes both: the ratio of each round does not see it.
        self.assertEqual(measure.median_ratio([1, 20, 3], [2, 40, 3]), 0.5)
        with self.assertRaises(ValueError):
            measure.median_ratio([1, 2], [1])
        self.assertAlmostEqual(measure.error_percent(11, 10), 10)

    def test_every_arm_comes_first(self):
        orders = [measure.rotated(["a", "b", "c"], index) for index in range(4)]
        self.assertEqual([order[0] for order in orders], ["a", "b", "c", "a"])
        self.assertTrue(all(sorted(order) == ["a", "b", "c"] for order in orders))

    def test_a_failed_run_keeps_code_and_words(self):
        with self.assertRaisesRegex(measure.RunFailed, "no such luck") as raised:
            measure.run_json(["sh", "-c", "echo no such luck >&2; exit 7"], "/nonexistent")
        self.assertEqual(raised.exception.code, 7)
        with self.assertRaisesRegex(measure.MeasureError, "--weir"):
            measure.run_json(["/nonexistent/weir"], "/nonexistent")


class CrosscheckTest(unittest.TestCase):
    def test_medians_within_the_tolerance(self):
        for own, passed in (([10.4, 1, 99], True), ([10.6, 1, 99], False), ([9.4, 9.4], False)):
            with self.subTest(own=own):
                verdict = probe_crosscheck.ratio_verdict("disk", own, [10, 10], 0.05, "fio")
                self.assertEqual(verdict.passed, passed, verdict.found)

    def test_likwids_report(self):
        self.assertEqual(probe_crosscheck.parse_likwid("Cycles: 7\nMByte/s:\t\t33872.50\n"),
                         33.8725)
        with self.assertRaisesRegex(ValueError, "no rate"):
            probe_crosscheck.parse_likwid("Unknown test")

    def test_steps_lie_near_the_sizes(self):
        judged = probe_crosscheck.step_verdicts({"L1": (100, [40, 60, 90]), "L2": (1000, [2100]),
                                                 "L3": (10000, [2600])})
        self.assertEqual([verdict.passed for verdict in judged], [True, False, True])
        self.assertFalse(probe_crosscheck.step_verdicts({"L1": (100, [0])})[0].passed)

    def test_bytes_are_the_kernels(self):
        good = {"bytes": 100, "kernel_bytes": 101, "device_bytes": 120}
        for change, passed in (({}, True), ({"kernel_bytes": 50}, False),
                               ({"device_bytes": 90}, False), ({"device_bytes": None}, True),
                               ({"kernel_bytes": None}, None)):
            with self.subTest(change=change):
                self.assertIs(probe_crosscheck.kernel_verdict([{**good, **change}]).passed, passed)

    def test_sizes_are_equal_or_named(self):
        levels = {"L1": (32, [30])}
        self.assertTrue(probe_crosscheck.size_verdict(levels, {"L1": 32, "L2": 5}).passed)
        wrong = probe_crosscheck.size_verdict(levels, {"L1": 48})
        self.assertFalse(wrong.passed)
        self.assertIn("48", wrong.found)
        self.assertIsNone(probe_crosscheck.size_verdict(levels, {}).passed)


class FioTest(unittest.TestCase):
    REPORT = json.dumps({"jobs": [{"error": 0, "read": {"bw_bytes": 2_500_000_000,
                                                        "io_bytes": 5_000_000_000}}]})

    def test_report_behind_warnings(self):
        self.assertEqual(fio.parse("note: something\n" + self.REPORT),
                         {"gb_per_s": 2.5, "bytes": 5_000_000_000})

    def test_errors_are_errors(self):
        with self.assertRaisesRegex(ValueError, "not supported"):
            fio.parse(self.REPORT.replace('"error": 0', '"error": 95'))
        with self.assertRaisesRegex(ValueError, "no JSON"):
            fio.parse("fio: bad option\n")

    def test_thread_parts_lie_in_the_file(self):
        settings = uring_modes.modes(MIB, 32, 1000 * MIB + 17)
        options = dict(option.split("=") for option in settings["threads, pread"].options)
        self.assertLessEqual(32 * int(options["--offset_increment"]), 1000 * MIB)
        self.assertEqual(int(options["--size"]) % MIB, 0)
        self.assertEqual(next(iter(settings)), uring_modes.PLAIN)


class CgroupTest(unittest.TestCase):
    def setUp(self):
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.root = pathlib.Path(scratch.name)

    def test_v1(self):
        (self.root / "memory").mkdir()
        (self.root / "memory/memory.limit_in_bytes").write_text("9223372036854771712\n")
        group = cgroup.MemoryCgroup("test", self.root)
        self.assertTrue(group.is_v1)
        group.limit(500)
        self.assertEqual((group.path / "memory.limit_in_bytes").read_text(), "500")
        (group.path / "memory.stat").write_text("cache 300\nrss 20\nmapped_file 1\n")
        (group.path / "memory.oom_control").write_text("oom_kill_disable 0\noom_kill 2\n")
        (group.path / "memory.max_usage_in_bytes").write_text("400\n")
        self.assertEqual(group.pages(), (300, 20))
        self.assertEqual((group.oom_kills(), group.peak_bytes()), (2, 400))

    def test_v2(self):
        (self.root / "cgroup.controllers").write_text("cpu io memory\n")
        (self.root / "cgroup.subtree_control").write_text("cpu\n")
        group = cgroup.MemoryCgroup("test", self.root)
        self.assertFalse(group.is_v1)
        self.assertEqual((self.root / "cgroup.subtree_control").read_text(), "+memory")
        group.limit(500)
        self.assertEqual((group.path / "memory.max").read_text(), "500")
        (group.path / "memory.stat").write_text("anon 20\nfile 300\n")
        (group.path / "memory.events").write_text("low 0\nmax 7\noom 1\noom_kill 1\n")
        self.assertEqual(group.pages(), (300, 20))
        self.assertEqual((group.oom_kills(), group.peak_bytes()), (1, None))

    def test_nothing_there(self):
        with self.assertRaisesRegex(cgroup.CgroupError, "neither a cgroup v2"):
            cgroup.MemoryCgroup("test", self.root)


def bench_sample(speed, rate, **changes):
    return {"tokens_per_s": speed, "gb_per_s": rate, "read_bytes": 100, "kernel_bytes": 100,
            "streamed_bytes_per_pass": 1e9, "process_bytes": 200, "device_bytes": 200,
            "predicted_tokens_per_s": speed, "simulated_tokens_per_s": None,
            "decode_allocations": None, "over_budget_bytes": 10 * MIB, **changes}


def disk_leg_results(**changes):
    """One model whose disk gives 2 GB/s and whose compute takes 0.1 s; nothing resident."""
    samples = {"probe": [{"gb_per_s": 2.0}] * 3, "fio": [{"gb_per_s": 1.0}, {"gb_per_s": 2.0},
                                                         {"gb_per_s": 2.0}],
               "0 %": [bench_sample(1.96, 1.96, **changes)] * 3,
               "100 %": [bench_sample(10.0, 0.0)] * 3}
    return [{"model": "folder/m.gguf", "shares": [disk_leg.summarise_share(samples, 0)]}]


class DiskLegTest(unittest.TestCase):
    def judged(self, results):
        return {verdict.what: verdict.passed for verdict in verdicts.of_disk_leg(results)}

    def test_bound_is_the_slower_of_disk_and_compute(self):
        self.assertAlmostEqual(disk_leg.bound(1e9, 2.0, 0.1), 2.0)
        self.assertAlmostEqual(disk_leg.bound(1e9, 20.0, 0.1), 10.0)
        self.assertAlmostEqual(disk_leg.bound(0, 2.0, 0.1), 10.0)

    def test_figures_of_a_share(self):
        row = disk_leg_results()[0]["shares"][0]
        self.assertTrue(row["is_disk_bound"])
        self.assertAlmostEqual(row["of_bound"], 0.98)
        self.assertAlmostEqual(row["of"]["fio"]["of_medians"], 0.98)
        self.assertAlmostEqual(row["of"]["probe"]["median_of_rounds"], 0.98)
        self.assertIsNone(row["simulation_errors_percent"])

    def test_verdicts(self):
        judged = self.judged(disk_leg_results())
        self.assertIs(judged["disk's rate, nothing resident"], True)
        self.assertIs(judged["predicted tok/s"], True)
        self.assertIs(judged["kernel's count of the bytes"], True)
        self.assertIs(judged["peak memory"], True)
        self.assertIsNone(judged["simulated tok/s"])
        self.assertIsNone(judged["a cgroup of exactly budget and margin"])

    def test_each_verdict_can_fail(self):
        for what, changes in (
                ("disk's rate, nothing resident", {"gb_per_s": 1.89}),
                ("predicted tok/s", {"predicted_tokens_per_s": 2.2}),
                ("predicted tok/s", {"predicted_tokens_per_s": 1.96 * 1.06}),  # the median
                ("simulated tok/s", {"simulated_tokens_per_s": 1.7}),
                ("kernel's count of the bytes", {"kernel_bytes": 90}),
                ("kernel's count of the bytes", {"device_bytes": 100}),
                ("peak memory", {"over_budget_bytes": 65 * MIB}),
                ("allocations while generating", {"decode_allocations": 1})):
            with self.subTest(what=what, changes=changes):
                self.assertIs(self.judged(disk_leg_results(**changes))[what], False)

    def test_speed_below_the_bound_fails(self):
        results = disk_leg_results()
        results[0]["shares"][0].update(share=50, of_bound=0.92)
        self.assertIs(self.judged(results)["tok/s of max(disk, compute)"], False)


def llama_sample(speed, tokens=(1, 2)):
    return {"tokens_per_s": speed, "read_bytes": 400, "passes": 4, "tokens": list(tokens),
            "major_faults": 8, "run_major_faults": 100, "file_peak_bytes": 50 * MIB,
            "anonymous_peak_bytes": 5 * MIB}


def weir_sample(speed, **changes):
    sample = {**llama_sample(speed), "predicted_tokens_per_s": speed,
              "simulated_tokens_per_s": speed, "over_budget_bytes": 0, **changes}
    del sample["major_faults"]
    return sample


KILLED = {"ended": "killed", "file_peak_bytes": 0, "anonymous_peak_bytes": 90 * MIB}


class CompareMmapTest(unittest.TestCase):
    def limit(self, as_is, no_repack, weir):
        samples = dict(zip(compare_mmap.ARMS, (as_is, no_repack, weir)))
        return compare_mmap.summarise_limit(100 * MIB, samples)

    def test_killed_arm_leaves_the_other(self):
        limit = self.limit([KILLED] * 2, [llama_sample(1), llama_sample(2)],
                           [weir_sample(3), weir_sample(6)])
        self.assertEqual(limit["times_best_llama"], 3)
        self.assertTrue(limit["same_tokens"])
        self.assertEqual(compare_mmap.arm_row(limit, compare_mmap.AS_IS)[2], "killed")
        self.assertEqual(limit["arms"][compare_mmap.NO_REPACK]["major_faults_per_token"], 2)
        self.assertEqual(limit["arms"][compare_mmap.WEIR]["major_faults_per_token"], 12.5)
        self.assertTrue(all(verdict.passed for verdict in compare_mmap.judge([limit])))

    def test_verdicts_can_fail(self):
        slow = self.limit([llama_sample(2)], [llama_sample(1)], [weir_sample(3.9)])
        off = self.limit([KILLED], [llama_sample(1)], [weir_sample(3, predicted_tokens_per_s=4)])
        fat = self.limit([KILLED], [llama_sample(1)], [weir_sample(3, over_budget_bytes=65 * MIB)])
        dead = self.limit([KILLED], [llama_sample(1)], [KILLED])
        for limit, what in ((slow, "times the best of llama.cpp"), (off, "predicted tok/s"),
                            (fat, "peak memory"), (dead, "times the best of llama.cpp")):
            with self.subTest(what=what):
                failed = [verdict.what for verdict in compare_mmap.judge([limit])
                          if verdict.passed is False]
                self.assertEqual(failed, [what])

    def test_other_tokens_are_told(self):
        limit = self.limit([KILLED], [llama_sample(1, (1, 3))], [weir_sample(3)])
        self.assertFalse(limit["same_tokens"])

    def test_how_an_arm_ended(self):
        killed = compare_mmap.describe_end(measure.RunFailed(-9, ""), 1)
        self.assertIn("out of memory", killed)
        refused = compare_mmap.describe_end(measure.RunFailed(4, "weir: too small"), 0)
        self.assertEqual(refused, "exit code 4: weir: too small")
        crashed = compare_mmap.describe_end(measure.RunFailed(-11, "loading"), 0)
        self.assertEqual(crashed, "crashed with SIGSEGV")


if __name__ == "__main__":
    unittest.main()
