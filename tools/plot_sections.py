"""Pictures of tools/plot: training from disk, and the levers, of which each is a panel.

As in plot_figures: a figure of a checked document, or None where what it shows is absent.
"""

from matplotlib.patches import Patch

import plot_style as style
from plot_data import (bytes_text, figure_text, measured_steps, percent_text, positive, rate_text,
                       seconds_text, short, subject)

PANEL_IN = (4.5, 3.3)
MOST_COLUMNS = 3


# ---- training

def training_flows(training):
    return [flow for flow in training["flows"] if positive(flow["bytes"])]


def has_batch(training):
    return bool(positive(training["disk_s_per_step"])
                and positive(training["compute_s_per_token"]))


def flow_names(flows):
    """What each flow is; with the phase, where another one would have the same name."""
    keys = [(flow["what"], flow["link"], flow["direction"]) for flow in flows]
    return [short(flow["what"], 40) + (f" ({short(flow['phase'], 12)})"
                                       if flow["phase"] and keys.count(key) > 1 else "")
            for flow, key in zip(flows, keys)]


def _draw_flows(axes, training):
    flows = training_flows(training)
    style.rows_axis(axes, flow_names(flows))
    for row, flow in enumerate(flows):
        colour = style.ORANGE if flow["link"] == "disk" else style.SKY
        is_write = flow["direction"] == "write"
        axes.barh(row, flow["bytes"], height=0.62, color="none" if is_write else colour,
                  edgecolor=colour, hatch="////" if is_write else None, lw=1)
    axes.set_xlim(0, max(flow["bytes"] for flow in flows) * 1.02)
    axes.xaxis.set_major_locator(style.bytes_locator(axes.get_xlim()[1]))
    axes.xaxis.set_major_formatter(lambda value, _: bytes_text(value) if value else "0")
    axes.grid(True, axis="x")
    grows = any((flow["what"] or "").startswith("activations") for flow in flows)
    axes.set_xlabel("bytes in one step" + (
        " (activations grow with the batch, the rest does not)" if grows else ""))
    style.column(axes, 64, "bytes", [bytes_text(flow["bytes"]) for flow in flows])
    parameters = positive(training["parameters"])
    if parameters:
        style.column(axes, 150, "a parameter",
                     [f"{figure_text(flow['bytes'] / parameters)} B" for flow in flows])
    handles = []
    for link, colour in (("disk", style.ORANGE), ("dram", style.SKY)):
        for direction in ("read", "write"):
            if any((flow["link"] == "disk") == (link == "disk")
                   and (flow["direction"] == "write") == (direction == "write")
                   for flow in flows):
                is_write = direction == "write"
                name = "disk" if link == "disk" else "memory"
                handles.append(Patch(facecolor="none" if is_write else colour, edgecolor=colour,
                                     hatch="////" if is_write else None,
                                     label=f"{name}, {direction}"))
    style.legend_above(axes, handles, 4)


def _draw_batch(axes, training):
    disk_s, token_s = training["disk_s_per_step"], training["compute_s_per_token"]
    balance = disk_s / token_s
    tokens = [balance * 4.0 ** power for power in range(-4, 5)]
    axes.plot(tokens, [max(disk_s, token_s * count) for count in tokens], color=style.INK, lw=5,
              alpha=0.18, solid_capstyle="round", label="a step, both at once")
    axes.plot(tokens, [disk_s] * len(tokens), color=style.ORANGE, lw=2, label="disk alone")
    axes.plot(tokens, [token_s * count for count in tokens], color=style.BLUE, lw=2, ls="--",
              label="compute alone")
    even = positive(training["break_even_tokens"]) or balance
    axes.axvline(even, color=style.GREEN, lw=1.8, ls="-.",
                 label=f"balance at {style.tokens_text(even)} tokens")
    hidden = positive(training["hidden_tokens"])
    if hidden:
        axes.axvline(hidden, color=style.PINK, lw=1.8, ls=":",
                     label=f"disk hidden from {style.tokens_text(hidden)}")
    style.tokens_axis(axes, [*tokens, even, hidden or even], most=7)
    style.log_axis(axes, "y", [token_s * tokens[0], token_s * tokens[-1]], seconds_text, (4, 1.3))
    axes.set_title("From which batch on the disk stops mattering")
    axes.set_xlabel("tokens in a batch (logarithmic)")
    axes.set_ylabel("time of a step (logarithmic)")
    style.legend_inside(axes, "lower right")


