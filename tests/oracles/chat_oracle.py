#!/usr/bin/env python3
"""Renders chat templates with Jinja, as golden cases for chat_template_test.cc.

Templates come from tokenizer.chat_template of GGUF files and from *.jinja files. Each is rendered
with several conversations; a conversation that a template refuses is a case that must be refused.
The begin-of-text token is left out: the tokenizer adds it.

  chat_oracle.py --output tests/data/chat_golden.json tests/data/chat/*.jinja MODEL.gguf...
"""

import argparse
import json
import os

import jinja2
import jinja2.sandbox

END_TOKENS = {"phi": "<|endoftext|>"}


def message(role, content):
    return {"role": role, "content": content}


CONVERSATIONS = [
    [message("user", "Hello")],
    [message("system", "Be brief."), message("user", "Why is the sky blue?")],
    [
        message("user", "  two\nlines \n"),
        message("assistant", " I see. "),
        message("user", "and 'quotes' \"too\" \\n"),
    ],
    [
        message("system", " Speak as a pirate. "),
        message("user", "Who are you?"),
        message("assistant", "Arr."),
        message("user", "Again"),
        message("assistant", "Arr!"),
        message("user", "河流 🌊"),
    ],
    [
        message("user", "2 + 2?"),
        message("assistant", "<think>\neasy\n</think>\n\n4"),
        message("user", "times 3?"),
    ],
    [message("user", "one"), message("user", "two")],
    [message("user", "one"), message("assistant", "two")],
    [message("user", "tell"), message("tool", "me")],
]


class Refused(Exception):
    pass


def refuse(text):
    raise Refused(text)


def render(source, name, messages, generate):
    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.globals["raise_exception"] = refuse
    end = next((text for mark, text in END_TOKENS.items() if mark in name.lower()), "</s>")
    # Only what stands at the front is left out: Llama 2 repeats it between turns.
    text = environment.from_string(source).render(
        messages=messages, add_generation_prompt=generate, bos_token="<s>", eos_token=end
    )
    return text.removeprefix("<s>")


def read_template(path):
    if not path.endswith(".gguf"):
        with open(path, encoding="utf-8") as stream:
            return stream.read()
    import gguf

    field = gguf.GGUFReader(path).fields.get("tokenizer.chat_template")
    return field.contents() if field else None


def cases_of(path):
    name = os.path.splitext(os.path.basename(path))[0]
    source = read_template(path)
    if source is None:
        return None
    cases = []
    for messages in CONVERSATIONS:
        for generate in (True, False):
            case = {"messages": messages, "generate": generate}
            try:
                # A role that nobody has is refused whether the template notices it or not.
                if messages[-1]["role"] == "tool":
                    refuse("tool")
                case["text"] = render(source, name, messages, generate)
            except Refused:
                case["text"] = None
            cases.append(case)
    return {"name": name, "template": source, "cases": cases}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", required=True)
    parser.add_argument("templates", nargs="+")
    arguments = parser.parse_args()
    golden = [cases for path in sorted(arguments.templates) if (cases := cases_of(path))]
    with open(arguments.output, "w", encoding="utf-8") as stream:
        json.dump(golden, stream, indent=1, ensure_ascii=False)
        stream.write("\n")
    print(sum(len(entry["cases"]) for entry in golden), "cases")


if __name__ == "__main__":
    main()
