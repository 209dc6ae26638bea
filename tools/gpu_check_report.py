"""What gpu_check makes of its samples: ceilings, each figure's share of the one that bounds it,
tables, and one JSON document that runs of single parts add to."""

import json

from measure import MeasureError, error_percent, spread, table

GB = 10**9
VERSION = 1
# A document holds figures of one build on one device.
SAME = ("version", "build", "device", "emulated", "small", "gpu")


def load(path, fresh):
    """The document that a run adds to: empty when there is none yet or `fresh` is wanted."""
    if fresh or not path.exists():
        return {"parts": {}}
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(document["parts"], dict):
            raise TypeError
    except (ValueError, KeyError, TypeError) as error:
        raise MeasureError(f"{path} is no result of gpu_check; name another file with --json, or "
                           "replace it with --fresh") from error
    return document


def merge(document, header, parts):
    """The document with the parts of this run in place of older ones of the same name."""
    for name in SAME:
        if document["parts"] and document.get(name) != header.get(name):
            raise MeasureError(f"the results so far are of another {name} ({document.get(name)} "
                               f"there, {header.get(name)} now); name another file with --json, or "
                               "replace them with --fresh")
    return {**header, "parts": {**document["parts"], **parts}}


def ceilings(parts):
    """GB/s of each link as measured by the parts that measure them; those that were."""
    found = {}
    links = parts.get("links", {}).get("probe")
    if links:
        if links.get("hbm_read"):
            found["hbm_read"] = links["hbm_read"]["gb_per_s"]
        copies = [cell["gb_per_s"] for cell in links["copies"]
                  if cell["direction"] == "h2d" and cell["pinned"]]
        found["h2d_pinned"] = max(copies)
        found["dram_read"] = links["dram_read"]["gb_per_s"]
    disk = parts.get("disk", {}).get("probe")
    if disk:
        found["disk_read"] = max(cell["gb_per_s"] for cell in disk["cells"])
    return found


def decode_moves(row):
    """Bytes that a decode pass moves over each link, by the name of its ceiling."""
    placed = row["placement"]
    # In the middle of what is generated.
    kv = placed["kv_per_token"] * (row["depth"] + row["tokens"] / 2)
    return {"hbm_read": placed["weights"] - placed["in_place"] + kv,
            "h2d_pinned": placed["copied"], "dram_read": placed["in_place"],
            "disk_read": placed["streamed"]}


def decode_shares(row, rates):
    """Each link's rate while decoding, as a share of its ceiling."""
    speed = row["tokens_per_s"]["median"]
    return {link: {"gb_per_s": moved * speed / GB, "share": moved * speed / GB / rates[link]}
            for link, moved in decode_moves(row).items() if moved and rates.get(link)}


