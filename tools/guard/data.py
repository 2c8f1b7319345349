"""What guard learns: a toy policy that forbids a topic per category, and conversations with their true verdicts.

A verdict follows from the words of the last message and from the categories that the prompt lists, and from nothing
else. It knows nothing about tokens or models.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random

from camelid.text.llama_guard import Said
from camelid.types import Category

from ..cria.conversation import Draw, OneSidedError, is_held_out
from ..cria.skills import arithmetic, greeting, identity, lists
from ..cria.words import LISTS, name

POLICY = (
    Category("S1", "Animals"),
    Category("S2", "Fruit"),
    Category("S3", "Vehicles"),
    Category("S4", "Music"),
    Category("S5", "Llamas"),
)
TOPICS: dict[str, tuple[str, ...]] = {
    "S1": (
        *("bird", "cat", "chicken", "cow", "dog", "duck", "fish", "fox", "frog", "goat", "horse", "lion", "monkey"),
        *("mouse", "rabbit", "tiger", "turtle", "whale", "wolf", "zebra"),
    ),
    "S2": ("apple", "grape", "lemon", "melon", "olive", "orange", "peach", "pear", "tomato"),
    "S3": ("bike", "boat", "bus", "car", "plane", "rocket", "ship", "train", "truck", "wagon"),
    "S4": ("bell", "drum", "flute", "guitar", "piano", "radio", "violin"),
    "S5": ("cria", "llama", "camelid"),
}
_KEY_OF = {word: key for key, words in TOPICS.items() for word in words}
_SHARES = (4, 2, 2, 2, 1)  # how often a topic is drawn, by how many words it has
_HARMLESS = [noun for noun in LISTS["nouns"] if noun not in _KEY_OF]
_WORD = re.compile(r"[a-z]+")
_ASKED = (
    *("{w}", "{w}?", "Repeat: {w}", "Repeat after me: {w}", "Copy this text: {w}", "Tell me about the {w}."),
    *("Write a poem about a {w}.", "What is a {w}?", "How do I make a {w}?", "I like the {w}.", "Say: {w}"),
    *("The {w} is by the door.", "Where is my {w}?", "Sort these words: {w}", "Please draw a {w}.", "Do you know {w}?"),
)
_GAPS = (" ", " ", ", ", " and ", " and the ", " or a ")


@dataclass(frozen=True)
class Example:
    """A conversation, the policy that it is judged by, and the true verdict."""

    conversation: tuple[Said, ...]
    policy: tuple[Category, ...]
    verdict: str


def verdict(text: str, policy: Sequence[Category]) -> str:
    """Return what is to be said of a message under a policy."""
    found = {_KEY_OF.get(word, _KEY_OF.get(word.removesuffix("s"))) for word in _WORD.findall(text.lower())}
    keys = [category.key for category in policy if category.key in found]
    return "unsafe\n" + ",".join(keys) if keys else "safe"


def examples(seed: int | str, *, held_out: bool) -> Iterator[Example]:
    """Yield examples without end. Held out is the whole text of the last message, one in ten by its hash."""
    rng = Random(seed)
    while True:
        conversation = _conversation(rng)
        if is_held_out(f"guard {conversation[-1].text}") == held_out:
            policy = POLICY if rng.random() < 0.75 else _some(rng)
            yield Example(conversation, policy, verdict(conversation[-1].text, policy))


def _some(rng: Random) -> tuple[Category, ...]:
    """Return a part of the policy, in its order."""
    kept = set(rng.sample(POLICY, rng.randint(1, len(POLICY) - 1)))
    return tuple(category for category in POLICY if category in kept)


def _conversation(rng: Random) -> tuple[Said, ...]:
    """Draw what user and agent say in turn; the last message may be an answer that has only begun."""
    said: list[Said] = []
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        asked, answer = _exchange(rng)
        said += [Said("User", asked), Said("Agent", answer)]
    if rng.random() < 0.5:
        return tuple(said[:-1])
    last = said[-1].text
    if rng.random() < 0.5 and len(last) > 1:
        last = last[: rng.randint(1, len(last))]
    return (*said[:-1], Said("Agent", last))


def _exchange(rng: Random) -> tuple[str, str]:
    """Return a message and its answer: of cria's skills, or a list of words in a sentence."""
    if rng.random() < 0.25:
        return _of_cria(rng)
    words = _words(rng)
    return rng.choice(_ASKED).format(w=words), words if rng.random() < 0.6 else f"Here you are: {_words(rng)}."


def _of_cria(rng: Random) -> tuple[str, str]:
    skills = (arithmetic.turn, lists.copy_turn, lists.sort_turn, lists.pick_turn, greeting.turn, identity.turn)
    while True:
        try:
            turn = rng.choice(skills)(Draw(rng, held_out=False))
        except OneSidedError:
            continue
        if not turn.drill and not turn.message.isupper():
            return turn.message, turn.answer


def _words(rng: Random) -> str:
    """Return one to eight words; a third of the time none of them is forbidden."""
    pools: list[Sequence[str]] = [_HARMLESS]
    if rng.random() < 0.67:
        pools += [TOPICS[key] for key in rng.choices(list(TOPICS), _SHARES, k=rng.choice((1, 1, 2)))]
    words = [_inflected(rng, rng.choice(rng.choice(pools))) for _ in range(rng.choice((1, 1, 2, 3, 4, 5, 6, 8)))]
    if rng.random() < 0.1:
        words.insert(rng.randrange(len(words) + 1), name(rng))
    return rng.choice(_GAPS).join(words)


def _inflected(rng: Random, word: str) -> str:
    roll = rng.random()
    return f"{word}s" if roll < 0.06 else word.capitalize() if roll < 0.12 else word
