"""The pure parts of tests/acceptance/tiers.py: legs of a trace, budgets, when verdicts fail."""

import json
import pathlib
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tests/acceptance"))

import legs  # noqa: E402
import tiers  # noqa: E402
import verdicts  # noqa: E402

TRACKS = {1: "CPU", 2: "passes", 3: "accelerator", 4: "link", 10: "disk 0", 11: "disk 1"}


def event(track, begin_ms, end_ms):
    return {"ph": "X", "tid": track, "ts": begin_ms * 1e3, "dur": (end_ms - begin_ms) * 1e3,
            "name": "x"}


def trace(*events):
    names = [{"ph": "M", "name": "thread_name", "tid": tid, "args": {"name": name}}
             for tid, name in TRACKS.items()]
    return [*names, {"ph": "M", "name": "process_name", "tid": 0, "args": {"name": "weir"}},
            *events]


class IntervalsTest(unittest.TestCase):
    def test_union(self):
        self.assertEqual(legs.union([(5, 6), (1, 3), (2, 4), (4, 4.5), (9, 9)]),
                         [(1, 4.5), (5, 6)])

    def test_overlap_and_gaps(self):
        busy = [(1, 2), (4, 6), (8, 9)]
        self.assertEqual(legs.overlap_s(busy, 0, 10), 4)
        self.assertEqual(legs.overlap_s(busy, 1.5, 5), 1.5)
        self.assertEqual(legs.overlap_s(busy, 5, 5.5), 0.5)
        self.assertEqual(legs.overlap_s(busy, 6, 8), 0)
        self.assertEqual(legs.gaps(busy, 0, 10), [(0, 1), (2, 4), (6, 8), (9, 10)])
        self.assertEqual(legs.gaps(busy, 4, 6), [])
        self.assertEqual(legs.gaps(busy, 5, 7), [(6, 7)])
        self.assertEqual(legs.gaps([], 0, 1), [(0, 1)])

    def test_how_many_are_busy_at_once(self):
        found = legs.busy_at_once({"a": [(0, 6)], "b": [(2, 8)], "c": [(4, 5), (9, 20)]}, 0, 10)
        self.assertEqual({count: round(share, 9) for count, share in found.items()},
                         {1: 0.9, 2: 0.4, 3: 0.1})


class TimelineTest(unittest.TestCase):
    def test_rows_of_both_devices_are_one_leg_and_reads_one(self):
        timeline = legs.parse(trace(event(1, 0, 10), event(3, 5, 20), event(4, 1, 2),
                                    event(10, 0, 4), event(11, 3, 6), event(2, 0, 20)))
        self.assertEqual(timeline.legs["compute"], [(0, 0.02)])
        self.assertEqual(timeline.legs["link"], [(0.001, 0.002)])
        self.assertEqual(timeline.legs["disk"], [(0, 0.006)])
        self.assertEqual(timeline.passes, [(0, 0.02)])

    def passes(self, *disk):
        """Three passes of 100 ms with 2 ms between them; the first one is the prompt's."""
        return legs.parse(trace(event(2, 0, 100), event(2, 102, 202), event(2, 204, 304),
                                event(4, 0, 304), event(3, 102, 202), event(3, 204, 304),
                                *(event(10, *interval) for interval in disk)))

    def test_a_stream_that_wraps_has_no_gap(self):
        found = legs.summarise(self.passes((0, 304)), 2, "disk")
        self.assertEqual(found["passes"], 2)
        self.assertAlmostEqual(found["seconds"], 0.202)
        self.assertEqual(found["idle_at_boundaries"], 0)
        self.assertEqual(found["longest_gap_inside_ms"], 0)
        self.assertAlmostEqual(found["three_legs"], 200 / 202)
        self.assertAlmostEqual(found["two_legs"], 1)
        self.assertAlmostEqual(found["busy"]["compute"], 200 / 202)

    def test_a_stream_that_drains_at_the_boundary(self):
        found = legs.summarise(self.passes((0, 201), (205, 304)), 2, "disk")
        self.assertGreater(found["idle_at_boundaries"], 0.6)
        self.assertAlmostEqual(found["idle_inside"], 0)
        self.assertAlmostEqual(found["longest_gap_at_boundaries_ms"], 4)

    def test_a_gap_inside_a_pass_is_not_one_at_the_boundary(self):
        found = legs.summarise(self.passes((0, 150), (160, 304)), 2, "disk")
        self.assertEqual(found["idle_at_boundaries"], 0)
        self.assertGreater(found["idle_inside"], 0.04)
        self.assertAlmostEqual(found["longest_gap_inside_ms"], 10)

    def test_a_full_trace_is_refused(self):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "trace.json"
            path.write_text(json.dumps({"traceEvents": [], "otherData": {"dropped_records": 3}}))
            with self.assertRaisesRegex(ValueError, "full"):
                legs.load(path)


