"""tools/bundle --check: what it accepts and what it refuses. (Making a bundle takes a build;
tools/bundle ends with a run of what it has made.)"""

import pathlib
import shutil
import subprocess
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
PLAIN = "/bin/true"  # needs the C library alone
MIB = 1 << 20


def needed_by(program):
    done = subprocess.run(["readelf", "-d", program], check=True, capture_output=True, text=True)
    return [line.split("[")[1].split("]")[0] for line in done.stdout.splitlines()
            if "(NEEDED)" in line]


class BundleTest(unittest.TestCase):
    def setUp(self):
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.folder = pathlib.Path(scratch.name) / "bundle"
        for name in ("bin", "lib"):
            (self.folder / name).mkdir(parents=True)
        shutil.copy(PLAIN, self.folder / "bin/weir")

    def check(self):
        done = subprocess.run([ROOT / "tools/bundle", "--check", self.folder], check=False,
                              capture_output=True, text=True)
        return done.returncode, done.stdout, done.stderr

    def test_what_needs_the_c_library_alone_is_accepted(self):
        code, output, errors = self.check()
        self.assertEqual(code, 0, errors)
        self.assertIn("MiB of 48", output)

    def test_a_library_that_may_be_missing_is_named(self):
        # bash needs a terminal library, wherever it is not linked statically.
        shutil.copy(shutil.which("bash"), self.folder / "bin/bash")
        (foreign,) = set(needed_by(self.folder / "bin/bash")) - {"libc.so.6"}
        code, _, errors = self.check()
        self.assertEqual(code, 1)
        self.assertIn(f"bin/bash needs {foreign}", errors)
        self.assertIn("cmake/WeirBundle.cmake", errors)

    def test_a_carried_library_must_be_there(self):
        library = self.folder / "lib/libstdc++.so.6"
        program = self.folder / "bin/cmake"
        shutil.copy(shutil.which("cmake"), program)
        if "libstdc++.so.6" not in needed_by(program):
            self.skipTest("this cmake needs no libstdc++")
        _, _, errors = self.check()
        self.assertIn("needs", errors)
        listed = subprocess.run(["ldd", program], check=True, capture_output=True, text=True)
        path = next(line.split()[2] for line in listed.stdout.splitlines()
                    if line.strip().startswith("libstdc++.so.6 "))
        shutil.copy(path, library)
        program.unlink()
        _, _, errors = self.check()
        self.assertIn("lib/libstdc++.so.6 needs libgcc_s.so.1, which is not in lib", errors)

    def test_too_much_is_refused_with_the_figures(self):
        with open(self.folder / "data", "wb") as file:
            file.truncate(48 * MIB)
        code, _, errors = self.check()
        self.assertEqual(code, 1)
        self.assertIn(f"more than the {48 * MIB} that are allowed", errors)

    def test_something_else_is_no_bundle(self):
        for path in (self.folder.parent, self.folder / "nothing"):
            done = subprocess.run([ROOT / "tools/bundle", "--check", path], check=False,
                                  capture_output=True, text=True)
            self.assertEqual(done.returncode, 1)
            self.assertIn("is no bundle", done.stderr)
        (self.folder / "bin/weir").write_text("text")
        code, _, errors = self.check()
        self.assertEqual(code, 1)
        self.assertIn("bin/weir is no program", errors)

    def test_a_folder_of_somebody_else_is_not_replaced(self):
        kept = self.folder / "kept"
        kept.write_text("text")
        done = subprocess.run([ROOT / "tools/bundle", self.folder], check=False,
                              capture_output=True, text=True)
        self.assertEqual(done.returncode, 1)
        self.assertIn("is no bundle", done.stderr)
        self.assertTrue(kept.exists())


if __name__ == "__main__":
    unittest.main()
