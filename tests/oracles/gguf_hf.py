"""Builds a Hugging Face model in float32 from the dequantised weights of a GGUF file.

The mapping is written out here rather than left to transformers' own GGUF import, because that
one knows neither rope scaling nor phi3's long factors nor a second rope base.
`check_against_transformers` (run as a script) compares the two where both work.
"""

from __future__ import annotations

import re
import sys

import gguf
import torch
import transformers

Tensor = torch.Tensor


class GgufFile:
    """Metadata and tensors of one GGUF file; tensors are dequantised to float32 on demand."""

    def __init__(self, path: str):
        self.path = path
        self.reader = gguf.GGUFReader(path)
        self.tensors = {t.name: t for t in self.reader.tensors}
        self.architecture = self.field("general.architecture")

    def field(self, name: str, default=None):
        found = self.reader.fields.get(name)
        return default if found is None else found.contents()

    def key(self, suffix: str, default=None):
        return self.field(f"{self.architecture}.{suffix}", default)

    def need(self, suffix: str):
        value = self.key(suffix)
        if value is None:
            raise SystemExit(f"{self.path}: no {self.architecture}.{suffix}")
        return value

    def tensor(self, name: str) -> Tensor:
        raw = self.tensors[name]
        data = gguf.quants.dequantize(raw.data, raw.tensor_type)
        shape = [int(n) for n in reversed(raw.shape)]
        return torch.from_numpy(data.astype("float32", copy=True).reshape(shape))


def _first(value):
    return value[0] if isinstance(value, list) else value


