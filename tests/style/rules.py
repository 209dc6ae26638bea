"""The style rules that need no other tool. Each takes a Source and returns its Violations.

CONTRIBUTING.md lists them with their reasons.
"""

import ast
import re

from source import Violation, matches

MAX_COLUMNS = 100
MAX_FILE_LINES = 500
MAX_FUNCTION_LINES = 70

# Each folder may include only itself and those before it.
FOLDERS = ["io", "kernels", "models", "tiering", "engine", "tools"]
# What tests/FOLDER may include when it is not named after a folder.
TEST_REACH = {"cuda": "kernels", "fuzz": "engine", "bench": "tools"}
EXTERNAL = ("absl/", "hwy/", "gtest/", "gmock/", "benchmark/", "nlohmann/", "CLI/")

# tiering/ decides and does not act: whatever acts is not even included.
IMPURE_HEADERS = re.compile(
    r"(thread|mutex|shared_mutex|condition_variable|future|semaphore|latch|barrier|stop_token"
    r"|atomic|chrono|ctime|time\.h|fstream|iostream|filesystem|unistd\.h|fcntl\.h|pthread\.h"
    r"|signal\.h|csignal|liburing\.h|cuda.*|sys/.*|linux/.*"
    r"|absl/synchronization/.*|absl/time/.*"
    r"|io/file\.h|io/.*reader\.h|io/retry_policy\.h"
    r"|kernels/.*device\.h|kernels/host_memory\.h|kernels/wait_gate\.h)$")
_INCLUDE = r'^[ \t]*#[ \t]*include[ \t]*["<]([^">\n]+)[">]'
_PURE = ": tiering/ has no threads, files or clocks"
IMPURE_NAMES = (
    r"\b(RealClock|clock_gettime|gettimeofday|random_device|fopen|FILE|printf|fprintf|stdout|stderr"
    r"|pthread_\w+|std::thread|cuda[A-Z]\w*|thread_local)\b")


def _line_rule(source, pattern, rule, message):
    return [Violation(source.path, line, rule, message.format(match.group(0)))
            for line, match in matches(source, pattern, source.code)]


def include_direction(source):
    if not source.is_cpp:
        return []
    violations = []
    parts = source.path.split("/")
    own = parts[0]
    if own == "tests":
        own = TEST_REACH.get(parts[1], parts[1])
    allowed = FOLDERS[:FOLDERS.index(own) + 1] if own in FOLDERS else []
    for line, match in matches(source, r'^[ \t]*#[ \t]*include[ \t]*"([^"\n]+)"', source.text):
        target = match.group(1)
        if target.startswith(EXTERNAL):
            continue
        folder = target.split("/")[0]
        if folder == "tests" and parts[0] == "tests":
            continue
        if folder not in FOLDERS:
            violations.append(Violation(source.path, line, "include-path",
                                        f'"{target}" must be written as a path from the root'))
        elif folder not in allowed:
            violations.append(Violation(
                source.path, line, "include-direction",
                f'{"/".join(parts[:-1])} must not include "{target}": the order is '
                + " <- ".join(FOLDERS)))
    return violations


def tiering_purity(source):
    if not source.is_cpp or source.folder != "tiering":
        return []
    violations = []
    for line, match in matches(source, _INCLUDE, source.text):
        if IMPURE_HEADERS.match(match.group(1)):
            violations.append(
                Violation(source.path, line, "tiering-purity", match.group(1) + _PURE))
    for line, match in matches(source, IMPURE_NAMES, source.code):
        violations.append(Violation(source.path, line, "tiering-purity", match.group(0) + _PURE))
    return violations


def header_guard(source):
    if not source.path.endswith((".h", ".cuh")):
        return []
    guard = "WEIR_" + re.sub(r"[^A-Za-z0-9]", "_", source.path).upper() + "_"
    # Highway compiles an -inl.h once for each target, and its guard is toggled each time.
    toggle = f"#if defined({guard}) == defined(HWY_TARGET_TOGGLE)\n"
    if source.path.endswith("-inl.h") and toggle in source.text:
        return []
    found = re.search(r"^#ifndef (\w+)\n#define \1$", source.text, re.MULTILINE)
    if found and found.group(1) == guard and source.text.rstrip().endswith(f"#endif  // {guard}"):
        return []
    line = source.text.count("\n", 0, found.start()) + 1 if found else 1
    return [Violation(source.path, line, "header-guard", f"the include guard must be {guard}")]


def type_names(source):
    if not source.is_cpp:
        return []
    return [Violation(source.path, line, "type-name",
                      f"{match.group(1)}: no type is a cache, manager, handler or context")
            for line, match in matches(
                source, r"\b(?:class|struct|union|enum|using)\s+(?:alignas\([^)]*\)\s*)?"
                r"(\w*(?:Cache|Manager|Handler|Context))\b(?!\s*::)", source.code)]


