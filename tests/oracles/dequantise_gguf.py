"""Writes a copy of a GGUF with every tensor as F32: dequantise_gguf.py IN.gguf OUT.gguf

With it llama.cpp multiplies in float32, so its logits judge the oracle's mapping without the
rounding of activations that quantised weights bring along.
"""

from __future__ import annotations

import sys

import gguf


def main() -> None:
    source, target = sys.argv[1:3]
    reader = gguf.GGUFReader(source)
    writer = gguf.GGUFWriter(target, reader.fields["general.architecture"].contents())
    for name, item in reader.fields.items():
        if name.startswith("GGUF.") or name in ("general.architecture", "general.file_type"):
            continue
        kind = item.types[0]
        writer.add_key_value(
            name,
            item.contents(),
            kind,
            item.types[-1] if kind == gguf.GGUFValueType.ARRAY else None,
        )
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    f32 = gguf.GGMLQuantizationType.F32
    for tensor in reader.tensors:
        shape = [int(n) for n in reversed(tensor.shape)]
        size = 4 * int(tensor.n_elements)
        writer.add_tensor_info(tensor.name, shape, "float32", size, raw_dtype=f32)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for tensor in reader.tensors:
        shape = [int(n) for n in reversed(tensor.shape)]
        writer.write_tensor_data(
            gguf.quants.dequantize(tensor.data, tensor.tensor_type)
            .astype("float32", copy=False)
            .reshape(shape)
        )
    writer.close()


if __name__ == "__main__":
    main()
