"""The pure parts of tools/compare_llama: names, rounds that go on, shares, rows, verdicts."""

import contextlib
import importlib.util
import io
import json
import os
import pathlib
import sys
import tempfile
import unittest
from importlib.machinery import SourceFileLoader

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tests/acceptance"))

import measure  # noqa: E402
import roofline  # noqa: E402
import rounds  # noqa: E402
import synthetic  # noqa: E402

LOADER = SourceFileLoader("compare_llama", str(ROOT / "tools/compare_llama"))
compare_llama = importlib.util.module_from_spec(
    importlib.util.spec_from_loader("compare_llama", LOADER))
LOADER.exec_module(compare_llama)
WEIR, LLAMA, MEMORY = compare_llama.WEIR, compare_llama.LLAMA, compare_llama.MEMORY


class SyntheticTest(unittest.TestCase):
    def setUp(self):
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.folder = pathlib.Path(scratch.name)

    def fake_weir(self, script):
        path = self.folder / "weir"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        return str(path)

    def test_names(self):
        self.assertEqual(synthetic.parse("synth:1b:Q4_K"), synthetic.Synthetic("1b", "Q4_K"))
        for name in ("qwen2.5-coder", "folder/synth.gguf", "synth"):
            self.assertIsNone(synthetic.parse(name))
        for name in ("synth:", "synth:1b", "synth:1b:", "synth:1b:Q4_K:2", "synth:../x:Q4_K"):
            with self.subTest(name=name), self.assertRaisesRegex(measure.MeasureError, "synth:1b"):
                synthetic.parse(name)

    def test_made_once(self):
        weir = self.fake_weir(f'echo "$@" >> {self.folder}/calls; echo model > "$2"')
        shape = synthetic.Synthetic("1b", "Q8_0")
        for _ in range(2):
            path = synthetic.make(weir, shape, self.folder / "models")
            self.assertEqual(path.read_text(), "model\n")
        calls = (self.folder / "calls").read_text().splitlines()
        self.assertEqual(len(calls), 1)
        self.assertIn("--preset 1b --format Q8_0 --seed 1", calls[0])

    def test_a_failure_leaves_nothing(self):
        weir = self.fake_weir('echo half > "$2"; echo "no such format" >&2; exit 2')
        with self.assertRaisesRegex(measure.MeasureError, "no such format"):
            synthetic.make(weir, synthetic.Synthetic("1b", "Q9"), self.folder / "models")
        self.assertEqual(list((self.folder / "models").iterdir()), [])
        with self.assertRaisesRegex(measure.MeasureError, "tools/build"):
            synthetic.make("/nonexistent/weir", synthetic.Synthetic("1b", "Q4_0"), self.folder)


