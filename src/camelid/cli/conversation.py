"""A conversation at the console: what was said, the system prompt, the parameters. It knows nothing of terminals."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from camelid.cli.parameters import generation
from camelid.types import ChatRequest, Grammar, Message, Sampling


@dataclass
class Conversation:
    """The state that a console chat keeps between answers."""

    model: str
    defaults: Sampling
    system: str = ""
    parameters: dict[str, object] = field(default_factory=dict)
    messages: list[Message] = field(default_factory=list)
    grammar: Grammar | None = None  # of every answer

    def ask(self, question: str) -> ChatRequest:
        """Return the request for the next answer.

        The question is part of the conversation only once it was answered.
        """
        system = [Message("system", self.system)] if self.system else []
        messages = (*system, *self.messages, Message("user", question))
        asked = replace(generation(self.defaults, self.parameters), grammar=self.grammar)
        return ChatRequest(self.model, messages, generation=asked)

    def answered(self, question: str, answer: str) -> None:
        """Remember a question and what was said to it, complete or not."""
        self.messages += [Message("user", question), Message("assistant", answer)]

    def reset(self) -> None:
        """Forget what was said. The system prompt and the parameters stay."""
        self.messages.clear()
