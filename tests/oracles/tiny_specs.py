"""The random tiny models: one for each thing that an architecture does its own way.

`plain` names config changes that switch a feature off; make_tiny_hf.py checks that the logits
then differ, so a reader of the file that ignored the feature could not pass.
"""

from __future__ import annotations

from dataclasses import dataclass, field

VOCABULARY = 512


@dataclass(frozen=True)
class Spec:
    name: str
    config_class: str  # of transformers
    config: dict
    tokenizer: str = "spm"  # "spm", or the name of a byte-level pre-tokenizer
    out_types: tuple = (
        "f32",
    )  # the first is compared with the HF weights, the others with the GGUF's own
    plain: dict = field(default_factory=dict)


_BASE = dict(
    vocab_size=VOCABULARY,
    hidden_size=128,
    intermediate_size=256,
    num_hidden_layers=3,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=2048,
    rms_norm_eps=1e-5,
    bos_token_id=1,
    eos_token_id=2,
    pad_token_id=None,
)


def _config(**changes) -> dict:
    return {**_BASE, **changes}


def _rope(**values) -> dict:
    return {"rope_theta": 10000.0, **values}


_LLAMA3 = _rope(
    rope_type="llama3",
    factor=8.0,
    low_freq_factor=1.0,
    high_freq_factor=4.0,
    original_max_position_embeddings=128,
)
# With partial_rotary_factor 0.75 of a head of 32: 24 columns, 12 factors.
_LONG = [1.0 + 0.9 * i for i in range(12)]
_SHORT = [1.0 + 0.05 * i for i in range(12)]


def _longrope(original: int) -> dict:
    return dict(
        rope_parameters=_rope(
            rope_type="longrope",
            long_factor=_LONG,
            short_factor=_SHORT,
            partial_rotary_factor=0.75,
            original_max_position_embeddings=original,
        ),
        original_max_position_embeddings=original,
    )


SPECS = [
    Spec(
        "llama",
        "LlamaConfig",
        _config(rope_parameters=_rope(rope_type="default"), tie_word_embeddings=True, head_dim=16),
    ),
    Spec(
        "llama3_scaling",
        "LlamaConfig",
        _config(rope_parameters=_LLAMA3, head_dim=64),
        tokenizer="llama-bpe",
        out_types=("f32", "f16", "q8_0"),
        plain=dict(rope_parameters=_rope(rope_type="default")),
    ),
    Spec(
        "llama_linear",
        "LlamaConfig",
        _config(rope_parameters=_rope(rope_type="linear", factor=4.0)),
        plain=dict(rope_parameters=_rope(rope_type="default")),
    ),
    Spec(
        "llama_yarn",
        "LlamaConfig",
        _config(
            rope_parameters=_rope(
                rope_type="yarn", factor=4.0, original_max_position_embeddings=128
            ),
            head_dim=64,
            max_position_embeddings=512,
        ),
        plain=dict(rope_parameters=_rope(rope_type="linear", factor=4.0)),
    ),
    Spec(
        "mistral",
        "MistralConfig",
        _config(
            rope_parameters=_rope(rope_type="default", rope_theta=1e6),
            head_dim=48,
            sliding_window=None,
        ),
        out_types=("f32", "bf16"),
    ),
    Spec(
        "qwen2",
        "Qwen2Config",
        _config(
            rope_parameters=_rope(rope_type="default", rope_theta=1e6), tie_word_embeddings=False
        ),
        tokenizer="qwen2",
        out_types=("f32", "bf16"),
    ),
    Spec(
        "qwen3",
        "Qwen3Config",
        _config(
            rope_parameters=_rope(rope_type="default", rope_theta=1e6),
            head_dim=64,
            tie_word_embeddings=True,
        ),
        tokenizer="qwen2",
    ),
    Spec("gemma", "GemmaConfig", _config(head_dim=64, num_key_value_heads=1, rms_norm_eps=1e-6)),
    Spec(
        "gemma2",
        "Gemma2Config",
        _config(
            head_dim=64,
            sliding_window=48,
            attn_logit_softcapping=3.0,
            final_logit_softcapping=5.0,
            query_pre_attn_scalar=64,
            num_hidden_layers=4,
            rms_norm_eps=1e-6,
        ),
        plain=dict(sliding_window=4096),
    ),
    Spec(
        "gemma3",
        "Gemma3TextConfig",
        _config(
            head_dim=64,
            num_key_value_heads=1,
            sliding_window=48,
            query_pre_attn_scalar=64,
            num_hidden_layers=8,
            rms_norm_eps=1e-6,
            rope_parameters=dict(
                full_attention=dict(rope_type="linear", factor=8.0, rope_theta=1e6),
                sliding_attention=dict(rope_type="default", rope_theta=10000.0),
            ),
        ),
        out_types=("f32", "q8_0"),
        plain=dict(sliding_window=49),
    ),
    Spec("phi3", "Phi3Config", _config(rope_parameters=_rope(rope_type="default"))),
    # Microsoft's 4k models have a window (2,047) below their context; llama.cpp ignores it,
    # transformers does not.
    Spec(
        "phi3_window",
        "Phi3Config",
        _config(rope_parameters=_rope(rope_type="default"), sliding_window=64),
        plain=dict(sliding_window=None),
    ),
    Spec("phi3_longrope_long", "Phi3Config", _config(**_longrope(128)), plain=_longrope(1024)),
    Spec(
        "phi3_longrope_short",
        "Phi3Config",
        _config(**_longrope(1024)),
        plain=dict(rope_parameters=_rope(rope_type="default", partial_rotary_factor=0.75)),
    ),
    # Biases of the projections: the converter permutes them as it does the rows of q and k.
    Spec(
        "llama_bias",
        "LlamaConfig",
        _config(rope_parameters=_rope(rope_type="default"), attention_bias=True),
    ),
    # YaRN with its bounds and its magnitude given, on halves.
    Spec(
        "qwen2_yarn",
        "Qwen2Config",
        _config(
            rope_parameters=_rope(
                rope_type="yarn",
                factor=4.0,
                original_max_position_embeddings=128,
                beta_fast=16.0,
                beta_slow=2.0,
                attention_factor=1.3,
            ),
            max_position_embeddings=512,
        ),
        tokenizer="qwen2",
        plain=dict(
            rope_parameters=_rope(
                rope_type="yarn", factor=4.0, original_max_position_embeddings=128
            )
        ),
    ),
    # The 27b sizes, which a file gives away only by their number of layers: queries are scaled by
    # columns / heads.
    Spec(
        "gemma2_27b",
        "Gemma2Config",
        _config(
            hidden_size=96,
            intermediate_size=128,
            head_dim=32,
            sliding_window=48,
            query_pre_attn_scalar=24,
            num_hidden_layers=46,
            rms_norm_eps=1e-6,
        ),
        plain=dict(query_pre_attn_scalar=32),
    ),
    Spec(
        "gemma3_27b",
        "Gemma3TextConfig",
        _config(
            hidden_size=96,
            intermediate_size=128,
            head_dim=32,
            sliding_window=48,
            query_pre_attn_scalar=24,
            num_hidden_layers=62,
            rms_norm_eps=1e-6,
        ),
        plain=dict(query_pre_attn_scalar=32),
    ),
]
