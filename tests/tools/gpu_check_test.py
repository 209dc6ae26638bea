"""tools/gpu_check with a stand-in for weir, so that what the programs answer is known; and once
with the built weir on the emulated device."""

import contextlib
import importlib.util
import io
import json
import os
import pathlib
import sys
import tempfile
import textwrap
import types
import unittest
from importlib.machinery import SourceFileLoader
from unittest import mock

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
WEIR = pathlib.Path(os.environ.get("WEIR_BINARY", str(ROOT / "build/weir")))


def load_script():
    loader = SourceFileLoader("gpu_check", str(ROOT / "tools/gpu_check"))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("gpu_check", loader))
    loader.exec_module(module)
    return module


gpu_check = load_script()
parts = sys.modules["gpu_check_parts"]
report = sys.modules["gpu_check_report"]
setup = sys.modules["gpu_check_setup"]
MeasureError = sys.modules["measure"].MeasureError

# Answers every command that gpu_check gives to weir: a model of 1000 MB of weights of which --hbm
# holds none where it is given with --in-place; 10 tok/s, a prompt 100. $FAKE_WEIR, JSON, says
# which models fail and how long a bench takes.
FAKE_WEIR = f"#!{sys.executable} -SE" + textwrap.dedent('''
    import json, os, sys, time
    words = sys.argv[1:]
    faults = json.loads(os.environ.get("FAKE_WEIR", "{}"))
    def option(name, default=None):
        return words[words.index(name) + 1] if name in words else default
    if words[0] == "synth":
        open(words[1], "w").write("model")
        sys.exit(0)
    def rate(value):
        return {"gb_per_s": value, "low_gb_per_s": value, "high_gb_per_s": value}
    placed = option("--in-place")
    device = 0 if placed else 1000_000_000
    on_cpu = 1000_000_000 if placed == "on" else 0
    copied = 1000_000_000 - device - on_cpu
    plan = {"resident_payload_bytes": 1000_000_000, "streamed_payload_bytes": 0,
            "dram_bytes": 7, "shape": {"context_tokens": 100, "chunk_tokens": 16},
            "overhead_bytes": {"kv": 5}, "accelerator": {
                "hbm_bytes": 9, "overhead_bytes": {"kv": 200, "scratch": 8},
                "device_payload_bytes": device, "copied_payload_bytes": copied,
                "in_place_payload_bytes": on_cpu}}
    if words[0] == "bench":
        if faults.get("fails") and faults["fails"] in words[1]:
            sys.exit("weir: no such luck")
        time.sleep(faults.get("sleep_s", 0))
        speed = lambda value: {"median": value, "min": value - 1, "max": value + 1}
        out = {"device": "a stand-in", "ttft_s": 0.5, "predicted_decode_tokens_per_s": 11.0,
               "predicted_bottleneck": "link",
               "bench": {"decode_tokens_per_s": speed(10.0), "prompt_tokens_per_s": speed(100.0)}}
    elif words[:2] == ["probe", "gpu"]:
        cell = lambda mode, pinned, value: {"direction": "h2d", "mode": mode, "pinned": pinned,
                                            "bytes": 65536, **rate(value)}
        out = {"device": "a stand-in", "emulated": True, "hbm_read": rate(40.0), "pinning": [],
               "copies": [cell("single", True, 15.0), cell("queued", True, 20.0),
                          cell("single", False, 90.0)],
               "both_ways": rate(30.0), "dram_read": rate(50.0)}
    elif words[:2] == ["probe", "disk"]:
        out = {"cells": [{"reader": "uring", "depth": 8, "block_bytes": 65536, **rate(value)}
                         for value in (2.0, 3.0)]}
    else:
        out = plan
    open(option("--json"), "w").write(json.dumps(out))
''')
FAKE_TESTS = textwrap.dedent('''\
    #!/bin/sh
    echo "[ RUN      ] OneGpu.Test"
    echo "[       OK ] OneGpu.Test (1 ms)"
''')


