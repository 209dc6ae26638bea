"""Pictures of tools/plot: the hierarchy, where parameters lie, where time goes, tokens per pass.

Each function takes a checked document (plot_data) and gives a figure, or None where what it shows
is absent.
"""

import statistics

from matplotlib.lines import Line2D
from matplotlib.patches import Patch

import plot_style as style
from plot_data import (break_evens, bytes_text, figure_text, has_figures, machine_text,
                       percent_text, positive, seconds_text, short, slowdown_of, subject)

LADDER_COLOURS = {"cpu": style.BLUE, "emulated": style.ORANGE}
LADDER_NAMES = {"cpu": "computed by the CPU",
                "emulated": "by an emulated device (no figure is a GPU's)"}
SHARES = [("compute_share", "compute", style.BLUE, style.ON_DARK),
          ("disk_stall_share", "waiting for the disk", style.ORANGE, style.ON_LIGHT),
          ("copy_stall_share", "waiting for a copy", style.PINK, style.ON_LIGHT),
          (None, "other", style.GREY, style.ON_LIGHT)]


def times_text(factor):
    return f"{figure_text(factor)} ×"


def short_seconds(nanoseconds):
    return seconds_text(nanoseconds * 1e-9)


# ---- the hierarchy

def rate_of(rates):
    """(GB/s, what was done) of reading; where nothing reads there, of writing or copying."""
    for what in ("read", "write", "copy"):
        if positive(rates[what]):
            return rates[what], what
    return None, ""


def claimed(hierarchy, level, unit):
    """What is commonly said of a level's latency ("cycles") or rate ("GB/s")."""
    for claim in hierarchy["claims"]:
        what = claim["what"] or ""
        is_level = (what in (f"{level} answers in", f"{level} delivers")
                    or (level == "PCIe both ways at once" and what.startswith("PCIe")
                        and what.endswith("both ways together")))
        if is_level and claim["unit"] == unit and positive(claim["low"]):
            return claim["low"], positive(claim["high"])
    return None


def _draw_claims(axes, claims, edge):
    """Bands beside the rows; what has no upper end goes on to the edge, with an arrow."""
    for row, claim in enumerate(claims):
        if claim is None:
            continue
        low, high = claim
        if high is None:
            axes.annotate("", (edge, row), (low, row), annotation_clip=False,
                          arrowprops={"arrowstyle": "-|>", "color": style.PINK, "lw": 2.2,
                                      "shrinkA": 0, "shrinkB": 0}, zorder=1)
            axes.plot([low], [row], marker="|", ms=15, mew=2.2, color=style.PINK)
        elif high / low < 1.02:
            axes.plot([low], [row], marker="|", ms=17, mew=4, color=style.PINK)
        else:
            axes.barh(row, high - low, left=low, height=0.62, color=style.PINK, alpha=0.6, lw=0)


def _draw_latencies(axes, hierarchy, rows):
    clocks = [row["cycles"] / row["latency_ns"] for row in rows
              if positive(row["cycles"]) and positive(row["latency_ns"])]
    typical = statistics.median(clocks) if clocks else None
    claims = []
    for row in rows:
        claim = claimed(hierarchy, row["level"], "cycles")
        own = positive(row["latency_ns"]) and positive(row["cycles"])
        clock = row["cycles"] / row["latency_ns"] if own else typical
        claims.append(claim and clock and tuple(end and end / clock for end in claim))
    found = [(index, row["latency_ns"]) for index, row in enumerate(rows)
             if positive(row["latency_ns"])]
    values = [value for _, value in found] + [end for claim in claims if claim
                                              for end in claim if end]
    _, edge = style.log_axis(axes, "x", values or [1, 1000], short_seconds, (2, 2))
    _draw_claims(axes, claims, edge)
    axes.plot([value for _, value in found], [index for index, _ in found], "o", ms=8, zorder=5,
              color=style.BLUE, mec=style.ON_DARK, mew=0.8)
    axes.set_xlabel("latency (time until the data is there)")
    texts = [short_seconds(row["latency_ns"]) if positive(row["latency_ns"]) else ""
             for row in rows]
    cycles = [figure_text(row["cycles"]) if positive(row["cycles"]) else "" for row in rows]
    style.column(axes, 58, "latency", texts)
    style.column(axes, 120, "cycles", cycles)


def _draw_rates(axes, hierarchy, rows):
    claims = [claimed(hierarchy, row["level"], "GB/s") for row in rows]
    kinds = [("one_core", "o", "none", style.GREEN), ("all_cores", "o", style.GREEN, style.GREEN)]
    points = [(index, rate_of(row[name])[0], face, edge) for index, row in enumerate(rows)
              for name, _, face, edge in kinds if rate_of(row[name])[0]]
    values = [value for _, value, _, _ in points] + [end for claim in claims if claim
                                                     for end in claim if end]
    _, edge = style.log_axis(axes, "x", values or [1, 100], figure_text, (2, 2))
    _draw_claims(axes, claims, edge)
    for index, value, face, line in points:
        axes.plot([value], [index], "o", ms=8, mfc=face, mec=line, mew=1.6)
    axes.set_xlabel("bandwidth in GB/s (10⁹ bytes a second)")
    axes.tick_params(labelleft=False)

    def cell(row, name):
        value, what = rate_of(row[name])
        return f"{what} {figure_text(value)}" if value else ""

    style.column(axes, 60, "one core", [cell(row, "one_core") for row in rows])
    style.column(axes, 136, "all, or the link", [cell(row, "all_cores") for row in rows])


