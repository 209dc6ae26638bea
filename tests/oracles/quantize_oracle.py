#!/usr/bin/env python3
"""Files of `weir quantize` judged by the `gguf` package, and by llama.cpp's own quantiser.

  tests/oracles/quantize_oracle.py --model qwen2.5-coder.gguf [--matrix blk.5.ffn_gate.weight]
      [--ggml .../llama_cpp/lib/libggml-base.so]

The model is made F32 first, then each format is made from that. Of one matrix (or of all, `--all`):
* weir's own decoding of the new file (`--format F32` of it) is bit-equal to the package's;
* of F16 and BF16 the bytes are the package's;
* of Q8_0, Q4_0, Q4_1, Q5_0 and Q5_1 no block has a larger squared error than the package's;
* of all block formats the relative RMS error stands beside ggml's, where its library is given.
Exit code 1 when one of the first three does not hold. Needs numpy and gguf.
"""

import argparse
import ctypes
import pathlib
import subprocess
import sys
import tempfile

import gguf
import numpy as np
from gguf.quants import dequantize, quantize

HALVES = ["F16", "BF16"]
SMALL = ["Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1"]
LARGE = ["Q4_K", "Q5_K", "Q6_K"]


def with_ggml(library, values, dtype):
    block, block_bytes = gguf.GGML_QUANT_SIZES[dtype]
    rows, columns = values.shape
    out = np.empty((rows, columns // block * block_bytes), np.uint8)
    function = library.ggml_quantize_chunk
    function.restype = ctypes.c_size_t
    function.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64,
                         ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p]
    function(int(dtype), values.ctypes.data, out.ctypes.data, 0, rows, columns, None)
    return out


def block_errors(values, blocks, dtype):
    width = max(gguf.GGML_QUANT_SIZES[dtype][0], 32)
    error = dequantize(blocks, dtype).astype(np.float64) - values
    return (error.reshape(-1, width)**2).sum(axis=1)


def judge(name, values, blocks, decoded, library):
    """Prints a line; returns whether all that must hold does."""
    dtype = gguf.GGMLQuantizationType[name]
    same = np.array_equal(dequantize(blocks, dtype).astype(np.float32).view(np.uint32),
                          decoded.view(np.uint32))
    good, text = same, f"{name:5} decoded alike: {same}"
    total = np.sum(values.astype(np.float64)**2)
    own = block_errors(values, blocks, dtype)
    text += f", relative RMS error {np.sqrt(own.sum() / total):.4e}"
    if name in HALVES:
        alike = np.array_equal(quantize(values, dtype).view(np.uint8).reshape(-1),
                               blocks.view(np.uint8).reshape(-1))
        good &= alike
        text += f", bytes alike: {alike}"
    if name in SMALL:
        theirs = block_errors(values, quantize(values, dtype), dtype)
        # Both are rounded to float32 when they are decoded.
        rounding = 1e-13 * (values.astype(np.float64)**2).reshape(len(own), -1).sum(axis=1)
        worse = np.count_nonzero(own > theirs * (1 + 1e-5) + rounding)
        good &= worse == 0
        text += f", gguf {np.sqrt(theirs.sum() / total):.4e}, worse blocks: {worse} of {len(own)}"
    if name in SMALL + LARGE and library is not None:
        theirs = block_errors(values, with_ggml(library, values, dtype), dtype)
        text += f", ggml {np.sqrt(theirs.sum() / total):.4e}"
    print(text, flush=True)
    return good


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--weir", default="build/weir")
    parser.add_argument("--matrix", action="append", help="by name; default: the first ffn_down")
    parser.add_argument("--all", action="store_true", help="all matrices")
    parser.add_argument("--formats", nargs="+", default=HALVES + SMALL + LARGE)
    parser.add_argument("--ggml", help="libggml-base.so, for comparison")
    args = parser.parse_args()
    library = ctypes.CDLL(args.ggml) if args.ggml else None
    good = True
    with tempfile.TemporaryDirectory() as folder:
        def make(source, target, name):
            subprocess.run([args.weir, "quantize", source, target, "--format", name],
                           check=True, stderr=subprocess.DEVNULL)
            return {tensor.name: tensor for tensor in gguf.GGUFReader(target).tensors}

        plain_path, path, decoded_path = (str(pathlib.Path(folder) / name)
                                          for name in ("f32.gguf", "new.gguf", "decoded.gguf"))
        plain = make(args.model, plain_path, "F32")
        names = args.matrix or [name for name in plain if name.endswith("ffn_down.weight")][:1]
        if args.all:
            names = [name for name, tensor in plain.items() if len(tensor.shape) > 1]
        for name in args.formats:
            new = make(plain_path, path, name)
            decoded = make(path, decoded_path, "F32")
            for matrix in names:
                if new[matrix].tensor_type.name != name:
                    continue  # its rows are not whole blocks
                print(f"{matrix}: ", end="")
                good &= judge(name, np.array(plain[matrix].data), np.array(new[matrix].data),
                              np.array(decoded[matrix].data), library)
            pathlib.Path(path).unlink()
            pathlib.Path(decoded_path).unlink()
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
