"""Models named by their shape, "synth:1b:Q4_K": made by `weir synth` at the first use and kept."""

import dataclasses
import os
import pathlib
import re
import subprocess

from measure import MeasureError

PREFIX = "synth:"
SEED = 1


@dataclasses.dataclass(frozen=True)
class Synthetic:
    preset: str
    format: str

    def file_name(self):
        return f"{self.preset}-{self.format}-seed{SEED}.gguf"


def parse(name):
    """The shape that a name stands for; None where it is no such name. Raises MeasureError."""
    if not name.startswith(PREFIX):
        return None
    match = re.fullmatch(r"synth:([A-Za-z0-9]+):([A-Za-z0-9_]+)", name)
    if not match:
        raise MeasureError(f"'{name}': write synth:PRESET:FORMAT, such as synth:1b:Q4_K "
                           "(`weir synth --help` lists them)")
    return Synthetic(*match.groups())


def default_folder():
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return pathlib.Path(base) / "weir/models/synth"


def make(weir, shape, folder):
    """The file of this shape in `folder`, written now if it is not there. Raises MeasureError."""
    path = folder / shape.file_name()
    if path.exists():
        return path
    folder.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        done = subprocess.run([weir, "synth", str(part), "--preset", shape.preset, "--format",
                               shape.format, "--seed", str(SEED)], check=False,
                              stdin=subprocess.DEVNULL, capture_output=True, text=True)
        if done.returncode != 0:
            raise MeasureError(f"'weir synth' could not make {path.name}: {done.stderr.strip()}")
        part.rename(path)
    except FileNotFoundError as error:
        raise MeasureError(f"{weir} is not there; build it with tools/build") from error
    finally:
        part.unlink(missing_ok=True)
    return path
