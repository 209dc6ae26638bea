#!/usr/bin/env python3
"""Writes a text that tries tokenizers: scripts, emoji, marks, code, white space, special tokens.

The same seed gives the same bytes. Always valid UTF-8; at least --lines lines.
"""

import argparse
import random
import sys

WORDS = {
    "latin": (
        "the weir regulates a river flow and measures it across every season naïve façade Zürich "
        "Straße œuvre piñata São Łódź İstanbul ıssız Ångström Þórr ǆ ǅ ﬁne ﬂow ĳssel"
    ).split(),
    "greek": "ὁ ποταμὸς ῥεῖ καὶ τὸ φράγμα μετρᾷ Ὀδυσσεύς ΣΊΣΥΦΟΣ ἀρχή Ὦ".split(),
    "cyrillic": "плотина измеряет течение реки Ёлка Їжак ўзор Ѳита ѣсть Ꙗко".split(),
    "armenian": "գետը հոսում է և ամբարտակը չափում Երևան".split(),
    "hebrew": "הנהר זורם שָׁלוֹם בְּרֵאשִׁית והסכר מודד".split(),
    "arabic": "النهر يجري والسد يقيس السَّلَامُ عَلَيْكُمْ ﷽ ٱلله گچپژ ۔ ؟".split(),
    "devanagari": "नदी बहती है और बाँध मापता क्षत्रिय हिन्दी श्रीमान् ॐ १२३".split(),
    "bengali": "নদী বয়ে যায় বাঁধ মাপে ক্ষ ৪৫৬".split(),
    "tamil": "ஆறு ஓடுகிறது அணை அளக்கிறது க்ஷ ௧௨௩".split(),
    "telugu": "నది ప్రవహిస్తుంది ఆనకట్ట కొలుస్తుంది".split(),
    "sinhala": "ගඟ ගලා යයි ශ්‍රී ලංකා".split(),
    "thai": "แม่น้ำไหล เขื่อนวัดน้ำ กรุงเทพมหานคร ๑๒๓ ฯลฯ".split(),
    "lao": "ແມ່ນ້ຳໄຫຼ ໑໒໓".split(),
    "tibetan": "ཆུ་བོ་རྒྱུག་གི་འདུག །".split(),
    "burmese": "မြစ်သည် စီးဆင်း၏ ၁၂၃".split(),
    "khmer": "ទន្លេហូរ ទំនប់វាស់ ១២៣".split(),
    "georgian": "მდინარე მიედინება ᲛᲓᲘᲜᲐᲠᲔ".split(),
    "hangul": "강이 흐르고 둑이 잰다 한국어 ᄒᆞᆫ글 ㅋㅋㅋ".split(),
    "kana": "川が流れ 堰が測る カタカナ ﾊﾝｶｸ プログラム ｗｗｗ ゟ ヿ".split(),
    "han": "河流不息 水坝测量 漢字 龍龘 𠮷野家 㐀㐁 豈更 、。《》「」".split(),
    "ethiopic": "ወንዙ ይፈስሳል ፩፪፫ ።".split(),
    "cherokee": "ᎡᏉᎯ ᏣᎳᎩ ꮳꮃꭹ".split(),
    "canadian": "ᐃᓄᒃᑎᑐᑦ ᖃᓂᐅᔮᖅᐸᐃᑦ".split(),
    "mongolian": "ᠮᠣᠩᠭᠣᠯ ᠪᠢᠴᠢᠭ".split(),
    "ancient": "𐎠𐎡𐎢 𒀀𒁀 𓀀𓁐 𐤀𐤁 ᚠᚢᚦ 𐌰𐌱 𝔘𝔫𝔦 𝟘𝟙𝟚 𐐷𐐲".split(),
}

FAMILY = [
    "👨‍👩‍👧‍👦",
    "👩🏽‍🚀",
    "🧑🏿‍🤝‍🧑🏻",
    "👍",
    "👍🏻",
    "👍🏿",
    "❤️",
    "❤",
    "☕️",
    "1️⃣",
    "#️⃣",
    "🏳️‍🌈",
    "🏴‍☠️",
    "🏴󠁧󠁢󠁳󠁣󠁴󠁿",
    "🇩🇪",
    "🇯🇵",
    "🇺🇳🇪🇺",
    "😀",
    "🤷‍♀️",
    "🐻‍❄️",
    "🫠",
    "🪿",
    "🫨",
    "🩷",
    "©️",
    "™",
    "⏱️",
    "🀄",
    "🂡",
]