def prompt_bound(row, rates, resident):
    """tok/s that a prompt cannot exceed: weights cross once, and computing takes what it takes when
    all is resident. None where neither is known."""
    placed = row["placement"]
    passes = -(-row["tokens"] // placed["chunk_tokens"])
    crossing = placed["weights"] - placed["hbm"]
    seconds = []
    if crossing and rates.get("h2d_pinned"):
        seconds.append(passes * crossing / GB / rates["h2d_pinned"])
    if placed["streamed"] and rates.get("disk_read"):
        seconds.append(passes * placed["streamed"] / GB / rates["disk_read"])
    alone = resident.get(row["model"])
    if alone:  # prompts of about that length are computed at about that speed
        nearest = min(alone, key=lambda tokens: abs(tokens - row["tokens"]))
        seconds.append(row["tokens"] / alone[nearest])
    return row["tokens"] / max(seconds) if seconds else None


def summarise(row):
    """Medians over the samples of a row; nothing where it has none."""
    samples = row["samples"]
    if not samples:
        return
    speeds = [sample["tokens_per_s"] for sample in samples]
    speed = spread(speeds)
    row["tokens_per_s"] = {"median": speed.median, "low": min(s["low"] for s in samples),
                           "high": max(s["high"] for s in samples)}
    predicted = [s.get("predicted_decode_tokens_per_s") for s in samples]
    if row["kind"] == "decode" and all(predicted):
        row["predicted_tokens_per_s"] = spread(predicted).median
        row["prediction_error_percent"] = error_percent(row["predicted_tokens_per_s"],
                                                        speed.median)


def add_shares(document):
    """Fills in everything that follows from the samples of all parts together."""
    parts = document["parts"]
    rates = document["ceilings_gb_per_s"] = ceilings(parts)
    rows = [row for part in parts.values() for row in part.get("rows", [])]
    for row in rows:
        summarise(row)
    measured = [row for row in rows if "tokens_per_s" in row]
    resident = {}  # tok/s of prompts by model and length
    for row in parts.get("resident", {}).get("rows", []):
        if row["kind"] == "prompt" and "tokens_per_s" in row:
            resident.setdefault(row["model"], {})[row["tokens"]] = row["tokens_per_s"]["median"]
    for row in measured:
        if row["kind"] == "decode":
            row["links"] = decode_shares(row, rates)
            continue
        is_resident = row["placement"]["hbm"] == row["placement"]["weights"]
        bound = None if is_resident else prompt_bound(row, rates, resident)
        if bound:
            row["bound_tokens_per_s"] = bound
            row["share_of_bound"] = row["tokens_per_s"]["median"] / bound


def percent(share):
    return f"{100 * share:.1f} %"


def row_cells(row):
    if "tokens_per_s" not in row:
        return [row["name"], row.get("error", "not measured"), "", "", ""]
    speed = row["tokens_per_s"]
    cells = [row["name"], f"{speed['median']:.2f} ({speed['low']:.2f} to {speed['high']:.2f})"]
    if row["kind"] == "decode":
        predicted = row.get("predicted_tokens_per_s")
        cells.append("" if predicted is None else
                     f"{predicted:.2f} ({row['prediction_error_percent']:+.1f} %)")
        cells.append(", ".join(f"{link} {of['gb_per_s']:.2f}" for link, of in row["links"].items()))
        cells.append(", ".join(percent(of["share"]) for of in row["links"].values()))
    else:
        bound = row.get("bound_tokens_per_s")
        cells += ["", "" if bound is None else f"bound {bound:.0f} tok/s",
                  "" if bound is None else percent(row["share_of_bound"])]
    return cells


def counts_text(counts):
    return (f"{counts['passed']} passed, {counts['failed']} failed, {counts['skipped']} skipped"
            + ("" if counts["code"] is not None else ", stopped"))


def links_text(probe):
    lines = [probe["device"]]
    if probe.get("hbm_read"):
        lines.append(f"HBM read {probe['hbm_read']['gb_per_s']:.0f} GB/s")
    sizes = sorted({cell["bytes"] for cell in probe["copies"]})
    columns = [(direction, mode, pinned) for pinned, mode in
               ((True, "single"), (True, "queued"), (False, "single"))
               for direction in ("h2d", "d2h")]
    rates = {(cell["bytes"], cell["direction"], cell["mode"], cell["pinned"]): cell["gb_per_s"]
             for cell in probe["copies"]}
    header = ["GB/s"] + [f"{direction} {mode if pinned else 'pageable'}"
                         for direction, mode, pinned in columns]
    rows = []
    for size in sizes:
        cells = [rates.get((size, *column)) for column in columns]
        rows.append([f"{size >> 10} KiB"] + ["" if rate is None else f"{rate:.1f}"
                                             for rate in cells])
    lines.append(table(header, rows))
    lines.append(f"both ways {probe['both_ways']['gb_per_s']:.1f} GB/s, DRAM read "
                 f"{probe['dram_read']['gb_per_s']:.1f} GB/s")
    for cost in probe["pinning"]:
        lines.append(f"pinning {cost['bytes'] >> 20} MiB "
                     f"{'touched before' if cost['touched'] else 'not touched'}: "
                     f"{cost['touch_s']:.3f} s + {cost['pin_s']:.3f} s")
    return "\n".join(lines)


def part_text(name, part):
    """What a part has to show, for stdout."""
    lines = [f"{name}: {part['status']} in {part['seconds']:.1f} s of {part['bound_s']:.0f}"]
    if part.get("reason"):
        lines.append(part["reason"])
    for binary, counts in part.get("binaries", {}).items():
        lines.append(f"{binary}: {counts_text(counts)}")
    for run in part.get("runs", []):
        lines.append(f"{run['tool']} of {run['binary']}: {counts_text(run)}, "
                     f"{run['findings']} findings")
    if name == "links" and "probe" in part:
        lines.append(links_text(part["probe"]))
    if name == "disk" and "probe" in part:
        best = max(part["probe"]["cells"], key=lambda cell: cell["gb_per_s"])
        lines.append(f"{best['gb_per_s']:.2f} GB/s: {best['reader']}, {best['depth']} reads of "
                     f"{best['block_bytes'] >> 10} KiB")
    if part.get("rows"):
        lines.append(table(["", "tok/s", "predicted", "GB/s", "of the ceiling"],
                           [row_cells(row) for row in part["rows"]]))
    return "\n".join(lines)


def title(header):
    text = f"# gpu_check on {header['gpu']['name'] if header['gpu'] else header['device']}"
    return text + (" (emulated: nothing here tells of a GPU)" if header["emulated"] else "")


def closing_text(document, names):
    """What was measured to compare with, and what each of the named parts took."""
    known = ", ".join(f"{link} {rate:.2f}" for link, rate in document["ceilings_gb_per_s"].items())
    took = ", ".join(f"{name} {document['parts'][name]['seconds']:.0f} s" for name in names)
    return f"\nceilings, GB/s: {known or 'none measured'}\ntime: {took}"
