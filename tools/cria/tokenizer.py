"""cria's tokenizer: byte-level BPE in Llama 3's form, trained on the recipe's own text.

The numbers from 0 to 199 are one token each, as all numbers below 1000 are in Llama 3: sums and sorted lists then need
no spelling. No other merge joins digits.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from .chat import pieces
from .data import SKILLS, conversations

VOCABULARY = 1536
NUMBERS = 200  # 0 to 199 are tokens
PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
    r"|[^\r\n\p{L}\p{N}]?\p{L}+"
    r"|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
SPECIAL = (
    "<|begin_of_text|>",
    "<|end_of_text|>",
    "<|reserved_special_token_0|>",
    "<|reserved_special_token_1|>",
    "<|finetune_right_pad_id|>",
    "<|reserved_special_token_2|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eom_id|>",
    "<|eot_id|>",
    "<|python_tag|>",
    *(f"<|reserved_special_token_{i}|>" for i in range(3, 8)),
)


def _texts(seed: int, count: int) -> Iterator[str]:
    weights = dict.fromkeys(SKILLS, 1.0)
    for conversation in islice(conversations(seed, weights), count):
        text = "".join(piece for piece, _ in pieces(conversation))
        for special in SPECIAL:
            text = text.replace(special, "\n")
        yield text


def _split(*extra: pre_tokenizers.PreTokenizer) -> pre_tokenizers.PreTokenizer:
    split = pre_tokenizers.Split(Regex(PATTERN), behavior="isolated")
    return pre_tokenizers.Sequence([split, *extra, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def train(texts: Iterator[str], size: int = VOCABULARY) -> Tokenizer:
    """Train a tokenizer of `size` tokens; special tokens take the last ids, as in Llama 3."""
    base = Tokenizer(models.BPE())
    base.pre_tokenizer = _split(pre_tokenizers.Digits(individual_digits=True))
    trainer = trainers.BpeTrainer(
        vocab_size=size - len(SPECIAL) - (NUMBERS - 10),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    base.train_from_iterator(texts, trainer)
    vocabulary, merges = _with_numbers(json.loads(base.to_str())["model"])
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, ignore_merges=True))
    tokenizer.pre_tokenizer = _split()
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(SPECIAL))
    return tokenizer


def _with_numbers(model: dict[str, Any]) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Return vocabulary and merges with the numbers of two and three digits added, their merges last."""
    vocabulary = dict(model["vocab"])
    merges = [(left, right) for left, right in model["merges"]]
    for number in map(str, range(10, NUMBERS)):
        vocabulary[number] = len(vocabulary)
        merges.append((number[:-1], number[-1]))
    return vocabulary, merges


def numbers(tokenizer: Tokenizer) -> dict[int, int]:
    """Return the value of every token that is a number, by its id."""
    return {tokenizer.token_to_id(str(value)): value for value in range(NUMBERS)}


def with_begin(tokenizer: Tokenizer) -> Tokenizer:
    """Return a copy that puts the begin token before every text, as Llama 3's tokenizer.json does."""
    copy = Tokenizer.from_str(tokenizer.to_str())
    begin = copy.token_to_id("<|begin_of_text|>")
    template = processors.TemplateProcessing(
        single="<|begin_of_text|> $A",
        pair="<|begin_of_text|> $A <|begin_of_text|> $B",
        special_tokens=[("<|begin_of_text|>", begin)],
    )
    copy.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=False), template])
    return copy


def load(path: Path) -> Tokenizer:
    """Return the tokenizer saved at `path`, trained and saved first if there is none."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        train(_texts(seed=1, count=20000)).save(str(path))
    return Tokenizer.from_file(str(path))
