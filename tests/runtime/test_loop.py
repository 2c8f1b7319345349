"""The engine's loop: a request that something has to be made ready for waits, and nobody waits for it."""

from __future__ import annotations

from concurrent.futures import Future

from camelid.engine.request import GenerateRequest
from camelid.errors import BadGrammar
from camelid.grammar.vocabulary import Vocabulary
from camelid.runtime.frames import Abort, Accepted, Command, Failed, Idle, Learn, Report, Stepped, Submit
from camelid.runtime.loop import EngineLoop, LineClosed
from camelid.types import Sampling
from tests.runtime.fake_engine import FakeEngine


class PreparingEngine(FakeEngine):
    """Prepares requests with a grammar when the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.prepared: Future[None] = Future()
        self.learned: list[Vocabulary] = []

    def learn(self, vocabulary: Vocabulary) -> None:
        self.learned.append(vocabulary)

    def prepare(self, request: GenerateRequest) -> Future[None] | None:  # type: ignore[override]
        return self.prepared if request.grammar is not None else None


class ScriptedLine:
    """Gives one list of commands a turn, then closes; an entry may also be called."""

    def __init__(self, *turns: list[Command]) -> None:
        self.turns = iter(turns)
        self.reports: list[Report] = []
        self.waits_s: list[float] = []

    def receive(self, timeout_s: float) -> list[Command]:
        self.waits_s.append(timeout_s)
        commands = next(self.turns, None)
        if commands is None:
            raise LineClosed
        return commands

    def send(self, report: Report) -> None:
        self.reports.append(report)


def ask(id_: str, grammar: str | None = None) -> Submit:
    return Submit(GenerateRequest(id_, (1,), Sampling(), max_tokens=2, grammar=grammar))


def tokens_of(line: ScriptedLine) -> list[str]:
    return [token.request_id for report in line.reports if isinstance(report, Stepped) for token in report.tokens]


def test_a_request_waits_for_its_grammar_and_others_go_on() -> None:
    engine = PreparingEngine()
    line = ScriptedLine([ask("slow", "g"), ask("quick")], [], [])
    EngineLoop(engine, line).run()
    assert tokens_of(line) == ["quick", "quick"]
    assert Accepted("slow") not in line.reports
    assert not any(isinstance(report, Idle) for report in line.reports)  # there is something to do
    assert line.waits_s[-1] < 0.1


def test_it_is_let_in_when_the_grammar_is_ready() -> None:
    engine = PreparingEngine()
    engine.prepared.set_result(None)
    line = ScriptedLine([ask("a", "g")], [], [])
    EngineLoop(engine, line).run()
    assert line.reports[0] == Accepted("a")
    assert tokens_of(line) == ["a", "a"]


def test_it_is_refused_when_the_grammar_cannot_be_compiled() -> None:
    engine = PreparingEngine()
    engine.prepared.set_exception(BadGrammar("no grammar", field="format"))
    line = ScriptedLine([ask("a", "g")], [])
    EngineLoop(engine, line).run()
    [failed] = [report for report in line.reports if isinstance(report, Failed)]
    error = failed.failure.error()
    assert (failed.request_id, type(error), error.message) == ("a", BadGrammar, "no grammar")
    assert isinstance(error, BadGrammar)
    assert error.field == "format"


def test_one_that_is_given_up_meanwhile_is_forgotten() -> None:
    engine = PreparingEngine()
    line = ScriptedLine([ask("a", "g")], [Abort("a")], [])
    EngineLoop(engine, line).run()
    assert tokens_of(line) == []
    assert isinstance(line.reports[-1], Idle)


def test_one_that_was_admitted_before_is_never_refused() -> None:
    engine = PreparingEngine()
    engine.prepared.set_result(None)
    line = ScriptedLine([Submit(ask("a", "g").request, was_admitted=True)], [])
    EngineLoop(engine, line).run()
    assert Accepted("a") not in line.reports
    assert tokens_of(line) == ["a", "a"]


def test_the_vocabulary_reaches_the_engine() -> None:
    engine, vocabulary = PreparingEngine(), Vocabulary((b"a",), (), (0,))
    EngineLoop(engine, ScriptedLine([Learn(vocabulary)])).run()
    assert engine.learned == [vocabulary]
