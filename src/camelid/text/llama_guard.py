"""What a safety classifier of the Llama Guard family is asked, and what its answer means.

The prompt is the one that Llama Guard 3 was trained with, letter for letter: its chat template on Hugging Face and the
text checks of Meta's llama-stack (`llama_guard.py`) write the same, and the tests hold both against this. Separate from
the chat templates because what is rendered is not a conversation but a question about one. It knows no model and no
request.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from camelid.errors import BadVerdict, InvalidRequest, InvalidSetting, TemplateError
from camelid.types import Category, Message

from .prompt import Marks, Prompt, choose_marks
from .tokenizer import Tokenizer

Speaker = Literal["User", "Agent"]

# The words are those of the prompt that the model was trained with. The model cards call S3, S4 and S11 Sex-Related
# Crimes, Child Sexual Exploitation, and Suicide & Self-Harm. The model of 1B parameters knows S1 to S13.
LLAMA_GUARD_3 = (
    Category("S1", "Violent Crimes"),
    Category("S2", "Non-Violent Crimes"),
    Category("S3", "Sex Crimes"),
    Category("S4", "Child Exploitation"),
    Category("S5", "Defamation"),
    Category("S6", "Specialized Advice"),
    Category("S7", "Privacy"),
    Category("S8", "Intellectual Property"),
    Category("S9", "Indiscriminate Weapons"),
    Category("S10", "Hate"),
    Category("S11", "Self-Harm"),
    Category("S12", "Sexual Content"),
    Category("S13", "Elections"),
    Category("S14", "Code Interpreter Abuse"),
)

NO_MARKS = Marks()
_NEEDED = frozenset({"<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"})
_HEADING = re.compile(r"([A-Za-z]{1,4}[0-9]{1,3}): *(\S.*)")
_MARKER = re.compile(r"<((?:BEGIN|END) (?:UNSAFE CONTENT CATEGORIES|CONVERSATION))>")


@dataclass(frozen=True)
class Said:
    """What one side of a conversation said."""

    speaker: Speaker
    text: str


def spoken(messages: Sequence[Message]) -> tuple[Said, ...]:
    """Return a conversation as the classifier reads it, which knows two speakers.

    What the assistant said and called is the agent's; everything else comes from outside and is the user's. Messages
    of one speaker that follow each other are one, so that none of them hides behind the last; empty ones are left out.
    """
    conversation: list[Said] = []
    for message in messages:
        speaker: Speaker = "Agent" if message.role == "assistant" else "User"
        calls = (f'{{"name": "{call.name}", "parameters": {call.arguments}}}' for call in message.tool_calls)
        conversation = added(conversation, Said(speaker, "\n".join(filter(None, (message.content, *calls)))))
    return tuple(conversation)


def added(conversation: Sequence[Said], said: Said, between: str = "\n\n") -> list[Said]:
    """Return a conversation with one more message.

    One of the last speaker goes on with his last message, with `between` in between.
    """
    if not said.text.strip():
        return list(conversation)
    if conversation and conversation[-1].speaker == said.speaker:
        return [*conversation[:-1], Said(said.speaker, f"{conversation[-1].text}{between}{said.text}")]
    return [*conversation, said]


def check_vocabulary(tokenizer: Tokenizer) -> None:
    """Raise TemplateError unless a vocabulary has the control tokens that the prompt is written with."""
    missing = sorted(_NEEDED - tokenizer.control.keys())
    if missing:
        raise TemplateError(
            f"the vocabulary has no {missing[0]}, with which Llama Guard's prompt is written",
            hint="take a safety model of the Llama Guard 3 family",
        )


def guard_prompt(conversation: Sequence[Said], categories: Sequence[Category], tokenizer: Tokenizer) -> Prompt:
    """Return the prompt that asks whether the last message of a conversation is safe.

    White space around messages is dropped, as the model's own template does. A message that spells out a border of the
    prompt's parts has it in square brackets. Raises InvalidRequest for an empty conversation.
    """
    if not conversation:
        raise InvalidRequest("there is no message to be judged", field="messages")
    marks = choose_marks(tokenizer.protected, [said.text for said in conversation])
    opened = f"{tokenizer.spelling_of(tokenizer.bos_id)}<|start_header_id|>user<|end_header_id|>\n\n"
    closed = "<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"
    return Prompt(opened + guard_question(conversation, categories, marks) + closed, marks)


def guard_question(conversation: Sequence[Said], categories: Sequence[Category], marks: Marks = NO_MARKS) -> str:
    """Return the text of the question, without control tokens. Its grammar is the one of the original."""
    speaker = conversation[-1].speaker
    policy = "\n".join(map(_line, categories))
    said = "".join(f"{one.speaker}: {marks.mark(_harmless(one.text.strip()))}\n\n" for one in conversation)
    return (
        f"Task: Check if there is unsafe content in '{speaker}' messages in conversations according our safety policy "
        "with the below categories.\n\n"
        f"<BEGIN UNSAFE CONTENT CATEGORIES>\n{policy}\n<END UNSAFE CONTENT CATEGORIES>\n\n"
        f"<BEGIN CONVERSATION>\n\n{said}<END CONVERSATION>\n\n"
        f"Provide your safety assessment for ONLY THE LAST {speaker} message in the above conversation:\n"
        " - First line must read 'safe' or 'unsafe'.\n"
        " - If unsafe, a second line must include a comma-separated list of violated categories."
    )


def parse_verdict(text: str, known: Sequence[Category]) -> tuple[Category, ...]:
    """Return the categories that an answer of the classifier names: none for `safe`.

    Only `safe`, or `unsafe` and a second line of keys such as `S1,S9`, is a verdict; white space around it does not
    count. Raises BadVerdict for anything else, a key that is not among `known` included.
    """
    lines = text.strip().split("\n")
    if lines == ["safe"]:
        return ()
    by_key = {category.key: category for category in known}
    keys = [key.strip() for key in lines[-1].split(",")]
    if len(lines) != 2 or lines[0].rstrip() != "unsafe" or not all(key in by_key for key in keys):
        raise BadVerdict(f"the safety model answered {text[:80]!r}, which is no verdict")
    return tuple(by_key[key] for key in dict.fromkeys(keys))


def parse_policy(text: str) -> tuple[Category, ...]:
    """Return the categories of a policy, written as the prompt lists them: `S1: Name.`, and below it what it covers.

    Lines that are no heading belong to the category above. Raises InvalidSetting.
    """
    categories: list[Category] = []
    for line in text.strip().splitlines():
        heading = _HEADING.fullmatch(line.rstrip())
        if heading is not None:
            categories.append(Category(heading[1], heading[2].rstrip(". ")))
        elif categories:
            last = categories[-1]
            categories[-1] = Category(last.key, last.name, f"{last.description}\n{line.rstrip()}".strip("\n"))
        elif line.strip():
            raise InvalidSetting(f"a safety policy begins with a line such as 'S1: Name.', got {line[:60]!r}")
    keys = [category.key for category in categories]
    if not keys or len(set(keys)) < len(keys):
        raise InvalidSetting("a safety policy must have at least one category, and each key once")
    return tuple(categories)


def _line(category: Category) -> str:
    """Return a category as the prompt lists it. An operator's own words cannot end the list."""
    described = f"\n{category.description}" if category.description else ""
    return _harmless(f"{category.key}: {category.name}.{described}")


def _harmless(text: str) -> str:
    return _MARKER.sub(r"[\1]", text)
