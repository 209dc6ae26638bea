"""How the pictures of tools/plot look: colours, scales, titles, and files that are the same bytes
for the same figures."""

import io
import math

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt  # noqa: E402
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator  # noqa: E402

from plot_data import GRID, INK, MUTED, PAPER  # noqa: E402

# Okabe and Ito's colours, which people who do not tell red from green can tell apart.
BLUE, ORANGE, GREEN, RED = "#0072b2", "#e69f00", "#009e73", "#d55e00"
PINK, SKY, GREY = "#cc79a7", "#56b4e9", "#9aa3ad"
ON_DARK, ON_LIGHT = "#fefefe", "#0b0c0d"  # of text upon a coloured bar
HEAD_IN = 0.95  # inches that title and subtitle take

SETTINGS = {
    "svg.hashsalt": "weir", "svg.fonttype": "path", "font.family": "DejaVu Sans", "font.size": 10,
    "text.parse_math": False, "text.color": INK, "axes.labelcolor": INK, "axes.edgecolor": MUTED,
    "axes.facecolor": "none", "figure.facecolor": PAPER, "xtick.color": INK, "ytick.color": INK,
    "axes.titlesize": 11, "axes.titleweight": "bold", "axes.titlelocation": "left",
    "axes.titlepad": 10, "axes.spines.top": False, "axes.spines.right": False, "axes.grid": False,
    "grid.color": GRID, "axes.axisbelow": True, "legend.frameon": False, "legend.fontsize": 9,
    "hatch.linewidth": 0.8, "axes.unicode_minus": True, "savefig.dpi": 150}


def reset():
    """The same settings whatever the user's own are."""
    matplotlib.rcdefaults()
    matplotlib.rcParams.update(SETTINGS)


def new_figure(title, subtitle, size, **grid):
    """(figure, axes as an array of two dimensions) below a title of what is to be seen."""
    reset()
    width, body = size
    height = body + HEAD_IN
    figure, axes = plt.subplots(figsize=(width, height), squeeze=False, **grid)
    figure.set_layout_engine("constrained", w_pad=0.12, h_pad=0.12, wspace=0.04, hspace=0.06,
                             rect=(0, 0, 1, 1 - HEAD_IN / height))
    for text, down_in, font in ((title, 0.22, {"size": 14, "weight": "bold"}),
                                (subtitle, 0.56, {"size": 9.5, "color": MUTED})):
        line = figure.text(0.15 / width, 1 - down_in / height, text, ha="left", va="top", **font)
        _shrink(figure, line, width - 0.3)
    return figure, axes


def _shrink(figure, line, most_in):
    """Makes a line's letters smaller until it fits, then cuts it."""
    renderer = figure.canvas.get_renderer()

    def is_wide():
        return line.get_window_extent(renderer).width > most_in * figure.dpi

    while is_wide() and line.get_fontsize() > 8:
        line.set_fontsize(line.get_fontsize() - 0.5)
    while is_wide() and len(line.get_text()) > 8:
        line.set_text(line.get_text()[:-6].rstrip() + "…")


