"""Score a model per skill on held-out items, with greedy decoding and exact checks.

`python -m tools.cria.evaluate --hugging-face DIR` asks through `transformers`, `--model FILE` through Camelid itself.
Each item is one turn of a held-out conversation; the turns before it carry their true answers.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import camelid

from .conversation import Conversation, Message, Turn, is_right, to_messages
from .data import SKILLS, held_out

Ask = Callable[[list[Message], list[dict[str, Any]] | None], str]
_LONGEST_ANSWER = 160


@dataclass(frozen=True)
class Item:
    """A conversation up to one of its turns, whose answer is wanted."""

    conversation: Conversation
    turns: int

    @property
    def turn(self) -> Turn:
        """The asked turn."""
        return self.conversation.turns[self.turns - 1]


def items(skill: str, count: int) -> list[Item]:
    """Return the held-out items of a skill, always the same ones."""
    rng = Random(skill)
    return [Item(drawn, rng.randint(1, len(drawn.turns))) for drawn in held_out(skill, count)]


def score(ask: Ask, skill: str, count: int, show: bool = False) -> float:
    """Return the share of right answers."""
    right = 0
    for item in items(skill, count):
        answer = ask(to_messages(item.conversation, item.turns), list(item.conversation.tools) or None)
        good = is_right(item.turn, answer)
        right += good
        if show and not good:
            print(
                json.dumps([skill, item.turn.message[-200:], item.turn.answer, answer], ensure_ascii=False),
                file=sys.stderr,
            )
    return right / count


def transformers_ask(folder: Path) -> Ask:
    """Return a way to ask a Hugging Face folder."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)

    def ask(messages: list[Message], tools: list[dict[str, Any]] | None) -> str:
        text = tokenizer.apply_chat_template(messages, tools=tools, add_generation_prompt=True, tokenize=False)
        prompt = tokenizer(text, add_special_tokens=False, return_tensors="pt")
        with torch.inference_mode():
            ids = model.generate(**prompt, max_new_tokens=_LONGEST_ANSWER, do_sample=False)
        return str(tokenizer.decode(ids[0, prompt["input_ids"].shape[1] :], skip_special_tokens=True))

    return ask


def camelid_ask(model: Any) -> Ask:
    """Return a way to ask a model that Camelid has loaded."""

    def ask(messages: list[Message], tools: list[dict[str, Any]] | None) -> str:
        answer = model.chat(messages, tools=tools or (), temperature=0.0, max_tokens=_LONGEST_ANSWER)
        if answer.tool_calls:
            call = answer.tool_calls[0]
            return f'{{"name": {json.dumps(call.name)}, "parameters": {call.arguments}}}'
        return str(answer.text)

    return ask


def scores(ask: Ask, skills: Sequence[str], count: int, show: bool) -> dict[str, float]:
    """Return the share of right answers per skill."""
    return {skill: score(ask, skill, count, show) for skill in skills}


def main() -> None:
    """Read the command line, ask, print the scores as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    asked = parser.add_mutually_exclusive_group(required=True)
    asked.add_argument("--hugging-face", type=Path)
    asked.add_argument("--model", help="a GGUF file, or `cria`")
    parser.add_argument("--count", type=int, default=100, help="items per skill")
    parser.add_argument("--skill", action="append", choices=list(SKILLS))
    parser.add_argument("--show", action="store_true", help="print the wrong answers to stderr")
    options = parser.parse_args()
    asking = (options.skill or list(SKILLS), options.count, options.show)
    if options.hugging_face:
        found = scores(transformers_ask(options.hugging_face), *asking)
    else:
        with camelid.load(options.model) as model:
            found = scores(camelid_ask(model), *asking)
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
