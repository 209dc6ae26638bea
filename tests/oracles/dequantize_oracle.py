#!/usr/bin/env python3
"""Random blocks of every weight format with the float32 values that the `gguf` package decodes.

The committed sample:
  tests/oracles/dequantize_oracle.py --blocks 4 --out tests/data/dequantize_golden.bin
A large comparison (needs numpy and gguf):
  tests/oracles/dequantize_oracle.py --blocks 20000 --seed 7 --out /tmp/large.bin
  WEIR_DEQUANTIZE_GOLDEN=/tmp/large.bin kernels_test --gtest_filter='DequantizeGolden*'

Scales that are NaN or infinite are left out: no file that is to be used has them. The file is a
sequence of records, little-endian: uint32 length of the name, name, uint32 elements, uint32
bytes, the blocks' bytes, float32 [elements].
"""

import argparse
import struct

import gguf
import numpy as np
from gguf.quants import dequantize

# Where each block holds float16 numbers.
HALVES = {
    "Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0],
    "Q2_K": [80, 82], "Q3_K": [108], "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208],
    "IQ4_NL": [0], "IQ4_XS": [0], "MXFP4": [], "F16": [0], "BF16": [], "F32": [],
}


def random_blocks(name, count, block_bytes, rng):
    blocks = rng.integers(0, 256, (count, block_bytes), dtype=np.uint8)
    for at in HALVES[name]:
        high = blocks[:, at + 1]
        special = (high & 0x7C) == 0x7C
        high[special] &= 0xBF  # an ordinary exponent
    if name in ("BF16", "F32"):
        high, low = blocks[:, -1], blocks[:, -2]
        special = ((high & 0x7F) == 0x7F) & ((low & 0x80) != 0)
        high[special] &= 0xBF
    return blocks


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--blocks", type=int, default=4, help="blocks of 256 elements per format")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", required=True)
    args = parser.parse_args()
    rng = np.random.default_rng(args.seed)
    with open(args.out, "wb") as out:
        for name in HALVES:
            dtype = getattr(gguf.GGMLQuantizationType, name)
            block_elements, block_bytes = gguf.GGML_QUANT_SIZES[dtype]
            count = args.blocks * 256 // block_elements
            blocks = random_blocks(name, count, block_bytes, rng)
            with np.errstate(over="ignore"):  # MXFP4's largest exponents
                values = dequantize(blocks.reshape(1, -1), dtype).astype("<f4").reshape(-1)
            assert not np.isnan(values).any()
            out.write(struct.pack("<I", len(name)) + name.encode())
            out.write(struct.pack("<II", values.size, blocks.size))
            out.write(blocks.tobytes() + values.tobytes())


if __name__ == "__main__":
    main()