def _draw_step(axes, training):
    steps = measured_steps(training)
    series = [(label, [positive(part[field]) for _, part in steps], colour)
              for label, field, colour in (("compute", "compute_s", style.BLUE),
                                           ("disk", "disk_s", style.ORANGE),
                                           ("predicted", "predicted_s", style.GREY),
                                           ("achieved", "achieved_s", style.GREEN))]
    _bars(axes, [name for name, _ in steps], [entry for entry in series if any(entry[1])],
          seconds_text, "time")
    axes.xaxis.set_major_formatter(lambda value, _: seconds_text(value))
    measured = training["measured"]
    words = []
    if positive(measured["tokens"]):
        words.append(f"{style.tokens_text(measured['tokens'])} tokens")
    if positive(measured["scale"]):
        words.append(f"{percent_text(measured['scale'])} of the model's bytes")
    axes.set_xlabel(", ".join(["time", *words]))
    off = measured["error"]
    axes.set_title("One step as measured" + (
        "" if off is None else f" (prediction off by {percent_text(off, signed=True)})"), pad=24)


def training(wall):
    found = wall["training"]
    flows = training_flows(found)
    lower = [draw for is_there, draw in ((has_batch(found), _draw_batch),
                                         (bool(measured_steps(found)), _draw_step)) if is_there]
    if not flows and not lower:
        return None
    row_in = 0.42 if len(flows) < 10 else 0.3
    heights = ([1.1 + row_in * len(flows)] if flows else []) + ([4.0] if lower else [])
    figure, axes = style.new_figure(
        "Training with parameters and optimizer on disk: bytes by flow, and the batch that hides "
        "them", subject(wall), (12.5, sum(heights)), nrows=len(heights),
        gridspec_kw={"height_ratios": heights})
    if flows:
        _draw_flows(axes[0][0], found)
    if lower:
        # A grid of its own: its margins are not those of the long names above.
        grid = axes[-1][0].get_subplotspec().subgridspec(1, len(lower))
        axes[-1][0].remove()
        for index, draw in enumerate(lower):
            draw(figure.add_subplot(grid[0, index]), found)
    return figure


# ---- levers

def _bars(axes, rows, series, text, label):
    """Horizontal bars, side by side for several series: [(name, values or None each, colour)]."""
    height = 0.7 / len(series)
    largest = max(value for _, values, _ in series for value in values if value)
    for index, (_, values, colour) in enumerate(series):
        for row, value in enumerate(values):
            if not value:
                continue
            at = row + (index - (len(series) - 1) / 2) * height
            axes.barh(at, value, height=height * 0.9, color=colour, lw=0)
            axes.annotate(text(value), (value, at), (4, 0), textcoords="offset points",
                          va="center", fontsize=8.5)
    style.rows_axis(axes, rows)
    axes.set_xlim(0, largest * 1.32)
    axes.locator_params(axis="x", nbins=4)
    axes.set_xlabel(label)
    if len(series) > 1:
        axes.legend(handles=[Patch(color=colour, lw=0, label=name) for name, _, colour in series],
                    loc="lower left", bbox_to_anchor=(0, 0.98), ncol=len(series),
                    borderaxespad=0.1, handlelength=1.2, columnspacing=1)