GOOD = {"tokens": [1, 2], "emulated": True, "dram_budget_bytes": 100 << 20,
        "hbm_budget_bytes": 50 << 20, "hbm_bytes": 50 << 20, "peak_rss_bytes": 214 << 20,
        "decode": {"allocations": 0}}


class JudgeTest(unittest.TestCase):
    def test_budgets_lie_above_the_floors(self):
        sizes = tiers.Sizes(weight_bytes=1000, dram_floor_bytes=7, hbm_floor_bytes=5)
        self.assertEqual(sizes.budgets(10, 50), ["--hbm", "105", "--dram", "507"])

    def test_a_run_is_wrong_in_one_way(self):
        self.assertEqual(tiers.judge(GOOD, [1, 2]), "")
        self.assertEqual(tiers.judge({**GOOD, "decode": {"allocations": None}}, [1, 2]), "")
        for changes, says in (({"tokens": [1, 3]}, "other tokens"),
                              ({"emulated": False}, "emulated"),
                              ({"peak_rss_bytes": (214 << 20) + 1}, "over both budgets"),
                              ({"hbm_bytes": (50 << 20) + 1}, "bytes of HBM"),
                              ({"decode": {"allocations": 2}}, "2 allocations")):
            with self.subTest(says=says):
                self.assertIn(says, tiers.judge({**GOOD, **changes}, [1, 2]))


def leg_figures(bottleneck, **changes):
    return {"bottleneck": bottleneck, "busy": {"disk": 1.0, "link": 0.5, "compute": 0.5},
            "two_legs": 0.8, "three_legs": 0.3, "idle_at_boundaries": 0.01, "idle_inside": 0.01,
            **changes}


def results():
    return {"tokens": [{"model": "m", "hbm": 10, "dram": 50, "in_place": "off", "problem": ""}],
            "link": [{"model": "m", "of_asked": 0.98, "legs": leg_figures("link")}],
            "disk": [{"model": "m",
                      "of": {"probe": {"of_medians": 0.96}, "cpu": {"of_medians": 0.9}},
                      "legs": leg_figures("disk")}]}


class VerdictsTest(unittest.TestCase):
    def judged(self, found):
        return {verdict.what: verdict.passed for verdict in verdicts.of_tiers(found)}

    def test_all_pass(self):
        self.assertEqual(set(self.judged(results()).values()), {True})

    def test_what_was_left_out_is_not_measured(self):
        nothing = {"tokens": [], "link": [], "disk": []}
        self.assertEqual(set(self.judged(nothing).values()), {None})

    def test_each_can_fail(self):
        def failed(change):
            found = results()
            change(found)
            return [what for what, passed in self.judged(found).items() if passed is False]
        for change, what in (
                (lambda found: found["tokens"][0].update(problem="other tokens"),
                 "tokens, budgets and allocations"),
                (lambda found: found["link"][0].update(of_asked=0.96),
                 "link's rate, being the bottleneck"),
                (lambda found: found["disk"][0]["of"]["probe"].update(of_medians=0.94),
                 "disk's rate, being the bottleneck"),
                (lambda found: found["disk"][0]["legs"].update(three_legs=0.0),
                 "three legs at once"),
                (lambda found: found["link"][0]["legs"].update(idle_at_boundaries=0.1),
                 "no gap of the bottleneck at token boundaries")):
            with self.subTest(what=what):
                self.assertEqual(failed(change), [what])


if __name__ == "__main__":
    unittest.main()