def _common(file: GgufFile) -> dict:
    """Config fields that all architectures share."""
    heads = _first(file.need("attention.head_count"))
    columns = file.need("embedding_length")
    return dict(
        vocab_size=int(file.tensors["token_embd.weight"].shape[1]),
        hidden_size=columns,
        intermediate_size=_first(file.need("feed_forward_length")),
        num_hidden_layers=file.need("block_count"),
        num_attention_heads=heads,
        num_key_value_heads=_first(file.key("attention.head_count_kv", heads)),
        head_dim=file.key("attention.key_length", columns // heads),
        rms_norm_eps=file.need("attention.layer_norm_rms_epsilon"),
        max_position_embeddings=file.need("context_length"),
        tie_word_embeddings="output.weight" not in file.tensors,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=None,
    )


def _rope_parameters(file: GgufFile, default_base: float = 10000.0) -> dict:
    """The rope of the full-attention layers, in transformers' terms."""
    base = file.key("rope.freq_base", default_base)
    kind = file.key("rope.scaling.type")
    factor = file.key("rope.scaling.factor", file.key("rope.scale_linear"))
    if kind == "yarn":
        rope = dict(
            rope_type="yarn",
            rope_theta=base,
            factor=factor,
            original_max_position_embeddings=file.need("rope.scaling.original_context_length"),
        )
        for key, name in (
            ("yarn_beta_fast", "beta_fast"),
            ("yarn_beta_slow", "beta_slow"),
            ("yarn_attn_factor", "attention_factor"),
        ):
            if file.key(f"rope.scaling.{key}") is not None:
                rope[name] = file.key(f"rope.scaling.{key}")
        return rope
    if kind in ("linear", None) and factor:  # a factor without a type is linear
        return dict(rope_type="linear", rope_theta=base, factor=factor)
    return dict(rope_type="default", rope_theta=base)


def _phi3_rope(file: GgufFile, config: dict) -> dict:
    rope = _rope_parameters(file)
    rotary = file.key("rope.dimension_count", config["head_dim"])
    rope["partial_rotary_factor"] = rotary / config["head_dim"]
    original = file.key("rope.scaling.original_context_length", config["max_position_embeddings"])
    if "rope_factors_long.weight" in file.tensors:
        rope.update(
            rope_type="longrope",
            original_max_position_embeddings=original,
            long_factor=file.tensor("rope_factors_long.weight").tolist(),
            short_factor=file.tensor("rope_factors_short.weight").tolist(),
            attention_factor=file.key("rope.scaling.attn_factor", 1.0),
        )
    config["original_max_position_embeddings"] = original
    return rope


def _sliding_layers(file: GgufFile, layers: int, period: int) -> list[str]:
    """Every period-th layer attends to everything, the others to a window."""
    pattern = file.key("attention.sliding_window_pattern", period)
    if isinstance(pattern, list):
        return ["sliding_attention" if p else "full_attention" for p in pattern]
    return [
        "full_attention" if (i + 1) % pattern == 0 else "sliding_attention" for i in range(layers)
    ]


def make_config(file: GgufFile):
    """The transformers config that a GGUF's metadata stands for."""
    arch = file.architecture
    config = _common(file)
    if arch in ("llama", "qwen2", "qwen3"):
        if arch == "llama":
            config["attention_bias"] = "blk.0.attn_q.bias" in file.tensors
            config["head_dim"] = file.key("rope.dimension_count", config["head_dim"])
        if arch == "qwen2":
            config.pop("head_dim")
        cls = {
            "llama": transformers.LlamaConfig,
            "qwen2": transformers.Qwen2Config,
            "qwen3": transformers.Qwen3Config,
        }[arch]
        return cls(rope_parameters=_rope_parameters(file), **config)
    if arch == "phi3":
        rope = _phi3_rope(file, config)
        config.pop("head_dim")
        return transformers.Phi3Config(
            rope_parameters=rope,
            sliding_window=file.key("attention.sliding_window", 0) or None,
            **config,
        )
    if arch == "gemma":
        return transformers.GemmaConfig(rope_parameters=_rope_parameters(file), **config)
    if arch == "gemma2":
        return transformers.Gemma2Config(
            rope_parameters=_rope_parameters(file),
            sliding_window=file.need("attention.sliding_window"),
            layer_types=_sliding_layers(file, config["num_hidden_layers"], 2),
            attn_logit_softcapping=file.key("attn_logit_softcapping"),
            final_logit_softcapping=file.key("final_logit_softcapping"),
            query_pre_attn_scalar=config["head_dim"],
            **config,
        )
    if arch == "gemma3":
        local = dict(rope_type="default", rope_theta=file.key("rope.freq_base_swa", 10000.0))
        return transformers.Gemma3TextConfig(
            rope_parameters=dict(
                full_attention=_rope_parameters(file, 1e6), sliding_attention=local
            ),
            sliding_window=file.need("attention.sliding_window"),
            layer_types=_sliding_layers(file, config["num_hidden_layers"], 6),
            final_logit_softcapping=file.key("final_logit_softcapping"),
            query_pre_attn_scalar=config["head_dim"],
            **config,
        )
    raise SystemExit(f"{file.path}: the oracle has no mapping for architecture {arch!r}")


_LAYER_NAMES = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.qkv_proj": "attn_qkv",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.gate_up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
_GEMMA_POST_NORMS = {
    "post_attention_layernorm": "post_attention_norm",
    "pre_feedforward_layernorm": "ffn_norm",
    "post_feedforward_layernorm": "post_ffw_norm",
}
_TOP_NAMES = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
}


def gguf_name(hf_name: str, arch: str) -> str:
    """Name in the GGUF of a parameter of the Hugging Face model."""
    if hf_name in _TOP_NAMES:
        return _TOP_NAMES[hf_name]
    layer, stem, suffix = re.fullmatch(
        r"model\.layers\.(\d+)\.(.+)\.(weight|bias)", hf_name
    ).groups()
    names = {**_LAYER_NAMES, **(_GEMMA_POST_NORMS if arch in ("gemma2", "gemma3") else {})}
    return f"blk.{layer}.{names[stem]}.{suffix}"