def _precision_panels(rows):
    names = [short(row["format"], 12) for row in rows]

    def values(name):
        return [positive(row[name]) for row in rows]

    def sizes(axes):
        _bars(axes, names, [("", values("bytes"), style.SKY)], bytes_text, "bytes of weights")
        axes.xaxis.set_major_locator(style.bytes_locator(axes.get_xlim()[1], 4))
        axes.xaxis.set_major_formatter(lambda value, _: bytes_text(value) if value else "0")
        axes.set_title("Precision: bytes")

    def rates(axes):
        series = [(name, found, colour) for name, found, colour in (
            ("resident", values("tokens_per_s"), style.BLUE),
            ("on disk", values("disk_tokens_per_s"), style.ORANGE)) if any(found)]
        _bars(axes, names, series, figure_text, "tokens a second")
        axes.set_title("Precision: speed", pad=24 if len(series) > 1 else None)

    def perplexity(axes):
        found = values("perplexity")
        known = [value for value in found if value]
        room = (max(known) - min(known)) or 0.1 * max(known)
        for row, value in enumerate(found):
            if value:
                axes.plot([min(known), value], [row, row], color=style.GREEN, lw=2)
                axes.plot([value], [row], "o", ms=8, color=style.GREEN)
                axes.annotate(f"{value:.4g}", (value, row), (8, 0), textcoords="offset points",
                              va="center", fontsize=8.5)
        style.rows_axis(axes, names)
        axes.set_xlim(min(known) - 0.1 * room, max(known) + 0.35 * room)
        axes.locator_params(axis="x", nbins=4)
        axes.grid(True, axis="x")
        axes.set_xlabel("perplexity (less is better; not from 0)")
        axes.set_title("Precision: quality")

    panels = [(sizes, ("bytes",)), (rates, ("tokens_per_s", "disk_tokens_per_s")),
              (perplexity, ("perplexity",))]
    return [draw for draw, fields in panels if any(any(values(field)) for field in fields)]


def _curves(axes, rows, across, series, label, title, text):
    """Lines over tokens, both scales logarithmic: series of (field, name, line)."""
    values, tokens = [], []
    for field, name, line in series:
        points = [(row[across], row[field]) for row in rows
                  if positive(row[across]) and positive(row[field])]
        if points:
            axes.plot(*zip(*points), label=name, lw=2, ms=6, **line)
            tokens += [point[0] for point in points]
            values += [point[1] for point in points]
    style.tokens_axis(axes, tokens, most=6)
    room = (1.3, max(1.6, (max(values) / min(values)) ** 0.4))  # above: for the legend
    if text is bytes_text:
        style.bytes_axis(axes, values, text, room)
    else:
        style.log_axis(axes, "y", values, text, room)
    axes.set_ylabel(label)
    axes.set_title(title)
    style.legend_inside(axes, "upper left")


NAIVE = {"color": style.RED, "marker": "s"}
TILED = {"color": style.BLUE, "marker": "o", "ls": "--"}


def _attention_panels(rows):
    chunks = {row["chunk_tokens"] for row in rows if positive(row["chunk_tokens"])}
    across = "tokens of context"
    if len(chunks) == 1:
        across += f", for {style.tokens_text(chunks.pop())} new ones"

    def times(axes):
        _curves(axes, rows, "tokens", [("naive_s", "naive", NAIVE), ("tiled_s", "tiled", TILED)],
                "time (logarithmic)", "Attention: time", seconds_text)
        axes.set_xlabel(across)

    def moved(axes):
        _curves(axes, rows, "tokens", [("naive_bytes", "naive", NAIVE),
                                       ("tiled_bytes", "tiled", TILED)],
                "bytes (logarithmic)", "Attention: bytes moved", bytes_text)
        axes.set_xlabel(across)

    return [draw for draw, fields in ((times, ("naive_s", "tiled_s")),
                                      (moved, ("naive_bytes", "tiled_bytes")))
            if any(positive(row["tokens"]) and positive(row[field])
                   for row in rows for field in fields)]


