"""What tools/plot reads: the JSON of `weir wall` or `weir probe all`, checked field by field.

After read() every known field is there: a figure is finite or None, a text is short and printable,
a list is a list, an object an object. Pictures and tables need no checks of their own.
"""

import json
import math
import pathlib
import unicodedata

TAKES = ("tools/plot takes what `weir wall MODEL --json F` writes (format weir-wall, version 1) or "
         "what `weir probe all --json F` writes")
MAX_FILE_BYTES = 64 << 20
MAX_ROWS = 64  # of one list: more make no picture
MAX_TEXT = 400
LARGEST = 1e24  # a figure beyond that is no measurement, and breaks scales
# Of the pictures' text, ground and grid. tools/plot_page.py makes them follow the reader's dark or
# light page, so nothing else has these colours.
INK, MUTED, GRID, PAPER = "#1b1f24", "#5b6471", "#d9dee4", "#ffffff"
NUMBER, TEXT, BOOL = "a number", "a text", "true or false"

RATES = {"read": NUMBER, "write": NUMBER, "copy": NUMBER}
HIERARCHY = {
    "machine": {"cpu": TEXT, "threads": NUMBER, "memory_bytes": NUMBER, "numa_nodes": NUMBER,
                "kernel": TEXT, "devices": TEXT,
                "disk": {"device": TEXT, "name": TEXT, "model": TEXT, "file_system": TEXT}},
    "table": [{"level": TEXT, "capacity_bytes": NUMBER, "latency_ns": NUMBER, "cycles": NUMBER,
               "times_l1": NUMBER, "one_core": RATES, "all_cores": RATES, "missing": TEXT,
               "note": TEXT}],
    "claims": [{"what": TEXT, "low": NUMBER, "high": NUMBER, "unit": TEXT, "measured": NUMBER,
                "verdict": TEXT, "missing": TEXT}]}
STEP = {"compute_s": NUMBER, "disk_s": NUMBER, "achieved_s": NUMBER, "predicted_s": NUMBER}
TRAINING = {
    "parameters": NUMBER, "sentence": TEXT,
    "flows": [{"what": TEXT, "phase": TEXT, "link": TEXT, "direction": TEXT, "bytes": NUMBER}],
    "operations_per_token": NUMBER, "recompute_operations_per_token": NUMBER,
    "activations": {"keep_bytes_per_token": NUMBER, "recompute_bytes_per_token": NUMBER},
    "disk_s_per_step": NUMBER, "compute_s_per_token": NUMBER, "break_even_tokens": NUMBER,
    "hidden_tokens": NUMBER, "predicted_step_s": NUMBER,
    "ceilings": {"read_bytes_per_s": NUMBER, "write_bytes_per_s": NUMBER,
                 "mixed_bytes_per_s": NUMBER, "operations_per_s": NUMBER},
    "measured": {"scale": NUMBER, "tokens": NUMBER, "read_bytes": NUMBER, "written_bytes": NUMBER,
                 "error": NUMBER, "note": TEXT, "forward": STEP, "backward": STEP, **STEP}}
LEVERS = {
    "precision": [{"format": TEXT, "bytes": NUMBER, "tokens_per_s": NUMBER,
                   "disk_tokens_per_s": NUMBER, "perplexity": NUMBER}],
    "attention": [{"tokens": NUMBER, "chunk_tokens": NUMBER, "naive_s": NUMBER,
                   "tiled_s": NUMBER, "naive_bytes": NUMBER, "tiled_bytes": NUMBER,
                   "same": NUMBER}],
    "compute_in_place": {"dram_bytes_per_s": NUMBER, "link_bytes_per_s": NUMBER, "link": TEXT,
                         "in_place_s": NUMBER, "moved_s": NUMBER},
    "kv": [{"type": TEXT, "bytes_per_token": NUMBER,
            "budgets": [{"budget_bytes": NUMBER, "largest_context": NUMBER,
                         "largest_batch": NUMBER}]}],
    "recompute": [{"tokens": NUMBER, "keep_bytes": NUMBER, "recompute_bytes": NUMBER,
                   "extra_operations_share": NUMBER}]}
