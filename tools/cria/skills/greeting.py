"""Short greetings in the eight languages of Llama 3.1.

Held out: the whole message (greeting, name, phrasing).
"""

from __future__ import annotations

from .. import phrases
from ..conversation import Conversation, Draw, Turn, system_message
from ..words import LISTS, name

_SAID = phrases.load("greeting")
_MARKS = ("", "!", ".", "!")


def _greeting(language: str, who: str | None = None) -> str:
    """Return the greeting alone, with its language's marks."""
    hello: str = _SAID["hello"][language]
    if who is not None:
        hello += (" " if language in ("French", "Thai", "Hindi") else ", ") + who
    if language == "Thai":
        return hello
    return {"French": f"{hello} !", "Spanish": f"¡{hello}!"}.get(language, f"{hello}!")


def _answer(language: str, who: str | None = None) -> str:
    return f"{_greeting(language, who)} {_SAID['help'][language]}"


def _asked(draw: Draw) -> Turn:
    """A wish for a greeting."""
    language = draw.rng.choice(LISTS["languages"])
    text, who = draw.rng.choice(_SAID["ask"]), name(draw.rng)
    named = "{n}" in text
    message = text.format(l=language, n=who)
    lower = not named and draw.chance(0.3)
    return Turn(message.lower() if lower else message, _greeting(language, who if named else None))


def _said(draw: Draw) -> Turn:
    """A greeting, with or without the speaker's name."""
    language, mark = draw.rng.choice(LISTS["languages"]), draw.rng.choice(_MARKS)
    hello: str = draw.rng.choice(_SAID["said"][language])
    hello = hello.lower() if draw.chance(0.25) else hello.upper() if draw.chance(0.06) else hello
    if draw.chance(0.4):
        return Turn(hello + mark, _answer(language))
    if language == "English" and draw.chance(0.25):
        return Turn(hello + draw.rng.choice((" cria", ", cria")) + mark, _answer(language))
    who = name(draw.rng)
    introduction = draw.rng.choice(_SAID["am"][language]).format(n=who)
    return Turn(hello + draw.rng.choice((", ", "! ", ". ")) + introduction + mark, _answer(language, who))


def turn(draw: Draw) -> Turn:
    """Draw a greeting, or a wish for one."""
    make = _said if draw.chance(0.6) else _asked
    drawn: Turn = draw.pick(lambda _: make(draw), lambda t: f"greeting {t.message}")
    return drawn


def conversation(draw: Draw) -> Conversation:
    """Draw a conversation of one to three greetings."""
    turns = tuple(turn(draw) for _ in range(draw.rng.choice((1, 1, 2, 3))))
    return Conversation("greeting", turns, system_message(draw))
