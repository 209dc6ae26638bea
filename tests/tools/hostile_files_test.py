"""Every hostile file of tests/models through the program itself: a message and an exit code.

Runs build/weir ($WEIR_BINARY) under a limit of address space, so that an allocation which a header
talked the program into ends it; and within a second, so that a loop does. The files come from
build/tests/models_test ($WEIR_MODELS_TEST).
"""

import os
import pathlib
import re
import resource
import subprocess
import tempfile
import time
import unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
WEIR = os.environ.get("WEIR_BINARY", str(ROOT / "build/weir"))
MODELS_TEST = os.environ.get("WEIR_MODELS_TEST", str(ROOT / "build/tests/models_test"))
GIB = 1 << 30
ADDRESS_SPACE_BYTES = 2 * GIB
CPU_S = 2  # of the whole process; a hang ends here
BAD_MODEL = 3
RUN = ("run", "--no-chat", "-n", "4", "--temp", "0", "-t", "1", "--dram", "64MiB")


def limit():
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE_BYTES, ADDRESS_SPACE_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def weir(*arguments):
    return subprocess.run([WEIR, *map(str, arguments)], cwd=ROOT, stdin=subprocess.DEVNULL,
                          capture_output=True, timeout=60, check=False, preexec_fn=limit)


class HostileFilesTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.scratch = tempfile.TemporaryDirectory()
        cls.addClassCleanup(cls.scratch.cleanup)
        subprocess.run([MODELS_TEST, "--gtest_also_run_disabled_tests",
                        "--gtest_filter=HostileFiles.DISABLED_Write"], cwd=ROOT, check=True,
                       env=dict(os.environ, TEST_TMPDIR=cls.scratch.name),
                       stdout=subprocess.DEVNULL)
        cls.folder = pathlib.Path(cls.scratch.name) / "hostile"
        lines = (cls.folder / "files.tsv").read_text().splitlines()
        cls.files = dict(line.split("\t") for line in lines)

    def path(self, name):
        return self.folder / f"{name}.gguf"

    def refused(self, result, says=""):
        message = result.stderr.decode("utf-8", "replace")
        self.assertEqual(result.returncode, BAD_MODEL, message)
        self.assertEqual(result.stdout, b"")
        self.assertTrue(message.startswith("weir: "), message)
        self.assertEqual(message.count("\n"), 1, message)
        self.assertTrue(message.rstrip("\n").isprintable(), repr(message))
        self.assertIn(says, message)

    def test_there_are_files(self):
        self.assertGreater(len(self.files), 150)
        self.assertGreater(sum(says == "" for says in self.files.values()), 5)

    def test_run_refuses_each(self):
        begin = resource.getrusage(resource.RUSAGE_CHILDREN)
        names = [name for name, says in self.files.items() if says]
        for name in names:
            with self.subTest(name):
                self.refused(weir(RUN[0], self.path(name), "ab", *RUN[1:]), self.files[name])
        # Processor time, so that a busy machine does not matter.
        end = resource.getrusage(resource.RUSAGE_CHILDREN)
        used_s = end.ru_utime + end.ru_stime - begin.ru_utime - begin.ru_stime
        self.assertLess(used_s / len(names), 1)

    def test_odd_files_run(self):
        """Unusual sizes and entries are no errors: the run ends in text."""
        for name, says in self.files.items():
            if says:
                continue
            with self.subTest(name):
                result = weir(RUN[0], self.path(name), "ab", *RUN[1:])
                self.assertEqual(result.returncode, 0, result.stderr)

    def test_inspect_answers_for_each(self):
        """What can be listed is, and says why it cannot be run; the rest is refused."""
        for name in self.files:
            with self.subTest(name):
                result = weir("inspect", self.path(name), "--tensors")
                if result.returncode == 0:
                    text = result.stdout.decode("utf-8")
                    self.assertTrue(text.replace("\n", "").isprintable(), repr(text))
                else:
                    self.refused(result)

    def test_plan_and_tokenize_end(self):
        for name in list(self.files)[::8]:
            for command in (("plan", self.path(name), "--dram", "64MiB"),
                            ("tokenize", self.path(name), "ab ab")):
                with self.subTest(name, command=command[0]):
                    result = weir(*command)
                    self.assertIn(result.returncode, (0, BAD_MODEL), result.stderr)

    def test_sparse_giant(self):
        """A tensor table that a file of holes bears out: refused by the budget, not by the OS."""
        tiny = self.path("sound").read_bytes()
        place = tiny.index(b"token_embd.weight") + len("token_embd.weight") + 4 + 8
        rows = (1 << 24).to_bytes(8, "little")
        self.assertEqual(int.from_bytes(tiny[place:place + 8], "little"), 8)
        path = self.folder / "sparse.gguf"
        path.write_bytes(tiny[:place] + rows + tiny[place + 8:])
        os.truncate(path, 1 << 40)
        result = weir(RUN[0], path, "ab", *RUN[1:])
        self.assertEqual(result.returncode, BAD_MODEL, result.stderr)  # it overlaps the others
        path.unlink()

    def test_weights_that_are_no_numbers(self):
        """NaN and infinity in every weight: an end, with text or a message, not a crash."""
        sound = self.path("sound").read_bytes()
        data_bytes = 1024
        for name, pattern in (("nan", b"\x00\x00\xc0\x7f"), ("infinite", b"\x00\x00\x80\x7f"),
                              ("huge", b"\xff\xff\x7f\x7f"), ("ones", b"\xff\xff\xff\xff")):
            for sampling in (("--temp", "0"), ("--temp", "1", "--top-k", "3", "--min-p", "0.1"),
                             ("--temp", "1", "--top-k", "0", "--top-p", "0.5")):
                with self.subTest(name, sampling=sampling):
                    path = self.folder / f"{name}.gguf"
                    size = len(sound) - len(sound) // 3 // 32 * 32
                    size = max(size, len(sound) - data_bytes // 2)
                    path.write_bytes(sound[:size] + pattern * ((len(sound) - size) // 4))
                    result = weir("run", path, "ab", "--no-chat", "-n", "4", "-t", "1", "--dram",
                                  "64MiB", "--seed", "1", *sampling)
                    self.assertGreaterEqual(result.returncode, 0, result.stderr)
                    self.assertLess(result.returncode, 128, result.stderr)
                    self.assertNotIn(b"check failed", result.stderr)

    def test_no_file_at_all(self):
        for name in ("/dev/null", "/dev/zero", self.folder):
            with self.subTest(name):
                self.refused(weir("inspect", name))
        pipe = self.folder / "pipe.gguf"
        os.mkfifo(pipe)
        begin = time.monotonic()
        self.refused(weir("inspect", pipe), "a pipe")
        self.assertLess(time.monotonic() - begin, 30)


class HostilePlansTest(unittest.TestCase):
    """Plan files: one message, the exit code of a wrong option or of a budget."""

    def test_corpus(self):
        tiny = "tests/data/tiny.gguf"
        for path in sorted((ROOT / "tests/fuzz/corpus/plan").iterdir()):
            # Each device refuses a plan for the other: the plan itself is looked at by its own.
            for device in ("cpu", "emulated"):
                with self.subTest(path.name, device=device):
                    result = weir("run", tiny, "hi", "-n", "1", "--plan", path, "--device", device)
                    self.assertIn(result.returncode, (2, 3, 4), result.stderr)
                    self.assertEqual(result.stderr.count(b"\n"), 1, result.stderr)
                    self.assertTrue(re.match(rb"weir: ", result.stderr), result.stderr)

    def test_nested_and_long(self):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "plan.json"
            flat = '{"weir_plan":1,"blocks":[' + ",".join(["{}"] * 2000000) + "]}"
            for text in ("[" * 8000000, '{"a":' * 1000000, flat, " " * 20000000):
                path.write_text(text)
                result = weir("run", "tests/data/tiny.gguf", "hi", "--plan", path)
                self.assertIn(result.returncode, (2, 3), result.stderr[:500])
                self.assertEqual(result.stderr.count(b"\n"), 1)


if __name__ == "__main__":
    unittest.main()
