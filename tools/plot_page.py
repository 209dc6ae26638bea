"""The page of tools/plot: one HTML file with pictures and tables, which needs nothing beside it.

Every text of the JSON goes through escape(). Pictures come as SVG text of plot_style.save; their
ground, ink and grid become the page's, which follow the reader's choice of dark or light.
"""

import html
import re

from plot_data import (GRID, INK, MUTED, PAPER, break_evens, bytes_text, figure_text,
                       machine_text, measured_steps, model_text, percent_text, positive,
                       rate_text, seconds_text, subject)

STYLE = """
:root{--paper:#ffffff;--ink:#1b1f24;--muted:#5b6471;--grid:#d9dee4;--good:#00704f;--bad:#a84300}
@media (prefers-color-scheme:dark){:root{--paper:#15181c;--ink:#e8ebee;--muted:#a3acb8;
--grid:#353c45;--good:#4fd1a5;--bad:#ff9a5c}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);font:16px/1.5 system-ui,sans-serif;
color-scheme:light dark}
main{max-width:76rem;margin:0 auto;padding:1.2rem 1rem 4rem}
h1{font-size:clamp(1.25rem,4.5vw,1.9rem);line-height:1.3;margin:.4rem 0 1rem}
h2{font-size:1.3rem;margin:2.6rem 0 .6rem;border-top:1px solid var(--grid);padding-top:1.2rem}
h3{font-size:1.02rem;margin:1.6rem 0 .4rem}
p{margin:.4rem 0;overflow-wrap:anywhere}
.muted,figcaption{color:var(--muted);font-size:.9rem}
.wide{overflow-x:auto;margin:.6rem 0 1rem}
figure{margin:1rem 0}
figure svg{display:block;width:100%;min-width:44rem;height:auto}
table{border-collapse:collapse;font-size:.9rem;font-variant-numeric:tabular-nums}
th,td{padding:.3rem .7rem .3rem 0;text-align:right;border-bottom:1px solid var(--grid);
vertical-align:top;white-space:nowrap}
th{color:var(--muted);font-weight:600;white-space:normal;vertical-align:bottom}
th.text,td.text{text-align:left;white-space:normal;overflow-wrap:break-word}
td.text:first-child{min-width:8.5rem}
td.words{text-align:left;white-space:normal;min-width:14rem}
.good{color:var(--good)}.bad{color:var(--bad)}
"""


def escape(text):
    return html.escape(text or "", quote=True)


# ---- pictures

