"""`weir` with an accelerator, as its users meet it: an emulated one, and GPUs that are not there.

Runs build/weir, or $WEIR_BINARY, on tests/data/tiny.gguf.
"""

import json
import pathlib
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

import cli_test  # noqa: E402
from cli_test import MIB, PROMPT, TINY  # noqa: E402

EMULATED = ("--device", "emulated")
# Above the floors for this shape; all weights, 1.7 MiB, would need 2.5 MiB of HBM.
LITTLE_HBM, LITTLE_DRAM = "1200KiB", "2500KiB"
SMALL = (*EMULATED, "--hbm", "2MiB", "--dram", "3MiB", "-c", 256, "-b", 16)


def has_gpu():
    """Whether `auto` would not be the CPU: such machines are not what some tests are about."""
    return cli_test.weir("plan", TINY, "--device", "cuda:0").returncode == 0


class EmulatedTest(cli_test.CliTest):
    def test_profile_is_the_cpus(self):
        self.refused(2, "bench", TINY, "-p", 8, "-n", 2, *SMALL, "--profile",
                     says=["--profile", "--device cpu"])

    def test_the_cpus_tokens_under_every_budget(self):
        expected = self.run_json("-n", 12, "--device", "cpu")[0]["tokens"]
        for options in ([], ["--hbm", LITTLE_HBM, "--dram", LITTLE_DRAM, "--in-place", "off"],
                        ["--hbm", LITTLE_HBM, "--dram", LITTLE_DRAM, "--in-place", "on"],
                        ["--hbm", "2MiB", "--dram", "3MiB", "-t", 1],
                        ["--hbm", LITTLE_HBM, "--dram", "8MiB", "--link-h2d", "100MB/s"],
                        ["--hbm", "8MiB", "--dram", LITTLE_DRAM, "--link-latency", "1ms"],
                        ["--hbm", "1500KiB", "--dram", LITTLE_DRAM, "--faults", "seed=3,short=5%"]):
            with self.subTest(options=options):
                report, _ = self.run_json("-n", 12, *EMULATED, "-c", 256, "-b", 16, *options)
                self.assertEqual(report["tokens"], expected)
                self.assertLessEqual(report["hbm_bytes"], report["hbm_budget_bytes"])
                self.assertLessEqual(
                    report["peak_rss_bytes"],
                    report["dram_budget_bytes"] + report["hbm_budget_bytes"] + 64 * MIB)

    def test_json_has_the_documented_names(self):
        report, _ = self.run_json("-n", 6, "--ignore-eos", *SMALL, "--in-place", "off")
        self.assertIs(report["emulated"], True)
        self.assertTrue(report["device"].startswith("emulated"))
        self.assertEqual(report["hbm_budget_bytes"], 2 * MIB)
        self.assertEqual(report["dram_budget_bytes"], 3 * MIB)
        for name in ("copies", "bytes", "seconds", "gb_per_s", "ceiling_gb_per_s"):
            self.assertGreater(report["links"]["link"][name], 0, name)
        self.assertGreater(report["decode"]["copied_bytes"], 0)
        self.assertGreater(report["decode"]["link_gb_per_s"], 0)
        self.assertIn(report["decode"]["allocations"], (0, None))  # None: not counted
        self.assertGreater(report["time_s"]["accelerator"], 0)
        self.assertGreaterEqual(report["time_s"]["copy_stall"], 0)
        weights = report["weights"]
        self.assertAlmostEqual(weights["hbm"] + weights["dram"] + weights["disk"], 1)
        self.assertEqual(weights["in_place"], 0)
        # What is in neither memory crosses the link at every pass, with its padding.
        copied_share = 1 - weights["hbm"]
        self.assertGreater(copied_share, 0)
        self.assertGreater(report["predicted_decode_tokens_per_s"], 0)

    def test_in_place_weights_do_not_cross_the_link(self):
        options = (*EMULATED, "--hbm", LITTLE_HBM, "--dram", "8MiB", "-c", 256, "-b", 16)
        off = self.run_json("-n", 6, "--ignore-eos", *options, "--in-place", "off")[0]
        on = self.run_json("-n", 6, "--ignore-eos", *options, "--in-place", "on")[0]
        self.assertEqual(off["tokens"], on["tokens"])
        self.assertEqual(on["weights"]["disk"], 0)
        self.assertAlmostEqual(on["weights"]["in_place"], on["weights"]["dram"])
        self.assertGreater(off["decode"]["copied_bytes"], 0)
        self.assertEqual(on["decode"]["copied_bytes"], 0)
        self.assertGreater(on["time_s"]["cpu"], 0)
        self.assertEqual(off["time_s"]["cpu"], 0)

    def test_all_that_is_printed_says_emulated(self):
        text = self.write("text.txt", "The water in the river rises every spring. " * 4)
        trace = self.folder / "trace.json"
        report, result = self.run_json("-n", 4, *SMALL, "--trace", trace)
        for line in result.stderr.decode().splitlines():
            if "tok/s" in line:
                self.assertIn("emulated", line)
        events = json.loads(trace.read_text())["traceEvents"]
        names = {event["name"]: event["args"]["name"] for event in events if event["ph"] == "M"
                 if event["name"] == "process_name"}
        self.assertIn("emulated", names["process_name"])
        plan = self.folder / "plan.json"
        self.assertIn("emulated", self.good("plan", TINY, *SMALL, "--json", plan).stdout.decode())
        self.assertIs(json.loads(plan.read_text())["emulated"], True)
        bench = self.folder / "bench.json"
        printed = self.good("bench", TINY, "-p", 8, "-n", 4, "-r", 1, *SMALL, "--json", bench)
        self.assertIn("emulated", printed.stdout.decode())
        self.assertIs(json.loads(bench.read_text())["emulated"], True)
        self.assertIn("decode_link_gb_per_s", json.loads(bench.read_text())["bench"])
        summary = self.folder / "eval.json"
        printed = self.good("eval", TINY, "-f", text, *SMALL[:-2], "--json", summary)
        self.assertIn("emulated", printed.stdout.decode())
        self.assertIs(json.loads(summary.read_text())["emulated"], True)
        chat = self.good("chat", TINY, "-n", 3, "--temp", 0, *EMULATED, stdin=b"hello\n")
        self.assertIn("emulated", chat.stderr.decode())
        self.assertIs(self.run_json("-n", 1, "--device", "cpu")[0]["emulated"], False)

    def test_eval_and_chat_are_as_on_the_cpu(self):
        text = self.write("text.txt", "The water in the river rises every spring. " * 8)
        found = []
        for device in (("--device", "cpu"), (*EMULATED, "--hbm", "3MiB", "--in-place", "on")):
            summary = self.folder / "eval.json"
            self.good("eval", TINY, "-f", text, *device, "--json", summary)
            found.append(json.loads(summary.read_text())["nats_per_token"])
        self.assertEqual(found[0], found[1])
        lines = b"hello\nand then?\n"
        answers = {self.good("chat", TINY, "-n", 5, "--temp", 0, "--device", device,
                             stdin=lines).stdout for device in ("cpu", "emulated")}
        self.assertEqual(len(answers), 1)

    def test_the_footer_has_the_link_and_both_budgets(self):
        _, result = self.run_json("-n", 4, *SMALL, "--in-place", "off")
        footer = result.stderr.decode().splitlines()[-3:]
        self.assertRegex(footer[0], r"^emulated: .*predicted")
        self.assertRegex(footer[1], r"disk .* read at .*, link .* copied at .* of the measured")
        self.assertRegex(footer[1], r"HBM \d+ %, DRAM \d+ %, disk \d+ %")
        self.assertRegex(footer[2], r"copy stall \d+ %.*budget 3\.0 MiB.*HBM .*budget 2\.0 MiB")

    def test_the_trace_has_a_row_for_each_leg(self):
        trace = self.folder / "trace.json"
        self.run_json("-n", 4, *EMULATED, "--hbm", LITTLE_HBM, "--dram", "4MiB", "-c", 256, "-b",
                      16, "--in-place", "on", "--trace", trace)
        events = json.loads(trace.read_text())["traceEvents"]
        names = {event["args"]["name"] for event in events if event["ph"] == "M"}
        self.assertLessEqual({"CPU", "accelerator", "link", "passes", "disk 0"}, names)


