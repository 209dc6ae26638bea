#!/usr/bin/env python3
"""Compares `weir tokenize` with llama.cpp's tokenizer (llama-cpp-python, vocabulary only).

For each model: the ids of the whole corpus, of each of its lines, of each line without the parsing
of special tokens, and whether decoding gives the text back. Exit code 1 on any mismatch.

A line that llama.cpp's own ids cannot give back (the vocabulary lacks a byte, or normalises) is
counted, not failed. --lines-only leaves out the whole corpus: where llama.cpp uses std::regex, a
long text overflows its stack.

  make_corpus.py /tmp/corpus.txt
  tokenizer_oracle.py --weir build/weir --corpus /tmp/corpus.txt MODEL.gguf...
"""

import argparse
import ctypes
import json
import subprocess
import sys
import time

import llama_cpp


class Reference:
    """llama.cpp's vocabulary of one file."""

    def __init__(self, path):
        self._silent = llama_cpp.llama_log_callback(lambda level, text, data: None)
        llama_cpp.llama_log_set(self._silent, ctypes.c_void_p(0))
        parameters = llama_cpp.llama_model_default_params()
        parameters.vocab_only = True
        self._model = llama_cpp.llama_model_load_from_file(path.encode(), parameters)
        if not self._model:
            raise SystemExit(f"{path}: llama.cpp cannot load the vocabulary")
        self._vocab = llama_cpp.llama_model_get_vocab(self._model)
        self.add_begin = llama_cpp.llama_vocab_get_add_bos(self._vocab)
        self.begin = llama_cpp.llama_vocab_bos(self._vocab)

    def encode(self, text, parse_special=True):
        room = len(text) + 16
        ids = (llama_cpp.llama_token * room)()
        count = llama_cpp.llama_tokenize(
            self._vocab, text, len(text), ids, room, True, parse_special
        )
        if count < 0:
            raise SystemExit("llama_tokenize wanted more room than one id a byte")
        return ids[:count]

    def decode(self, ids):
        if self.add_begin and ids and ids[0] == self.begin:
            ids = ids[1:]
        out = bytearray()
        buffer = ctypes.create_string_buffer(4096)
        for token in ids:
            count = llama_cpp.llama_token_to_piece(self._vocab, token, buffer, 4096, 0, True)
            out += buffer.raw[: max(count, 0)]
        return bytes(out)


def weir(binary, model, flags, data):
    started = time.monotonic()
    done = subprocess.run(
        [binary, "tokenize", model, *flags], input=data, capture_output=True, check=False
    )
    if done.returncode != 0:
        raise SystemExit(
            f"weir tokenize {' '.join(flags)} failed: {done.stderr.decode(errors='replace')}"
        )
    return done.stdout, time.monotonic() - started


def rows(output):
    return [json.loads(row) for row in output.splitlines()]


def compare_lines(name, reference, lines, ours, parse_special):
    wrong = 0
    ids = 0
    for number, (line, got) in enumerate(zip(lines, ours, strict=True), 1):
        want = reference.encode(line, parse_special)
        ids += len(want)
        if list(want) != got:
            wrong += 1
            if wrong <= 10:
                print(
                    f"  {name}, line {number} {line!r}\n"
                    f"    llama.cpp {list(want)}\n    weir      {got}"
                )
    return ids, wrong


def check_whole(binary, path, reference, corpus):
    """Whether the ids of the whole corpus agree, and the text that they decode to."""
    output, seconds = weir(binary, path, [], corpus)
    got = json.loads(output)
    want = list(reference.encode(corpus))
    wrong = sum(a != b for a, b in zip(want, got)) + abs(len(want) - len(got))
    text, _ = weir(binary, path, ["--decode"], output)
    same = text in (corpus, reference.decode(want))
    print(
        f"{path}: whole corpus: {len(want)} ids, {wrong} wrong, decoded "
        f"{'the same' if same else 'DIFFERENT'}, {seconds:.2f} s with loading"
    )
    return wrong == 0 and same


def check(binary, path, corpus, lines_only):
    reference = Reference(path)
    lines = corpus.split(b"\n")
    if not lines[-1]:
        lines.pop()  # the newline at the end ends a line, it does not begin one
    whole_right = lines_only or check_whole(binary, path, reference, corpus)

    per_line, _ = weir(binary, path, ["--lines"], corpus)
    per_line = rows(per_line)
    line_ids, line_wrong = compare_lines("special parsed", reference, lines, per_line, True)
    plain, _ = weir(binary, path, ["--lines", "--no-parse-special"], corpus)
    plain_ids, plain_wrong = compare_lines("special as text", reference, lines, rows(plain), False)

    decoded, _ = weir(
        binary,
        path,
        ["--decode", "--lines"],
        "".join(json.dumps(r) + "\n" for r in per_line).encode(),
    )
    returned = decoded.split(b"\n")[: len(lines)]
    impossible = trip_wrong = 0
    for line, back in zip(lines, returned, strict=True):
        if back == line:
            continue
        if reference.decode(reference.encode(line)) == line:
            trip_wrong += 1
            if trip_wrong <= 10:
                print(f"  decoding: {line!r} came back as {back!r}")
        else:
            impossible += 1
    print(
        f"{path}: {len(lines)} lines: {line_ids} ids, {line_wrong} lines wrong; special tokens as "
        f"text: {plain_ids} ids, {plain_wrong} lines wrong; decoding: {trip_wrong} lines wrong, "
        f"{impossible} that the vocabulary cannot express"
    )
    return whole_right and line_wrong == 0 and plain_wrong == 0 and trip_wrong == 0


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--weir", required=True, help="the weir binary")
    parser.add_argument("--corpus", required=True, help="made by make_corpus.py")
    parser.add_argument("--lines-only", action="store_true")
    parser.add_argument("models", nargs="+")
    arguments = parser.parse_args()
    with open(arguments.corpus, "rb") as stream:
        corpus = stream.read()
    results = [
        check(arguments.weir, path, corpus, arguments.lines_only) for path in arguments.models
    ]
    sys.exit(0 if all(results) else 1)


if __name__ == "__main__":
    main()