def hierarchy(wall):
    found = wall["hierarchy"]
    rows = [row for row in found["table"] if has_figures(row)]
    if not rows:
        return None
    figure, axes = style.new_figure(
        "The memory hierarchy: how late each level answers and how much it delivers",
        machine_text(found), (13.5, 1.5 + 0.42 * len(rows)), ncols=2, sharey=True)
    names = [short(row["level"], 36) for row in rows]
    for panel in axes[0]:
        style.rows_axis(panel, names)
    _draw_latencies(axes[0][0], found, rows)
    _draw_rates(axes[0][1], found, rows)
    claim = Patch(color=style.PINK, alpha=0.6, lw=0, label="commonly said")
    style.legend_above(axes[0][0], [
        Line2D([], [], ls="", marker="o", ms=8, color=style.BLUE, label="measured"), claim], 2)
    style.legend_above(axes[0][1], [
        Line2D([], [], ls="", marker="o", ms=8, mfc="none", mec=style.GREEN, mew=1.6,
               label="one core"),
        Line2D([], [], ls="", marker="o", ms=8, color=style.GREEN,
               label="all cores, or the link")], 2)
    return figure


# ---- arms

def ladder_colour(ladder):
    return LADDER_COLOURS.get(ladder or "cpu", style.GREEN)


def _ladder_handles(arms):
    ladders = dict.fromkeys(arm["ladder"] or "cpu" for arm in arms)
    return [Patch(color=ladder_colour(ladder), lw=0,
                  label=LADDER_NAMES.get(ladder, f"on {short(ladder, 24)}")) for ladder in ladders]


def arm_names(arms):
    """The arms' names, with the ladder where there is more than one."""
    several = len({arm["ladder"] for arm in arms}) > 1
    return [short(arm["name"], 40)
            + (f" ({short(arm['ladder'], 12)})" if several and arm["ladder"] else "")
            for arm in arms]


def _draw_arm(axes, row, arm):
    colour = ladder_colour(arm["ladder"])
    slowdown = arm["slowdown"]
    hatch = "////" if arm["scaled"] else None
    face = "none" if arm["scaled"] else colour
    axes.barh(row, slowdown - 1, left=1, height=0.6, color=face, edgecolor=colour, hatch=hatch,
              lw=1)
    axes.plot([1, 1], [row - 0.3, row + 0.3], color=colour, lw=3, solid_capstyle="butt")
    rates = arm["tokens_per_s"]
    ends = [slowdown_of(arm, rates["max"]), slowdown_of(arm, rates["min"])]
    if all(ends) and ends[0] < ends[1]:
        axes.plot(ends, [row, row], color=style.INK, lw=1.2, marker="|", ms=7, mew=1.2)
    predicted = slowdown_of(arm, arm["predicted_tokens_per_s"])
    if predicted:
        axes.plot([predicted], [row], "D", ms=6, mfc=style.PAPER, mec=style.INK, mew=1.2, zorder=4)
    return [slowdown, *(end for end in (*ends, predicted) if end)]


