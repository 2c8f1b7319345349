"""Which models are watched, by whom and under which policy; and what the safety model says of a conversation.

One judgement is one short request to the safety model, in its own engine beside everything else that it does: the same
engine where a model judges itself. How an answer is held back until it is judged is `watched.py`; nobody else knows
that anything is judged at all.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from camelid.errors import (
    CamelidError,
    Cancelled,
    ContextOverflow,
    InvalidSetting,
    Overloaded,
    Unjudged,
)
from camelid.settings import SafetySettings
from camelid.store.local import own_name
from camelid.text.llama_guard import (
    LLAMA_GUARD_3,
    Said,
    added,
    check_vocabulary,
    guard_prompt,
    parse_policy,
    parse_verdict,
    spoken,
)
from camelid.types import (
    Category,
    ChatRequest,
    CompletionRequest,
    Direction,
    Event,
    Generation,
    Message,
    Refusal,
    Sampling,
    Stopping,
    Text,
)

from . import turn
from .loaded_models import LoadedModels
from .model import LoadedModel
from .plain_prompt import text_of
from .status import Judgements
from .watched import refused, watched

MAX_VERDICT_TOKENS = 100  # Meta's own limit; fourteen keys take half of it
_VERDICT = Generation(Sampling(temperature=0.0), Stopping(max_tokens=MAX_VERDICT_TOKENS))

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Rule:
    """How one model is watched.

    judge: the name of the safety model. policy: all its categories; the `counted` ones among them are asked for.
    hold_back: characters that are gathered before they are judged, 0 for the whole answer.
    """

    judge: str
    policy: tuple[Category, ...]
    counted: tuple[Category, ...]
    checks_input: bool
    checks_output: bool
    is_closed: bool
    hold_back: int


class Safety:
    """The checks of one runtime."""

    def __init__(self, settings: SafetySettings, models: LoadedModels) -> None:
        """Read the policies. Raises InvalidSetting."""
        self._settings = settings
        self._models = models
        self._rules: dict[str, Rule | None] = {}
        self._outcomes: Counter[tuple[Direction, str]] = Counter()
        self._categories: Counter[tuple[Direction, str]] = Counter()
        self._seconds: dict[Direction, float] = {}
        for own in (settings, *(settings.of_model(own_name(name), own_name) for name, _ in settings.safety)):
            _rule(own)  # a policy that cannot be read is told before anything is served

    def rule_for(self, model: str) -> Rule | None:
        """Return how a loaded model is watched, by its own name; None if it is not."""
        if model not in self._rules:
            self._rules[model] = _rule(self._settings.of_model(model, own_name))
        return self._rules[model]

    def chat(self, model: LoadedModel, request: ChatRequest) -> AsyncGenerator[Event, None]:
        """Yield the events of a conversation turn (see `turn.chat`), watched if the model is."""
        rule = None if request.skips_safety else self.rule_for(model.name)
        if rule is None:
            return turn.chat(model, request)
        asked = partial(turn.chat, model, request)
        between = "" if request.continues_last else "\n\n"  # a word may be begun there and ended here
        messages = request.messages
        if request.before:
            messages = (Message("user", text_of(model.text.tokenizer, request.before)), *messages)
        return self._watched(rule, spoken(messages), request.generation.num_choices, asked, between)

    def complete(self, model: LoadedModel, request: CompletionRequest) -> AsyncGenerator[Event, None]:
        """Yield the events of a plain completion (see `turn.complete`), watched if the model is."""
        rule = None if request.skips_safety else self.rule_for(model.name)
        if rule is None:
            return turn.complete(model, request)
        prompt = request.prompt if isinstance(request.prompt, str) else text_of(model.text.tokenizer, request.prompt)
        conversation = added((), Said("User", f"{prompt}{request.suffix or ''}"))
        asked = partial(turn.complete, model, request)
        return self._watched(rule, conversation, request.generation.num_choices, asked)

    async def _watched(
        self,
        rule: Rule,
        conversation: Sequence[Said],
        num_choices: int,
        asked: Callable[[set[int]], AsyncGenerator[Event, None]],
        between: str = "",
    ) -> AsyncGenerator[Event, None]:
        refusal = await self._check_input(rule, conversation) if rule.checks_input else None
        if refusal is not None:
            for event in refused(refusal, num_choices):
                yield event
            return
        cut: set[int] = set()

        async def judge(text: str) -> Refusal | None:
            answered = added(conversation, Said("Agent", text), between)
            return await self.check(rule, answered, "output") if text.strip() else None

        events = asked(cut)
        if rule.checks_output:
            events = watched(events, judge, cut, rule.hold_back, num_choices)
        async with aclosing(events):
            async for event in events:
                yield event

    async def _check_input(self, rule: Rule, conversation: Sequence[Said]) -> Refusal | None:
        """Judge what the user said last, and what the agent is made to have said after it."""
        for end in range(max(1, len(conversation) - 1), len(conversation) + 1):
            refusal = await self.check(rule, conversation[:end], "input")
            if refusal is not None:
                return refusal
        return None

    async def prepare(self, model: str) -> None:
        """Load what judges a model that an operator loads. Raises what loading raises, and TemplateError."""
        rule = self.rule_for(model)
        if rule is not None:
            check_vocabulary((await self._models.load(rule.judge, is_judge=True)).text.tokenizer)

    async def check(self, rule: Rule, conversation: Sequence[Said], direction: Direction) -> Refusal | None:
        """Ask whether the last message of a conversation is safe; None if it is.

        Where no verdict can be had and the rule is closed: raises Overloaded if it may be had soon, ContextOverflow if
        the message is too long to be judged, else Unjudged.
        """
        began = time.monotonic()
        try:
            categories = await self._verdict(rule, conversation)
        except Cancelled:
            raise
        except CamelidError as error:
            self._outcomes[direction, "error"] += 1
            _log.warning("no safety verdict on %s: %s", direction, error.message)
            if not rule.is_closed:
                return None
            if isinstance(error, (Overloaded, ContextOverflow)):
                raise
            message = f"the {direction} could not be checked for safety: {error.message}"
            raise Unjudged(message, hint=error.hint) from error
        self._seconds[direction] = self._seconds.get(direction, 0.0) + time.monotonic() - began
        self._outcomes[direction, "unsafe" if categories else "safe"] += 1
        self._categories.update((direction, category.key) for category in categories)
        return Refusal(direction, categories) if categories else None

    def judgements(self) -> Judgements:
        """Return what was judged so far."""
        return Judgements(dict(self._outcomes), dict(self._categories), dict(self._seconds))

    async def _verdict(self, rule: Rule, conversation: Sequence[Said]) -> tuple[Category, ...]:
        """Return the categories that count and that the last message violates."""
        await self._models.load(rule.judge, is_judge=True)  # an operator's choice: it may be a path, and it stays
        async with self._models.use(rule.judge) as judge:
            prompt = await asyncio.to_thread(_fitting_prompt, judge, conversation, rule.counted)
            request = CompletionRequest(judge.name, prompt, _VERDICT)
            texts: list[str] = []
            async with aclosing(turn.complete(judge, request)) as events:
                async for event in events:
                    if isinstance(event, Text):
                        texts.append(event.text)
        found = parse_verdict("".join(texts), rule.policy)
        return tuple(category for category in found if category in rule.counted)


def _rule(settings: SafetySettings) -> Rule | None:
    if settings.safety_model is None:
        return None
    policy = LLAMA_GUARD_3 if settings.safety_policy is None else _read_policy(Path(settings.safety_policy))
    wanted = settings.safety_categories or tuple(category.key for category in policy)
    unknown = sorted(set(wanted) - {category.key for category in policy})
    if unknown:
        known = ", ".join(category.key for category in policy)
        raise InvalidSetting(f"safety_categories has {unknown[0]!r}, which the policy has not", hint=f"it has {known}")
    return Rule(
        judge=settings.safety_model,
        policy=policy,
        counted=tuple(category for category in policy if category.key in wanted),
        checks_input=settings.safety_checks != "output",
        checks_output=settings.safety_checks != "input",
        is_closed=settings.safety_failure == "closed",
        hold_back=settings.safety_hold_back,
    )


def _read_policy(path: Path) -> tuple[Category, ...]:
    try:
        return parse_policy(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidSetting(f"the safety policy {path} cannot be read: {error}") from error


def _fitting_prompt(
    judge: LoadedModel, conversation: Sequence[Said], categories: Sequence[Category]
) -> tuple[int, ...]:
    """Return the prompt's ids, with as much of the conversation's beginning left out as the judge has no room for.

    What is judged, and what it answers, always stay whole. Raises ContextOverflow, TemplateError.
    """
    tokenizer = judge.text.tokenizer
    check_vocabulary(tokenizer)
    limit = judge.context_length - MAX_VERDICT_TOKENS
    while True:
        ids = tokenizer.encode_prompt(guard_prompt(conversation, categories, tokenizer))
        if len(ids) <= limit:
            return tuple(ids)
        if len(conversation) <= 2:
            raise ContextOverflow(len(ids), limit, what="the safety check of the message")
        conversation = conversation[max(1, (len(conversation) - 2) // 2) :]
