"""Project files as the style rules see them: text, lines, and C++ without comments and literals."""

import dataclasses
import functools
import pathlib
import re
import subprocess

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
CPP_SUFFIXES = (".cc", ".h", ".cu", ".cuh")

# Comments, string and character literals; raw strings first. The quote of 1'000 is none.
_LITERAL = re.compile(
    r'R"(?P<mark>[^()\s\\]{0,16})\((?s:.*?)\)(?P=mark)"'
    r'|//[^\n]*(?:\\\n[^\n]*)*'
    r'|/\*(?s:.*?)\*/'
    r'|"(?:\\.|[^"\\\n])*"'
    r"|(?<![0-9a-fA-F])'(?:\\.|[^'\\\n])+'")
_DIRECTIVE = re.compile(r"^[ \t]*#(?:[^\n]*\\\n)*[^\n]*", re.MULTILINE)


def _blank(match):
    return re.sub(r"[^\n]", " ", match.group(0))


@dataclasses.dataclass(frozen=True)
class Source:
    """One file: its path from the root, with '/', and its text."""

    path: str
    text: str

    @functools.cached_property
    def lines(self):
        return self.text.splitlines()

    @functools.cached_property
    def code(self):
        """The text with comments and literals blanked out; lines and columns stay."""
        return _LITERAL.sub(_blank, self.text)

    @functools.cached_property
    def code_without_directives(self):
        return _DIRECTIVE.sub(_blank, self.code)

    @property
    def folder(self):
        return self.path.split("/")[0] if "/" in self.path else ""

    @property
    def is_cpp(self):
        return self.path.endswith(CPP_SUFFIXES)

    @property
    def is_python(self):
        return self.path.endswith(".py") or self._interpreter("python3")

    @property
    def is_bash(self):
        return self.path.endswith(".sh") or self._interpreter("bash")

    @property
    def is_cmake(self):
        return self.path.endswith((".cmake", "CMakeLists.txt"))

    def _interpreter(self, name):
        return bool(self.lines) and re.match(rf"#!.*\b{name}$", self.lines[0]) is not None


@dataclasses.dataclass(frozen=True)
class Violation:
    path: str
    line: int  # from 1
    rule: str
    message: str

    def __str__(self):
        return f"{self.path}:{self.line}: {self.rule}: {self.message}"


def matches(source, pattern, text):
    """(line number, match) of every match of a regular expression in a text of the source."""
    for match in re.finditer(pattern, text, re.MULTILINE):
        yield text.count("\n", 0, match.start()) + 1, match


def project_sources():
    """Every text file that git tracks or would track, as it lies in the work tree."""
    listed = subprocess.run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
                            cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout
    sources = []
    for name in sorted(set(listed.decode().split("\0")) - {""}):
        path = ROOT / name
        if name.startswith(("tests/data/", "tests/fuzz/corpus/")) or not path.is_file():
            continue
        try:
            sources.append(Source(name, path.read_text(encoding="utf-8")))
        except UnicodeDecodeError:
            continue  # binary data
    return sources