def split_halves(weight: Tensor, heads: int) -> Tensor:
    """Rows of each head from llama's interleaved rope order (0 1 2 3 ...) to halves (0 2 4 ...
    1 3 5 ...).
    """
    rows = weight.shape[0] // heads
    return (
        weight.reshape(heads, rows // 2, 2, *weight.shape[1:])
        .transpose(1, 2)
        .reshape(weight.shape)
        .contiguous()
    )


def _parameter(file: GgufFile, config, hf_name: str) -> Tensor:
    value = file.tensor(gguf_name(hf_name, file.architecture))
    if file.architecture == "llama" and ".q_proj." in hf_name:
        return split_halves(value, config.num_attention_heads)
    if file.architecture == "llama" and ".k_proj." in hf_name:
        return split_halves(value, config.num_key_value_heads)
    if file.architecture.startswith("gemma") and hf_name.endswith("norm.weight"):
        return value - 1.0  # the file holds 1 + w, the Hugging Face module adds the 1 itself
    return value


def _restore_buffers(model, file: GgufFile) -> None:
    """Buffers are not in a state dict: makes those that the meta device left empty."""
    model.model.rotary_emb = type(model.model.rotary_emb)(model.config)
    if "rope_freqs.weight" in file.tensors:  # Llama 3's scaling comes as divisors
        rotary = model.model.rotary_emb
        rotary.inv_freq = rotary.inv_freq / file.tensor("rope_freqs.weight")
        rotary.original_inv_freq = rotary.inv_freq.clone()
    for module in model.modules():
        for name, buffer in list(module.named_buffers(recurse=False)):
            if buffer.is_meta and name == "embed_scale":
                setattr(module, name, torch.tensor(float(model.config.hidden_size) ** 0.5))
    left = [n for n, t in [*model.named_parameters(), *model.named_buffers()] if t.is_meta]
    if left:
        raise SystemExit(f"{file.path}: nothing was loaded for {left[:5]}")


def load_gguf(path: str):
    """The model in float32 with eager attention, in eval mode. Needs 4 bytes of memory a weight."""
    file = GgufFile(path)
    config = make_config(file)
    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(
            config, dtype=torch.float32, attn_implementation="eager"
        )
    tied = config.tie_word_embeddings
    names = [n for n in model.state_dict() if not (tied and n == "lm_head.weight")]
    used = {gguf_name(n, file.architecture) for n in names}
    extra = (
        set(file.tensors)
        - used
        - {"rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight"}
    )
    if extra:
        raise SystemExit(f"{path}: tensors that no parameter takes: {sorted(extra)[:5]}")
    model.load_state_dict(
        {n: _parameter(file, config, n) for n in names}, strict=not tied, assign=True
    )
    model.tie_weights()
    _restore_buffers(model, file)
    return model.eval()


def load_hf(folder: str):
    """A Hugging Face folder, likewise."""
    return transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager"
    ).eval()


@torch.no_grad()
def logits_of(model, ids: list[int]) -> Tensor:
    """[len(ids), vocabulary] float32: row i are the logits after token i."""
    return model(input_ids=torch.tensor([ids]), use_cache=False).logits[0].float()


def check_against_transformers(path: str, ids: list[int]) -> None:
    """Prints how far this loader's logits are from transformers' own GGUF import."""
    from metrics import compare_logits

    ours = logits_of(load_gguf(path), ids)
    folder, name = path.rsplit("/", 1)
    model = transformers.AutoModelForCausalLM.from_pretrained(
        folder, gguf_file=name, dtype=torch.float32, attn_implementation="eager"
    ).eval()
    theirs = logits_of(model, ids)
    print(
        path,
        f"max |difference| {float((ours - theirs).abs().max()):.2e}",
        compare_logits(ours, theirs, ids),
    )


if __name__ == "__main__":
    torch.set_num_threads(2)
    for argument in sys.argv[1:]:
        generator = torch.Generator().manual_seed(1)
        random_ids = torch.randint(10, 40000, (200,), generator=generator).tolist()
        check_against_transformers(argument, random_ids)