SPACES = [
    " ",
    "  ",
    "   ",
    "    ",
    "\t",
    "\t\t",
    " \t ",
    "\u00a0",
    "\u2003",
    "\u3000",
    "\u200b",
    "\u2028",
    "\u2029",
    "\u0085",
    "\u000b",
    "\u000c",
    "\u1680",
    "\u202f",
    "\u205f",
    "\u180e",
    "\ufeff",
    "\u2060",
    "\r",
    "\x1c",
    "\x1f",
    " " * 17,
    " " * 64,
    "\t" * 9,
]

CONTRACTIONS = [
    "I'm",
    "I'M",
    "don't",
    "DON'T",
    "we've",
    "WE'VE",
    "they'll",
    "THEY'LL",
    "you're",
    "YOU'RE",
    "he'd",
    "HE'D",
    "it's",
    "IT'S",
    "'s",
    "'S",
    "'ll",
    "'tis",
    "rock'n'roll",
    "o'clock",
    "’s",
    "I’m",
    "'ſ",
    "l'été",
    "d'Or",
    "''s",
    "'re're",
    "'Ve",
    "'lL",
    "x'mas",
    "'",
]

CODE = [
    "int main(int argc, char** argv) {",
    "\tfor (size_t i = 0; i < n; ++i) {",
    "        return a[i] != b[i] ? -1 : 0;",
    "def reverse(s: str) -> str:",
    "    return s[::-1]  # O(n)",
    "#include <stdio.h>",
    '<div class="weir">&nbsp;</div>',
    "SELECT * FROM t WHERE x >= 1e-3 AND y LIKE '%z';",
    "std::vector<std::pair<int,int>>{};",
    "}}}}",
    "});",
    "//////",
    "#####",
    "-----",
    "=====",
    "\\x00\\u0041\\n",
    "0xDEADBEEF 0b1010 1_000_000 3.14159e+10",
    "a->b.c::d",
    "$(ls -la | grep '^d')",
    "[](auto&& x) noexcept { return x<<2; }",
    '{"k": [1, 2.5, null, true]}',
    "\\frac{a}{b} \\sum_{i=0}^{n}",
    "foo_bar fooBar FooBAR fOO",
    "HTTPServer2XMLParser",
    "…—–‘’“”„‚«»‹›•·",
    "@user #tag ~/path/to/file.tar.gz C:\\Windows\\System32",
]

URLS = [
    "https://example.org/a/b?c=d&e=%20f#g",
    "http://user:pw@host:8080/",
    "mailto:someone@example.com",
    "ftp://127.0.0.1/x",
    "https://zh.wikipedia.org/wiki/堰",
    "www.weir.example/índice.html",
]

SPECIAL = [
    "<|im_start|>",
    "<|im_end|>",
    "<|endoftext|>",
    "<s>",
    "</s>",
    "<unk>",
    "<bos>",
    "<eos>",
    "<start_of_turn>",
    "<end_of_turn>",
    "<|fim_prefix|>",
    "<|fim_suffix|>",
    "<tool_call>",
    "</tool_call>",
    "<repo_name>",
    "<file_sep>",
    "<0x41>",
    "<unused7>",
    "<|im_start",
    "im_end|>",
    "<<|im_end|>>",
    "<|eot_id|>",
    "[INST]",
    "[/INST]",
    "<pad>",
    "<mask>",
    "<h1>",
    "</h1>",
    "<b>",
    "<|file_sep|>",
    "[multimodal]",
    "<start_of_image>",
    "<reponame>",
    "<|box_start|>",
]


ENDS = ["\n"] * 12 + ["\r\n", "\n\n", "\n\n\n\n", "\r\n\r\n", " \n", "\t\n", "\n" * 40]


def word(rng):
    return rng.choice(WORDS[rng.choice(list(WORDS))])


def number(rng):
    kind = rng.randrange(8)
    digits = "".join(
        rng.choice("0123456789") for _ in range(rng.choice([1, 2, 3, 4, 5, 7, 12, 31]))
    )
    return [
        digits,
        digits + "." + digits[:2],
        "-" + digits,
        digits[:3] + "," + digits[:3],
        "٣٤٥" + digits[:2],
        "½¾²³" + digits[:1],
        "Ⅷ" + digits[:1] + "①⑳",
        "१२" + digits[:3],
    ][kind]


