"""llama.cpp as a peer: the one inside llama-cpp-python, built from source for this CPU in a virtual
environment that is made at the first use (minutes; needs a network, g++ and python3-venv), or found
under an interpreter of the user's (--python)."""

import json
import os
import pathlib
import subprocess
import sys
import tempfile

from measure import MeasureError, run_json

PACKAGE = "llama-cpp-python==0.3.36"
DECODE_SCRIPT = pathlib.Path(__file__).resolve().parent / "llama_decode.py"


def default_venv():
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return pathlib.Path(base) / "weir/llama_cpp"


def add_options(parser):
    parser.add_argument("--python", help="an interpreter that has llama-cpp-python")
    parser.add_argument("--venv", type=pathlib.Path, default=default_venv(), metavar="DIR",
                        help="where it is built otherwise (%(default)s)")
    parser.add_argument("--cmake-args", default="-DGGML_NATIVE=ON", metavar="ARGUMENTS",
                        help="for building it; a --venv that has it stays as it is (%(default)s)")


def has_llama(python):
    try:
        return subprocess.run([python, "-c", "import llama_cpp"], check=False,
                              capture_output=True).returncode == 0
    except OSError:
        return False


def interpreter(options):
    """One that has llama-cpp-python, of the options above or built now. Raises MeasureError."""
    if options.python:
        if not has_llama(options.python):
            raise MeasureError(f"--python: {options.python} has no llama-cpp-python")
        return options.python
    return _make_venv(options.venv, options.cmake_args)


def _make_venv(folder, cmake_arguments):
    python = folder / "bin/python"
    if has_llama(python):
        return str(python)
    print(f"building {PACKAGE} for this CPU in {folder}; this takes minutes", file=sys.stderr,
          flush=True)
    environment = dict(os.environ, CMAKE_ARGS=cmake_arguments,
                       CMAKE_BUILD_PARALLEL_LEVEL=str(len(os.sched_getaffinity(0))))
    for command in ([sys.executable, "-m", "venv", str(folder)],
                    [str(python), "-m", "pip", "install", "--quiet", "--no-cache-dir",
                     "--disable-pip-version-check", "--no-binary", "llama-cpp-python", PACKAGE]):
        done = subprocess.run(command, check=False, env=environment, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if done.returncode != 0:
            raise MeasureError(f"'{' '.join(command)}' failed with exit code {done.returncode}; it "
                               f"said:\n{done.stdout.strip()[-1500:]}\nWith an interpreter that "
                               "has llama-cpp-python, give --python")
    return str(python)


def decode(python, spec, limit_s, prefix=()):
    """What llama_decode.py measures for `spec`, or RunFailed, with `prefix` before the command."""
    with tempfile.TemporaryDirectory() as folder:
        out = os.path.join(folder, "out.json")
        command = [*prefix, python, str(DECODE_SCRIPT), json.dumps({**spec, "out": out})]
        return run_json(command, out, limit_s=limit_s)
