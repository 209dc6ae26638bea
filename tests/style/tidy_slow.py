"""clang-tidy over the tests' sources: part of the slow suite.

style_test.py does the same for the program's.
"""

import unittest

import tidy


class SlowTidyTest(unittest.TestCase):
    def test_clang_tidy_of_tests(self):
        tidy.expect_clean(self, lambda path: path.parts[0] == "tests")


if __name__ == "__main__":
    unittest.main()