def _kv_panel(kinds):
    kinds = [kind for kind in kinds if positive(kind["bytes_per_token"])]
    if not kinds:
        return []

    def draw(axes):
        budgets = [(budget["budget_bytes"], budget["largest_context"]) for kind in kinds
                   for budget in kind["budgets"]
                   if positive(budget["budget_bytes"]) and positive(budget["largest_context"])]
        first, last = 1024.0, max([context for _, context in budgets] + [32768.0])
        first = min([first] + [context for _, context in budgets])
        values = []
        for index, kind in enumerate(kinds):
            colour = (style.RED, style.BLUE, style.GREEN, style.ORANGE)[index % 4]
            ends = [kind["bytes_per_token"] * tokens for tokens in (first, last)]
            values += ends
            axes.plot([first, last], ends, color=colour, lw=2, ls=("-", "--")[index % 2],
                      label=f"{short(kind['type'], 12)}: "
                            f"{bytes_text(kind['bytes_per_token'])} a token")
            for budget in kind["budgets"]:
                context = positive(budget["largest_context"])
                if context:
                    axes.plot([context], [context * kind["bytes_per_token"]], "o", ms=6,
                              color=colour)
        sizes = sorted({size for size, _ in budgets})
        style.tokens_axis(axes, [first, last], most=6)
        style.bytes_axis(axes, values + sizes, bytes_text, (1.5, 3))
        for size in sizes:
            axes.axhline(size, color=style.MUTED, lw=1, ls=":")
            axes.annotate(f"{bytes_text(size)} of memory", (0, size), (4, 2),
                          xycoords=axes.get_yaxis_transform(), textcoords="offset points",
                          va="bottom", fontsize=8, color=style.MUTED)
        axes.set_xlabel("tokens of context")
        axes.set_ylabel("bytes of keys and values")
        axes.set_title("Context: growth of keys and values")
        style.legend_inside(axes, "lower right")

    return [draw]


def _in_place_panel(found):
    rows = [(f"{name}\nat {rate_text(found[rate])}" if positive(found[rate]) else name,
             found[field]) for name, field, rate in (
                 ("where they are", "in_place_s", "dram_bytes_per_s"),
                 (f"over {short(found['link'] or 'the link', 22)}", "moved_s", "link_bytes_per_s"))
            if positive(found[field])]
    if not rows:
        return []

    def draw(axes):
        _bars(axes, [name for name, _ in rows], [("", [value for _, value in rows], style.GREEN)],
              seconds_text, "time for the same weights")
        axes.xaxis.set_major_formatter(lambda value, _: seconds_text(value))
        axes.set_title("Compute in place, or move")

    return [draw]


def _recompute_panel(rows):
    fields = ("keep_bytes", "recompute_bytes")
    if not any(positive(row["tokens"]) and positive(row[field])
               for row in rows for field in fields):
        return []
    extra = [row["extra_operations_share"] for row in rows
             if positive(row["extra_operations_share"])]

    def draw(axes):
        name = "recomputed" + (f" (+{percent_text(max(extra))} operations)" if extra else "")
        _curves(axes, rows, "tokens", [("keep_bytes", "kept", NAIVE),
                                       ("recompute_bytes", name, TILED)],
                "bytes of activations", "Training: keep or recompute", bytes_text)
        axes.set_xlabel("tokens in a batch")

    return [draw]


def lever_panels(levers):
    return [*_precision_panels(levers["precision"]), *_attention_panels(levers["attention"]),
            *_kv_panel(levers["kv"]), *_in_place_panel(levers["compute_in_place"]),
            *_recompute_panel(levers["recompute"])]


def levers(wall):
    panels = lever_panels(wall["levers"])
    if not panels:
        return None
    columns = min(MOST_COLUMNS, len(panels))
    lines = -(-len(panels) // columns)
    figure, axes = style.new_figure(
        "Levers against the wall: what each saves in bytes and in time", subject(wall),
        (max(9.0, PANEL_IN[0] * columns), PANEL_IN[1] * lines), nrows=lines, ncols=columns)
    spots = axes.flatten()
    for spot, draw in zip(spots, panels):
        draw(spot)
    for spot in spots[len(panels):]:
        spot.remove()
    return figure