def environment_variables(source):
    if not source.is_cpp or source.folder in ("tools", "tests"):
        return []
    return _line_rule(source, r"\b(?:secure_)?getenv\b|\benviron\b", "environment",
                      "{}: no environment variables below tools/")


def kernel_launches(source):
    if not source.is_cpp or re.fullmatch(r"kernels/\w*launch\w*\.(h|cuh|cu)", source.path):
        return []
    return _line_rule(source, "<<<", "launch", "only the launch helper launches kernels")


def no_exceptions(source):
    if not source.is_cpp or source.path.startswith(("tools/", "tests/tools/")):
        return []
    return _line_rule(source, r"\b(?:throw|try|catch|dynamic_cast|typeid)\b", "no-exceptions",
                      "{}: no exceptions and no RTTI below tools/")


def no_cpu_flags(source):
    if not source.is_cmake and not source.path.endswith("CMakePresets.json"):
        return []
    return [Violation(source.path, line, "cpu-flags",
                      f"{match.group(1)}: one binary serves all CPUs; dispatch at run time")
            for line, match in matches(source, r"^[^#\n]*(-m(?:arch|tune|avx|fma))", source.text)]


def columns(source):
    if not (source.is_cpp or source.is_python or source.is_bash or source.is_cmake):
        return []
    return [Violation(source.path, number, "columns", f"{len(line)} columns, at most {MAX_COLUMNS}")
            for number, line in enumerate(source.lines, 1) if len(line) > MAX_COLUMNS]


def whitespace(source):
    if source.path in ("LICENSE",):
        return []
    violations = [Violation(source.path, number, "whitespace", "white space at the end of the line")
                  for number, line in enumerate(source.lines, 1) if line != line.rstrip()]
    if source.text and not source.text.endswith("\n"):
        violations.append(
            Violation(source.path, len(source.lines), "whitespace", "no final newline"))
    return violations


def file_size(source):
    if not (source.is_cpp or source.is_python or source.is_bash or source.is_cmake):
        return []
    if len(source.lines) <= MAX_FILE_LINES:
        return []
    return [Violation(source.path, len(source.lines), "file-size",
                      f"{len(source.lines)} lines, at most {MAX_FILE_LINES}")]


def cpp_functions(source):
    """(first line, last line, head) of every function body at namespace or class scope.

    A reader of braces, not a parser: a brace opens a function when what stands before it, back to
    the last ; { or }, has parentheses and is neither a type, a namespace nor an initialiser.
    Lambdas and blocks belong to the function they are in.
    """
    code = source.code_without_directives
    stack = []  # (kind, line of the head, where the head starts)
    head_start = 0
    for match in re.finditer(r"[{};]", code):
        next_start = match.end()
        if match.group(0) == "{":
            head = _ACCESS.sub(_spaces, code[head_start:match.start()])
            kind = "inner" if stack and stack[-1][0] in ("function", "inner") else _brace_kind(head)
            first = code.count("\n", 0, head_start + len(head) - len(head.lstrip())) + 1
            stack.append((kind, first, head_start))
        elif match.group(0) == "}" and stack:
            kind, first, opened = stack.pop()
            if kind == "function":
                head = " ".join(code[opened:match.start()].split("{")[0].split())
                yield first, code.count("\n", 0, match.start()) + 1, head
            elif kind == "member":
                next_start = opened  # the constructor's head goes on behind `member_{...}`
        head_start = next_start


_ACCESS = re.compile(r"^\s*(?:(?:public|private|protected)\s*:\s*)+")


def _spaces(match):
    return " " * len(match.group(0))


def _brace_kind(head):
    bare = re.sub(r"^\s*template\s*<[^()]*?>\s*(?=\w|\[)", "", head).strip()
    if re.match(r"(inline\s+)?namespace\b|extern\s*$", bare):
        return "scope"
    if re.match(r"(typedef\s+)?(class|struct|union|enum)\b", bare) and not re.search(
            r"\w\s*\([^()]*\)\s*(const|override|final|noexcept|\s)*$", bare):
        return "scope"
    if "(" not in bare or re.search(r"=\s*[\w:<>,\s]*$", bare):
        return "data"
    if re.search(r"\)\s*(noexcept\s*)?:\s[^;]*\b\w+(<[^<>]*>)?\s*$", bare):
        return "member"  # A(int b) : b_{b}
    return "function"


def function_size(source):
    found = []
    if source.is_cpp:
        found = [(first, last, head) for first, last, head in cpp_functions(source)]
    elif source.is_python:
        found = [(node.lineno, node.end_lineno, node.name)
                 for node in ast.walk(ast.parse(source.text))
                 if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]
    return [Violation(source.path, first, "function-size",
                      f"{last - first + 1} lines, at most {MAX_FUNCTION_LINES}: {head[:60]}")
            for first, last, head in found if last - first + 1 > MAX_FUNCTION_LINES]


RULES = [include_direction, tiering_purity, header_guard, type_names, environment_variables,
         kernel_launches, no_exceptions, no_cpu_flags, columns, whitespace, file_size,
         function_size]
