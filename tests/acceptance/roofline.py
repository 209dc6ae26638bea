"""What memory's rate allows and what was made of it: weights at short contexts, keys and values at
long ones."""

from measure import spread
from verdicts import Verdict, at_least

MIN_OF_MEMORY = 0.85  # weight bytes a second, of models beyond the last-level cache
MIN_KV_OF_MEMORY = 0.70  # keys and values at the deepest context
MAX_OFF_LINE = 0.10  # of the time that the deepest context adds


def weight_share(weight_bytes, tokens_per_s, gb_per_s):
    """Spread over the rounds of weight bytes a second by memory's read rate in the same round."""
    return spread(weight_bytes * speed / (rate * 1e9)
                  for speed, rate in zip(tokens_per_s, gb_per_s, strict=True))


def fit_depths(depths, context_tokens, generated):
    """Those that a model's context holds with what is generated there; where the last does not fit,
    the largest that does takes the place of those that do not."""
    most = context_tokens - generated - 1
    fitting = [depth for depth in depths if depth <= most]
    if len(fitting) < len(depths) and most > (fitting[-1] if fitting else 0) + generated:
        fitting.append(most)
    return fitting


def kv_shares(kv_bytes, token_s, gb_per_s):
    """For each depth but the first the spread over the rounds of memory's rate that keys and values
    were read with: the bytes beyond the first depth's by the time beyond its, by the round's rate.
    `kv_bytes`: [depth]; `token_s`: [round][depth]; None where a round was no slower than at the
    first depth, so that nothing can be said."""
    shares = []
    for index in range(1, len(kv_bytes)):
        more_bytes = kv_bytes[index] - kv_bytes[0]
        more_s = [times[index] - times[0] for times in token_s]
        if more_bytes <= 0 or min(more_s) <= 0:
            shares.append(None)
            continue
        shares.append(spread(more_bytes / seconds / (rate * 1e9)
                             for seconds, rate in zip(more_s, gb_per_s, strict=True)))
    return shares


def off_line(kv_bytes, token_s):
    """How far the times between the first depth and the last are from growing with the bytes: the
    largest distance from the straight line, signed, by the time that the last depth adds. None with
    fewer than three depths or without growth. `token_s`: [depth]."""
    whole_bytes, whole_s = kv_bytes[-1] - kv_bytes[0], token_s[-1] - token_s[0]
    if len(kv_bytes) < 3 or whole_bytes <= 0 or whole_s <= 0:
        return None
    offs = [(seconds - token_s[0]) / whole_s - (held - kv_bytes[0]) / whole_bytes
            for held, seconds in zip(kv_bytes[1:-1], token_s[1:-1], strict=True)]
    return max(offs, key=abs)


def weights_verdict(rows, cache_bytes):
    """`rows`: of generation, with "name", "weight_bytes" and "of_memory" (a spread's values)."""
    beyond = {row["name"]: row["of_memory"]["median"] for row in rows
              if row["weight_bytes"] > cache_bytes}
    return at_least("generation: weight bytes of memory's read rate, models beyond the last-level "
                    f"cache of {cache_bytes / 1e6:.0f} MB", MIN_OF_MEMORY, beyond)


def depth_verdicts(cells):
    """`cells`: with "name", "off_line", and "rows" by depth, of which the last counts."""
    last = {f"{cell['name']} at {cell['rows'][-1]['depth']}": cell["rows"][-1] for cell in cells}
    ratios = {name: row["of_medians"] for name, row in last.items()}
    shares = {name: row["kv_of_memory"]["median"] for name, row in last.items()
              if row["kv_of_memory"]}
    offs = {cell["name"]: cell["off_line"] for cell in cells if cell["off_line"] is not None}
    judged = [at_least("deepest context: times llama.cpp", 1, ratios),
              at_least("deepest context: keys and values of memory's read rate", MIN_KV_OF_MEMORY,
                       shares)]
    what = "time of a token grows with keys and values as a straight line"
    if not offs:
        return [*judged, Verdict(what, None, "fewer than three depths, or no growth")]
    worst = max(offs, key=lambda name: abs(offs[name]))
    return [*judged, Verdict(what, abs(offs[worst]) <= MAX_OFF_LINE,
                             f"off by at most {100 * offs[worst]:+.1f} % of what the deepest adds "
                             f"({worst}), allowed {100 * MAX_OFF_LINE:.0f} %")]