class PlanTest(cli_test.CliTest):
    def plan(self, *options):
        path = self.folder / "plan.json"
        result = self.good("plan", TINY, "-c", 256, "-b", 16, *options, "--json", path)
        return path, json.loads(path.read_text()), result.stdout.decode()

    def test_where_bytes_live_on_three_tiers(self):
        _, plan, text = self.plan(*EMULATED, "--hbm", "2MiB", "--dram", "3MiB")
        accelerator = plan["accelerator"]
        self.assertEqual(accelerator["hbm_budget_bytes"], 2 * MIB)
        self.assertLessEqual(accelerator["hbm_bytes"], 2 * MIB)
        self.assertLess(accelerator["hbm_floor_bytes"], 2 * MIB)
        self.assertLess(plan["dram_floor_bytes"], 3 * MIB)
        for words in ("HBM, emulated: ", "DRAM: ", "the least is", "ring for copied weights",
                      "Disk: ", "Link: ", "CPU: ", "Prediction, emulated: "):
            self.assertIn(words, text)
        _, plan, text = self.plan("--device", "cpu", "--dram", "3MiB")
        self.assertNotIn("accelerator", plan)
        self.assertIs(plan["emulated"], False)
        self.assertNotIn("HBM", text)

    def test_floors_work_and_less_is_refused(self):
        _, plan, _ = self.plan(*EMULATED, "--hbm", LITTLE_HBM, "--dram", LITTLE_DRAM)
        floors = {"--hbm": plan["accelerator"]["hbm_floor_bytes"],
                  "--dram": plan["dram_floor_bytes"]}
        common = ["-c", 256, "-b", 16, *EMULATED]
        self.run_json("-n", 2, *common, "--hbm", floors["--hbm"], "--dram", floors["--dram"])
        for low in floors:
            other = {name: "100MiB" for name in floors if name != low}
            self.refused(4, "run", TINY, "hi", *common, low, "100KiB",
                         *[part for pair in other.items() for part in pair],
                         says=["floor", low])

    def test_a_saved_plan_wants_its_kind_of_device(self):
        three_tiers, plan, _ = self.plan(*EMULATED, "--hbm", "2MiB", "--dram", "3MiB")
        expected = self.run_json("-n", 6, "--device", "cpu")[0]["tokens"]
        report, _ = self.run_json("-n", 6, "--plan", three_tiers, *EMULATED)
        self.assertEqual(report["tokens"], expected)
        self.assertEqual(report["hbm_budget_bytes"], plan["accelerator"]["hbm_budget_bytes"])
        run = ("run", TINY, "hi", "--plan")
        self.refused(2, *run, three_tiers, "--device", "cpu", says=["--device", "accelerator"])
        self.refused(2, *run, three_tiers, *EMULATED, "--hbm", "9MiB", says=["--plan, --hbm"])
        self.refused(2, *run, three_tiers, *EMULATED, "--in-place", "on", says=["--in-place"])
        two_tiers, _, _ = self.plan("--device", "cpu", "--dram", "3MiB")
        self.refused(2, *run, two_tiers, *EMULATED, says=["--device", "for the CPU"])
        self.assertEqual(self.run_json("-n", 6, "--plan", two_tiers)[0]["tokens"], expected)

    @unittest.skipIf(has_gpu(), "a GPU is here")
    def test_a_plan_for_an_accelerator_without_one(self):
        three_tiers, _, _ = self.plan(*EMULATED, "--hbm", "2MiB", "--dram", "3MiB")
        self.refused(8, "run", TINY, "hi", "--plan", three_tiers, says=["--device emulated"])


