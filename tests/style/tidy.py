"""clang-tidy over the project's sources, with results remembered by content.

A file that passed is not looked at again until it, a project header that it includes (however far
down), its compile command, .clang-tidy or clang-tidy itself changes. What passed is remembered as
empty files named by hash, in build/tidy/.
"""

import concurrent.futures
import hashlib
import json
import os
import re
import shlex
import subprocess

from source import ROOT, Violation

_INCLUDE = re.compile(rb'^[ \t]*#[ \t]*include[ \t]*"([^"\n]+)"', re.MULTILINE)
_FINDING = re.compile(r"^(/[^:\n]+):(\d+):\d+: (?:error|warning|fatal error): (.*)$", re.MULTILINE)


def included_files(path, seen):
    """`path` and every project file it includes, as {path: bytes}, added to `seen`."""
    if path in seen or not path.is_file():
        return seen
    seen[path] = path.read_bytes()
    for name in _INCLUDE.findall(seen[path]):
        included_files(ROOT / name.decode(), seen)
    return seen


def content_key(path, command, version):
    digest = hashlib.sha256()
    configurations = [folder / ".clang-tidy" for folder in path.parents
                      if folder.is_relative_to(ROOT)]
    parts = [version, command]
    parts += [name.read_text(encoding="utf-8") for name in configurations if name.is_file()]
    for part in parts:
        digest.update(part.encode() + b"\0")
    for name, content in sorted(included_files(path, {}).items()):
        digest.update(str(name.relative_to(ROOT)).encode() + b"\0" + content + b"\0")
    return digest.hexdigest()


def tidy_command(build, path):
    # Highway compiles a kernel file once for each target; reading it for AVX2 is enough.
    arguments = ["-DHWY_COMPILE_ONLY_STATIC", "-march=haswell", "-Wno-unknown-warning-option"]
    return ["clang-tidy", "--quiet", "-p", str(build),
            *(f"--extra-arg={argument}" for argument in arguments), str(path)]


def check_file(build, path):
    """Violations of one file; an empty list when clang-tidy is content."""
    done = subprocess.run(tidy_command(build, path), cwd=ROOT, check=False,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    found = []
    for name, line, message in _FINDING.findall(done.stdout):
        shown = os.path.relpath(name, ROOT) if name.startswith(str(ROOT)) else name
        found.append(Violation(shown, int(line), "clang-tidy", message))
    if done.returncode != 0 and not found:
        found.append(Violation(str(path.relative_to(ROOT)), 1, "clang-tidy",
                               f"exit code {done.returncode}: {done.stderr.strip()[-500:]}"))
    return found


def compile_commands(build):
    """{source: its compile command} of the project's own files in the build folder's database."""
    database = json.loads((build / "compile_commands.json").read_text(encoding="utf-8"))
    commands = {}
    for entry in database:
        path = (ROOT / entry["file"]).resolve()
        if path.is_file() and ROOT in path.parents and build not in path.parents:
            commands[path] = entry.get("command") or shlex.join(entry["arguments"])
    return commands


def expect_clean(case, wanted):
    """Fails the test case for what check_all finds in the project's build folder."""
    build = ROOT / "build"
    if not (build / "compile_commands.json").is_file():
        case.skipTest("no build/compile_commands.json; tools/test style makes it")
    violations, looked_at, remembered = check_all(build, wanted)
    print(f"clang-tidy: {looked_at} files looked at, {remembered} unchanged since they passed")
    case.assertGreater(looked_at + remembered, 0)
    if violations:
        case.fail(f"{len(violations)} violations\n" + "\n".join(map(str, violations)))


def check_all(build, wanted):
    """(violations, files looked at, files remembered) for the sources that wanted(path) is true of.

    Paths are relative to the root.
    """
    memory = build / "tidy"
    memory.mkdir(exist_ok=True)
    version = subprocess.run(["clang-tidy", "--version"], check=True, stdout=subprocess.PIPE,
                             text=True).stdout
    commands = {path: command for path, command in compile_commands(build).items()
                if wanted(path.relative_to(ROOT))}
    keys = {path: content_key(path, command, version) for path, command in commands.items()}
    todo = [path for path in sorted(keys) if not (memory / keys[path]).exists()]
    violations = set()
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count() or 2) as pool:
        for path, found in zip(todo, pool.map(lambda path: check_file(build, path), todo)):
            violations.update(found)
            if not found:
                (memory / keys[path]).touch()
    return sorted(violations, key=str), len(todo), len(keys) - len(todo)
