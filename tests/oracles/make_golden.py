"""Writes golden values of a model: what PyTorch says in float32 about short texts.

For each text: its ids, after each token the five likeliest next ones with their
log-probabilities, and the greedy continuation with the margins (nats) by which each of its tokens
won. A test in C++ reads them without Python.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import pathlib

import torch

from gguf_hf import load_gguf, logits_of
from plain_llama import PlainLlama

TEXTS = [
    "The water in the river rises every spring, when the snow in the mountains melts. "
    "In 1887 the town built a weir",
    "def fibonacci(n):\n    if n < 2:\n        return n\n    return fibonacci(n - 1) +",
]
TOP = 5


def ids_of(arguments) -> list[tuple[str | None, list[int]]]:
    """(text, ids) of each sequence; --random makes ids for a model whose tokenizer matters
    elsewhere.
    """
    if arguments.random:
        generator = torch.Generator().manual_seed(arguments.seed)
        return [
            (
                None,
                torch.randint(*arguments.random, (arguments.length,), generator=generator).tolist(),
            )
            for _ in TEXTS
        ]
    from llama_cpp_logits import tokenize

    return [(text, tokenize(arguments.model, text)) for text in TEXTS]


def sequence(forward, text: str | None, ids: list[int], steps: int) -> dict:
    logprobs = torch.log_softmax(forward(ids).double(), -1)
    best = logprobs.topk(TOP, -1)
    greedy, margins, longer = [], [], list(ids)
    for _ in range(steps):
        two = torch.log_softmax(forward(longer)[-1].double(), -1).topk(2)
        greedy.append(int(two.indices[0]))
        margins.append(round(float(two.values[0] - two.values[1]), 4))
        longer.append(greedy[-1])
    entry = dict(
        ids=ids,
        top_ids=best.indices.tolist(),
        top_logprobs=[[round(v, 5) for v in row] for row in best.values.tolist()],
        greedy=greedy,
        greedy_margins=margins,
    )
    return entry if text is None else dict(text=text, **entry)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", required=True, metavar="FILE.gguf")
    parser.add_argument("--out", required=True, type=pathlib.Path, metavar="FILE.json")
    parser.add_argument(
        "--plain", action="store_true", help="plain_llama.py in float64 instead of transformers"
    )
    parser.add_argument(
        "--random", nargs=2, type=int, metavar=("LOW", "HIGH"), help="random ids, LOW <= id < HIGH"
    )
    parser.add_argument("--length", type=int, default=48)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--steps", type=int, default=16)
    arguments = parser.parse_args()
    torch.set_num_threads(2)
    if arguments.plain:
        forward = PlainLlama(arguments.model, torch.float64)
    else:
        model = load_gguf(arguments.model)
        forward = lambda ids: logits_of(model, ids)  # noqa: E731
    result = dict(
        model=pathlib.Path(arguments.model).name,
        sha256=hashlib.sha256(pathlib.Path(arguments.model).read_bytes()).hexdigest(),
        forward="plain_llama float64" if arguments.plain else "transformers float32, eager",
        sequences=[
            sequence(forward, text, ids, arguments.steps) for text, ids in ids_of(arguments)
        ],
    )
    text = json.dumps(result, ensure_ascii=False)
    # One sequence's field a line: readable diffs without a line for each number.
    arguments.out.write_text(text.replace(', "', ',\n "') + "\n", encoding="utf-8")
    for entry in result["sequences"]:
        print(
            len(entry["ids"]),
            "ids, greedy",
            entry["greedy"],
            "least margin",
            min(entry["greedy_margins"]),
        )


if __name__ == "__main__":
    main()
