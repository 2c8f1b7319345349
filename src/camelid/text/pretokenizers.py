"""How byte-level vocabularies cut text into words before merging, by the name that a GGUF file gives
(`tokenizer.ggml.pre`).

A GGUF file names its pre-tokenizer but does not hold it, so the expressions have to be known here. Each rule set is a
list of expressions that cut one after the other: a match is a word, and so is what lies between matches.
The expressions are those of the models' own tokenizer files. Nothing here knows merges or ids.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from camelid.errors import UnsupportedModel

if TYPE_CHECKING:
    from tokenizers.pre_tokenizers import PreTokenizer

# English contractions, words with one leading sign, runs of digits, signs, line ends, white space.
_CL100K = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}DIGITS| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_LLAMA_3 = (_CL100K.replace("DIGITS", "{1,3}"),)
_QWEN_2 = (_CL100K.replace("DIGITS", ""),)
_GPT_2_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_GPT_2 = (_GPT_2_WORDS,)
_SINGLE_DIGITS = (r"\p{N}", _GPT_2_WORDS)
_UPPER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]"
_LOWER = r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_SIGNS = r" ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_CASED = (rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+", rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*")
_ENDING = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
_GPT_4O = (rf"{_CASED[0]}{_ENDING}|{_CASED[1]}{_ENDING}|\p{{N}}{{1,3}}|{_SIGNS}",)
_TEKKEN = (rf"{_CASED[0]}|{_CASED[1]}|\p{{N}}|{_SIGNS}",)
_DEEPSEEK_3 = (
    r"\p{N}{1,3}",
    r"[一-龥぀-ゟ゠-ヿ]+",
    r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+",
)
_DEEPSEEK_CODER = (r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", r"[一-龥ࠀ-一가-퟿]+", r"\p{N}")
_FALCON = (r"[\p{P}\$\+<=>\^~\|`]+", _GPT_2_WORDS, r"[0-9][0-9][0-9]")
# What llama.cpp falls back to for files written before pre-tokenizers were named.
_DEFAULT = (r"[\p{P}\$\+<=>\^~\|]+", _GPT_2_WORDS, r"\p{N}+", r"[0-9][0-9][0-9]")

# Beside the expression they share that words that are tokens are taken whole, whatever the merges say, and that raw
# text starts with the BOS token.
_LLAMA_3_KIN = ("llama3", "llama-v3", "llama-bpe", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2")

_RULES: dict[str, tuple[str, ...]] = {
    "default": _DEFAULT,
    **dict.fromkeys(_LLAMA_3_KIN, _LLAMA_3),
    **dict.fromkeys(("smaug-bpe", "dbrx", "glm4", "chatglm-bpe"), _LLAMA_3),
    **dict.fromkeys(("qwen2", "deepseek-r1-qwen", "megrez", "stablelm2", "hunyuan", "grok-2"), _QWEN_2),
    **dict.fromkeys(("gpt-2", "phi-2", "mpt", "olmo", "dolma", "jais", "jina-es", "jina-de", "jina-v2-code"), _GPT_2),
    **dict.fromkeys(("gigachat", "roberta-bpe", "mellum", "modern-bert", "trillion", "granite-docling"), _GPT_2),
    **dict.fromkeys(
        ("starcoder", "refact", "command-r", "smollm", "codeshell", "exaone", "minerva-7b"), _SINGLE_DIGITS
    ),
    **dict.fromkeys(("gpt-4o", "llama4", "kanana2"), _GPT_4O),
    "tekken": _TEKKEN,
    **dict.fromkeys(("deepseek-v3", "hunyuan-dense"), _DEEPSEEK_3),
    "deepseek-coder": _DEEPSEEK_CODER,
    "falcon": _FALCON,
}


def is_llama_3_kin(name: str) -> bool:
    """Tell whether words that are tokens are taken whole, and texts begin with BOS unless the file says no."""
    return name in _LLAMA_3_KIN or name == "tekken"


def pre_tokenizer(name: str) -> PreTokenizer:
    """Build the pre-tokenizer that a GGUF file calls `name`.

    Raises UnsupportedModel for a name that is not known: another rule would give other ids, and so a worse model.
    """
    from tokenizers import Regex
    from tokenizers.pre_tokenizers import ByteLevel, Sequence, Split

    rules = _RULES.get(name)
    if rules is None:
        raise UnsupportedModel(
            f"the pre-tokenizer {name!r} (tokenizer.ggml.pre) is not known",
            hint=f"use a model with one of: {', '.join(sorted(_RULES))}",
        )
    cuts = [Split(Regex(rule), behavior="isolated") for rule in rules]
    return Sequence([*cuts, ByteLevel(add_prefix_space=False, use_regex=False)])
