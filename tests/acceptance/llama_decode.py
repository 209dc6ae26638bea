"""Generates with llama.cpp, as llama_peer.py starts it: under an interpreter that has
llama-cpp-python, with one argument, a JSON object.

    {"model", "repack", "threads", "context", "prompt", "generate", "seed", "procs", "out",
     "warm": [prompt, generate], "depths": [...]}

The interpreter and its modules are loaded before the process enters the memory cgroup `procs`, so
that their memory is not charged to it: llama.cpp has all of the limit for itself. `procs` may be
empty: no cgroup. The prompt and the generation run twice, the first time uncounted, as in `weir
bench`; with `warm` the first time has other numbers of tokens. With `depths` it generates whenever
the context holds so many tokens, as `weir bench --depths` does, and `prompt` is not used. What was
measured is written to `out` as JSON, with `depths` a list of it.
"""

import json
import os
import pathlib
import resource
import sys
import time

import llama_cpp as llama
import numpy as np

MMAP = 1  # LLAMA_LOAD_MODE_MMAP of llama.h


def random_tokens(count, vocabulary, seed):
    """The prompt of `weir bench` (tools/cmd_bench.cc): Knuth's MMIX generator."""
    tokens = []
    for _ in range(count):
        seed = (seed * 6364136223846793005 + 1442695040888963407) % (1 << 64)
        tokens.append((seed >> 33) % vocabulary)
    return tokens


def load(spec):
    """(model, context) of llama.cpp, mapped from the file."""
    params = llama.llama_model_default_params()
    params.n_gpu_layers = 0
    if hasattr(params, "load_mode"):
        params.load_mode = MMAP
    else:
        params.use_mmap = True
    if not hasattr(params, "use_extra_bufts"):
        sys.exit("this llama-cpp-python is too old: it cannot switch repacking off")
    params.use_extra_bufts = spec["repack"]
    model = llama.llama_model_load_from_file(spec["model"].encode(), params)
    if not model:
        sys.exit(f"llama.cpp could not load {spec['model']}")
    params = llama.llama_context_default_params()
    params.n_ctx = params.n_batch = spec["context"]
    params.n_threads = params.n_threads_batch = spec["threads"]
    context = llama.llama_init_from_model(model, params)
    if not context:
        sys.exit("llama.cpp could not make a context")
    return model, context


def forward(context, tokens, vocabulary):
    """The likeliest next token."""
    array = (llama.llama_token * len(tokens))(*tokens)
    code = llama.llama_decode(context, llama.llama_batch_get_one(array, len(tokens)))
    if code != 0:
        sys.exit(f"llama_decode failed with {code}")
    logits = llama.llama_get_logits_ith(context, -1)
    return int(np.ctypeslib.as_array(logits, (vocabulary,)).argmax())


def counters():
    io = dict(line.split(": ") for line in pathlib.Path("/proc/self/io").read_text().splitlines())
    return {"read_bytes": int(io["read_bytes"]),
            "major_faults": resource.getrusage(resource.RUSAGE_SELF).ru_majflt}


def clear(context):
    llama.llama_memory_clear(llama.llama_get_memory(context), True)


def generate(context, prompt, vocabulary, count):
    """One repetition, behind what the context holds."""
    begin_s = time.perf_counter()
    tokens = [forward(context, prompt, vocabulary)]
    prompt_s = time.perf_counter() - begin_s
    before, times_s = counters(), []
    for _ in range(count):
        begin_s = time.perf_counter()
        tokens.append(forward(context, tokens[-1:], vocabulary))
        times_s.append(time.perf_counter() - begin_s)
    after = counters()
    return {"tokens": tokens, "prompt_tokens_per_s": len(prompt) / prompt_s, "token_s": times_s,
            "tokens_per_s": count / sum(times_s),
            **{name: after[name] - before[name] for name in after}}


def walk_depths(context, depths, tokens, vocabulary, count):
    """One context, filled to each depth in turn; what was generated stays in it."""
    held, rows = 0, []
    for depth in depths:
        rows.append({"depth": depth,
                     **generate(context, tokens[held:depth], vocabulary, count)})
        held = depth + count
    return rows


def main():
    spec = json.loads(sys.argv[1])
    if spec["procs"]:
        pathlib.Path(spec["procs"]).write_text(str(os.getpid()))
    begin_s = time.perf_counter()
    llama.llama_backend_init()
    model, context = load(spec)
    load_s = time.perf_counter() - begin_s
    vocabulary = llama.llama_vocab_n_tokens(llama.llama_model_get_vocab(model))
    depths = spec.get("depths", [])
    tokens = random_tokens(max(depths, default=spec["prompt"]), vocabulary, spec["seed"])
    warm_prompt, warm_tokens = spec.get("warm") or (spec["prompt"], spec["generate"])
    generate(context, tokens[:warm_prompt], vocabulary, warm_tokens)
    clear(context)
    if depths:
        result = {"depths": walk_depths(context, depths, tokens, vocabulary, spec["generate"])}
    else:
        result = generate(context, tokens, vocabulary, spec["generate"])
    system = llama.llama_print_system_info().decode()
    result.update(load_s=load_s, version=llama.__version__, system=system)
    pathlib.Path(spec["out"]).write_text(json.dumps(result), encoding="utf-8")


if __name__ == "__main__":
    main()