class GpuCheckTest(unittest.TestCase):
    def setUp(self):
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.folder = pathlib.Path(scratch.name)
        self.json = self.folder / "results.json"
        for name, text in (("weir", FAKE_WEIR), ("kernels_test", FAKE_TESTS),
                           ("engine_test", FAKE_TESTS)):
            path = self.folder / name
            path.write_text(text)
            path.chmod(0o755)
        place = setup.Place("checkout", self.folder / "weir", self.folder, ROOT)
        for patch in (mock.patch.object(gpu_check, "find_place", lambda: place),
                      mock.patch.dict(os.environ)):
            patch.start()
            self.addCleanup(patch.stop)

    def faults(self, **faults):
        os.environ["FAKE_WEIR"] = json.dumps(faults)

    def run_main(self, *arguments, code=0, device=("--device", "emulated", "--small")):
        """(the JSON, stdout, stderr) of a run."""
        errors, output = io.StringIO(), io.StringIO()
        with contextlib.redirect_stderr(errors), contextlib.redirect_stdout(output):
            got = gpu_check.main([*device, "--folder", str(self.folder / "models"), "--json",
                                  str(self.json), *arguments])
        self.assertEqual(got, code, output.getvalue() + errors.getvalue())
        document = json.loads(self.json.read_text()) if self.json.exists() else None
        return document, output.getvalue(), errors.getvalue()


