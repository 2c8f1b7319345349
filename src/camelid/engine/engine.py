"""The engine: requests of ids in, tokens out, one step at a time.

It owns the order of things and nothing else: the scheduler decides, the executor computes. One thread calls it. No
text, no HTTP, no files: those are `runtime` and above.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future
from itertools import count

from camelid.backends.base import Backend, Drawn, Forward
from camelid.errors import (
    BrokenLogits,
    CamelidError,
    InvalidRequest,
    OutOfMemory,
    Overloaded,
    RequestsFailed,
    UnsupportedModel,
)
from camelid.grammar.vocabulary import Vocabulary
from camelid.models.low_rank import Adapters, PlacedAdapter
from camelid.types import Sampling

from .adapters import EngineAdapters
from .admission import FinishRate, check_request
from .beam_group import BeamGroup
from .drafting import Draft, Drafter
from .embedding import Embedder, Encodes
from .executor import Executor
from .grammars import Grammars
from .guidance import guides_of
from .keeper import Keeper, NoStore, PageStore
from .pace import Pace
from .plan import Plan
from .request import Embedded, EmbedRequest, GenerateRequest, Token
from .scheduler import Scheduler
from .sequence import Sequence
from .settings import EngineSettings


class Engine:
    """Continues requests on one model. The backend's pages are open, `settings.num_pages` of them.

    A step counts whole or not at all: when `step` raises, no request has a token more or less, and it may be called
    again.
    """

    def __init__(
        self,
        model: Forward,
        backend: Backend,
        settings: EngineSettings,
        clock_s: Callable[[], float] = time.monotonic,
        store: PageStore | None = None,
        encoder: Encodes | None = None,
        adapters: EngineAdapters | None = None,
        draft: Draft | None = None,
        on_close: Callable[[], object] = lambda: None,
    ) -> None:
        """Be ready. `encoder` is the model once more if it can make embeddings, too; `on_close` is called last."""
        self._on_close = on_close
        self.settings = settings
        self._scheduler = Scheduler(settings)
        self._keeper = Keeper(backend, self._scheduler.pool, store or NoStore())
        self._executor = Executor(model, backend)
        self._embedder = Embedder(encoder, backend, settings, self._scheduler.pool) if encoder else None
        self._drafter = Drafter(draft, clock_s) if draft is not None and settings.max_guessed else None
        self._grammars = Grammars()
        self._adapters = adapters or EngineAdapters(Adapters(), _no_adapter)
        self._pieces: tuple[bytes, ...] = ()  # of each token, once they were needed
        self._requests: dict[str, list[Sequence]] = {}  # the sequences that are not finished
        self._arrivals = count()
        self._rate = FinishRate()
        self._pace = Pace(settings.max_batch_tokens)
        self._clock_s = clock_s
        self._counts: Counter[str] = Counter(steps=0, computed_tokens=0, generated_tokens=0)
        self._last_step_s = 0.0

    def learn(self, vocabulary: Vocabulary) -> None:
        """Take the vocabulary that grammars, and the stop strings of searches, need."""
        self._grammars.learn(vocabulary)
        self._pieces = vocabulary.tokens

    def prepare(self, request: GenerateRequest) -> Future[None] | None:
        """Begin what `submit` would have to wait for; return a future that ends when it is done, None for nothing."""
        return self._adapters.wait_for(request.adapter) or self._grammars.prepare(request.grammar)

    def adapt(self, key: str, path: str) -> None:
        """Begin to take in an adapter that requests may name by `key`; `adapted` tells when they may."""
        self._adapters.begin(key, path)

    def adapted(self) -> list[tuple[str, CamelidError | None]]:
        """Return the adapters that are there since this was asked last, or why they cannot be."""
        return self._adapters.finished()

    def is_adapting(self) -> bool:
        """Return whether an adapter is being taken in."""
        return self._adapters.is_opening

    def forget_adapter(self, key: str) -> None:
        """Drop an adapter; requests that use it are finished with it."""
        self._adapters.forget(key, self._used_adapters())

    def submit(self, request: GenerateRequest) -> None:
        """Queue a request. A grammar that was not prepared is compiled now.

        Raises ContextOverflow, InvalidRequest (also for an id that is in use, or an adapter that is not here),
        BadGrammar and Overloaded.
        """
        check_request(request, self.settings)
        if request.id in self._requests:
            raise InvalidRequest(f"request id {request.id!r} is in use", field="id")
        adapter = self._adapters.number(request.adapter)
        self._check_load()
        sequences = self._sequences(request, next(self._arrivals), adapter)
        self._requests[request.id] = sequences
        self._scheduler.add([sequence for sequence in sequences if sequence.guided is None])

    def _sequences(self, request: GenerateRequest, arrival: int, adapter: int) -> list[Sequence]:
        """Return a sequence for each choice that is to be continued, or the one that a search begins with."""
        context_length = self.settings.context_length
        if request.beams is not None:
            if request.stops and not self._pieces:
                raise InvalidRequest("this engine knows no vocabulary to look for stop strings with", field="stop")
            leader = Sequence(request, 0, arrival, context_length, 0, self._grammars.begin(request.grammar), adapter)
            return [BeamGroup(leader, request.beams, context_length, self._pieces, self._clock_s).leader]
        choices = [choice for choice in range(request.num_choices) if choice not in request.finished]
        guides = request.rules is not None and request.rules.guides
        most = (context_length, 0 if guides else self.settings.max_guessed)
        sequences = [
            Sequence(request, choice, arrival, *most, self._grammars.begin(request.grammar), adapter)
            for choice in choices
        ]
        return [*sequences, *guides_of(sequences, context_length)] if guides else sequences

    def abort(self, request_id: str, choice: int | None = None) -> None:
        """Give up a request, or one of its choices, and free its pages now. One that is unknown or finished is fine."""
        if self._embedder is not None:
            self._embedder.abort(request_id)
        for sequence in reversed(self._requests.get(request_id, [])):
            if choice is None or sequence.choice == choice:
                self._scheduler.remove(sequence)
                self._forget(request_id, sequence.choice)

    def step(self) -> list[Token]:
        """Run one step and return the tokens that it gave: at most one for each running sequence, possibly none.

        Raises RequestsFailed when logits are broken, a search found too few answers, or a step does not fit into a
        device's memory, which costs the request with the most tokens in it: the named requests are gone, all others as
        before. Any other error is the backend's own, unchanged; every request is as before.
        """
        self._give_up_fruitless()
        started_s = self._clock_s()
        for sequence in self._scheduler.next_up:
            self._keeper.fetch(sequence)
        if self._drafter is not None:
            self._drafter.propose(self._scheduler.running, self._scheduler.decodes, self._scheduler.most_guessed)
        plan = self._scheduler.plan(self._pace)
        if not plan.chunks:
            return []
        drawn = self._run(plan)
        self._keeper.keep(plan.chunks)  # before sequences that are finished give their pages back
        tokens = self._scheduler.commit(plan, drawn)
        self._finish_step(plan, tokens, started_s)
        return tokens

    def has_work(self) -> bool:
        """Return whether a step would do something."""
        return bool(self._requests)

    def submit_texts(self, request: EmbedRequest) -> None:
        """Queue texts that are to become vectors. Raises ContextOverflow, InvalidRequest, Overloaded."""
        if self._embedder is None:
            raise InvalidRequest("this model does not support embeddings", field="model")
        self._embedder.submit(request)

    def embed(self) -> list[Embedded]:
        """Run one step for texts and return the requests that are complete with it.

        While a text waits for pages, no answer starts: those that run end, so its turn comes.
        """
        if self._embedder is None:
            return []
        complete = self._embedder.step()
        self._scheduler.is_closed = self._embedder.is_starved
        return complete

    def has_texts(self) -> bool:
        """Return whether texts wait for their vectors."""
        return self._embedder is not None and self._embedder.has_work

    def warm_up(self) -> float:
        """Make two tokens, which touches every weight, and return the seconds of the second."""
        self.submit(GenerateRequest("warm-up", (0,), Sampling(temperature=0.0), max_tokens=2))
        seconds = 0.0
        while self.has_work():
            started_s = self._clock_s()
            self.step()
            seconds = self._clock_s() - started_s
        return seconds

    def stats(self) -> dict[str, float]:
        """Return levels and counts by name, as metrics show them.

        Levels: sequences_running, sequences_waiting, pages (all), pages_held (by sequences), pages_cached (held by
        none, but their content can still be found), last_step_seconds. Counts since the engine was made: steps,
        computed_tokens (that went through the model), generated_tokens, reused_tokens (that the prefix cache spared),
        guessed_tokens and right_guesses (of them), drafted_tokens and right_drafts (those of a draft model alone),
        preemptions, embedded_texts. draft_paused is 1 while a draft model was found not to pay.
        """
        scheduler = self._scheduler
        return {
            "sequences_running": len(scheduler.running),
            "sequences_waiting": scheduler.num_waiting,
            "pages": scheduler.pool.num_pages,
            "pages_held": scheduler.pool.num_held,
            "pages_cached": scheduler.pool.num_idle,
            "last_step_seconds": self._last_step_s,
            **self._counts,
            "reused_tokens": scheduler.num_reused_tokens,
            "guessed_tokens": scheduler.num_guessed_tokens,
            "right_guesses": scheduler.num_right_guesses,
            "drafted_tokens": scheduler.num_drafted_tokens,
            "right_drafts": scheduler.num_right_drafts,
            "draft_paused": float(self._drafter is not None and self._drafter.is_off),
            "preemptions": scheduler.num_preemptions,
            "embedded_texts": self._embedder.num_texts if self._embedder is not None else 0,
        }

    def close(self) -> None:
        """Let the store finish what it was given, and end what is beside the steps."""
        self._keeper.close()
        self._grammars.close()
        self._adapters.close()
        self._on_close()

    def _used_adapters(self) -> set[str]:
        return {sequence.request.adapter for sequences in self._requests.values() for sequence in sequences}

    def _give_up_fruitless(self) -> None:
        fruitless, self._scheduler.fruitless = self._scheduler.fruitless, []
        for request_id in fruitless:
            self.abort(request_id)
        if fruitless:
            reason = "the search found fewer answers than were asked for: what it was told to avoid leaves no more"
            raise RequestsFailed(tuple(fruitless), reason)

    def _run(self, plan: Plan) -> list[Drawn]:
        try:
            return self._executor.run(plan)
        except BrokenLogits as error:
            sequences = plan.drawing
            failed = dict.fromkeys(sequences[row].request.id for row in error.rows)
            for request_id in failed:
                self.abort(request_id)
            raise RequestsFailed(tuple(failed), error.message) from error
        except OutOfMemory as error:
            request_id = _largest(plan).request.id
            self.abort(request_id)
            raise RequestsFailed((request_id,), f"out of memory: {error.message}") from error
        except RequestsFailed as error:
            for request_id in error.request_ids:
                self.abort(request_id)
            raise

    def _finish_step(self, plan: Plan, tokens: list[Token], started_s: float) -> None:
        now_s = self._clock_s()
        for token in tokens:
            if token.finish is not None:
                self._rate.note(now_s)
                self._forget(token.request_id, token.choice)
        computed = sum(chunk.num_rows for chunk in plan.chunks)
        self._counts.update(steps=1, computed_tokens=computed, generated_tokens=len(tokens))
        self._last_step_s = now_s - started_s
        self._pace.note(plan.num_prompt_tokens, self._last_step_s)
        self._note_drafting(plan, len(tokens))

    def _note_drafting(self, plan: Plan, num_tokens: int) -> None:
        """Tell what a step gave that did nothing but go on with answers."""
        if self._drafter is None or plan.num_prompt_tokens:
            return
        guessed = [chunk.sequence for chunk in plan.chunks if chunk.guess]
        was_drafted = any(sequence.was_drafted for sequence in guessed)
        if was_drafted or not guessed:
            self._drafter.note(plan.num_decodes, num_tokens, was_drafted, self._last_step_s)

    def _check_load(self) -> None:
        """Raise Overloaded if as many sequences wait as may, beside those for which there is a place to run."""
        scheduler, settings = self._scheduler, self.settings
        most = settings.max_waiting + settings.max_sequences - len(scheduler.running)
        if scheduler.num_waiting >= most:
            raise Overloaded(
                f"{scheduler.num_waiting} answers wait already, and at most {settings.max_waiting} may",
                retry_after_s=self._rate.retry_after_s(self._clock_s()),
            )

    def _forget(self, request_id: str, choice: int) -> None:
        """Forget a choice; all of a search are forgotten with the first."""
        left = [sequence for sequence in self._requests.get(request_id, ()) if sequence.choice != choice]
        if left:
            self._requests[request_id] = left
        else:
            self._requests.pop(request_id, None)
            if self._adapters.is_dropping:
                self._adapters.drop_unused(self._used_adapters())


def _largest(plan: Plan) -> Sequence:
    """Return the sequence with the most tokens in a step; of equals, the one that came last."""
    return max(plan.chunks, key=lambda chunk: (chunk.num_rows, chunk.sequence.age)).sequence


def _no_adapter(key: str, path: str) -> PlacedAdapter:
    raise UnsupportedModel("this model takes no adapters")
