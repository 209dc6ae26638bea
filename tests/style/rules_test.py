"""Each style rule against samples that it must refuse, and against ones that it must not."""

import io
import json
import pathlib
import sys
import tempfile
import unittest

import rules
import tidy
from source import ROOT, Source

sys.path.insert(0, str(ROOT / "tests"))
import run_suites  # noqa: E402 (found only with the line above)

GUARDED = "#ifndef WEIR_IO_A_H_\n#define WEIR_IO_A_H_\n\n#endif  // WEIR_IO_A_H_\n"
LONG_BODY = "  Step();\n" * 69

# rule, path, text, the lines that it must name (none: the sample is good)
SAMPLES = [
    (rules.include_direction, "io/a.cc", '#include "io/base.h"\n#include "models/gguf.h"\n', [2]),
    (rules.include_direction, "tiering/a.cc", '#include "engine/engine.h"\n', [1]),
    (rules.include_direction, "engine/a.cc", '#include "tiering/plan.h"\n', []),
    (rules.include_direction, "tests/io/a_test.cc", '#include "kernels/ops.h"\n', [1]),
    (rules.include_direction, "tests/io/a_test.cc", '#include "tests/io/b_helper.h"\n', []),
    (rules.include_direction, "tests/fuzz/a_fuzz.cc", '#include "models/gguf.h"\n', []),
    (rules.include_direction, "tests/fuzz/a_fuzz.cc", '#include "tools/run.h"\n', [1]),
    (rules.include_direction, "io/a.cc", '#include "base.h"\n', [1]),
    (rules.include_direction, "io/a.cc", '#include "absl/status/status.h"\n#include <map>\n', []),
    (rules.include_direction, "io/a.cc", '// #include "models/gguf.h"\n', []),
    (rules.tiering_purity, "tiering/a.cc", "#include <vector>\n#include <thread>\n", [2]),
    (rules.tiering_purity, "tiering/a.h", "#include <unistd.h>\n#include <sys/mman.h>\n", [1, 2]),
    (rules.tiering_purity, "tiering/policies/a.h", "#include <chrono>\n", [1]),
    (rules.tiering_purity, "tiering/a.cc", '#include "io/uring_reader.h"\n', [1]),
    (rules.tiering_purity, "tiering/a.cc", "void F() {\n  RealClock clock;\n}\n", [2]),
    (rules.tiering_purity, "tiering/a.cc", '#include "io/clock.h"\n// RealClock, <thread>\n', []),
    (rules.tiering_purity, "io/a.cc", "#include <thread>\n", []),
    (rules.header_guard, "io/a.h", GUARDED, []),
    (rules.header_guard, "io/b.h", GUARDED, [1]),
    (rules.header_guard, "io/a.h", "#pragma once\n", [1]),
    (rules.header_guard, "io/a-inl.h",
     "#if defined(WEIR_IO_A_INL_H_) == defined(HWY_TARGET_TOGGLE)\n", []),
    (rules.header_guard, "io/a-inl.h", "#if defined(A) == defined(HWY_TARGET_TOGGLE)\n", [1]),
    (rules.type_names, "io/a.h", "class Block;\nclass BlockCache {};\n", [2]),
    (rules.type_names, "io/a.h", "struct Context final {};\nenum class AHandler { kA };\n", [1, 2]),
    (rules.type_names, "io/a.h", "using PageManager = int;\nint a_bytes;  // class ACache\n", [1]),
    (rules.environment_variables, "io/a.cc", 'auto* home = std::getenv("HOME");\n', [1]),
    (rules.include_direction, "tests/bench/a_bench.cc", '#include "engine/engine.h"\n', []),
    (rules.include_direction, "engine/a.cc", '#include "xxhash.h"\n', [1]),
    (rules.environment_variables, "tools/a.cc", 'auto* home = std::getenv("HOME");\n', []),
    (rules.environment_variables, "io/a.cc", '// getenv\nauto text = "getenv";\n', []),
    (rules.kernel_launches, "kernels/a.cu", "void F() { Run<<<1, 2>>>(); }\n", [1]),
    (rules.kernel_launches, "kernels/cuda_launch.cuh", "void F() { Run<<<1, 2>>>(); }\n", []),
    (rules.no_exceptions, "io/a.cc", "void F() {\n  throw 1;\n}\n", [2]),
    (rules.no_exceptions, "engine/a.cc", "auto* b = dynamic_cast<B*>(a);\n", [1]),
    (rules.no_exceptions, "tools/a.cc", "void F() { try { G(); } catch (...) {} }\n", []),
    (rules.no_exceptions, "io/a.cc", "bool try_again;  // try, catch\n", []),
    (rules.no_cpu_flags, "cmake/A.cmake", "# -march\nadd_compile_options(-march=native)\n", [2]),
    (rules.columns, "io/a.cc", "x" * 100 + "\n" + "x" * 101 + "\n", [2]),
    (rules.columns, "tools/a", "#!/usr/bin/env bash\n# " + "\u00e9" * 98 + "\n", []),
    (rules.whitespace, "io/a.cc", "int a;\nint b; \n", [2]),
    (rules.whitespace, "docs/a.md", "no newline", [1]),
    (rules.file_size, "io/a.cc", "\n" * 500, []),
    (rules.file_size, "io/a.cc", "\n" * 501, [501]),
    (rules.function_size, "io/a.cc", "void F() {\n" + "  Step();\n" * 68 + "}\n", []),
    (rules.function_size, "io/a.cc", "int x;\nvoid F() {\n" + LONG_BODY + "}\n", [2]),
    (rules.function_size, "io/a.cc", "int F(int a,\n      int b) {\n" + LONG_BODY + "}\n", [1]),
    (rules.function_size, "io/a.h",
     "namespace weir {\nclass A : public B {\n public:\n  template <typename T>\n  T F() const {\n"
     + LONG_BODY + "  }\n};\n}  // namespace weir\n", [4]),
    (rules.function_size, "io/a.cc", "TEST(A, B) {\n  for (;;) {\n" + LONG_BODY + "  }\n}\n", [1]),
    (rules.function_size, "io/a.cc", "A::A() : b_(1), c_{2} {\n" + LONG_BODY + "}\n", [1]),
    (rules.function_size, "io/a.cc", "struct A {\n" + "  int f(int);\n" * 80 + "};\n", []),
    (rules.function_size, "io/a.cc", "const int kA[] = {\n" + "  F(1),\n" * 80 + "};\n", []),
    (rules.function_size, "io/a.cc", 'auto a = R"(\n' + "{\n" * 80 + ')";\nvoid F() {\n}\n', []),
    (rules.function_size, "tools/a.py", "def f():\n" + "    g()\n" * 70, [1]),
]


