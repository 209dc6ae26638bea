#!/usr/bin/env python3
"""Writes GGUF files that hold only vocabularies, input of tokenizer_oracle.py.

One for each pre-tokenizer of byte-level BPE, with tokens and merges of a given file (smollm2, say),
and SentencePiece models trained on the corpus: unigram (with NFKC rules and without, merging spaces
and not) and BPE with a space before the first word. Needs the packages gguf and sentencepiece.
"""

import argparse
import io
import os

import gguf

PRE = """default llama-bpe tekken glm4 chatglm-bpe minicpm5 deepseek-llm deepseek-coder deepseek-v3
spark2_5 falcon gpt-2 smollm qwen2 qwen35 bloom viking gpt-4o bailingmoe seed-coder ufakzeka jais-2
laguna""".split()


def writer_for(path, architecture="llama"):
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_block_count(1)
    writer.add_context_length(512)
    writer.add_embedding_length(64)
    writer.add_feed_forward_length(64)
    writer.add_head_count(1)
    writer.add_layer_norm_rms_eps(1e-5)
    return writer


def finish(writer):
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def strings(field):
    return [bytes(field.parts[i]) for i in field.data]


def write_pre_tokenizers(base, folder):
    fields = gguf.GGUFReader(base).fields
    tokens = strings(fields["tokenizer.ggml.tokens"])
    merges = strings(fields["tokenizer.ggml.merges"])
    types = [
        int(fields["tokenizer.ggml.token_type"].parts[i][0])
        for i in fields["tokenizer.ggml.token_type"].data
    ]
    for pre in PRE:
        writer = writer_for(os.path.join(folder, f"bpe-{pre}.gguf"))
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre(pre)
        writer.add_token_list(tokens)
        writer.add_token_types(types)
        writer.add_token_merges([m.decode() for m in merges])
        writer.add_bos_token_id(1)
        writer.add_eos_token_id(2)
        finish(writer)


def write_sentencepiece(name, corpus, folder, kind, rule, dummy_prefix, merge_spaces):
    import sentencepiece
    from sentencepiece import sentencepiece_model_pb2 as protocol

    stream = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(corpus.decode().splitlines()),
        model_writer=stream,
        model_type=kind,
        vocab_size=24000,
        hard_vocab_limit=False,
        character_coverage=0.98,
        normalization_rule_name=rule,
        add_dummy_prefix=dummy_prefix,
        remove_extra_whitespaces=merge_spaces,
        byte_fallback=kind == "bpe",
        user_defined_symbols=["<h1>", "<tool_call>", "fooBar"],
        control_symbols=["<|im_end|>"],
        minloglevel=2,
        num_threads=1,
    )
    model = protocol.ModelProto()
    model.ParseFromString(stream.getvalue())
    writer = writer_for(os.path.join(folder, f"{name}.gguf"))
    writer.add_tokenizer_model("llama" if kind == "bpe" else "t5")
    writer.add_tokenizer_pre("default")
    writer.add_token_list([piece.piece for piece in model.pieces])
    writer.add_token_scores([piece.score for piece in model.pieces])
    writer.add_token_types([int(piece.type) for piece in model.pieces])
    writer.add_unk_token_id(model.trainer_spec.unk_id)
    writer.add_bos_token_id(model.trainer_spec.bos_id)
    writer.add_eos_token_id(model.trainer_spec.eos_id)
    writer.add_add_space_prefix(dummy_prefix)
    writer.add_remove_extra_whitespaces(merge_spaces)
    if model.normalizer_spec.precompiled_charsmap:
        writer.add_precompiled_charsmap(model.normalizer_spec.precompiled_charsmap)
    finish(writer)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base", required=True, help="a GGUF with byte-level BPE")
    parser.add_argument("--corpus", required=True, help="made by make_corpus.py")
    parser.add_argument("folder")
    arguments = parser.parse_args()
    os.makedirs(arguments.folder, exist_ok=True)
    write_pre_tokenizers(arguments.base, arguments.folder)
    with open(arguments.corpus, "rb") as stream:
        corpus = stream.read()
    for name, kind, rule, prefix, merge in [
        ("unigram-nfkc", "unigram", "nmt_nfkc", True, True),
        ("unigram-casefold", "unigram", "nmt_nfkc_cf", True, False),
        ("unigram-plain", "unigram", "identity", False, False),
        ("spm-prefix", "bpe", "identity", True, False),
    ]:
        write_sentencepiece(name, corpus, arguments.folder, kind, rule, prefix, merge)


if __name__ == "__main__":
    main()