def arms(wall):
    found = [arm for arm in wall["arms"] if positive(arm["slowdown"])]
    if not found:
        return None
    figure, ((axes,),) = style.new_figure(
        "What it costs where the parameters lie: slowdown against all of them resident",
        f"one token at a time · {subject(wall)}", (12, 1.5 + 0.46 * len(found)))
    style.rows_axis(axes, arm_names(found))
    values = [1.0]
    for row, arm in enumerate(found):
        values += _draw_arm(axes, row, arm)
    style.log_axis(axes, "x", values, times_text, (1.25, 1.25))
    axes.axvline(1, color=style.INK, lw=1)
    axes.set_xlabel("times slower than resident (logarithmic)")
    columns = [("slower", 56, [times_text(arm["slowdown"]) for arm in found]),
               ("tok/s", 106, [figure_text(arm["tokens_per_s"]["median"]) for arm in found]),
               ("disk, a token", 188, [bytes_text(arm["bytes_per_token"]) for arm in found])]
    if any(positive(arm["link_bytes_per_token"]) for arm in found):
        columns.append(("link, a token", 270, [
            bytes_text(arm["link_bytes_per_token"]) if positive(arm["link_bytes_per_token"])
            else "-" for arm in found]))
    for head, points, texts in columns:
        style.column(axes, points, head, texts)
    handles = _ladder_handles(found)
    if any(arm["scaled"] for arm in found):
        handles.append(Patch(facecolor="none", edgecolor=style.MUTED, hatch="////",
                             label="put together from measured parts"))
    handles += [Line2D([], [], color=style.INK, lw=1.2, marker="|", ms=7, label="range of rounds"),
                Line2D([], [], ls="", marker="D", ms=6, mfc=style.PAPER, mec=style.INK,
                       label="predicted")]
    style.legend_above(axes, handles, (len(handles) + 1) // 2 if len(handles) > 3 else 3)
    return figure


# ---- where the time goes

def shares_of(arm):
    """The four shares of SHARES; what is left over is the last, and they make 1 together."""
    known = [max(0.0, arm[name] or 0.0) for name, _, _, _ in SHARES if name]
    scale = max(1.0, sum(known))  # rounding may take them a little above the whole
    known = [share / scale for share in known]
    return [*known, max(0.0, 1 - sum(known))]


def split(wall):
    found = [arm for arm in wall["arms"] if arm["compute_share"] is not None]
    if not found:
        return None
    left_out = [short(arm["name"], 40) for arm in wall["arms"] if arm["compute_share"] is None]
    note = f" · not run as a whole: {', '.join(left_out)}" if left_out else ""
    figure, ((axes,),) = style.new_figure(
        "Where the time of a token goes", subject(wall) + note, (11, 1.4 + 0.46 * len(found)))
    style.rows_axis(axes, arm_names(found))
    for row, arm in enumerate(found):
        left = 0.0
        for share, (_, _, colour, ink) in zip(shares_of(arm), SHARES):
            axes.barh(row, share, left=left, height=0.66, color=colour, lw=0)
            if share >= 0.055:
                axes.text(left + share / 2, row, percent_text(share), ha="center", va="center",
                          color=ink, fontsize=9)
            left += share
    axes.set_xlim(0, 1)
    axes.xaxis.set_major_formatter(lambda value, _: percent_text(value))
    axes.set_xlabel("share of the time")
    style.column(axes, 48, "tok/s", [figure_text(arm["tokens_per_s"]["median"]) for arm in found])
    style.column(axes, 112, "of the disk",
                 [percent_text(arm["disk_share"]) if positive(arm["disk_share"]) else "-"
                  for arm in found])
    if any(positive(arm["link_share"]) for arm in found):
        style.column(axes, 172, "of the link",
                     [percent_text(arm["link_share"]) if positive(arm["link_share"]) else "-"
                      for arm in found])
    style.legend_above(axes, [Patch(color=colour, lw=0, label=label)
                              for _, label, colour, _ in SHARES], 4)
    return figure


# ---- tokens per pass

def _mark_break_evens(axes, wall, handles):
    styles = {("compute", True): (style.GREEN, "-"), ("compute", False): (style.GREEN, "--"),
              ("at most", True): (style.RED, "-"), ("at most", False): (style.RED, "--")}
    for what, tokens, is_measured in break_evens(wall):
        kind = "compute" if what.startswith("compute") else "at most"
        colour, dashes = styles[kind, is_measured]
        axes.axvline(tokens, color=colour, lw=1.8, ls=dashes, ymax=0.64, zorder=1.5)
        verb = "measured" if is_measured else "predicted"
        handles.append(Line2D([], [], color=colour, lw=1.8, ls=dashes,
                              label=f"{what}, {verb}: from {style.tokens_text(tokens)} tokens"))


def passes(wall):
    found = sorted((entry for entry in wall["passes"]
                    if positive(entry["tokens"]) and positive(entry["slowdown"])),
                   key=lambda entry: entry["tokens"])
    if not found:
        return None
    figure, ((axes,),) = style.new_figure(
        "More tokens in a pass share its reads: slowdown on disk against tokens per pass",
        f"on disk, read ahead, against resident · {subject(wall)}", (10, 5))
    predicted = [entry for entry in found if positive(entry["predicted_slowdown"])]
    handles = []
    for rows, name, label, line in (
            (found, "slowdown", "measured",
             {"color": style.BLUE, "marker": "o", "ms": 7, "lw": 2}),
            (predicted, "predicted_slowdown", "predicted",
             {"color": style.ORANGE, "marker": "D", "ms": 6, "lw": 1.8, "ls": "--",
              "mfc": style.PAPER, "mew": 1.5})):
        if rows:
            axes.plot([entry["tokens"] for entry in rows], [entry[name] for entry in rows], **line)
            handles.append(Line2D([], [], label=label, **line))
    values = [entry["slowdown"] for entry in found]
    values += [entry["predicted_slowdown"] for entry in predicted]
    style.tokens_axis(axes, [entry["tokens"] for entry in found]
                      + [tokens for _, tokens, _ in break_evens(wall)])
    style.log_axis(axes, "y", values, times_text, (1.15, 1.4), least=0.9)
    axes.axhline(1, color=style.INK, lw=1)
    for entry in found:
        axes.annotate(times_text(entry["slowdown"]), (entry["tokens"], entry["slowdown"]), (7, 7),
                      textcoords="offset points", fontsize=9,
                      bbox={"facecolor": style.PAPER, "lw": 0, "pad": 1})
    _mark_break_evens(axes, wall, handles)
    axes.set_xlabel("tokens in one pass (logarithmic)")
    axes.set_ylabel("times slower than resident (logarithmic)")
    style.legend_inside(axes, "upper right", handles)
    return figure