def code_point(rng, low, high):
    while True:
        value = rng.randrange(low, high)
        # U+2581 is what SentencePiece writes for a space: such a vocabulary cannot give it back.
        if not 0xD800 <= value <= 0xDFFF and value not in (0x0A, 0x2581):
            return chr(value)


def random_text(rng):
    low, high = rng.choice(
        [
            (0x20, 0x7F),
            (0x80, 0x250),
            (0x300, 0x370),
            (0x370, 0x1000),
            (0x1000, 0x3000),
            (0x3000, 0xA000),
            (0xA000, 0xD800),
            (0xE000, 0xF900),
            (0xF900, 0x10000),
            (0x10000, 0x11000),
            (0x11000, 0x14000),
            (0x16000, 0x1C000),
            (0x1D000, 0x1E000),
            (0x1E000, 0x20000),
            (0x20000, 0x32400),
            (0x32400, 0xE0000),
            (0xE0000, 0xE0200),
            (0xF0000, 0x110000),
            (0x00, 0x20),
        ]
    )
    return "".join(code_point(rng, low, high) for _ in range(rng.randint(1, 12)))


def marks(rng):
    base = rng.choice(list("aeiouZñ한ก") + ["e\u0301", "\u0301", "क"])
    return base + "".join(chr(rng.randrange(0x300, 0x370)) for _ in range(rng.randint(1, 6)))


def piece(rng):
    kinds = [
        word,
        word,
        word,
        number,
        lambda r: r.choice(FAMILY),
        lambda r: r.choice(SPACES),
        lambda r: r.choice(CONTRACTIONS),
        lambda r: r.choice(CODE),
        lambda r: r.choice(URLS),
        lambda r: r.choice(SPECIAL),
        random_text,
        marks,
        lambda r: r.choice("!?.,;:-_()[]{}/\\|*&^%$#@~`\"'+=<>") * r.choice([1, 1, 2, 3, 8]),
        lambda r: r.choice("abcxyzABCXYZß") * r.choice([1, 2, 5, 40]),
    ]
    return rng.choice(kinds)(rng)


def line(rng):
    kind = rng.randrange(12)
    if kind == 0:
        return ""
    if kind == 1:
        return " " * rng.randint(0, 40) + rng.choice(CODE)
    if kind == 2:
        return "\t" * rng.randint(1, 33) + word(rng)
    if kind == 3:
        script = WORDS[rng.choice(list(WORDS))]
        return " ".join(rng.choice(script) for _ in range(rng.randint(2, 15)))
    if kind == 4:
        return "".join(rng.choice(FAMILY) for _ in range(rng.randint(1, 8)))
    if kind == 5:
        return "".join(piece(rng) for _ in range(rng.randint(2, 8)))
    if kind == 6:
        return rng.choice(SPACES) * rng.randint(1, 3) + piece(rng) + rng.choice(SPACES)
    return rng.choice(["", " ", "  "]) + " ".join(piece(rng) for _ in range(rng.randint(2, 12)))


def sweep():
    """Every assigned-looking block once: 24 neighbours every 0x140 code points."""
    for start in range(0xA0, 0x110000, 0x140):
        if 0xD700 <= start < 0xE000 or 0x32400 <= start < 0xE0000 or 0xE0400 <= start < 0x10FF00:
            continue
        points = [c for c in range(start, start + 24) if c != 0x2581 and c < 0x110000]
        yield f"{start:x} " + "".join(map(chr, points))


def corpus(seed, lines):
    rng = random.Random(seed)
    out = list(sweep())
    while len(out) < lines:
        out.append(line(rng))
    text = []
    for item in out:
        text.append(item)
        text.append(rng.choice(ENDS))
    return "".join(text)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=20)
    parser.add_argument("--lines", type=int, default=4000)
    parser.add_argument("output")
    arguments = parser.parse_args()
    with open(arguments.output, "wb") as stream:
        stream.write(corpus(arguments.seed, arguments.lines).encode("utf-8"))
    print(f"{arguments.output}: seed {arguments.seed}", file=sys.stderr)


if __name__ == "__main__":
    main()
