"""The house style as tests: one case for each rule, over every file of the project.

A failure names file, line and rule. rules_test.py shows that each rule can fail.
"""

import re
import shutil
import subprocess
import unittest

import rules
import tidy
from source import ROOT, project_sources

# The layout differs between versions of clang-format; Debian 12's is the reference.
CLANG_FORMAT_MAJOR = "14"


class StyleTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.sources = project_sources()

    def expect_none(self, violations):
        if violations:
            self.fail(f"{len(violations)} violations\n" + "\n".join(map(str, violations)))

    def test_finds_the_sources(self):
        folders = {source.folder for source in self.sources if source.is_cpp}
        self.assertLessEqual({"io", "kernels", "models", "tiering", "tests"}, folders)

    def test_clang_format(self):
        tool = shutil.which(f"clang-format-{CLANG_FORMAT_MAJOR}") or shutil.which("clang-format")
        self.assertIsNotNone(tool, "clang-format is not installed; run tools/setup")
        version = subprocess.run([tool, "--version"], check=True, stdout=subprocess.PIPE, text=True)
        major = re.search(r"version (\d+)", version.stdout).group(1)
        if major != CLANG_FORMAT_MAJOR:
            self.skipTest(f"needs clang-format {CLANG_FORMAT_MAJOR}, found {major}")
        files = [source.path for source in self.sources if source.is_cpp]
        done = subprocess.run([tool, "--dry-run", "-Werror", *files], cwd=ROOT, check=False,
                              stderr=subprocess.PIPE, text=True)
        found = re.findall(r"^(\S+:\d+):\d+: error", done.stderr, re.MULTILINE)
        self.expect_none([f"{place}: clang-format (clang-format -i fixes it)"
                          for place in dict.fromkeys(found)])
        self.assertEqual(done.returncode, 0, done.stderr)

    def test_clang_tidy(self):
        # The tests' own sources take as long again: tidy_slow.py, in the slow suite.
        tidy.expect_clean(self, lambda path: path.parts[0] != "tests")

    def test_scripts_parse(self):
        scripts = [source.path for source in self.sources if source.is_bash]
        self.assertIn("tools/setup", scripts)
        for command in (["bash", "-n"], ["shellcheck", "--format=gcc"]):
            for script in scripts:
                with self.subTest(command=command[0], script=script):
                    done = subprocess.run([*command, script], cwd=ROOT, check=False, text=True,
                                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
                    self.assertEqual(done.returncode, 0, done.stdout)

    def test_python_compiles(self):
        for source in self.sources:
            if source.is_python:
                with self.subTest(script=source.path):
                    compile(source.text, source.path, "exec")


def _add_rule(rule):
    def check(self):
        self.expect_none([violation for source in self.sources for violation in rule(source)])

    setattr(StyleTest, f"test_{rule.__name__}", check)


for _rule in rules.RULES:
    _add_rule(_rule)


if __name__ == "__main__":
    unittest.main()
