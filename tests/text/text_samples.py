"""Texts of many scripts and shapes, made from a seeded generator."""

from __future__ import annotations

import random

_SCRIPTS = (
    (0x20, 0x7E),  # ASCII
    (0x20, 0x7E),
    (0xA1, 0x24F),  # Latin with accents
    (0x370, 0x3FF),  # Greek
    (0x400, 0x4FF),  # Cyrillic
    (0x5D0, 0x5EA),  # Hebrew
    (0x620, 0x6FF),  # Arabic
    (0x900, 0x97F),  # Devanagari
    (0xE01, 0xE5B),  # Thai
    (0x3041, 0x30FF),  # Japanese
    (0x4E00, 0x9FFF),  # Chinese
    (0xAC00, 0xD7A3),  # Korean
    (0x300, 0x36F),  # combining marks
    (0x1F300, 0x1FAFF),  # emoji
    (0x20000, 0x2A6DF),
    (0x0, 0x1F),  # control characters
)
_ENGLISH = "the hello world it's I'LL they'Ve don'T 'ſ llama LLAMA naïve été straße  ﬁn 1st"
_CODE = "def f(x): return x+1 {'a':[1,2]} 3.14159 1000000 0x1F http://a.b/c?d=e&f=g <html> </div> \\n %s"
_OTHERS = "中文字 日本語 안녕 مرحبا привет नमस्ते สวัสดี ½ ² Ⅷ ٣ 👍🏽 👨‍👩‍👧‍👦 🇩🇪 \ufeff \u200d \u00ad"
WORDS = f"{_ENGLISH} {_CODE} {_OTHERS}".split(" ")
_SPACES = (" ", "  ", "   ", "\n", "\n\n", "\r\n", "\t", " \n ", "\n \n", "\u00a0", "\u3000", "\u2028", "\x85", "\x1c")
SPECIAL_SPELLINGS = (
    "<|begin_of_text|>",
    "<|eot_id|>",
    "<|start_header_id|>",
    "<|python_tag|>",
    "<|reserved_special_token_7|>",
    "<|eot_id",
    "eot_id|>",
    "<|",
    "|>",
    "<s>",
    "</s>",
    "<unk>",
    "<|im_start|>",
    "<|im_end|>",
    "[INST]",
)


def random_text(rng: random.Random, specials: tuple[str, ...] = SPECIAL_SPELLINGS) -> str:
    """Return a text of one to a dozen parts: words, spaces, digits, characters of any script, special spellings."""
    parts = []
    for _ in range(rng.randint(1, 12)):
        kind = rng.random()
        if kind < 0.35:
            parts.append(rng.choice(WORDS))
        elif kind < 0.6:
            parts.append(rng.choice(_SPACES))
        elif kind < 0.7:
            parts.append(str(rng.randint(0, 10 ** rng.randint(1, 12))))
        elif kind < 0.93:
            low, high = rng.choice(_SCRIPTS)
            parts.append("".join(chr(rng.randint(low, high)) for _ in range(rng.randint(1, 6))))
        else:
            parts.append(rng.choice(specials))
    return "".join(parts)
