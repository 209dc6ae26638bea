"""Logits and ids from llama.cpp (package llama-cpp-python): the third opinion when two sides
disagree."""

from __future__ import annotations

import numpy as np


def open_model(path: str, tokens: int, threads: int = 2):
    import llama_cpp
    from llama_cpp import llama as wrapper

    defaults = llama_cpp.llama_model_default_params

    def without_repacking():
        # Repacked weights go through AMX where the processor has it, which crashes under some
        # hypervisors.
        params = defaults()
        params.use_extra_bufts = False
        return params

    f32 = 0  # ggml's type number: an f32 KV cache, so that only the matrix products are quantised
    wrapper.llama_cpp.llama_model_default_params = without_repacking
    try:
        # n_ctx is a whole number of 256s; phi3's long factors are chosen by it.
        return llama_cpp.Llama(
            path,
            n_ctx=-(-tokens // 256) * 256,
            n_batch=tokens,
            n_ubatch=tokens,
            logits_all=True,
            flash_attn=False,
            type_k=f32,
            type_v=f32,
            n_threads=threads,
            n_threads_batch=threads,
            n_gpu_layers=0,
            verbose=False,
        )
    finally:
        wrapper.llama_cpp.llama_model_default_params = defaults


def logits_of(path: str, ids: list[int]) -> np.ndarray:
    """[len(ids), vocabulary] float32. With quantised weights llama.cpp rounds the activations
    to 8 bits.
    """
    model = open_model(path, max(len(ids), 256))
    model.eval(ids)
    return np.array(model.scores[: len(ids)], dtype=np.float32)


def tokenize(path: str, text: str) -> list[int]:
    import llama_cpp
    from llama_cpp._internals import LlamaModel

    # Not Llama(vocab_only=True): that makes a context too, and a context without weights crashes.
    params = llama_cpp.llama_model_default_params()
    params.vocab_only = True
    model = LlamaModel(path_model=path, params=params, verbose=False)
    return list(model.tokenize(text.encode("utf-8"), add_bos=model.add_bos_token(), special=False))
