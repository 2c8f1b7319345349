"""How many prompt tokens a step carries beside running answers."""

from tests.engine.drive import fake_engine, request
from tests.fakes import FakeBackend, FakeModel

from camelid.backends.base import Array, Batch, Forward
from camelid.engine.engine import Engine
from camelid.engine.pace import FEWEST, GAP, Pace


def measured(decode_s: float, token_s: float, most: int = 512) -> Pace:
    pace = Pace(most)
    pace.note(0, decode_s)
    pace.note(100, decode_s + 100 * token_s)
    return pace


def test_a_prompt_alone_gets_the_whole_step():
    assert measured(0.1, 0.01).prompt_tokens(num_decodes=0) == 512


def test_beside_answers_a_step_gets_no_longer_than_the_gap_allows():
    given = measured(0.1, 0.002).prompt_tokens(num_decodes=4)
    assert 0.1 + 0.002 * given <= GAP * 0.1
    assert given == 64  # 75 would fit, in whole sixteens


def test_a_prompt_gets_on_however_slow_it_is():
    assert measured(0.01, 0.1).prompt_tokens(num_decodes=1) == FEWEST
    assert measured(0.01, 0.1, most=5).prompt_tokens(num_decodes=1) == 5


def test_no_more_is_given_than_a_step_may_have():
    assert measured(1.0, 1e-6).prompt_tokens(num_decodes=1) == 512


def test_before_anything_is_measured_prompts_come_in_small_pieces():
    assert Pace(512).prompt_tokens(num_decodes=3) == FEWEST


def test_one_slow_step_does_not_decide():
    pace = measured(0.1, 0.002)
    pace.note(0, 2.0)  # something else had the machine
    assert pace.prompt_tokens(num_decodes=4) < 512


class TimedBackend(FakeBackend):
    """A step costs 100 ms, and 2 ms for each of its tokens."""

    now_s = 0.0

    def run(self, model: Forward, batch: Batch) -> Array:
        self.now_s += 0.1 + 0.002 * len(batch.ids)
        return super().run(model, batch)


def test_a_long_prompt_beside_an_answer_comes_in_steps_that_are_not_much_longer_than_others():
    backend = TimedBackend(num_pages=40)
    engine = Engine(FakeModel(), backend, fake_engine().settings, lambda: backend.now_s)
    engine.submit(request("running", length=4, max_tokens=100))
    for _ in range(5):
        engine.step()
    engine.submit(request("long", length=180, first=3, max_tokens=1))
    gaps_s = []
    while len(engine._requests) == 2:
        before_s = backend.now_s
        engine.step()
        gaps_s.append(backend.now_s - before_s)
    assert max(gaps_s) <= GAP * 0.102
    assert len(gaps_s) == 4  # 16 tokens while nothing is known, then 64 at a time
