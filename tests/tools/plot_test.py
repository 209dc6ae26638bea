"""tools/plot: what it takes and refuses, its page, and its pictures where matplotlib is."""

import functools
import html.parser
import itertools
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest
import xml.etree.ElementTree

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tools"))

import plot_data  # noqa: E402
import plot_page  # noqa: E402

SCRIPT = str(ROOT / "tools/plot")
SAMPLE = ROOT / "tests/data/wall_sample.json"
NAMES = ["hierarchy", "arms", "split", "passes", "training", "levers"]
EVIL = ('<script>alert(1)</script><img src=x onerror="y"> \'" & --> $\\frac{x}$ ]]> '
        'http://evil.test/\u0000\u202e\ud800\n<b>')


def sample():
    return json.loads(SAMPLE.read_text(encoding="utf-8"))


def with_evil_texts(value):
    """The same JSON with every text replaced, but for what says the format."""
    if isinstance(value, dict):
        return {name: part if name == "format" and part == "weir-wall" else with_evil_texts(part)
                for name, part in value.items()}
    if isinstance(value, list):
        return [with_evil_texts(part) for part in value]
    return EVIL if isinstance(value, str) else value


@functools.lru_cache(maxsize=None)
def python_with_matplotlib():
    """An interpreter that can draw; None where there is none."""
    for python in dict.fromkeys([sys.executable, "/usr/bin/python3"]):
        try:
            done = subprocess.run([python, "-c", "import matplotlib"], check=False,
                                  stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        except OSError:
            continue
        if done.returncode == 0:
            return python
    return None


class Page(html.parser.HTMLParser):
    """Tags, attributes and texts of a page, as a browser would find them."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.cells = set(), [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes += attrs
        if tag in ("td", "h1", "title"):
            self.cells.append("")

    def handle_data(self, data):
        if self.cells:
            self.cells[-1] += data

    def handle_endtag(self, tag):
        if tag in ("td", "h1", "title"):
            self.cells.append("")


class ReadTest(unittest.TestCase):
    def refuse(self, document, words):
        text = document if isinstance(document, str) else json.dumps(document)
        with self.assertRaisesRegex(plot_data.PlotError, words):
            plot_data.parse(text)

    def test_the_sample_says_that_it_is_made_up(self):
        self.assertIn("made up", sample()["model"])

    def test_every_field_of_the_sample_is_known(self):
        def check(given, found, where):
            if isinstance(given, list):
                self.assertEqual(len(given), len(found), where)
                for part, other in zip(given, found):
                    check(part, other, where)
            elif isinstance(given, dict):
                for name, part in given.items():
                    self.assertIn(name, found, where)
                    check(part, found[name], f"{where}.{name}")

        document = sample()
        for name in ("format", "version"):
            del document[name]
        for name in ("cpu", "disk", "gpu"):
            del document["hierarchy"][name]
        check(document, plot_data.parse(SAMPLE.read_text(encoding="utf-8")), "")

    def test_probe_all_alone(self):
        wall = plot_data.parse(json.dumps(sample()["hierarchy"]))
        self.assertEqual(wall["hierarchy"]["table"][0]["level"], "L1")
        self.assertEqual(wall["arms"], [])

    def test_what_it_does_not_take(self):
        takes = "takes what `weir wall"
        for document in ("", "{", "[1]", "7", "null", {}, {"tokens": 3}, {"format": "weir-plan"},
                         {"format": 7}, "[" * 100_000):
            with self.subTest(document=str(document)[:20]):
                self.refuse(document, takes)
        self.refuse({"format": "weir-wall", "version": 2}, "version 2")
        self.refuse({"format": "weir-wall"}, "version null")
        self.refuse({"arms": [], "weight_bytes": 1}, "older")

    def test_wrong_fields_are_named(self):
        for change, words in (
                (lambda wall: wall["arms"][2].update(slowdown="fast"), r"arms\[2\].slowdown"),
                (lambda wall: wall["arms"][2].update(slowdown=True), r"arms\[2\].slowdown"),
                (lambda wall: wall["arms"][1].update(name=3), r"arms\[1\].name is not a text"),
                (lambda wall: wall.update(passes={}), "passes is not a list"),
                (lambda wall: wall.update(levers=[]), "levers is not an object"),
                (lambda wall: wall["passes"].append(7), r"passes\[6\] is not an object"),
                (lambda wall: wall.update(disk_bytes_per_s=float("nan")), "out of range"),
                (lambda wall: wall.update(disk_bytes_per_s=float("inf")), "out of range"),
                (lambda wall: wall.update(disk_bytes_per_s=10 ** 400), "out of range"),
                (lambda wall: wall.update(passes=wall["passes"] * 50), "passes has 300 rows")):
            wall = sample()
            change(wall)
            with self.subTest(words=words):
                self.refuse(wall, words)

    def test_texts_become_one_printable_line(self):
        self.assertEqual(plot_data.printable("a\u0000\u202e\ud800\n\tb"), "a b")
        self.assertEqual(plot_data.printable("abcdef", 4), "abc…")

    def test_figures(self):
        for value, text in ((0.03124, "0.0312"), (99.94, "99.9"), (1583.4, "1,583"), (0, "0"),
                            (None, "-"), (-3.14159, "-3.14")):
            self.assertEqual(plot_data.figure_text(value), text)
        for value, text in ((1280, "1.25 KiB"), (999, "999 B"), (1536 << 20, "1.5 GiB")):
            self.assertEqual(plot_data.bytes_text(value), text)
        for value, text in ((0, "0 s"), (1.2e-9, "1.2 ns"), (0.0252, "25.2 ms"), (8.2e-5, "82 µs")):
            self.assertEqual(plot_data.seconds_text(value), text)

    def test_slowdown_of_another_rate(self):
        # Resident 20 tok/s, the arm 4: 5 times slower; at 2 tok/s it would be 10 times.
        arm = {"slowdown": 5, "tokens_per_s": {"median": 4}}
        self.assertEqual(plot_data.slowdown_of(arm, 2), 10)
        self.assertIsNone(plot_data.slowdown_of(arm, None))

    def test_break_evens(self):
        wall = plot_data.parse(SAMPLE.read_text(encoding="utf-8"))
        self.assertEqual([(tokens, is_measured) for _, tokens, is_measured
                          in plot_data.break_evens(wall)],
                         [(31.4, True), (29.2, False), (83.0, True), (41.0, False)])
        wall["predicted_break_even_tokens"] = wall["measured_break_even_tokens"] = None
        wall["no_slower"]["measured_tokens"] = 0.0  # not reached
        self.assertEqual([tokens for _, tokens, _ in plot_data.break_evens(wall)], [27.6, 41.0])


class PageTest(unittest.TestCase):
    def page(self, document):
        return plot_page.page(plot_data.parse(json.dumps(document)), {})

    def test_texts_stay_texts(self):
        page = Page(self.page(with_evil_texts(sample())))
        self.assertFalse(page.tags & {"script", "img", "b"}, page.tags)
        self.assertFalse([name for name, _ in page.attributes if name.startswith("on")])
        line = plot_data.printable(EVIL)
        self.assertIn("<script>alert(1)</script>", line)
        self.assertGreater(page.cells.count(line), 20)

    def test_figures_and_sentence_are_there(self):
        document = sample()
        cells = Page(self.page(document)).cells
        for text in (document["sentence"].strip(), "on disk, read ahead", "11.2 ×", "+4.3 %",
                     "1.94", "DRAM answers in", "200 to 300 cycles", "100,000 cycles and more",
                     "3.48 times more", "13.61", "930 ms", "3.3 GB/s",
                     "one node: all memory is equally near"):
            self.assertIn(text, cells)

    def test_absent_sections_are_absent(self):
        text = self.page({"format": "weir-wall", "version": 1, "passes": sample()["passes"]})
        self.assertIn("Tokens per pass", text)
        for title in ("Where the parameters lie", "Training", "Levers", "The hierarchy", "said"):
            self.assertNotIn(f"<h2>{title}", text)

    def test_pictures_get_names_of_their_own(self):
        svg = ('<?xml version="1.0"?><!DOCTYPE svg><svg xmlns:xlink="http://x" version="1.1">'
               '<metadata>http://y</metadata><!-- <b> --><path id="a" style="fill: #FFFFFF"/>'
               '<use xlink:href="#a" clip-path="url(#p)" fill="#1b1f24"/></svg>')
        self.assertEqual(
            plot_page.inline_svg(svg, "arms", 'x"y'),
            '<svg role="img" aria-label="x&quot;y"><path id="arms-a" style="fill: var(--paper)"/>'
            '<use href="#arms-a" clip-path="url(#arms-p)" style="fill:var(--ink)"/></svg>')


class ScriptCase(unittest.TestCase):
    python = sys.executable

    def setUp(self):
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.folder = pathlib.Path(scratch.name)

    def plot(self, *arguments, **environment):
        return subprocess.run([self.python, SCRIPT, *map(str, arguments)], cwd=self.folder,
                              check=False, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              text=True, env={**os.environ, **environment})

    def write(self, document):
        path = self.folder / "given.json"
        path.write_text(document if isinstance(document, str) else json.dumps(document),
                        encoding="utf-8")
        return path

    def expect_refused(self, done, words, code=1):
        self.assertEqual(done.returncode, code, done.stderr)
        self.assertRegex(done.stderr, words)
        self.assertNotIn("Traceback", done.stderr)
        self.assertEqual(done.stdout, "")


class RefusalTest(ScriptCase):
    def test_files(self):
        self.expect_refused(self.plot("none.json"), "none.json: cannot be read: No such file")
        self.expect_refused(self.plot(self.folder), "cannot be read: Is a directory")
        self.expect_refused(self.plot(self.write("{")), "given.json: is no JSON")
        self.expect_refused(self.plot(self.write({"tokens": [1]})), "takes what `weir wall")
        self.assertEqual(os.listdir(self.folder), ["given.json"])

    def test_options(self):
        self.expect_refused(self.plot(), "required", code=2)
        self.expect_refused(self.plot(SAMPLE, "--format", "pdf"), "invalid choice", code=2)

    def test_without_matplotlib(self):
        (self.folder / "matplotlib.py").write_text("raise ImportError('no such thing here')\n",
                                                   encoding="utf-8")
        done = self.plot(SAMPLE, PYTHONPATH=str(self.folder))
        self.expect_refused(done, "matplotlib is missing for .*no such thing here.*apt-get install "
                                  "python3-matplotlib")
        self.assertNotIn("wall-arms.svg", os.listdir(self.folder))


class PictureTest(ScriptCase):
    def setUp(self):
        super().setUp()
        self.python = python_with_matplotlib()
        if self.python is None:
            self.skipTest("needs matplotlib: apt-get install python3-matplotlib")

    def expect_drawn(self, done):
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertNotIn("Warning", done.stderr)
        return done.stdout.splitlines()

    def read_svgs(self, folder):
        """{name: text} of SVGs, each of which is well-formed."""
        texts = {path.stem: path.read_text(encoding="utf-8") for path in folder.glob("*.svg")}
        for text in texts.values():
            self.assertTrue(xml.etree.ElementTree.fromstring(text).tag.endswith("}svg"))
        return texts

    def test_every_section_twice_the_same(self):
        written = self.expect_drawn(self.plot(SAMPLE, "--out", "a", "--format", "both", "--html",
                                              "a.html", PYTHONHASHSEED="1"))
        files = [f"wall-{name}.{kind}" for name in NAMES for kind in ("svg", "png")]
        self.assertEqual(written, [f"a/{name}" for name in files] + ["a.html"])
        self.assertEqual(sorted(os.listdir(self.folder / "a")), sorted(files))
        (self.folder / "matplotlibrc").write_text("xtick.major.size: 20\n", encoding="utf-8")
        self.expect_drawn(self.plot(SAMPLE, "--out", "b", "--format", "both", "--html", "b.html",
                                    PYTHONHASHSEED="2"))
        for first, second in [("a.html", "b.html")] + [(f"a/{name}", f"b/{name}")
                                                       for name in files]:
            self.assertEqual((self.folder / first).read_bytes(),
                             (self.folder / second).read_bytes(), first)
        for name in NAMES:
            self.assertTrue((self.folder / f"a/wall-{name}.png").read_bytes()
                            .startswith(b"\x89PNG"))
        self.assertEqual(len(set(self.read_svgs(self.folder / "a").values())), len(NAMES))
        self.expect_self_contained((self.folder / "a.html").read_text(encoding="utf-8"))

    def expect_self_contained(self, text):
        page = Page(text)
        self.assertEqual(text.count("<svg"), len(NAMES))
        self.assertFalse(page.tags & {"script", "link", "img", "iframe", "object", "base"})
        self.assertFalse([name for name, _ in page.attributes if name in ("src", "srcset")])
        targets = [value for name, value in page.attributes if name.endswith("href")]
        identifiers = [value for name, value in page.attributes if name == "id"]
        self.assertGreater(len(targets), 100)
        self.assertEqual({target[0] for target in targets}, {"#"})
        self.assertLessEqual({target[1:] for target in targets}, set(identifiers))
        self.assertEqual(len(identifiers), len(set(identifiers)), "an id is there twice")
        self.assertNotRegex(text, r"url\(\s*['\"]?(?!#)|@import|http")

    def test_absent_sections_are_skipped_and_named(self):
        document = {"format": "weir-wall", "version": 1, "passes": sample()["passes"]}
        done = self.plot(self.write(document))
        self.assertEqual(self.expect_drawn(done), ["wall-passes.svg"])
        for name in set(NAMES) - {"passes"}:
            self.assertIn(f"no wall-{name}:", done.stderr)
        self.assertNotIn("no wall-passes", done.stderr)
        self.assertEqual(sorted(os.listdir(self.folder)), ["given.json", "wall-passes.svg"])

    def test_probe_all_alone_makes_a_page_alone(self):
        document = sample()["hierarchy"]
        self.assertEqual(self.expect_drawn(self.plot(self.write(document), "--html", "p.html")),
                         ["p.html"])
        self.assertEqual(sorted(os.listdir(self.folder)), ["given.json", "p.html"])
        text = (self.folder / "p.html").read_text(encoding="utf-8")
        self.assertIn("<h1>The memory hierarchy of one machine</h1>", text)

    def test_hostile_texts(self):
        self.expect_drawn(self.plot(self.write(with_evil_texts(sample())), "--out", "h", "--html",
                                    "h.html"))
        svgs = self.read_svgs(self.folder / "h")
        self.assertEqual(len(svgs), len(NAMES))
        for text in svgs.values():
            tags = {element.tag for element in xml.etree.ElementTree.fromstring(text).iter()}
            self.assertFalse([tag for tag in tags if tag.endswith(("}script", "}img", "}b"))])
        page = Page((self.folder / "h.html").read_text(encoding="utf-8"))
        self.assertFalse(page.tags & {"script", "img", "b"})

    def test_odd_figures_still_make_pictures(self):
        """Nothing, zero, less than zero, very small and very large, alone and mixed."""
        def replaced(value, numbers):
            if isinstance(value, dict):
                return {name: part if name == "version" else replaced(part, numbers)
                        for name, part in value.items()}
            if isinstance(value, list):
                return [replaced(part, numbers) for part in value]
            is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
            return next(numbers) if is_number else value

        for values in ([None, 0, -5], [1e-15, 1e23, 1, 0, 3e8]):
            with self.subTest(values=values):
                document = replaced(sample(), itertools.cycle(values))
                self.expect_drawn(self.plot(self.write(document), "--html", "odd.html"))

    def test_nothing_to_draw(self):
        done = self.plot(self.write({"format": "weir-wall", "version": 1}))
        self.expect_refused(done, "no section that makes a picture")

    def test_a_folder_that_cannot_be(self):
        (self.folder / "taken").write_text("", encoding="utf-8")
        self.expect_refused(self.plot(SAMPLE, "--out", "taken"), "taken: cannot be written")


if __name__ == "__main__":
    unittest.main()
