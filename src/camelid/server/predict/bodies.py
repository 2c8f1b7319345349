"""What clients of `predict` send, as typed bodies: one for each profile.

`documented` is what the README of the model promises: every parameter of Transformers' `generate`. `as-built` is what
its code reads, and it drops all else. Only shapes live here; what they mean is `requests.py`.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from camelid.runtime.generate_parameters import GenerateParameters

AS_BUILT = "as-built"
Profile = Literal["documented", "as-built"]


class Message(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A message of the conversation."""

    role: Literal["system", "user", "assistant"]
    content: str


class PredictBody(GenerateParameters):
    """The body of a request in the profile `documented`.

    `max_tokens` counts the prompt. `prompt` stands for a conversation of one message. `model` and `profile` are ours.
    """

    messages: list[Message] | None = None
    prompt: str | None = None
    max_tokens: int | None = None
    stream: bool | None = None
    model: str | None = None
    profile: Profile | None = None


class AsBuiltBody(msgspec.Struct, kw_only=True):
    """The body of a request in the profile `as-built`. What it does not name is passed over."""

    messages: list[Message] | None = None
    prompt: str | None = None
    max_tokens: int = 512
    stream: bool = True
    temperature: float = 1.0
    top_p: float = 0.95
    top_k: int = 40
    do_sample: bool = True
    repetition_penalty: float = 1.0
    no_repeat_ngram_size: int = 0
    model: str | None = None
    profile: Profile | None = None
    seed: int | None = None