class RoundsTest(unittest.TestCase):
    def setUp(self):
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.path = pathlib.Path(scratch.name) / "samples.json"
        self.calls = []

    def cell(self, name, fails_at=None):
        def run(arm):
            self.calls.append(f"{name}{arm}")
            if len(self.calls) == fails_at:
                raise measure.RunFailed(1, "lost")
            return {"value": len(self.calls)}
        return rounds.Cell(name, [(arm, lambda arm=arm: run(arm)) for arm in "ab"])

    def measure(self, cells, count, earlier=None):
        with contextlib.redirect_stderr(io.StringIO()):
            return rounds.measure(cells, count, {"tokens": 1}, str, self.path, earlier)

    def test_rounds_visit_all_and_begin_with_another(self):
        samples = self.measure([self.cell("x"), self.cell("y")], 2)
        self.assertEqual(self.calls, ["xa", "xb", "ya", "yb", "xb", "xa", "yb", "ya"])
        self.assertEqual([sample["value"] for sample in samples["x"]["a"]], [1, 6])

    def test_goes_on_where_it_stopped(self):
        with self.assertRaises(measure.RunFailed):  # in y's half of the second round
            self.measure([self.cell("x", 8), self.cell("y", 8)], 2)
        earlier = rounds.resumed(self.path, {"tokens": 1})
        self.assertEqual([len(earlier["x"]["a"]), len(earlier["y"]["a"])], [2, 1])
        self.calls.clear()
        samples = self.measure([self.cell("x"), self.cell("y")], 2, earlier)
        self.assertEqual(self.calls, ["yb", "ya"])
        self.assertEqual([len(samples["y"][arm]) for arm in "ab"], [2, 2])

    def test_other_cells_stay_in_the_file(self):
        self.measure([self.cell("x")], 1)
        earlier = rounds.resumed(self.path, {"tokens": 1})
        self.assertEqual(list(self.measure([self.cell("y")], 1, earlier)), ["y"])
        self.assertEqual(sorted(rounds.resumed(self.path, {"tokens": 1})), ["x", "y"])

    def test_rounds_without_all_arms_do_not_count(self):
        self.assertEqual(rounds.complete_rounds({"a": [1, 2], "b": [3]}), {"a": [1], "b": [3]})
        self.assertEqual(rounds.complete_rounds({}), {})

    def test_other_settings_are_refused(self):
        self.assertEqual(rounds.resumed(self.path, {"tokens": 1}), {})
        self.measure([self.cell("x")], 1)
        with self.assertRaisesRegex(measure.MeasureError, "tokens 1, now it is 2"):
            rounds.resumed(self.path, {"tokens": 2})
        for text in ("{", "{}", "[]", json.dumps({"results": None})):
            self.path.write_text(text)
            with self.subTest(text=text), self.assertRaisesRegex(measure.MeasureError, "no sam"):
                rounds.resumed(self.path, {"tokens": 1})

    def test_other_programs_are_seen(self):
        ticks = os.sysconf("SC_CLK_TCK")
        stat = f"cpu  {3 * ticks} {ticks} {2 * ticks} 9 9 {ticks} {ticks} {4 * ticks} 7 7\ncpu0"
        self.assertAlmostEqual(rounds.busy_s(stat), 12)
        sample = rounds.timed(lambda: {"value": 5})
        self.assertEqual(sample["value"], 5)
        self.assertGreaterEqual(sample["others_cpus"], 0)
        samples = {"x": {"a": [{"others_cpus": 0.0}, {"others_cpus": 1.5}],
                         "b": [{"others_cpus": 0.01}]}}
        self.assertEqual(rounds.disturbed(samples), (1, 3))

    def test_time_to_go(self):
        cells = [self.cell("x"), self.cell("y")]
        samples = {"x": {"a": [], "b": []}, "y": {"a": [], "b": []}}
        self.assertIsNone(rounds.remaining_s(cells, samples, 3))
        samples["x"] = {"a": [{"run_s": 4}, {"run_s": 6}], "b": [{"run_s": 1}]}
        # x: 5 + 1 a round, two to go; y, of which nothing is known: the same, three to go.
        self.assertAlmostEqual(rounds.remaining_s(cells, samples, 3), 2 * 6 + 3 * 6)
        samples["y"] = {"a": [{"run_s": 10}], "b": [{"run_s": 10}]}
        self.assertAlmostEqual(rounds.remaining_s(cells, samples, 3), 2 * 6 + 2 * 20)


class RooflineTest(unittest.TestCase):
    def test_weights(self):
        # 2 GB a token, 8 and 9 tokens a second, memory of 20 and 18 GB/s.
        share = roofline.weight_share(2e9, [8, 9], [20, 18])
        self.assertAlmostEqual(share.low, 0.8)
        self.assertAlmostEqual(share.median, 0.9)
        self.assertAlmostEqual(share.high, 1.0)

    def test_depths_that_fit(self):
        self.assertEqual(roofline.fit_depths([512, 8192], 32768, 64), [512, 8192])
        self.assertEqual(roofline.fit_depths([512, 8192], 8192, 64), [512, 8127])
        self.assertEqual(roofline.fit_depths([512, 8192], 8257, 64), [512, 8192])
        self.assertEqual(roofline.fit_depths([512, 8192], 600, 64), [512])  # 535: too near
        self.assertEqual(roofline.fit_depths([512], 300, 64), [235])
        self.assertEqual(roofline.fit_depths([512], 64, 64), [])
        self.assertEqual(roofline.fit_depths([], 300, 64), [])

    def test_keys_and_values(self):
        # 100 MB more in 10 ms more is 10 GB/s, of 20.
        shares = roofline.kv_shares([1e7, 6e7, 11e7], [[0.1, 0.105, 0.11], [0.1, 0.11, 0.12]],
                                    [20, 20])
        self.assertAlmostEqual(shares[1].high, 0.5)
        self.assertAlmostEqual(shares[1].low, 0.25)
        self.assertEqual(len(shares), 2)
        self.assertEqual(roofline.kv_shares([1e7, 2e7], [[0.1, 0.2], [0.1, 0.09]], [20, 20]),
                         [None])
        self.assertEqual(roofline.kv_shares([1e7], [[0.1]], [20]), [])

    def test_straight_lines(self):
        self.assertAlmostEqual(roofline.off_line([1, 2, 4], [10, 11, 13]), 0)
        self.assertAlmostEqual(roofline.off_line([0, 1, 2, 4], [0, 1, 1, 4]), -0.25)
        self.assertIsNone(roofline.off_line([1, 2], [10, 11]))
        self.assertIsNone(roofline.off_line([1, 2, 3], [10, 11, 10]))

    def test_only_models_beyond_the_cache_are_judged(self):
        def row(name, weight_bytes, share):
            return {"name": name, "weight_bytes": weight_bytes, "of_memory": {"median": share}}
        small, good, bad = row("small", 1e8, 0.4), row("good", 1e9, 0.86), row("bad", 1e9, 0.84)
        self.assertIs(roofline.weights_verdict([small, good], 2e8).passed, True)
        self.assertIs(roofline.weights_verdict([good, bad], 2e8).passed, False)
        self.assertIsNone(roofline.weights_verdict([small], 2e8).passed)

    def test_each_verdict_on_depths_can_fail(self):
        def failed(ratio, share, off):
            row = {"depth": 8192, "of_medians": ratio, "kv_of_memory": {"median": share}}
            early = {"depth": 512, "of_medians": 0.1, "kv_of_memory": None}
            cell = {"name": "m", "rows": [early, row], "off_line": off}
            return [verdict.what.split(":")[-1].split()[0]
                    for verdict in roofline.depth_verdicts([cell]) if verdict.passed is False]
        self.assertEqual(failed(1.1, 0.71, 0.09), [])
        self.assertEqual(failed(0.9, 0.71, 0.09), ["times"])
        self.assertEqual(failed(1.1, 0.69, None), ["keys"])
        self.assertEqual(failed(1.1, 0.71, -0.11), ["time"])


