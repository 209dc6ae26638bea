"""Makes random tiny Hugging Face models and converts each to GGUF with llama.cpp's converter.

For each of tiny_specs.SPECS: OUT/NAME/hf (the Hugging Face folder), OUT/NAME/model.gguf,
OUT/NAME/model-TYPE.gguf for further types, and OUT/ids.json, the ids to compare on. Everything
follows from --seed. No network.
"""

from __future__ import annotations

import argparse
import json
import math
import pathlib
import subprocess
import sys

import sentencepiece
import tokenizers
import torch
import transformers

from gguf_hf import load_hf, logits_of
from metrics import compare_logits
from tiny_specs import SPECS, VOCABULARY, Spec

# Runs the converter with the pre-tokenizer's name given: it knows them by a hash of what real
# vocabularies do.
_CONVERT = """
import runpy, sys
folder, pre = sys.argv[1], sys.argv[2]
sys.argv = [folder + '/convert_hf_to_gguf.py'] + sys.argv[3:]
sys.path[:0] = [folder, folder + '/gguf-py']
from conversion.base import TextModel
TextModel.get_vocab_base_pre = lambda self, tokenizer: pre
runpy.run_path(sys.argv[0], run_name='__main__')
"""


def fill(model, seed: int) -> None:
    """Random weights: logits spread, attention neither flat nor one-hot, norms and biases not
    trivial.
    """
    generator = torch.Generator().manual_seed(seed)
    gemma = model.config.model_type.startswith("gemma")
    tied = model.config.tie_word_embeddings
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if name.endswith("norm.weight") or name.endswith("layernorm.weight"):
            # Tied: the spread of the logits comes from the last norm, or each token would predict
            # itself.
            mean = 4.0 if tied and name == "model.norm.weight" else 1.0
            parameter.data = mean - (1.0 if gemma else 0.0) + 0.2 * noise
        elif name.endswith("bias"):
            parameter.data = 0.3 * noise
        elif "embed_tokens" in name or "lm_head" in name:
            parameter.data = (0.5 if tied else 2.0) / math.sqrt(parameter.shape[1]) * noise
        else:
            gain = 1.4 if any(k in name for k in ("q_proj", "k_proj", "qkv_proj")) else 1.0
            parameter.data = gain / math.sqrt(parameter.shape[1]) * noise


def save_tokenizer(spec: Spec, folder: pathlib.Path, texts: list[pathlib.Path]) -> None:
    """A tokenizer of VOCABULARY tokens, learnt from the texts: SentencePiece BPE or byte-level
    BPE.
    """
    if spec.tokenizer == "spm":
        sentencepiece.SentencePieceTrainer.train(
            input=",".join(map(str, texts)),
            model_prefix=str(folder / "tokenizer"),
            vocab_size=VOCABULARY,
            model_type="bpe",
            byte_fallback=True,
            character_coverage=0.98,
            unk_id=0,
            bos_id=1,
            eos_id=2,
            pad_id=-1,
            num_threads=1,
            minloglevel=2,
        )
        (folder / "tokenizer.vocab").unlink()
        config = dict(
            tokenizer_class="LlamaTokenizer", bos_token="<s>", eos_token="</s>", unk_token="<unk>"
        )
    else:
        bpe = tokenizers.Tokenizer(tokenizers.models.BPE())
        bpe.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
        bpe.decoder = tokenizers.decoders.ByteLevel()
        trainer = tokenizers.trainers.BpeTrainer(
            # A few ids are left free: tokenizer classes chosen by model_type add tokens of their
            # own.
            vocab_size=VOCABULARY - 8,
            special_tokens=["<unk>", "<s>", "</s>"],
            show_progress=False,
            initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        )
        bpe.train([str(t) for t in texts], trainer)
        bpe.save(str(folder / "tokenizer.json"))
        config = dict(tokenizer_class="PreTrainedTokenizerFast", bos_token="<s>", eos_token="</s>")
    (folder / "tokenizer_config.json").write_text(json.dumps(config))


def convert(converter: pathlib.Path, spec: Spec, folder: pathlib.Path) -> list[pathlib.Path]:
    out = []
    for i, kind in enumerate(spec.out_types):
        path = folder / ("model.gguf" if i == 0 else f"model-{kind}.gguf")
        command = [
            sys.executable,
            "-c",
            _CONVERT,
            str(converter.parent),
            spec.tokenizer,
            str(folder / "hf"),
            "--outfile",
            str(path),
            "--outtype",
            kind,
        ]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode or not path.exists():
            raise SystemExit(f"{spec.name}: the converter failed\n{done.stderr[-3000:]}")
        out.append(path)
    return out


def make_model(spec: Spec, seed: int, **changes):
    config = getattr(transformers, spec.config_class)(**{**spec.config, **changes})
    config._attn_implementation = "eager"
    model = transformers.AutoModelForCausalLM.from_config(
        config, dtype=torch.float32, attn_implementation="eager"
    )
    fill(model, seed)
    model.tie_weights()
    return model.eval()


def check_spread(name: str, logits, ids: list[int]) -> float:
    """Mean entropy in nats; refuses logits that would make a comparison meaningless."""
    p = torch.log_softmax(logits.double(), -1)
    entropy = float(-(p.exp() * p).sum(-1).mean())
    if not 1.0 < entropy < 0.9 * math.log(VOCABULARY):
        raise SystemExit(
            f"{name}: mean entropy {entropy:.2f} nats of at most {math.log(VOCABULARY):.2f}"
        )
    return entropy


def make(spec: Spec, arguments, ids: list[int]) -> None:
    folder = arguments.out / spec.name
    (folder / "hf").mkdir(parents=True, exist_ok=True)
    model = make_model(spec, arguments.seed)
    model.save_pretrained(folder / "hf")
    save_tokenizer(spec, folder / "hf", sorted(arguments.texts.glob("*.txt")))
    logits = logits_of(load_hf(str(folder / "hf")), ids)
    message = f"{spec.name:>20}: entropy {check_spread(spec.name, logits, ids):.2f} nats"
    if spec.plain:
        without = compare_logits(
            logits, logits_of(make_model(spec, arguments.seed, **spec.plain), ids), ids
        )
        message += f", KL without {', '.join(spec.plain)}: {without.mean_kl:.3f}"
        if not without.mean_kl > 0.01:
            raise SystemExit(f"{message}: the feature does not show")
    files = convert(arguments.converter, spec, folder)
    print(
        message, *[f"{p.name} {p.stat().st_size / 1e6:.1f} MB" for p in files], sep="  ", flush=True
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--converter", required=True, type=pathlib.Path, metavar="convert_hf_to_gguf.py"
    )
    parser.add_argument("--out", required=True, type=pathlib.Path, metavar="DIR")
    parser.add_argument("--texts", default="tests/data/texts", type=pathlib.Path, metavar="DIR")
    parser.add_argument("--seed", type=int, default=20240607)
    parser.add_argument("--length", type=int, default=300, help="ids in ids.json")
    parser.add_argument("--only", action="append", metavar="NAME")
    arguments = parser.parse_args()
    torch.set_num_threads(2)
    transformers.utils.logging.disable_progress_bar()
    arguments.out.mkdir(parents=True, exist_ok=True)
    generator = torch.Generator().manual_seed(arguments.seed)
    ids = torch.randint(3, VOCABULARY, (arguments.length,), generator=generator).tolist()
    (arguments.out / "ids.json").write_text(json.dumps(ids))
    for spec in SPECS:
        if not arguments.only or spec.name in arguments.only:
            make(spec, arguments, ids)


if __name__ == "__main__":
    main()
