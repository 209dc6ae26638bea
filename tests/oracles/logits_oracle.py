"""Compares the logits of `weir eval` with those of PyTorch in float32 on the same weights.

The ids come from weir (or from --tokens), the weights from the GGUF, dequantised (or from --hf, a
Hugging Face folder that the GGUF was converted from). Exit status 1 when a bound of metrics.py is
exceeded. --candidate puts llama.cpp, transformers' own GGUF import or the plain llama in weir's
place: that is how the oracle is judged.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import torch
import transformers

from gguf_hf import load_gguf, load_hf, logits_of
from metrics import BOUNDS, Bounds, Comparison, compare_logits


class Oracle:
    """Logits in float32. The model is loaded at the first text that is not kept in `keep`."""

    def __init__(self, arguments):
        self.gguf, self.hf = arguments.model, arguments.hf
        self.keep = pathlib.Path(arguments.keep) if arguments.keep else None
        source = pathlib.Path(self.hf or self.gguf)
        files = sorted(
            p for p in (source.iterdir() if source.is_dir() else [source]) if p.is_file()
        )
        digest = hashlib.sha256()
        for path in files:
            with open(path, "rb") as stream:
                digest.update(hashlib.file_digest(stream, "sha256").digest())
        self.source_hash = digest.digest()
        self.model = None

    def logits(self, ids: list[int]) -> np.ndarray:
        path = None
        if self.keep:
            key = hashlib.sha256(self.source_hash + json.dumps(ids).encode()).hexdigest()[:24]
            path = self.keep / f"{key}.npy"
            if path.exists():
                return np.load(path, mmap_mode="r")
        if self.model is None:
            self.model = load_hf(self.hf) if self.hf else load_gguf(self.gguf)
        result = logits_of(self.model, ids).numpy()
        if path:
            self.keep.mkdir(parents=True, exist_ok=True)
            part = path.with_suffix(".part.npy")
            np.save(part, result)
            part.rename(path)
        return result


class Weir:
    """Runs `weir eval` once for a text; checks its per-token lines against its own logits."""

    def __init__(self, arguments):
        self.arguments = arguments

    def run(
        self, source: list[str], work: pathlib.Path
    ) -> tuple[list[int], np.ndarray, list[dict]]:
        lines, raw = work / "tokens.jsonl", work / "logits.f32"
        command = [
            self.arguments.weir,
            "eval",
            self.arguments.model,
            *source,
            "--per-token",
            str(lines),
            "--logits",
            str(raw),
        ]
        if self.arguments.activations:
            command += ["--activations", self.arguments.activations]
        done = subprocess.run(
            command + self.arguments.weir_arg,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        if done.returncode:
            raise SystemExit(
                f"{' '.join(command)}: exit code {done.returncode}\n{done.stderr[-2000:]}"
            )
        tokens = [json.loads(line) for line in lines.read_text().splitlines()]
        values = np.memmap(raw, dtype="<f4", mode="r")
        if not tokens or len(values) % len(tokens):
            raise SystemExit(f"{raw}: {len(values)} floats for {len(tokens)} tokens")
        return [t["id"] for t in tokens], values.reshape(len(tokens), -1), tokens

    @staticmethod
    def inconsistencies(logits: np.ndarray, tokens: list[dict]) -> list[str]:
        """Where the per-token lines say something else than the logits do."""
        out = []
        if tokens[0]["logprob"] is not None or tokens[0]["top1"] is not None:
            out.append("the first token has a logprob or a top1, though nothing precedes it")
        for i in range(1, len(tokens)):
            row = torch.from_numpy(np.array(logits[i - 1])).double()
            expected = float(row.log_softmax(-1)[tokens[i]["id"]])
            if not math.isclose(tokens[i]["logprob"], expected, rel_tol=1e-4, abs_tol=1e-4):
                out.append(
                    f"token {i}: logprob {tokens[i]['logprob']}, its logits say {expected:.6f}"
                )
            if float(row.max() - row[tokens[i]["top1"]]) != 0.0:
                out.append(
                    f"token {i}: top1 {tokens[i]['top1']}, its logits say {int(row.argmax())}"
                )
        return out


def other_logits(kind: str, path: str, ids: list[int]):
    """The stand-ins for weir."""
    if kind == "llama.cpp":
        from llama_cpp_logits import logits_of as llama_cpp_logits

        return llama_cpp_logits(path, ids)
    if kind == "plain":
        from plain_llama import PlainLlama

        return PlainLlama(path)(ids)
    location = pathlib.Path(path)
    model = transformers.AutoModelForCausalLM.from_pretrained(
        str(location.parent),
        gguf_file=location.name,
        dtype=torch.float32,
        attn_implementation="eager",
    ).eval()
    return logits_of(model, ids)


def sources(arguments) -> list[tuple[str, list[str], list[int] | None]]:
    """(label, options for weir eval, ids when they are given) for each text."""
    if not arguments.tokens:
        texts = sorted(pathlib.Path(arguments.texts).glob("*.txt"))
        if not texts:
            raise SystemExit(f"{arguments.texts}: no .txt files")
        return [(path.stem, ["-f", str(path)], None) for path in texts]
    given = json.loads(pathlib.Path(arguments.tokens).read_text())
    return [(pathlib.Path(arguments.tokens).stem, ["--tokens", arguments.tokens], given)]


def compare_one(
    arguments, oracle: Oracle, label: str, source: list[str], ids
) -> tuple[Comparison, list[str]]:
    problems: list[str] = []
    with tempfile.TemporaryDirectory(dir=arguments.scratch) as folder:
        if arguments.candidate == "weir":
            got_ids, candidate, tokens = Weir(arguments).run(source, pathlib.Path(folder))
            if ids is not None and got_ids != ids:
                raise SystemExit(f"{label}: weir evaluated other ids than it was given")
            ids = got_ids
            problems += [f"{label}: {p}" for p in Weir.inconsistencies(candidate, tokens)[:3]]
        else:
            if ids is None:
                from llama_cpp_logits import tokenize

                ids = tokenize(arguments.model, pathlib.Path(source[1]).read_text(encoding="utf-8"))
            candidate = other_logits(
                arguments.candidate, arguments.candidate_model or arguments.model, ids
            )
        if len(ids) < arguments.least_tokens:
            problems.append(f"{label}: {len(ids)} tokens, at least {arguments.least_tokens} wanted")
        return compare_logits(oracle.logits(ids), candidate, ids), problems


def parse_arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", required=True, metavar="FILE.gguf")
    parser.add_argument(
        "--hf", metavar="DIR", help="take the oracle's weights from this Hugging Face folder"
    )
    parser.add_argument("--weir", default="build/weir")
    parser.add_argument(
        "--weir-arg",
        action="append",
        default=[],
        metavar="ARG",
        help="passed on to weir eval; repeat",
    )
    parser.add_argument("--texts", default="tests/data/texts", metavar="DIR")
    parser.add_argument("--tokens", metavar="IDS.json", help="a JSON array of ids instead of texts")
    parser.add_argument(
        "--activations",
        choices=sorted(BOUNDS),
        help="passed on; also chooses the bound on KL (without it: q16, which is weir's default)",
    )
    parser.add_argument(
        "--candidate", choices=["weir", "llama.cpp", "transformers", "plain"], default="weir"
    )
    parser.add_argument(
        "--candidate-model",
        metavar="FILE.gguf",
        help="another file for a stand-in, such as dequantise_gguf.py's",
    )
    parser.add_argument(
        "--each", action="store_true", help="apply the bounds to each text too, not only to all"
    )
    parser.add_argument("--kl", type=float, help="another bound on the mean KL, in nats")
    parser.add_argument("--least-tokens", type=int, default=200)
    parser.add_argument(
        "--keep",
        metavar="DIR",
        help="keep the oracle's logits here (large: 4 bytes x vocabulary a token)",
    )
    parser.add_argument("--scratch", metavar="DIR", help="where weir's logits are put for a moment")
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args()


def main() -> int:
    arguments = parse_arguments()
    torch.set_num_threads(arguments.threads)
    transformers.utils.logging.disable_progress_bar()
    bounds = BOUNDS[arguments.activations or "q16"]
    if arguments.kl is not None:
        bounds = Bounds(mean_kl=arguments.kl)
    oracle, overall, problems, report = Oracle(arguments), Comparison(), [], {}
    for label, source, ids in sources(arguments):
        one, found = compare_one(arguments, oracle, label, source, ids)
        print(f"{label:>18}: {one}", flush=True)
        overall.add(one)
        problems += found + [
            f"{label}: {f}" for f in (bounds.failures(one) if arguments.each else [])
        ]
        report[label] = one.as_dict()
    print(f"{'all':>18}: {overall}")
    problems += [f"all: {f}" for f in bounds.failures(overall)]
    for problem in problems:
        print(f"FAILED {problem}")
    if arguments.json:
        result = dict(
            model=pathlib.Path(arguments.model).name,
            candidate=arguments.candidate,
            activations=arguments.activations or "default",
            texts=report,
            all=overall.as_dict(),
            failures=problems,
        )
        pathlib.Path(arguments.json).write_text(json.dumps(result, indent=1) + "\n")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