class CompareLlamaTest(unittest.TestCase):
    def rows(self, prompts, generations):
        """Of one round for each pair of ratios."""
        rows = []
        for index, (prompt, generation) in enumerate(zip(prompts, generations, strict=True)):
            samples = {
                WEIR: [{"prompt_tokens_per_s": 100 * prompt, "tokens_per_s": 10 * generation,
                        "weight_bytes": 1e9}],
                LLAMA: [{"prompt_tokens_per_s": 100, "tokens_per_s": 10}],
                MEMORY: [{"gb_per_s": 13.0}]}
            rows += compare_llama.summarise(f"m{index} -t 1", samples)
        return rows

    def test_ratios(self):
        prompt, generation = self.rows([1.5], [1.3])
        self.assertEqual((prompt["what"], prompt["name"]), ("prompt", "m0 -t 1"))
        self.assertAlmostEqual(prompt["of_medians"], 1.5)
        self.assertAlmostEqual(generation["median_of_rounds"], 1.3)
        self.assertAlmostEqual(generation["of_memory"]["median"], 1.0)
        self.assertAlmostEqual(generation["llama_of_memory"]["median"], 10 / 13)

    def test_each_verdict_can_fail(self):
        def failed(*ratios, cache_bytes=2e9):
            return [verdict.what
                    for verdict in compare_llama.judge(self.rows(*ratios), cache_bytes)
                    if verdict.passed is False]
        self.assertEqual(failed([1.5, 1.5], [1.3, 1.3]), [])
        self.assertEqual(failed([0.9, 3], [1.3, 1.3]), ["prompt: times llama.cpp, every cell"])
        self.assertEqual(failed([1.3, 1.3], [1.3, 1.3]),
                         ["prompt: times llama.cpp, geometric mean"])
        self.assertEqual(failed([1.5, 1.5], [1.2, 1.2]),
                         ["generation: times llama.cpp, geometric mean"])
        beyond = failed([1.5, 1.5], [1.1, 1.5], cache_bytes=5e8)
        self.assertEqual(len(beyond), 1)
        self.assertIn("memory's read rate", beyond[0])

    def test_depths(self):
        def arm(*speeds):
            return [{"depths": [{"depth": depth, "tokens_per_s": speed, "kv_bytes": depth * 1e4}
                                for depth, speed in zip((1000, 2000, 4000), speeds, strict=True)]}]
        cell = compare_llama.summarise_depths("m", {
            WEIR: arm(1 / 0.010, 1 / 0.011, 1 / 0.013), LLAMA: arm(100, 50, 20),
            MEMORY: [{"gb_per_s": 20.0}]})
        self.assertEqual([row["depth"] for row in cell["rows"]], [1000, 2000, 4000])
        self.assertIsNone(cell["rows"][0]["kv_of_memory"])
        self.assertAlmostEqual(cell["rows"][2]["kv_of_memory"]["median"], 0.5)
        self.assertAlmostEqual(cell["rows"][2]["of_medians"], 1 / 0.013 / 20)
        self.assertAlmostEqual(cell["off_line"], 0)

    def test_numbers(self):
        self.assertEqual(compare_llama._numbers("2,1,2"), [1, 2])
        for text in ("", "a", "0,1", "-1"):
            with self.subTest(text=text), self.assertRaises(Exception):
                compare_llama._numbers(text)


if __name__ == "__main__":
    unittest.main()