WALL = {
    "model": TEXT, "ladder": TEXT, "device": TEXT, "weight_bytes": NUMBER, "parameters": NUMBER,
    "direct": BOOL, "page_cache": TEXT, "disk_bytes_per_s": NUMBER, "link_bytes_per_s": NUMBER,
    "sentence": TEXT,
    "arms": [{"name": TEXT, "ladder": TEXT, "slowdown": NUMBER, "bytes_per_token": NUMBER,
              "tokens_per_s": {"median": NUMBER, "min": NUMBER, "max": NUMBER},
              "link_bytes_per_token": NUMBER, "disk_share": NUMBER, "link_share": NUMBER,
              "scaled": BOOL, "resident_bytes": NUMBER, "compute_share": NUMBER,
              "disk_stall_share": NUMBER, "copy_stall_share": NUMBER,
              "predicted_tokens_per_s": NUMBER, "prediction_error": NUMBER}],
    "passes": [{"tokens": NUMBER, "resident_s": NUMBER, "disk_s": NUMBER, "slowdown": NUMBER,
                "predicted_disk_s": NUMBER, "predicted_slowdown": NUMBER}],
    "break_even_tokens": NUMBER, "measured_break_even_tokens": NUMBER,
    "predicted_break_even_tokens": NUMBER,
    "no_slower": {"factor": NUMBER, "measured_tokens": NUMBER, "predicted_tokens": NUMBER},
    "training": TRAINING, "levers": LEVERS, "hierarchy": HIERARCHY}


class PlotError(Exception):
    """What is wrong with what the script was given, in words for its user."""


def printable(text, limit=MAX_TEXT):
    """One line without control characters, formatting marks or broken surrogates."""
    kept = (char for char in text
            if char.isspace() or unicodedata.category(char) not in ("Cc", "Cf", "Cs"))
    line = " ".join("".join(kept).split())
    return line if len(line) <= limit else line[:limit - 1] + "…"


def short(text, limit):
    """A name of the JSON where a picture has little room."""
    return printable(text or "?", limit)


def _clean_scalar(value, kind, where):
    if value is None:
        return None
    if kind == TEXT and isinstance(value, str):
        return printable(value)
    if kind == BOOL and isinstance(value, bool):
        return value
    if kind == NUMBER and isinstance(value, (int, float)) and not isinstance(value, bool):
        # A whole number may be too large to become a float.
        if abs(value) <= LARGEST and math.isfinite(value):
            return float(value)
        raise PlotError(f"{where} is out of range: no measurement is beyond {LARGEST:g}")
    raise PlotError(f"{where} is not {kind}")


def clean(value, schema, where):
    """`value` with exactly the fields of `schema`. Raises PlotError, which names the field."""
    if isinstance(schema, str):
        return _clean_scalar(value, schema, where)
    if isinstance(schema, list):
        if value is not None and not isinstance(value, list):
            raise PlotError(f"{where} is not a list")
        rows = value or []
        if len(rows) > MAX_ROWS:
            raise PlotError(f"{where} has {len(rows)} rows; a picture takes {MAX_ROWS} at most")
        return [clean(row, schema[0], f"{where}[{index}]") for index, row in enumerate(rows)]
    if value is not None and not isinstance(value, dict):
        raise PlotError(f"{where} is not an object")
    return {name: clean((value or {}).get(name), part, f"{where}.{name}" if where else name)
            for name, part in schema.items()}


def recognise(document):
    """The document as one of `weir wall`. Raises PlotError where it is none."""
    if not isinstance(document, dict):
        raise PlotError(f"is no JSON object. {TAKES}")
    kind = document.get("format")
    if kind == "weir-wall":
        if document.get("version") != 1:
            version = printable(json.dumps(document.get("version")), 40)
            raise PlotError(f"is weir-wall of version {version}, which is not known. {TAKES}")
        return document
    if kind is not None:
        raise PlotError(f"has the format {printable(json.dumps(kind), 60)}. {TAKES}")
    if isinstance(document.get("machine"), dict) and isinstance(document.get("table"), list):
        return {"hierarchy": document}
    if "arms" in document and "weight_bytes" in document:
        raise PlotError("comes from an older `weir wall`, which did not say its format: measure "
                        f"again. {TAKES}")
    raise PlotError(f"does not say its format. {TAKES}")


def parse(text):
    try:
        document = json.loads(text)
    except ValueError as error:
        raise PlotError(f"is no JSON ({printable(str(error), 120)}). {TAKES}") from error
    except RecursionError as error:
        raise PlotError(f"is no JSON that can be read: nested too deep. {TAKES}") from error
    return clean(recognise(document), WALL, "")


def read(path):
    """The checked document of a file. Raises PlotError, which names the file."""
    try:
        with pathlib.Path(path).open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise PlotError(f"{path}: cannot be read: {reason}") from error
    try:
        if len(data) > MAX_FILE_BYTES:
            raise PlotError(f"is larger than {MAX_FILE_BYTES >> 20} MiB. {TAKES}")
        return parse(data.decode("utf-8", "replace"))
    except PlotError as error:
        raise PlotError(f"{path}: {error}") from error