class RulesTest(unittest.TestCase):
    def test_samples(self):
        for rule, path, text, lines in SAMPLES:
            with self.subTest(rule=rule.__name__, path=path, text=text[:60]):
                self.assertEqual([violation.line for violation in rule(Source(path, text))], lines)

    def test_every_rule_has_a_bad_sample(self):
        with_bad_sample = {rule for rule, _, _, lines in SAMPLES if lines}
        self.assertEqual(set(rules.RULES) - with_bad_sample, set())

    def test_violation_names_file_line_and_rule(self):
        (violation,) = rules.kernel_launches(Source("kernels/a.cu", "\nRun<<<1, 2>>>();\n"))
        self.assertTrue(str(violation).startswith("kernels/a.cu:2: launch: "))


class TidyTest(unittest.TestCase):
    def check(self, text):
        with tempfile.TemporaryDirectory() as folder:
            build = pathlib.Path(folder)
            path = build / "sample.cc"
            path.write_text(text, encoding="utf-8")
            (build / ".clang-tidy").write_bytes((ROOT / ".clang-tidy").read_bytes())
            (build / "compile_commands.json").write_text(json.dumps([{
                "directory": folder, "file": str(path), "command": f"g++ -std=c++20 -c {path}"}]))
            return tidy.check_file(build, path)

    def test_refuses_a_bad_sample(self):
        found = self.check("int F(int a) {\n  if (a = 1) {}\n  int* p = 0;\n  return *p;\n}\n")
        self.assertIn(3, [violation.line for violation in found])

    def test_accepts_a_good_sample(self):
        self.assertEqual(self.check("int Twice(int a) { return 2 * a; }\n"), [])

    def test_key_follows_included_headers(self):
        header = ROOT / "io/base.h"
        included = tidy.included_files(ROOT / "io/reader.h", {})
        self.assertIn(header, included)


class CountingTest(unittest.TestCase):
    def test_json(self):
        counts = run_suites.count_json({"testsuites": [{"name": "A", "testsuite": [
            {"name": "Good", "status": "RUN", "result": "COMPLETED"},
            {"name": "Bad", "status": "RUN", "result": "COMPLETED",
             "failures": [{"failure": "a.cc:1\nno"}]},
            {"name": "Later", "status": "RUN", "result": "SKIPPED"},
            {"name": "Filtered", "status": "NOTRUN", "result": "SUPPRESSED"}]}]})
        self.assertEqual(counts.line(), "1 passed, 1 failed, 1 skipped")
        self.assertEqual(counts.failures, [("A.Bad", "a.cc:1\nno")])

    def test_unittest(self):
        class Sample(unittest.TestCase):
            def test_good(self):
                pass

            def test_bad(self):
                for number in range(3):
                    with self.subTest(number=number):
                        self.fail("no")

            def test_later(self):
                self.skipTest("later")

        suite = unittest.defaultTestLoader.loadTestsFromTestCase(Sample)
        result = unittest.TextTestRunner(stream=io.StringIO()).run(suite)
        self.assertEqual(run_suites.count_unittest(result).line(),
                         "1 passed, 1 failed, 1 skipped")

    def test_crash(self):
        counts = run_suites.count_text(
            "[ RUN      ] A.One\n[       OK ] A.One (0 ms)\n"
            "[ RUN      ] A.Two\na.cc:1: Failure\n[  FAILED  ] A.Two (1 ms)\n"
            "[ RUN      ] A.Three\nboom\n", "exit code -6")
        self.assertEqual(counts.line(), "1 passed, 2 failed")
        self.assertEqual([name for name, _ in counts.failures], ["A.Two", "A.Three"])

    def test_crash_before_the_first_case(self):
        self.assertEqual(run_suites.count_text("", "exit code 1").line(), "0 passed, 1 failed")


if __name__ == "__main__":
    unittest.main()