class RefusalTest(cli_test.CliTest):
    def test_option_values(self):
        for options in (["--device", "abacus"], ["--device", "cuda"], [*EMULATED, "--hbm", "lots"],
                        [*EMULATED, "--link-h2d", "5"], [*EMULATED, "--link-d2h", "0GB/s"],
                        [*EMULATED, "--link-latency", "soon"], [*EMULATED, "--in-place", "half"],
                        [*EMULATED, "--resident", "50%"], [*EMULATED, "-t", 100000]):
            with self.subTest(options):
                self.refused(2, "run", TINY, "hi", *options, says=[options[-2]])

    def test_what_makes_no_sense_on_the_device(self):
        cpu = ("--device", "cpu")
        for options in ([*cpu, "--hbm", "1GiB"], [*cpu, "--in-place", "on"],
                        [*cpu, "--link-h2d", "1GB/s"], ["--link-d2h", "1GB/s"],
                        ["--device", "cuda:0", "--link-latency", "1us"]):
            with self.subTest(options):
                self.refused(2, "run", TINY, "hi", *options, says=[options[-2]])

    def test_budgets_that_this_machine_has_not(self):
        path = self.folder / "plan.json"
        self.good("plan", TINY, *SMALL, "--json", path)
        plan = json.loads(path.read_text())
        plan["accelerator"]["ring"]["slot_bytes"] = 1 << 40
        plan["accelerator"]["hbm_budget_bytes"] = 1 << 46
        path.write_text(json.dumps(plan))
        self.refused(4, "run", TINY, "hi", *EMULATED, "--plan", path,
                     says=["--dram and --hbm together", "fits"])

    @unittest.skipIf(has_gpu(), "a GPU is here")
    def test_gpus_that_are_not_there(self):
        for command in (("run", TINY, "hi"), ("plan", TINY), ("bench", TINY)):
            self.refused(8, *command, "--device", "cuda:0", says=["cuda:0", "--device cpu"])
        self.refused(8, "run", TINY, "hi", "--hbm", "1GiB", says=["--hbm", "--device emulated"])
        # The CPU takes over, and says so when asked for whatever there is.
        _, result = self.run_json("-n", 2, "--device", "auto")
        self.assertEqual(result.stderr.decode().count("the CPU computes: "), 1)
        _, result = self.run_json("-n", 2, "--device", "cpu")
        self.assertNotIn("the CPU computes", result.stderr.decode())

    def test_faults_end_as_on_the_cpu(self):
        for faults in ("eio_at=40", "unplug_at=60", "stuck_at=40"):
            result = cli_test.weir("run", TINY, PROMPT, "--temp", 0, "-n", 12, *EMULATED, "--hbm",
                                   LITTLE_HBM, "--dram", LITTLE_DRAM, "-c", 256, "-b", 16,
                                   "--read-timeout", "500ms", "--faults", faults)
            self.assertEqual(result.returncode, 5, result.stderr)
            self.assertRegex(result.stderr.decode(), r"tiny.gguf: offset \d+: wanted \d+ bytes, ")