def inline_svg(svg, name, label):
    """An SVG for use inside the page: names of its own, the page's colours, nothing from outside.

    Only this project's own pictures come here; texts in them are outlines, not text.
    """
    svg = re.sub(r"<!--.*?-->", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = svg[svg.index("<svg"):]
    svg = re.sub(r'\s(xmlns(:\w+)?|version)="[^"]*"', "", svg)
    svg = svg.replace(' xlink:href="', ' href="')
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = svg.replace('href="#', f'href="#{name}-').replace("url(#", f"url(#{name}-")
    for colour, variable in ((PAPER, "paper"), (INK, "ink"), (MUTED, "muted"), (GRID, "grid")):
        svg = re.sub(rf"{colour}\b", f"var(--{variable})", svg, flags=re.IGNORECASE)
    # An attribute does not know variables, a style does.
    svg = re.sub(r'\b(fill|stroke)="(var\([^"]*\))"', r'style="\1:\2"', svg)
    svg = re.sub(r"\n\s*", "\n", svg).strip()
    return svg.replace("<svg", f'<svg role="img" aria-label="{escape(label)}"', 1)


def figure(svgs, name, label):
    if name not in svgs:
        return ""
    return (f'<figure><div class="wide">{inline_svg(svgs[name], name, label)}</div>'
            f"<figcaption>{escape(label)}</figcaption></figure>\n")


# ---- tables

def table(heads, rows):
    """heads: [(text, class)], rows: lists of texts, or of (text, class). All are escaped."""
    if not rows:
        return ""
    lines = ["<tr>" + "".join(f'<th class="{"text" if kind else ""}">{escape(text)}</th>'
                              for text, kind in heads) + "</tr>"]
    for row in rows:
        cells = []
        for cell, (_, kind) in zip(row, heads):
            text, extra = cell if isinstance(cell, tuple) else (cell, "")
            cells.append(f'<td class="{kind} {extra}">{escape(text)}</td>')
        lines.append("<tr>" + "".join(cells) + "</tr>")
    return '<div class="wide"><table>\n' + "\n".join(lines) + "\n</table></div>\n"


TEXT, WORDS, RIGHT = "text", "words", ""


def rates_text(rates):
    return " / ".join(figure_text(rates[what]) for what in ("read", "write", "copy"))


def hierarchy_table(rows):
    return table(
        [("level", TEXT), ("capacity", RIGHT), ("latency", RIGHT), ("cycles", RIGHT),
         ("× L1", RIGHT), ("one core, GB/s", RIGHT), ("all, or the link, GB/s", RIGHT),
         ("how, or why not", WORDS)],
        [[row["level"], bytes_text(row["capacity_bytes"]),
          "-" if row["latency_ns"] is None else seconds_text(row["latency_ns"] * 1e-9),
          figure_text(row["cycles"]), figure_text(row["times_l1"]), rates_text(row["one_core"]),
          rates_text(row["all_cores"]), row["missing"] or row["note"]] for row in rows])


def claim_text(claim):
    low, high, unit = claim["low"], claim["high"], claim["unit"] or ""
    if low is None:
        return "-"
    if high is None:
        return f"{figure_text(low)} {unit} and more"
    return f"{figure_text(low)} {unit}" if low == high else (
        f"{figure_text(low)} to {figure_text(high)} {unit}")


def claims_table(claims):
    def verdict(claim):
        text = claim["verdict"] or "-"
        kind = "good" if text == "holds" else "" if claim["measured"] is None else "bad"
        return f"{text} ({claim['missing']})" if claim["missing"] else text, kind

    return table([("what is said", TEXT), ("claimed", TEXT), ("measured here", TEXT),
                  ("verdict", WORDS)],
                 [[claim["what"], claim_text(claim),
                   "-" if claim["measured"] is None else
                   f"{figure_text(claim['measured'])} {claim['unit'] or ''}", verdict(claim)]
                  for claim in claims])


def range_text(rates):
    if rates["min"] is None or rates["max"] is None:
        return "-"
    return f"{figure_text(rates['min'])} to {figure_text(rates['max'])}"


def arms_table(arms):
    def copied(arm):
        value = arm["link_bytes_per_token"]
        return bytes_text(value) if positive(value) else "-"

    return table(
        [("parameters are", TEXT), ("ladder", TEXT), ("tok/s", RIGHT), ("range", RIGHT),
         ("slower", RIGHT), ("predicted tok/s", RIGHT), ("error", RIGHT), ("disk, a token", RIGHT),
         ("link, a token", RIGHT), ("of the disk", RIGHT), ("of the link", RIGHT)],
        [[(arm["name"] or "") + (" *" if arm["scaled"] else ""), arm["ladder"],
          figure_text(arm["tokens_per_s"]["median"]), range_text(arm["tokens_per_s"]),
          f"{figure_text(arm['slowdown'])} ×", figure_text(arm["predicted_tokens_per_s"]),
          percent_text(arm["prediction_error"], signed=True), bytes_text(arm["bytes_per_token"]),
          copied(arm), percent_text(arm["disk_share"]), percent_text(arm["link_share"])]
         for arm in arms])


def passes_table(passes):
    return table([("tokens", RIGHT), ("resident", RIGHT), ("on disk", RIGHT), ("slower", RIGHT),
                  ("predicted on disk", RIGHT), ("predicted slower", RIGHT)],
                 [[figure_text(row["tokens"]), seconds_text(row["resident_s"]),
                   seconds_text(row["disk_s"]), f"{figure_text(row['slowdown'])} ×",
                   seconds_text(row["predicted_disk_s"]),
                   f"{figure_text(row['predicted_slowdown'])} ×"] for row in passes])


def break_evens_table(wall):
    return table([("from how many tokens a pass on", TEXT), ("", TEXT), ("tokens", RIGHT)],
                 [[what, "measured" if is_measured else "predicted", figure_text(tokens)]
                  for what, tokens, is_measured in break_evens(wall)])


def facts_table(facts):
    """Of [(what, text)] those that are known."""
    return table([("", TEXT), ("", RIGHT)], [[what, text] for what, text in facts if text != "-"])


def training_tables(training):
    step, kept = training["measured"], training["activations"]
    flows = table([("what moves in a step", TEXT), ("phase", TEXT), ("link", TEXT),
                   ("direction", TEXT), ("bytes", RIGHT)],
                  [[flow["what"], flow["phase"], flow["link"], flow["direction"],
                    bytes_text(flow["bytes"])] for flow in training["flows"]])
    ceilings = training["ceilings"]
    facts = facts_table([
        ("disk, a step", seconds_text(training["disk_s_per_step"])),
        ("compute, a token", seconds_text(training["compute_s_per_token"])),
        ("the disk stops mattering from a batch of tokens",
         figure_text(training["break_even_tokens"])),
        ("the disk is hidden both ways from a batch of tokens",
         figure_text(training["hidden_tokens"])),
        ("a step of the whole model, predicted", seconds_text(training["predicted_step_s"])),
        ("the disk reads, as measured", rate_text(ceilings["read_bytes_per_s"])),
        ("the disk writes", rate_text(ceilings["write_bytes_per_s"])),
        ("both at once, together", rate_text(ceilings["mixed_bytes_per_s"])),
        ("operations a second", figure_text(ceilings["operations_per_s"])),
        ("operations, a token", figure_text(training["operations_per_token"])),
        ("operations, a token, activations recomputed",
         figure_text(training["recompute_operations_per_token"])),
        ("activations kept, a token", bytes_text(kept["keep_bytes_per_token"])),
        ("activations recomputed, a token", bytes_text(kept["recompute_bytes_per_token"]))])
    measured = facts_table([
        ("part of the model's bytes that it moved", percent_text(step["scale"])),
        ("tokens", figure_text(step["tokens"])),
        ("read", bytes_text(step["read_bytes"])), ("written", bytes_text(step["written_bytes"])),
        ("error of the prediction", percent_text(step["error"], signed=True))])
    parts = table([("", TEXT), ("compute alone", RIGHT), ("disk alone", RIGHT),
                   ("predicted", RIGHT), ("achieved", RIGHT)],
                  [[name, *(seconds_text(part[field]) for field in (
                      "compute_s", "disk_s", "predicted_s", "achieved_s"))]
                   for name, part in measured_steps(training)])
    sentence = _paragraph(training["sentence"])
    return sentence + flows + facts + _titled(
        "One step as measured", parts + measured + _paragraph(step["note"]))


def _paragraph(text):
    return f"<p>{escape(text)}</p>\n" if text else ""


def _titled(title, body):
    return f"<h3>{escape(title)}</h3>\n{body}" if body else ""


def lever_tables(levers):
    precision = table(
        [("format", TEXT), ("bytes", RIGHT), ("tok/s resident", RIGHT), ("tok/s on disk", RIGHT),
         ("perplexity", RIGHT)],
        [[row["format"], bytes_text(row["bytes"]), figure_text(row["tokens_per_s"]),
          figure_text(row["disk_tokens_per_s"]),
          "-" if row["perplexity"] is None else f"{row['perplexity']:.4g}"]
         for row in levers["precision"]])
    attention = table(
        [("context", RIGHT), ("new tokens", RIGHT), ("naive", RIGHT), ("tiled", RIGHT),
         ("naive moves", RIGHT), ("tiled moves", RIGHT), ("largest difference", RIGHT)],
        [[figure_text(row["tokens"]), figure_text(row["chunk_tokens"]),
          seconds_text(row["naive_s"]), seconds_text(row["tiled_s"]),
          bytes_text(row["naive_bytes"]), bytes_text(row["tiled_bytes"]),
          figure_text(row["same"])] for row in levers["attention"]])
    place = levers["compute_in_place"]
    in_place = facts_table([
        ("rate of memory", rate_text(place["dram_bytes_per_s"])),
        (f"rate of {place['link'] or 'the link'}", rate_text(place["link_bytes_per_s"])),
        ("computed where the weights are", seconds_text(place["in_place_s"])),
        ("moved first", seconds_text(place["moved_s"]))])
    growth = table(
        [("keys and values", TEXT), ("a token", RIGHT), ("memory", RIGHT),
         ("largest context", RIGHT), ("largest batch of 4,096 tokens", RIGHT)],
        [[kind["type"], bytes_text(kind["bytes_per_token"]), bytes_text(budget["budget_bytes"]),
          figure_text(budget["largest_context"]), figure_text(budget["largest_batch"])]
         for kind in levers["kv"] for budget in kind["budgets"]])
    recompute = table(
        [("tokens in a batch", RIGHT), ("kept", RIGHT), ("recomputed", RIGHT),
         ("more operations", RIGHT)],
        [[figure_text(row["tokens"]), bytes_text(row["keep_bytes"]),
          bytes_text(row["recompute_bytes"]), percent_text(row["extra_operations_share"])]
         for row in levers["recompute"]])
    return "".join(_titled(title, body) for title, body in (
        ("Precision", precision), ("Attention", attention), ("Compute in place, or move", in_place),
        ("Growth of keys and values", growth), ("Activations: keep or recompute", recompute)))


# ---- the page

def _section(title, *parts):
    body = "".join(parts)
    return f"<section>\n<h2>{escape(title)}</h2>\n{body}</section>\n" if body else ""


def _head(wall):
    machine = machine_text(wall["hierarchy"])
    sentence = wall["sentence"] or ("The memory hierarchy of one machine" if machine else
                                    "The memory wall")
    lines = [f"<h1>{escape(sentence)}</h1>\n"]
    for what, text in (("Model", subject(wall)), ("Machine", machine),
                       ("Page cache", wall["page_cache"])):
        if text:
            lines.append(f"<p><strong>{what}:</strong> {escape(text)}</p>\n")
    return "".join(lines)


def page(wall, svgs):
    """The whole page for a checked document and its pictures ({name: SVG text})."""
    hierarchy, arms = wall["hierarchy"], wall["arms"]
    star = ('<p class="muted">* put together from measured parts, not run as a whole</p>\n'
            if any(arm["scaled"] for arm in arms) else "")
    sections = [
        _section("Where the parameters lie",
                 figure(svgs, "arms", "Slowdown against all parameters resident, one token at a "
                                      "time; logarithmic"),
                 arms_table(arms), star,
                 figure(svgs, "split", "Shares of the time of a token")),
        _section("Tokens per pass",
                 figure(svgs, "passes", "Slowdown on disk against tokens per pass, measured and "
                                        "predicted; both scales logarithmic"),
                 passes_table(wall["passes"]), break_evens_table(wall)),
        _section("Training",
                 figure(svgs, "training", "Bytes by flow, the batch at which the disk stops "
                                          "mattering, and one step as predicted and achieved"),
                 training_tables(wall["training"])),
        _section("Levers",
                 figure(svgs, "levers", "Precision, attention, growth of keys and values, compute "
                                        "in place, recomputation"),
                 lever_tables(wall["levers"])),
        _section("The hierarchy of memory",
                 figure(svgs, "hierarchy", "Latency and bandwidth of each level beside what is "
                                           "commonly said; logarithmic"),
                 hierarchy_table(hierarchy["table"])),
        _section("What is said, and what was measured", claims_table(hierarchy["claims"]))]
    title = " · ".join(part for part in ("weir wall", model_text(wall)) if part)
    return ('<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n"
            + _head(wall) + "".join(sections) + "</main>\n</body>\n</html>\n")