class WholeRunTest(GpuCheckTest):
    def test_every_part_is_in_the_json_and_in_the_table(self):
        with contextlib.chdir(self.folder):
            document, output, _ = self.run_main("--folder", "models")
        self.assertTrue((self.folder / "models").is_dir())
        self.assertEqual(list(document["parts"]), [part.name for part in parts.PARTS
                                                   if part.is_default])
        self.assertTrue(document["emulated"])
        self.assertEqual(document["ceilings_gb_per_s"], {"hbm_read": 40.0, "h2d_pinned": 20.0,
                                                         "dram_read": 50.0, "disk_read": 3.0})
        for name, part in document["parts"].items():
            wanted = "skipped" if name == "sanitizer" else "done"
            self.assertEqual(part["status"], wanted, (name, part["reason"]))
            self.assertIn(f"\n{name}: {wanted} in ", output)
        self.assertIn("emulated: nothing here tells of a GPU", output)
        self.assertIn("kernels_test: 1 passed, 0 failed, 0 skipped", output)
        rows = {row["name"]: row for name in ("resident", "dram")
                for row in document["parts"][name]["rows"]}
        resident = rows["Q4_K, decode"]
        # A pass reads 1 GB of weights and 2 bytes of KV for each token before; 10 passes a second.
        self.assertAlmostEqual(resident["links"]["hbm_read"]["share"], 10 / 40, places=5)
        self.assertEqual(set(resident["links"]), {"hbm_read"})
        self.assertEqual(resident["tokens_per_s"], {"median": 10.0, "low": 9.0, "high": 11.0})
        self.assertAlmostEqual(resident["prediction_error_percent"], 10)
        self.assertAlmostEqual(rows["BF16, copied, decode"]["links"]["h2d_pinned"]["share"], 0.5)
        self.assertAlmostEqual(rows["BF16, in place, decode"]["links"]["dram_read"]["share"], 0.2)
        # 16 tokens cross once, 1 GB at 20 GB/s: 320 tok/s; resident they take 0.16 s: 100 tok/s.
        self.assertAlmostEqual(rows["Q4_K, copied, prompt of 16"]["share_of_bound"], 1.0)

    def test_shapes_that_are_measured(self):
        document, _, _ = self.run_main("--only", "resident,mixed70b",
                                       device=("--device", "emulated"))
        self.assertFalse(document["small"])
        names = [row["name"] for row in document["parts"]["resident"]["rows"]]
        self.assertIn("BF16, prompt of 4096", names)
        self.assertIn("Q4_K, decode at depth 32768", names)
        self.assertTrue((self.folder / "models/8b-Q8_0.gguf").exists())
        self.assertTrue((self.folder / "models/70b-Q4_K.gguf").exists())
        for part in document["parts"].values():
            self.assertEqual(part["status"], "done", part["reason"])
            for row in part["rows"]:
                self.assertEqual(len(row["samples"]), 2, row["name"])

    def test_single_parts_add_up(self):
        document, _, _ = self.run_main("--only", "dram")
        row = document["parts"]["dram"]["rows"][0]
        self.assertEqual(row["links"], {}, "no ceiling is known yet")
        document, output, _ = self.run_main("--only", "links")
        self.assertEqual(set(document["parts"]), {"dram", "links"})
        self.assertIn("h2d_pinned", document["parts"]["dram"]["rows"][0]["links"])
        self.assertNotIn("dram: done", output)
        self.faults(fails="BF16")
        document, _, _ = self.run_main("--only", "dram", code=1)
        self.assertEqual(document["parts"]["dram"]["status"], "failed", "replaced by the newer one")
        self.assertEqual(document["parts"]["links"]["status"], "done")

    def test_results_of_something_else_are_not_mixed(self):
        self.run_main("--only", "links")
        before = self.json.read_text()
        with mock.patch.object(setup.Place, "build", lambda self: {"commit": "another"}):
            _, _, errors = self.run_main("--only", "disk", code=2)
            self.assertIn("--fresh", errors)
            self.assertEqual(self.json.read_text(), before)
            document, _, _ = self.run_main("--only", "disk", "--fresh")
        self.assertEqual(set(document["parts"]), {"disk"})
        self.json.write_text("[]")
        _, _, errors = self.run_main("--only", "disk", code=2)
        self.assertIn("is no result of gpu_check", errors)

    def test_a_failing_arm_and_a_failing_part_do_not_stop_the_others(self):
        self.faults(fails="BF16")
        broken = [parts.Part("broken", 5, lambda check, result: result["nothing"], "")]
        with mock.patch.object(gpu_check, "PARTS", broken + parts.PARTS):
            document, output, _ = self.run_main(code=1)
        self.assertEqual(document["parts"]["broken"]["status"], "failed")
        self.assertIn("KeyError", document["parts"]["broken"]["reason"])
        resident = document["parts"]["resident"]
        self.assertEqual(resident["status"], "failed")
        self.assertIn("no such luck", resident["reason"])
        by_name = {row["name"]: row for row in resident["rows"]}
        self.assertIn("no such luck", by_name["BF16, decode"]["error"])
        self.assertIn("tokens_per_s", by_name["Q8_0, decode"])
        self.assertIn("tokens_per_s", by_name["Q4_K, decode at depth 16"], "after the failed arms")
        self.assertEqual(document["parts"]["disk_homed"]["status"], "done")
        self.assertIn("weir: no such luck", output)

    def test_a_part_stops_at_its_bound_with_what_it_has(self):
        self.faults(sleep_s=0.4)
        short = [parts.Part("resident", 1, parts.run_resident, ""),
                 parts.Part("links", 5, parts.run_links, "")]
        with mock.patch.object(gpu_check, "PARTS", short):
            document, output, _ = self.run_main("--limit", "6")
        resident = document["parts"]["resident"]
        self.assertEqual((resident["status"], resident["bound_s"]), ("stopped", 1))
        measured = [row["name"] for row in resident["rows"] if row["samples"]]
        self.assertIn("Q4_K, decode", measured)
        self.assertNotIn("BF16, decode", measured)
        self.assertLess(resident["seconds"], 5)
        self.assertEqual(document["parts"]["links"]["status"], "done")
        self.assertIn("| BF16, decode | not measured |", output)

    def test_the_time_of_others_goes_to_those_that_run(self):
        document, _, _ = self.run_main("--only", "links,disk")
        self.assertAlmostEqual(document["parts"]["links"]["bound_s"], 270)

    def test_without_time_nothing_begins(self):
        document, _, _ = self.run_main("--limit", "0", "--only", "links,disk")
        for part in document["parts"].values():
            self.assertEqual(part["status"], "skipped")
            self.assertIn("--only", part["reason"])


