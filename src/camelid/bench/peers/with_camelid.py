"""Camelid as one of the peers: the library's engine, in a process like theirs."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from camelid.bench.subject import Subject

    from .adapter import About, Done, Job, Opening
else:
    from adapter import About, Done


class Camelid:
    """A model in an engine of ours. Prompt lookup is off."""

    def __init__(self, opening: Opening) -> None:
        from camelid import __version__
        from camelid.bench.subject import Needs, opened
        from camelid.settings import ModelSettings

        settings = ModelSettings(threads=opening.threads, device=opening.device, max_guessed=0, fast_copies="first")
        self._loop = asyncio.new_event_loop()
        self._open = AsyncExitStack()
        needs = Needs(opening.streams, opening.context)
        self._subject: Subject = self._run(self._open.enter_async_context(opened(opening.model, settings, needs)))
        how = f"{self._subject.model.engine.backend}, prompt lookup off, a fast copy where one can be had"
        self.about = About(f"camelid {__version__}", "the GGUF file", how)

    def work(self, job: Job) -> Done | None:
        """Compute the prompts, then decode all streams together from the cached prompts: as the peers do it."""
        start = time.perf_counter()
        self._run(self._ask_all(job.prompts, 1))
        prompt_s = time.perf_counter() - start
        if job.new_tokens == 1:
            return Done(prompt_s, 0.0, 0)
        if job.beams > 1:
            return Done(prompt_s, self._search(job), job.beams * job.new_tokens)
        lines = self._run(self._ask_all([[*prompt, 1] for prompt in job.prompts], job.new_tokens))
        begin, end = max(line.token_s[0] for line in lines), max(line.token_s[-1] for line in lines)
        counted = sum(at > begin for line in lines for at in line.token_s)
        return Done(prompt_s, end - begin, counted)

    def _search(self, job: Job) -> float:
        """Search from the cached prompt; return the seconds that it took."""
        from camelid.rules import Beams

        ask = self._subject.ask((*job.prompts[0], 1), job.new_tokens, beams=Beams(job.beams))
        return float(self._run(ask).total_s)

    async def _ask_all(self, prompts: list[list[int]], new_tokens: int) -> list[Any]:
        return await asyncio.gather(*(self._subject.ask(prompt, new_tokens) for prompt in prompts))

    def _run(self, coroutine: Any) -> Any:
        return self._loop.run_until_complete(coroutine)


def open_peer(opening: Opening) -> Camelid:
    """Load the GGUF file."""
    return Camelid(opening)
