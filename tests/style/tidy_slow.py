"""clang-tidy over the tests' sources: part of the slow suite.

style_test.py does the same for the program's.
"""

import unittest

import tidy
from source import ROOT


class SlowTidyTest(unittest.TestCase):
    def test_clang_tidy_of_tests(self):
        build = ROOT / "build"
        if not (build / "compile_commands.json").is_file():
            self.skipTest("no build/compile_commands.json; tools/test slow makes it")
        violations, looked_at, remembered = tidy.check_all(
            build, lambda path: path.parts[0] == "tests")
        print(f"clang-tidy: {looked_at} files looked at, {remembered} unchanged since they passed")
        self.assertGreater(looked_at + remembered, 0)
        self.assertEqual([], [str(violation) for violation in violations])


if __name__ == "__main__":
    unittest.main()
