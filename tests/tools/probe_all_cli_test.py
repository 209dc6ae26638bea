"""`weir probe all` and `weir probe` as their users meet them: the table, its JSON, what is saved.

Runs build/weir, or $WEIR_BINARY, in a cache folder of its own.
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
TIMEOUT_S = 300
LEVELS = ["L1", "L2", "L3", "DRAM", "DRAM, remote node", "disk", "disk, 4 KiB random, depth 1",
          "disk, 4 KiB random, depth 64", "disk, buffered, cold", "disk, buffered, hot"]
GPU_LEVELS = ["PCIe to device", "PCIe from device", "PCIe both ways at once", "PCIe, zero-copy",
              "GPU L1 and shared memory", "GPU L2", "GPU memory"]
FAST = ("--seconds", "0.2", "--rounds", "1")
FILE_BYTES = 24 << 20


class ProbeAllTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        # Beside the project: /tmp may be a file system of memory alone.
        scratch = tempfile.TemporaryDirectory(dir=ROOT / "build")
        cls.addClassCleanup(scratch.cleanup)
        cls.folder = pathlib.Path(scratch.name)
        cls.file = cls.folder / "file"
        cls.file.write_bytes(os.urandom(FILE_BYTES))
        cls.environment = {**os.environ, "XDG_CACHE_HOME": str(cls.folder / "cache")}
        cls.before = cls.weir("probe")
        path = cls.folder / "all.json"
        cls.whole = cls.weir("probe", "all", cls.file, "--json", path, *FAST)
        assert cls.whole.returncode == 0, cls.whole.stderr
        cls.document = json.loads(path.read_text(encoding="utf-8"))
        cls.rows = {row["level"]: row for row in cls.document["table"]}

    @classmethod
    def weir(cls, *arguments):
        return subprocess.run([WEIR, *map(str, arguments)], cwd=ROOT, env=cls.environment,
                              stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              timeout=TIMEOUT_S, check=False)

    def test_every_level_has_a_row_with_figures_or_a_reason(self):
        levels = [row["level"] for row in self.document["table"]]
        self.assertEqual(levels[:len(LEVELS)], LEVELS)
        for level in GPU_LEVELS:
            self.assertIn(level, levels)
        for row in self.document["table"]:
            with self.subTest(row["level"]):
                self.assertIn(row["level"], self.whole.stdout)
                figures = [row["latency_ns"]]
                for rates in (row["one_core"], row["all_cores"]):
                    figures += list(rates.values()) if rates else []
                figures = [figure for figure in figures if figure is not None]
                self.assertTrue(figures or row["missing"], row)
                self.assertTrue(all(figure > 0 for figure in figures), row)

    def test_figures_agree_with_their_parts(self):
        cpu = {level["level"]: level for level in self.document["cpu"]["levels"]}
        for name, level in cpu.items():
            self.assertAlmostEqual(self.rows[name]["latency_ns"], level["latency_ns"])
            for which in ("one_core", "all_cores"):
                for what, rate in (self.rows[name][which] or {}).items():
                    if rate is not None:
                        self.assertAlmostEqual(rate, level[which][what]["gb_per_s"])
        disk = self.rows["disk"]
        if disk["all_cores"]:
            rates = [cell["gb_per_s"] for cell in self.document["disk"]["sequential"]["cells"]]
            self.assertIn(round(disk["all_cores"]["read"], 9), [round(rate, 9) for rate in rates])
        one = self.rows["disk, 4 KiB random, depth 1"]
        self.assertEqual(disk["latency_ns"], one["latency_ns"])
        if one["latency_ns"]:
            self.assertAlmostEqual(one["times_l1"], one["cycles"] / self.rows["L1"]["cycles"])

    def test_no_disk_figure_that_the_kernel_does_not_confirm(self):
        parts = self.document["disk"]
        for row, part in (("disk, 4 KiB random, depth 1", parts["random"]["cells"]),
                          ("disk", parts["sequential"]["cells"])):
            counted = [cell["kernel_read_bytes"] for cell in part]
            if self.rows[row]["all_cores"] and None not in counted:
                self.assertTrue(any(abs(cell["kernel_read_bytes"] - cell["read_bytes"])
                                    <= max(0.02 * cell["read_bytes"], 65536) for cell in part), row)
        cold = parts["buffered"]["cold"]
        if self.rows["disk, buffered, cold"]["all_cores"]:
            self.assertLess(cold["cached_share"], 0.01)
        hot = parts["buffered"]["hot"]
        self.assertEqual(hot["read_bytes"], cold["read_bytes"])

    def test_claims_stand_beside_the_figures(self):
        claims = {claim["what"]: claim for claim in self.document["claims"]}
        self.assertEqual((claims["L1 answers in"]["low"], claims["L1 answers in"]["high"]), (1, 4))
        self.assertEqual(claims["disk answers in"]["low"], 100000)
        self.assertIsNone(claims["disk answers in"]["high"])
        for claim in claims.values():
            self.assertEqual(claim["measured"] is None, claim["verdict"] == "not measured", claim)
            self.assertEqual(claim["measured"] is None, claim["missing"] is not None, claim)
        self.assertIn("what is said", self.whole.stdout)

    def test_the_profile_is_saved_and_shown_until_the_machine_changes(self):
        self.assertEqual(self.before.returncode, 0, self.before.stderr)
        self.assertIn("weir probe all", self.before.stdout)
        shown = self.weir("probe")
        self.assertEqual(shown.returncode, 0, shown.stderr)
        self.assertIn("what is said", shown.stdout)
        self.assertIn("measured 2", shown.stdout)
        path = self.folder / "cache/weir/machine.json"
        text = path.read_text(encoding="utf-8")
        saved = json.loads(text)
        self.assertEqual(saved["table"], self.document["table"])
        self.assertEqual(saved["machine"], self.document["machine"])
        self.addCleanup(path.write_text, text, encoding="utf-8")
        saved["machine"]["memory_bytes"] += 1 << 30
        path.write_text(json.dumps(saved), encoding="utf-8")
        changed = self.weir("probe")
        self.assertIn("memory", changed.stdout)
        self.assertIn("weir probe all", changed.stdout)
        self.assertNotIn("what is said", changed.stdout)
        path.write_text("{", encoding="utf-8")
        self.assertIn("ignored", self.weir("probe").stdout)

    def test_the_best_reads_are_saved_for_plans(self):
        if not self.rows["disk"]["all_cores"]:
            self.skipTest("no direct reads here: " + self.rows["disk"]["missing"])
        path = self.folder / "cache/weir/ceilings.json"
        ceilings = json.loads(path.read_text(encoding="utf-8"))["disks"]
        self.assertEqual(len(ceilings), 1)
        self.assertAlmostEqual(ceilings[0]["bytes_per_s"] / 1e9,
                               self.rows["disk"]["all_cores"]["read"])

    def test_what_leaves_levels_out_is_not_saved(self):
        path = self.folder / "cache/weir/machine.json"
        text = path.read_text(encoding="utf-8")
        out = self.folder / "emulated.json"
        result = self.weir("probe", "all", self.file, "--device", "emulated", "--json", out, *FAST)
        self.assertEqual(result.returncode, 0, result.stderr)
        levels = {row["level"]: row for row in json.loads(out.read_text())["table"]}
        self.assertGreater(levels["emulated link to device"]["all_cores"]["read"], 0)
        self.assertNotIn("GPU memory", levels)
        self.assertIn("not saved", result.stdout)
        self.assertEqual(path.read_text(encoding="utf-8"), text)

    def test_interrupts_end_it_at_once(self):
        with subprocess.Popen([WEIR, "probe", "all", str(self.file), "--no-save"], cwd=ROOT,
                              env=self.environment, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE) as process:
            time.sleep(0.5)
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=30)
        self.assertEqual(process.returncode, 130)

    def test_refusals(self):
        for code, arguments, says in (
                (2, ("--seconds", 0), "--seconds"), (2, ("--rounds", 0), "--rounds"),
                (2, ("--device", "tpu"), "--device"), (3, ("/no/such/file",), "/no/such/file"),
                (6, (self.file, "--json", "/no/such/folder/x"), "/no/such/folder")):
            with self.subTest(arguments):
                result = self.weir("probe", "all", *arguments)
                self.assertEqual(result.returncode, code, result.stderr)
                self.assertIn(says, result.stderr)
        self.assertEqual(self.weir("probe", "tape").returncode, 2)


if __name__ == "__main__":
    unittest.main()
