"""The model under test: loaded in this process, asked in ids through its engine's port, every token timed on arrival.

Ids, not text: a token that is half a character shows as no text, and would be taken for a pause.
"""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field, replace

from camelid.backends.auto import survey
from camelid.backends.base import CacheType
from camelid.engine.request import GenerateRequest
from camelid.errors import InvalidRequest
from camelid.formats import open_checkpoint
from camelid.models.memory import memory_need
from camelid.rules import Beams
from camelid.runtime.model import LoadedModel
from camelid.runtime.runtime import Runtime
from camelid.settings import ModelSettings
from camelid.types import Sampling

from .roofs import Roofs, middle, probe_gpu, probe_roofs
from .work import Work, work_of

GREEDY = Sampling(temperature=0.0)


@dataclass(frozen=True)
class Timeline:
    """When a request was put, and when each of its tokens came: seconds of one clock."""

    asked_s: float
    token_s: tuple[float, ...]
    cached_tokens: int = 0

    @property
    def first_s(self) -> float:
        """Seconds from asking to the first token."""
        return self.token_s[0] - self.asked_s

    @property
    def total_s(self) -> float:
        """Seconds from asking to the last token."""
        return self.token_s[-1] - self.asked_s

    @property
    def gaps_s(self) -> list[float]:
        """Seconds between tokens that follow each other."""
        return [after - before for before, after in itertools.pairwise(self.token_s)]

    @property
    def rate(self) -> float:
        """Tokens a second, after the first."""
        return (len(self.token_s) - 1) / (self.token_s[-1] - self.token_s[0])


GPUS = ("gpu", "gpu-on-cpu")


@dataclass(frozen=True)
class Needs:
    """What a workload asks of the engine: streams at once, and the longest of them, prompt and answer."""

    streams: int
    context: int


@dataclass
class Subject:
    """A loaded model, and the roofs that are probed between the runs. Belongs to one asyncio loop."""

    model: LoadedModel
    work: Work | None  # None where there are no probes: for several ranks, and for `reference`
    probed: list[Roofs] = field(default_factory=list)
    _numbers: itertools.count[int] = field(default_factory=itertools.count)

    async def ask(
        self,
        prompt: Sequence[int],
        num_tokens: int,
        *,
        num_choices: int = 1,
        sampling: Sampling = GREEDY,
        grammar: str | None = None,
        adapter: str = "",
        beams: Beams | None = None,
        see: Callable[[float], None] = lambda at_s: None,
    ) -> Timeline:
        """Let the model continue `prompt` by exactly `num_tokens` tokens a choice.

        grammar: as `runtime.grammars.prepare` gives it. adapter: the key of one that the engine has.
        beams: search, for the `num_choices` best; all tokens come at the end. see: is told of each token when it comes.
        """
        request = GenerateRequest(
            f"bench-{next(self._numbers)}",
            tuple(prompt),
            sampling,
            num_tokens,
            num_choices=num_choices,
            grammar=grammar,
            adapter=adapter,
            beams=beams,
        )
        token_s: list[float] = []
        cached = 0
        asked_s = time.perf_counter()
        async with aclosing(self.model.engine.generate(request)) as tokens:
            async for together in tokens:
                for token in together:
                    token_s.append(time.perf_counter())
                    see(token_s[-1])
                    cached = max(cached, token.cached_tokens)
        return Timeline(asked_s, tuple(token_s), cached)

    def prompt(self, seed: object, num_tokens: int) -> tuple[int, ...]:
        """Return random ids: the same for the same seed. Ids near the end are left out: control tokens lie there."""
        drawn = random.Random(repr(seed))
        most = max(2, self.model.description.spec.vocab_size * 9 // 10)
        return tuple(drawn.randrange(1, most) for _ in range(num_tokens))

    def probe(self, isa: str, threads: int) -> None:
        """Measure the roofs once more. Nothing else must run."""
        device = self.model.description.settings.device
        self.probed.append(probe_gpu(device) if device in GPUS else probe_roofs(isa, threads))

    @property
    def roofs(self) -> Roofs | None:
        """The median of what was probed so far."""
        return middle(self.probed) if self.probed else None


@asynccontextmanager
async def opened(name: str, settings: ModelSettings, needs: Needs) -> AsyncIterator[Subject]:
    """Load a model with room for a workload. Raises what loading raises, InvalidRequest for a model too short."""
    settings = replace(
        settings,
        max_sequences=max(needs.streams, settings.max_sequences),
        max_waiting=max(needs.streams, settings.max_waiting),
        context_length=settings.context_length or needs.context,
        # To make one meanwhile would disturb.
        fast_copies=settings.fast_copies if settings.fast_copies in ("first", "off") else "existing",
    )
    runtime = Runtime(settings, in_process=True)
    try:
        model = await runtime.load(name)
        if model.context_length < needs.context:
            raise InvalidRequest(
                f"this workload needs a context of {needs.context} tokens, the model has {model.context_length}",
                hint="make its lengths smaller, or give --context-length",
            )
        yield Subject(model, _work(model, settings))
    finally:
        await runtime.close()


def _work(model: LoadedModel, settings: ModelSettings) -> Work | None:
    """Return the work of a model where there are probes to hold it against."""
    device = model.description.settings.device
    if device not in ("cpu", *GPUS) or settings.tensor_parallel > 1:
        return None
    path = str(model.description.files.weights)
    backend = survey(replace(settings, device=device))
    with open_checkpoint(path) as checkpoint:
        need = memory_need(checkpoint, model.description.spec, backend, CacheType(settings.cache_type))
    return work_of(path, need.bytes_per_token)