class RefusalTest(GpuCheckTest):
    def test_without_a_gpu(self):
        with mock.patch.object(gpu_check, "find_gpu", side_effect=MeasureError("no such library")):
            _, _, errors = self.run_main(code=2, device=())
        self.assertIn("no GPU can be used here: no such library", errors)
        self.assertIn("--device emulated", errors)
        self.assertFalse(self.json.exists())

    def test_devices_and_parts_that_do_not_exist(self):
        _, _, errors = self.run_main(code=2, device=("--device", "tpu"))
        self.assertIn("tpu", errors)
        with self.assertRaises(SystemExit), contextlib.redirect_stderr(io.StringIO()) as errors:
            gpu_check.main(["--only", "links,lynx"])
        self.assertIn("lynx", errors.getvalue())

    def test_a_missing_build_is_named(self):
        (self.folder / "weir").unlink()
        _, _, errors = self.run_main(code=2)
        self.assertIn("tools/build", errors)

    def test_cublas_of_a_python_package_is_found(self):
        library = self.folder / "nvidia/cu13/lib/libcublas.so.13"
        library.parent.mkdir(parents=True)
        library.touch()
        os.environ["LD_LIBRARY_PATH"] = "/before"
        nowhere = mock.patch.object(setup.ctypes, "CDLL", side_effect=OSError)
        no_toolkit = mock.patch.object(setup, "TOOLKIT", self.folder)
        with nowhere, no_toolkit, mock.patch.object(sys, "path", [str(self.folder)]):
            setup.find_cublas()
        self.assertEqual(os.environ["LD_LIBRARY_PATH"], f"/before:{library.parent}")

    def test_the_driver_says_why(self):
        with self.assertRaisesRegex(MeasureError, "cannot be loaded"):
            setup.find_gpu(0, "libno_such_driver.so.1")
        driver = types.SimpleNamespace(cuInit=lambda flags: 100)
        with mock.patch.object(setup.ctypes, "CDLL", lambda name: driver), \
                self.assertRaisesRegex(MeasureError, "cuInit with error 100 .*no GPU is there"):
            setup.find_gpu(0)


class PartsTest(GpuCheckTest):
    def check(self, **changes):
        return setup.Check(**{"place": gpu_check.find_place(), "folder": self.folder,
                              "device": "emulated", "device_options": [], "small": True,
                              "gpu": None, **changes})

    def test_bounds_of_the_default_parts_fit_the_limit(self):
        self.assertLessEqual(sum(part.bound_s for part in parts.PARTS if part.is_default), 540)

    def test_a_gpu_on_which_no_test_ran_is_a_failure(self):
        (self.folder / "engine_test").write_text(
            "#!/bin/sh\necho '[ RUN      ] AGpu.B'\necho '[  SKIPPED ] AGpu.B (0 ms)'\n")
        (self.folder / "kernels_test").write_text((self.folder / "engine_test").read_text())
        result = {}
        parts.run_tests(self.check(), result)
        self.assertEqual(result["binaries"]["engine_test"]["skipped"], 1)
        with self.assertRaisesRegex(parts.RunFailed, "no test ran on the GPU"):
            parts.run_tests(self.check(gpu=setup.Gpu("A GPU", 1, "13.0")), {})

    def test_failed_tests_are_named(self):
        (self.folder / "engine_test").write_text(
            "#!/bin/sh\necho '[ RUN      ] AGpu.B'\necho '[  FAILED  ] AGpu.B (0 ms)'\nexit 1\n")
        result = {}
        with self.assertRaisesRegex(parts.RunFailed, "engine_test: AGpu.B"):
            parts.run_tests(self.check(), result)
        self.assertEqual(result["binaries"]["kernels_test"]["passed"], 1)

    def test_the_sanitizer_counts_findings_and_stops_in_time(self):
        (self.folder / "compute-sanitizer").write_text(
            "#!/bin/sh\n[ $2 = racecheck ] && exit 99\nsleep 60\n")
        (self.folder / "compute-sanitizer").chmod(0o755)
        os.environ["PATH"] = f"{self.folder}:{os.environ['PATH']}"
        check = self.check(gpu=setup.Gpu("A GPU", 1, "13.0"))
        check.begin(1)
        result = {}
        with self.assertRaisesRegex(parts.RunFailed, "racecheck of kernels_test"):
            parts.run_sanitizer(check, result)
        memcheck, racecheck = result["runs"][0], result["runs"][2]
        self.assertEqual((memcheck["tool"], memcheck["code"], memcheck["findings"]),
                         ("memcheck", None, 0))
        self.assertEqual((racecheck["tool"], racecheck["findings"]), ("racecheck", 1))

    def test_what_does_not_fit_is_skipped_with_the_figures(self):
        with self.assertRaisesRegex(setup.Skipped, "needs 1000000.0 GB of memory"):
            self.check().need_memory("it", 10**15)
        usage = types.SimpleNamespace(free=0)
        check = self.check(small=False)
        other = self.folder / "8b-BF16.gguf"
        other.write_text("model")
        with mock.patch.object(setup.shutil, "disk_usage", lambda folder: usage), \
                contextlib.redirect_stdout(io.StringIO()), \
                self.assertRaisesRegex(setup.Skipped, "name another folder with --folder"):
            check.model("70b")
        self.assertFalse(other.exists(), "models of ours make room")

    def test_a_stopped_program_takes_its_children_along(self):
        marker = self.folder / "marker"
        code, _ = setup.run_group(["sh", "-c", f"(sleep 1; touch {marker}) & wait"], 0.2)
        self.assertIsNone(code)
        setup.run_group(["sleep", "1.2"], 5)
        self.assertFalse(marker.exists())

    def test_prompts_are_bound_by_the_slowest(self):
        row = {"model": "BF16", "tokens": 32, "placement": {
            "weights": 3 * 10**9, "hbm": 10**9, "streamed": 10**9, "chunk_tokens": 16}}
        # Two passes: 2 GB each over the link, 1 GB each from disk.
        self.assertAlmostEqual(report.prompt_bound(row, {"h2d_pinned": 8.0}, {}), 32 / 0.5)
        rates = {"h2d_pinned": 8.0, "disk_read": 2.0}
        self.assertAlmostEqual(report.prompt_bound(row, rates, {}), 32 / 1.0)
        resident = {"BF16": {32: 16.0, 4: 1.0}}
        self.assertAlmostEqual(report.prompt_bound(row, rates, resident), 32 / 2.0)
        self.assertIsNone(report.prompt_bound(row, {}, {}))