def _marks(low, high):
    """Round numbers between two bounds: 1, 2 and 5 of each decade where there are few decades."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    decades = math.log10(high / low)
    if decades <= 3.2:
        steps, stride = (1, 2, 5), 1
    else:
        steps, stride = (1,), max(1, math.ceil(decades / 7))
    marks = [step * 10.0 ** power for power in range(first, last + 1) if power % stride == 0
             for step in steps]
    return [mark for mark in marks if low * (1 - 1e-9) <= mark <= high * (1 + 1e-9)]


def _use_marks(axis, marks, text):
    axis.set_major_locator(FixedLocator(marks))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: text(value)))


def log_axis(axes, which, values, text, room=(1.3, 1.3), least=None):
    """A logarithmic scale over positive values with a little room below and above (factors)."""
    low, high = min(values) / room[0], max(values) * room[1]
    if least is not None:
        low = min(low, least)
    if high / low < 4:  # at least some marks
        low, high = low / 1.5, high * 1.5
    set_limits = axes.set_xlim if which == "x" else axes.set_ylim
    (axes.set_xscale if which == "x" else axes.set_yscale)("log")
    set_limits(low, high)
    _use_marks(axes.xaxis if which == "x" else axes.yaxis, _marks(low, high), text)
    axes.grid(True, axis=which)
    return low, high


def tokens_axis(axes, tokens, most=9):
    """Counts of tokens, doubling: marks at powers of two."""
    low, high = min(tokens) / 1.25, max(tokens) * 1.4
    axes.set_xscale("log", base=2)
    axes.set_xlim(low, high)
    first, last = math.ceil(math.log2(low)), math.floor(math.log2(high))
    stride = max(1, math.ceil((last - first + 1) / most))
    _use_marks(axes.xaxis, [2.0 ** power for power in range(first, last + 1, stride)],
               _token_mark)
    axes.grid(True, axis="x")


def _token_mark(tokens):
    for unit, name in ((1 << 30, "Gi"), (1 << 20, "Mi"), (1 << 14, "Ki")):
        if tokens >= unit:
            return f"{tokens / min(unit, 1 << 10 if name == 'Ki' else unit):,.0f} {name}"
    return tokens_text(tokens)


def tokens_text(tokens):
    return f"{tokens:,.0f}" if tokens >= 10 else f"{tokens:.3g}"


def bytes_axis(axes, values, text, room=(1.5, 1.5)):
    """Logarithmic, marks at powers of 2: whole KiB, MiB, GiB."""
    low, high = min(values) / room[0], max(values) * room[1]
    axes.set_yscale("log", base=2)
    axes.set_ylim(low, high)
    first, last = math.ceil(math.log2(low)), math.floor(math.log2(high))
    stride = max(1, math.ceil((last - first) / 6))
    _use_marks(axes.yaxis, [2.0 ** power for power in range(first, last + 1, stride)], text)
    axes.grid(True, axis="y")


def bytes_locator(largest, most=5):
    """Marks from 0 on a scale that is not logarithmic, at 1, 2 or 5 times a whole unit."""
    unit = 1024.0 ** max(0, math.floor(math.log(largest, 1024)))
    step = next(unit * scale for scale in
                [mantissa * 10.0 ** power for power in range(-3, 6) for mantissa in (1, 2, 5)]
                if largest / (unit * scale) <= most)
    return FixedLocator([index * step for index in range(int(largest / step) + 1)])


def rows_axis(axes, names):
    """One row for each name, from the top."""
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.45, -0.55)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)


def column(axes, points, head, texts):
    """Texts right of the axes, one for each row, `points` from its edge."""
    transform = axes.get_yaxis_transform()
    offset = {"textcoords": "offset points", "va": "center", "ha": "right"}
    for row, text in enumerate(texts):
        axes.annotate(text, (1, row), (points, 0), xycoords=transform, fontsize=9, **offset)
    if not head:
        return
    axes.annotate(head, (1, -0.55), (points, 6), xycoords=transform, fontsize=8.5, color=MUTED,
                  **offset)


def legend_above(axes, handles, columns):
    """A legend in one band above axes that have no title of their own."""
    axes.legend(handles=handles, ncol=columns, loc="lower left", bbox_to_anchor=(0, 1),
                borderaxespad=0.4, handlelength=1.6, columnspacing=1.4)


def legend_inside(axes, place, handles=None):
    """A legend upon the picture's own ground, so that lines behind it do not disturb."""
    legend = axes.legend(loc=place, frameon=True, facecolor=PAPER, edgecolor="none",
                         framealpha=1, handlelength=2, borderpad=0.5,
                         **({"handles": handles} if handles else {}))
    legend.set_zorder(5)


def save(figure, target, kind):
    """An SVG or PNG into a binary file: no date, no version, and no white space at the ends of an
    SVG's lines, so that equal figures are equal bytes and can be committed."""
    fields = {"Date": None, "Creator": None} if kind == "svg" else {"Software": None}
    drawn = io.BytesIO()
    figure.savefig(drawn, format=kind, metadata=fields)
    picture = drawn.getvalue()
    if kind == "svg":
        picture = b"\n".join(line.rstrip() for line in picture.splitlines()) + b"\n"
    target.write(picture)