class SimulateTest(cli_test.CliTest):
    HARDWARE = ("--disk", "1GB/s", "--disk-latency", "10us", "--compute", "20GB/s")
    TIERS = (*HARDWARE, "--cpu", "2GB/s", "--hbm", "2MiB", "--dram", "3MiB", "-c", 256, "-b", 16)

    def simulate(self, *options):
        path = self.folder / "result.json"
        result = self.good("simulate", TINY, "--json", path, *options)
        return json.loads(path.read_text()), result.stdout.decode()

    def test_an_accelerator_behind_a_link(self):
        report, text = self.simulate(*self.TIERS, "--link", "3GB/s", "--link-latency", "20us",
                                     "--in-place", "off")
        self.assertEqual(report["hardware"]["link_gb_per_s"], 3.0)
        self.assertEqual(report["hardware"]["link_latency_us"], 20.0)
        self.assertAlmostEqual(report["hardware"]["cpu_gb_per_s"], 2.0, delta=0.01)
        self.assertGreater(report["links"]["link"]["bytes"], 0)
        self.assertLessEqual(report["peak_device_bytes"], 2 * MIB)
        self.assertEqual(report["weights"]["in_place"], 0)
        for words in ("Accelerator: ", "Beside it: link 3.00 GB/s", "link busy", "peak HBM"):
            self.assertIn(words, text)
        self.assertEqual(report, self.simulate(*self.TIERS, "--link", "3GB/s", "--link-latency",
                                               "20us", "--in-place", "off")[0])

    def test_a_slower_link_bounds(self):
        def run(link):
            return self.simulate(*self.HARDWARE, "--cpu", "2GB/s", "--hbm", LITTLE_HBM, "--dram",
                                 "9MiB", "-c", 256, "-b", 16, "--link", link, "--link-latency",
                                 "0us", "--in-place", "off")[0]
        slow, fast = run("200MB/s"), run("400MB/s")
        self.assertEqual(slow["bound"]["bottleneck"], "link")
        self.assertAlmostEqual(fast["decode_tokens_per_s"] / slow["decode_tokens_per_s"], 2,
                               delta=0.2)

    def test_the_cpu_takes_a_part_where_that_pays(self):
        options = (*self.HARDWARE, "--hbm", LITTLE_HBM, "--dram", "9MiB", "-c", 256, "-b", 16,
                   "--link", "200MB/s", "--link-latency", "1us", "--cpu", "5GB/s")
        self.assertGreater(self.simulate(*options)[0]["weights"]["in_place"], 0.1)
        self.assertEqual(self.simulate(*options, "--in-place", "off")[0]["weights"]["in_place"], 0)

    def test_what_needs_an_accelerator_is_refused_without(self):
        for options in (["--link", "1GB/s"], ["--link-latency", "1us"], ["--cpu", "1GB/s"],
                        ["--in-place", "on"]):
            self.refused(2, "simulate", TINY, *self.HARDWARE, *options, says=[options[0], "--hbm"])
        self.refused(2, "simulate", TINY, *self.HARDWARE, "--hbm", "1GiB", "--link", "fast",
                     says=["--link", "fast"])
        self.refused(2, "simulate", TINY, *self.HARDWARE, "--hbm", "1GiB", "--resident", "5%",
                     says=["--resident"])
        self.refused(4, "simulate", TINY, *self.HARDWARE, "--cpu", "1GB/s", "--hbm", "1KiB",
                     says=["floor", "--hbm"])


if __name__ == "__main__":
    unittest.main()