@unittest.skipUnless(WEIR.exists(), "weir is not built")
class BuiltWeirTest(GpuCheckTest):
    def test_on_the_emulated_device(self):
        place = setup.Place("checkout", WEIR, self.folder, ROOT)
        with mock.patch.object(gpu_check, "find_place", lambda: place):
            document, _, _ = self.run_main("--only", "links,disk,dram,mixed,disk_homed,wall")
        for name, part in document["parts"].items():
            self.assertEqual(part["status"], "done", (name, part["reason"]))
        rows = {row["name"]: row for name in ("dram", "disk_homed")
                for row in document["parts"][name]["rows"]}
        copied = rows["BF16, copied, decode"]["placement"]
        # What of the room for a ring the ring leaves holds weights: much of a tiny model's.
        self.assertEqual(copied["copied"], copied["weights"] - copied["hbm"])
        self.assertGreater(copied["copied"], copied["weights"] // 4)
        self.assertEqual((copied["in_place"], copied["streamed"]), (0, 0))
        in_place = rows["BF16, in place, decode"]["placement"]
        self.assertEqual((in_place["in_place"], in_place["copied"]), (copied["copied"], 0))
        on_disk = rows["Q4_K, decode"]["placement"]
        self.assertGreater(on_disk["streamed"], on_disk["weights"] // 4)
        for row in rows.values():
            self.assertGreater(row["tokens_per_s"]["low"], 0, row["name"])
        wall = document["parts"]["wall"]["wall"]
        self.assertEqual(wall["ladder"], "emulated")
        self.assertGreater(wall["arms"][-1]["slowdown"], 1)
        ceilings = document["ceilings_gb_per_s"]
        self.assertGreater(ceilings["h2d_pinned"], 0)
        self.assertLess(ceilings["h2d_pinned"], 1.05, "the emulated link is of 1 GB/s")
        self.assertGreater(ceilings["disk_read"], 0)


if __name__ == "__main__":
    unittest.main()