def positive(value):
    """The figure where it can stand on a logarithmic scale, else None."""
    return value if value is not None and value > 1e-18 else None


def has_figures(row):
    return any(positive(value) for value in (
        row["latency_ns"], *row["one_core"].values(), *row["all_cores"].values()))


def slowdown_of(arm, tokens_per_s):
    """How much slower than its resident arm `arm` is at another rate of its own."""
    rate, median = positive(tokens_per_s), positive(arm["tokens_per_s"]["median"])
    if rate is None or median is None or not positive(arm["slowdown"]):
        return None
    return arm["slowdown"] * median / rate


def break_evens(wall):
    """[(what, tokens, is measured)] of those that there are."""
    no_slower = wall["no_slower"]
    factor = positive(no_slower["factor"]) or 1.1
    bound = f"at most {max(0.0, 100 * (factor - 1)):.0f} % slower"
    found = [("compute takes as long as the disk", wall["measured_break_even_tokens"], True),
             ("compute takes as long as the disk",
              positive(wall["predicted_break_even_tokens"]) or wall["break_even_tokens"], False),
             (bound, no_slower["measured_tokens"], True),
             (bound, no_slower["predicted_tokens"], False)]
    return [entry for entry in found if positive(entry[1])]


def measured_steps(training):
    """[(name, its seconds)] of what was measured: the whole step, and its phases where known."""
    step = training["measured"]
    found = [("forward", step["forward"]), ("backward", step["backward"]), ("whole step", step)]
    return [(name, part) for name, part in found
            if positive(part["achieved_s"]) or positive(part["predicted_s"])]


def figure_text(value):
    """Three digits and no more than are there: "0.0312", "1.25", "37.8", "1,583"."""
    if value is None:
        return "-"
    size = abs(value)
    if size >= 1e7:
        return f"{value:.3g}"
    if size >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def bytes_text(value):
    if value is None:
        return "-"
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if abs(value) < 1000 or unit == "TiB":
            break
        value /= 1024
    return f"{figure_text(value)} {unit}"


def seconds_text(value):
    if value is None:
        return "-"
    for factor, unit in ((1, "s"), (1e3, "ms"), (1e6, "µs"), (1e9, "ns")):
        if abs(value) * factor >= 1 or unit == "ns":
            break
    return f"{figure_text(value * factor)} {unit}" if value else "0 s"


def percent_text(share, signed=False):
    if share is None:
        return "-"
    return f"{100 * share:+.1f} %" if signed else f"{100 * share:.0f} %"


def rate_text(bytes_per_s):
    return "-" if bytes_per_s is None else f"{figure_text(bytes_per_s / 1e9)} GB/s"


def model_text(wall):
    """The model's name; of a file without the folders before it."""
    name = wall["model"] or ""
    return name.rstrip("/").split("/")[-1] if name.startswith(("/", "./", "../", "~/")) else name


def subject(wall):
    """What was measured where, in one line; empty where nothing says it."""
    parts = [model_text(wall)]
    if positive(wall["weight_bytes"]):
        parts.append(f"{bytes_text(wall['weight_bytes'])} of weights")
    parts.append(wall["device"] or "")
    if positive(wall["disk_bytes_per_s"]):
        parts.append(f"disk {rate_text(wall['disk_bytes_per_s'])}")
    if positive(wall["link_bytes_per_s"]):
        parts.append(f"link {rate_text(wall['link_bytes_per_s'])}")
    return " · ".join(part for part in parts if part)


def machine_text(hierarchy):
    machine = hierarchy["machine"]
    disk = machine["disk"]
    parts = [machine["cpu"]]
    if positive(machine["threads"]):
        parts.append(f"{machine['threads']:.0f} threads")
    if positive(machine["memory_bytes"]):
        parts.append(f"{bytes_text(machine['memory_bytes'])} of memory")
    if positive(machine["numa_nodes"]):
        parts.append(f"{machine['numa_nodes']:.0f} NUMA node"
                     + ("s" if machine["numa_nodes"] > 1 else ""))
    parts.append(machine["kernel"] and f"Linux {machine['kernel']}")
    parts.append(machine["devices"])
    disk_name = disk["model"] or disk["name"]
    if disk_name:
        parts.append(f"{disk_name} ({disk['file_system']})" if disk["file_system"] else disk_name)
    return " · ".join(part for part in parts if part)
