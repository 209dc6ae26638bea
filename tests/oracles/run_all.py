"""Runs logits_oracle.py on every real and every tiny model given, prints one table in Markdown.

A tiny model is compared with the Hugging Face folder it was converted from, its further types
(model-TYPE.gguf) with their own weights. Exit status 1 if any comparison exceeds its bounds.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

SCRIPT = pathlib.Path(__file__).with_name("logits_oracle.py")
# Where the ids must stay within the context that the short factors are for.
SHORT_CONTEXT = {"phi3_longrope_short": ["--weir-arg=-c", "--weir-arg=512"]}


def comparisons(arguments) -> list[tuple[str, list[str]]]:
    """(label, options of logits_oracle.py) of each model."""
    out = []
    for path in sorted(arguments.models.glob("*.gguf")) if arguments.models else []:
        options = ["--model", str(path)]
        if arguments.keep:
            options += ["--keep", str(arguments.keep / path.stem)]
        out.append((path.stem, options))
    for path in sorted(arguments.tiny.glob("*/model*.gguf")) if arguments.tiny else []:
        name = path.parent.name
        options = ["--model", str(path), "--tokens", str(arguments.tiny / "ids.json")]
        options += SHORT_CONTEXT.get(name, [])
        if path.stem == "model":
            options += ["--hf", str(path.parent / "hf")]
        out.append((name + path.stem.removeprefix("model"), options))
    if not out:
        raise SystemExit("no models: give --models or --tiny")
    return out


def run(options: list[str], arguments, activations: str) -> dict:
    with tempfile.TemporaryDirectory() as folder:
        result = pathlib.Path(folder) / "result.json"
        command = [sys.executable, str(SCRIPT), "--weir", arguments.weir, *options]
        command += ["--activations", activations, "--json", str(result)]
        done = subprocess.run(command, capture_output=True, text=True)
        if not result.exists():
            raise SystemExit(f"{' '.join(command)}:\n{done.stdout}{done.stderr[-3000:]}")
        return json.loads(result.read_text())


def row(label: str, activations: str, result: dict) -> str:
    total = result["all"]
    return (
        f"| {label} | {activations} | {total['positions']:,} | {total['mean_kl']:.1e} "
        f"| {total['kl_max']:.1e} | {100 * total['top1_agreement']:.2f} % "
        f"| {100 * total['perplexity_difference']:.3f} % "
        f"| {'; '.join(result['failures']) or 'within'} |"
    )


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--weir", default="build/weir")
    parser.add_argument("--models", type=pathlib.Path, metavar="DIR", help="of real models' files")
    parser.add_argument("--tiny", type=pathlib.Path, metavar="DIR", help="made by make_tiny_hf.py")
    parser.add_argument("--keep", type=pathlib.Path, metavar="DIR", help="DIR/NAME for each model")
    parser.add_argument("--activations", action="append", help="repeat; f32 and q16 by default")
    arguments = parser.parse_args()
    failed = False
    print("| model | activations | positions | mean KL | worst KL | top-1 | perplexity | bounds |")
    print("|---|---|---|---|---|---|---|---|")
    for label, options in comparisons(arguments):
        for activations in arguments.activations or ["f32", "q16"]:
            result = run(options, arguments, activations)
            failed |= bool(result["failures"])
            print(row(label, activations, result), flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
