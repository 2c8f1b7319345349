"""What a caller of the engine may rely on, each on the fake backend."""

import math
from dataclasses import replace

import pytest
from tests.engine.drive import VOCABULARY, expected, fake_engine, request, run_to_end, without_cache
from tests.engine.oracle import check_invariants
from tests.fakes import FakeBackend

from camelid.engine.request import GenerateRequest, Token
from camelid.engine.settings import EngineSettings
from camelid.errors import ContextOverflow, InvalidRequest, InvalidSetting, OutOfMemory, Overloaded, RequestsFailed
from camelid.types import FinishReason, Sampling

GREEDY = Sampling(temperature=0)


def ids(tokens: list[Token]) -> list[int]:
    return [token.id for token in tokens]


# ── one request ──


@pytest.mark.parametrize("length", [1, 2, 31, 32, 33, 64, 190])
def test_an_answer_is_what_the_model_says_token_by_token(length):
    asked = request(length=length, top_logprobs=2)
    assert run_to_end(fake_engine(), [asked]) == expected(asked)


def test_an_end_token_ends_the_answer_and_is_reported():
    free = ids(expected(request(max_tokens=30))["r", 0])
    asked = request(max_tokens=30, end_ids=frozenset({free[7]}))
    tokens = run_to_end(fake_engine(), [asked])["r", 0]
    assert ids(tokens) == free[: free.index(free[7]) + 1]
    assert [token.finish for token in tokens] == [None] * (len(tokens) - 1) + [FinishReason.STOP]


def test_an_end_token_is_not_drawn_before_min_tokens():
    asked = request(sampling=GREEDY, max_tokens=30, min_tokens=9, end_ids=frozenset(range(0, VOCABULARY, 2)))
    tokens = run_to_end(fake_engine(), [asked])["r", 0]
    assert tokens == expected(asked)["r", 0]
    assert len(tokens) > 9
    assert all(token.id % 2 for token in tokens[:9])


@pytest.mark.parametrize("length", [1, 2, 33, 70, 190])
@pytest.mark.parametrize("num_choices", [1, 3])
def test_a_prompts_scores_come_with_the_first_token_whatever_is_cached(length, num_choices):
    engine = fake_engine(max_batch_tokens=50)
    plain = request("plain", length=length)
    scored = [
        request(name, length=length, num_choices=num_choices, top_logprobs=2, scores_prompt=True) for name in "ab"
    ]
    run_to_end(engine, [plain])  # its pages can be found, and may not be taken
    for asked in scored:
        answers = run_to_end(engine, [asked])
        assert without_cache(answers) == expected(asked)
        assert len(answers[asked.id, 0][0].prompt_scores) == length - 1
        assert not any(token.prompt_scores for choice in range(1, num_choices) for token in answers[asked.id, choice])


def test_more_scores_than_fit_into_a_message_are_refused():
    engine = fake_engine(context_length=10_000, num_pages=313)
    with pytest.raises(InvalidRequest, match=r"must be 1–131072, got 189000") as caught:
        engine.submit(request(length=9000, top_logprobs=20, scores_prompt=True))
    assert caught.value.field == "logprobs"


def test_an_answer_ends_at_max_tokens():
    tokens = run_to_end(fake_engine(), [request(max_tokens=3)])["r", 0]
    assert [(token.index, token.finish) for token in tokens] == [(0, None), (1, None), (2, FinishReason.LENGTH)]


def test_an_answer_ends_when_the_context_is_full():
    tokens = run_to_end(fake_engine(), [request(length=195, max_tokens=1000)])["r", 0]
    assert [token.finish for token in tokens] == [None] * 4 + [FinishReason.LENGTH]


def test_the_same_seed_gives_the_same_answer_and_another_seed_another():
    engine = fake_engine()
    first, again, other = (
        ids(run_to_end(engine, [request(id_, sampling=Sampling(seed=seed), max_tokens=20)])[id_, 0])
        for id_, seed in (("a", 5), ("b", 5), ("c", 6))
    )
    assert first == again != other


# ── what is refused ──


def test_a_prompt_that_leaves_no_room_for_an_answer_is_refused_with_both_numbers():
    with pytest.raises(ContextOverflow) as error:
        fake_engine().submit(request(length=200))
    assert (error.value.num_tokens, error.value.limit) == (201, 200)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"prompt": ()}, "prompt"),
        ({"prompt": (1, VOCABULARY)}, "prompt"),
        ({"prompt": (1, -1)}, "prompt"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"min_tokens": 11}, "min_tokens"),
        ({"num_choices": 0}, "n"),
        ({"num_choices": 9}, "n"),
        ({"top_logprobs": 21}, "top_logprobs"),
        ({"end_ids": frozenset({VOCABULARY})}, "end_ids"),
        ({"sampling": Sampling(logit_bias={VOCABULARY: 1.0})}, "logit_bias"),
        ({"answers": ((1,), (2,))}, "answers"),
        ({"answers": ((1,) * 10,)}, "answers"),
        ({"answers": ((1, VOCABULARY),)}, "answers"),
        ({"finished": frozenset({0})}, "finished"),
        ({"finished": frozenset({1})}, "finished"),
    ],
)
def test_what_cannot_be_carried_to_its_end_is_refused_by_field(changes, field):
    engine = fake_engine()
    with pytest.raises(InvalidRequest) as error:
        engine.submit(replace(request(), **changes))
    assert error.value.field == field
    assert not engine.has_work()


def test_an_id_in_use_is_refused_and_free_again_afterwards():
    engine = fake_engine()
    engine.submit(request("r"))
    with pytest.raises(InvalidRequest, match="in use"):
        engine.submit(request("r"))
    run_to_end(engine)
    engine.submit(request("r"))


@pytest.mark.parametrize(
    "changes", [{"num_pages": 6}, {"max_sequences": 0}, {"max_batch_tokens": 0}, {"max_waiting": -1}]
)
def test_impossible_limits_are_refused(changes):
    with pytest.raises(InvalidSetting):
        EngineSettings(**{"vocabulary_size": 48, "context_length": 200, "num_pages": 7, **changes})


def test_a_full_queue_says_when_to_come_back_from_the_measured_rate():
    seconds = iter(range(1000))
    engine = fake_engine(max_sequences=1, max_waiting=1)
    engine._clock_s = lambda: float(next(seconds))
    engine.submit(request("a"))
    engine.submit(request("b"))
    with pytest.raises(Overloaded) as error:
        engine.submit(request("c"))
    assert error.value.retry_after_s == 5.0  # nothing measured yet
    run_to_end(engine)  # 20 steps of one second
    for id_ in "de":
        engine.submit(request(id_, max_tokens=1))
    with pytest.raises(Overloaded) as error:
        engine.submit(request("f"))
    assert 5.0 < error.value.retry_after_s < 25.0
    engine.step()
    engine.submit(request("g"))  # the queue has a place again


# ── batching ──


def test_running_answers_get_a_token_in_every_step_while_a_long_prompt_is_read():
    backend = FakeBackend(40, VOCABULARY, keeps_batches=True)
    engine = fake_engine(backend, max_batch_tokens=16)
    engine.submit(request("short", length=5, max_tokens=30))
    engine.step()
    long = request("long", length=150, first=7)
    engine.submit(long)
    indexes = [[token.index for token in engine.step() if token.request_id == "short"] for _ in range(9)]
    assert indexes == [[index] for index in range(1, 10)]
    assert [len(batch.ids) for batch in backend.batches] == [5] + [16] * 9
    assert without_cache(run_to_end(engine))["long", 0] == expected(long)["long", 0]


def test_requests_start_in_the_order_of_their_arrival():
    engine = fake_engine(max_sequences=2)
    for number in range(6):
        engine.submit(request(f"r{number}", length=10 + number, first=number, max_tokens=3 + number))
    order: list[str] = []
    while engine.has_work():
        order += [token.request_id for token in engine.step() if token.index == 0]
    assert order == [f"r{number}" for number in range(6)]


def test_never_more_than_max_sequences_run():
    engine = fake_engine(max_sequences=3)
    for number in range(8):
        engine.submit(request(f"r{number}", length=5, first=number))
    most = 0
    while engine.has_work():
        engine.step()
        most = max(most, int(engine.stats()["sequences_running"]))
    assert most == 3


# ── prefixes ──


def test_a_prefix_is_shared_after_the_first_request_has_finished():
    backend = FakeBackend(40, VOCABULARY)
    engine = fake_engine(backend)
    run_to_end(engine, [request("first", length=100)])
    engine.submit(request("second", length=120))
    (token,) = engine.step()
    assert token.cached_tokens == 96  # three full pages of the 100 tokens that both have in common
    assert backend.batches[0].positions.tolist() == list(range(96, 120))


def test_a_prefix_is_shared_while_the_first_request_still_runs():
    engine = fake_engine(max_batch_tokens=64)
    engine.submit(request("first", length=100, max_tokens=50))
    first = [engine.step(), engine.step()][1]
    engine.submit(request("second", length=100, max_tokens=50))
    answers = run_to_end(engine)
    assert answers["second", 0][0].cached_tokens == 96
    assert ids(answers["second", 0]) == ids(first + answers["first", 0])


def test_the_last_prompt_token_is_computed_even_if_the_whole_prompt_is_cached():
    backend = FakeBackend(40, VOCABULARY)
    engine = fake_engine(backend)
    first = run_to_end(engine, [request("first", length=64)])
    engine.submit(request("second", length=64))
    (token,) = engine.step()
    assert token.cached_tokens == 63
    assert backend.batches[0].positions.tolist() == [63]
    assert len(backend.batches[0].page_copies) == 1  # the second page is still someone else's
    assert [token.id, *ids(run_to_end(engine)["second", 0])] == ids(first["first", 0])


def test_an_answer_can_be_the_prefix_of_the_next_turn():
    engine = fake_engine()
    asked = request("turn1", length=30, max_tokens=70)
    answer = ids(run_to_end(engine, [asked])["turn1", 0])
    engine.submit(GenerateRequest("turn2", (*asked.prompt, *answer, 1, 2), Sampling(), 5))
    (token,) = engine.step()
    assert token.cached_tokens == 96


def test_a_prompt_in_progress_takes_over_pages_that_another_has_finished_meanwhile():
    engine = fake_engine(max_batch_tokens=40)
    same = [request("first", length=150), request("second", length=150)]
    answers = run_to_end(engine, same)
    assert without_cache(answers) == expected(*same)
    # what they have in common is computed once, but for what fits into one step beside the first one's last chunk
    assert engine.stats()["computed_tokens"] < 150 + 40 + 2 * 10


# ── choices ──


@pytest.mark.parametrize("length", [1, 2, 32, 33, 50, 65])
def test_the_prompt_of_several_choices_is_computed_once(length):
    engine = fake_engine()
    asked = request(length=length, num_choices=4, max_tokens=6)
    assert run_to_end(engine, [asked]) == expected(asked)
    # each choice computes the last prompt token and five of the six tokens that it generates
    assert engine.stats()["computed_tokens"] == length - 1 + 4 * 6


def test_choices_share_the_full_pages_of_their_prompt():
    engine = fake_engine()
    engine.submit(request(length=100, num_choices=8))
    while engine.stats()["sequences_running"] < 8:
        engine.step()
    assert engine.stats()["pages_held"] == 3 + 8


def test_choices_that_find_no_place_at_once_run_later_with_the_same_bytes():
    engine = fake_engine(max_sequences=2)
    asked = request(length=50, num_choices=5)
    assert without_cache(run_to_end(engine, [asked])) == expected(asked)


def test_choices_resumed_at_different_lengths_fork_only_from_pages_that_are_written():
    engine = fake_engine()
    asked = request(length=40, num_choices=2, max_tokens=40)
    whole = run_to_end(engine, [asked])
    # choice 0 finds all its 64 tokens, the last page to be copied; choice 1 must not copy that page in the same step
    resumed = replace(asked, answers=(tuple(ids(whole["r", 0][:24])), ()))
    found = without_cache(run_to_end(engine, [resumed]))
    assert found == {("r", 0): whole["r", 0][24:], ("r", 1): whole["r", 1]}


def test_cached_tokens_are_reported_once_for_all_choices():
    engine = fake_engine()
    run_to_end(engine, [request("first", length=100)])
    answers = run_to_end(engine, [request("second", length=100, num_choices=3)])
    assert sum(token.cached_tokens for tokens in answers.values() for token in tokens) == 96


# ── preemption ──


def test_when_pages_run_out_the_youngest_waits_and_every_answer_stays_the_same():
    engine = fake_engine(num_pages=7)
    asked = [request(f"r{n}", length=20, first=n, max_tokens=150) for n in range(5)]
    finished: list[str] = []
    for each in asked:
        engine.submit(each)
    answers: dict[tuple[str, int], list[Token]] = {}
    while engine.has_work():
        for token in engine.step():
            answers.setdefault((token.request_id, 0), []).append(token)
            finished += [token.request_id] * (token.finish is not None)
        check_invariants(engine)
    assert engine.stats()["preemptions"] > 0
    assert without_cache(answers) == expected(*asked)
    assert finished == [each.id for each in asked]


def test_a_younger_answer_loses_its_place_even_if_it_was_planned_before_the_older_one():
    old, young = request("old", length=9, num_choices=2, max_tokens=180), request("young", first=9, max_tokens=170)
    young = replace(young, prompt=young.prompt[:5])
    whole = expected(old, young)
    engine = fake_engine(num_pages=9, max_batch_tokens=30)
    engine.submit(replace(old, answers=((), tuple(ids(whole["old", 1][:160])))))
    engine.submit(young)
    started = engine.step() + engine.step()
    engine.abort("old", 0)
    engine._scheduler._settings = replace(engine.settings, max_batch_tokens=2)  # choice 1 reads its answer slowly
    answers = run_to_end(engine)
    assert engine.stats()["preemptions"] == 1
    assert answers["old", 1] == whole["old", 1][160:]
    assert [token for token in started if token.request_id == "young"] + answers["young", 0] == whole["young", 0]


def test_a_request_starts_only_where_it_leaves_running_answers_a_page_each():
    engine = fake_engine(num_pages=3, context_length=96)
    asked = [request("old", length=30, max_tokens=20), request("young", length=60, first=9)]
    assert without_cache(run_to_end(engine, asked)) == expected(*asked, context_length=96)
    assert engine.stats()["preemptions"] == 0


@pytest.mark.parametrize(("limit", "most"), [(1, 1), (10, 2)])
def test_a_sequence_is_preempted_a_bounded_number_of_times(limit, most, monkeypatch):
    monkeypatch.setattr("camelid.engine.scheduler.MAX_PREEMPTIONS", limit)
    engine = fake_engine(num_pages=7, max_sequences=12)
    lengths = [59, 31, 38, 39, 59, 17, 15, 46, 35, 31, 41, 15]
    longest = [60, 60, 180, 180, 100, 60, 180, 100, 60, 100, 180, 60]
    for number, (length, max_tokens) in enumerate(zip(lengths, longest, strict=True)):
        engine.submit(request(f"r{number}", length=length, first=number, max_tokens=max_tokens))
    sequences = [sequence for group in engine._requests.values() for sequence in group]
    run_to_end(engine)
    assert max(sequence.num_preemptions for sequence in sequences) == most  # 2 where nothing bounds it


# ── giving up ──


def test_abort_frees_the_pages_before_the_next_step():
    engine = fake_engine()
    engine.submit(request("a", length=100, num_choices=3))
    engine.submit(request("b", length=30, first=9))
    engine.step()
    engine.abort("a")
    check_invariants(engine)
    assert engine.stats()["pages_held"] == 1
    assert list(run_to_end(engine)) == [("b", 0)]


def test_abort_of_a_waiting_an_unknown_or_a_finished_request_is_fine():
    engine = fake_engine(max_sequences=1)
    engine.submit(request("a"))
    engine.submit(request("b"))
    engine.abort("b")
    engine.abort("nobody")
    assert list(run_to_end(engine)) == [("a", 0)]
    engine.abort("a")
    assert not engine.has_work()


@pytest.mark.parametrize("choice", [0, 1, 2])
@pytest.mark.parametrize("num_steps", [0, 1, 3, 5])
def test_one_choice_can_be_given_up_at_any_time(choice, num_steps):
    engine = fake_engine(max_batch_tokens=32)
    asked = request(length=80, num_choices=3)
    engine.submit(asked)
    seen = [token for _ in range(num_steps) for token in engine.step()]
    engine.abort("r", choice)
    check_invariants(engine)
    answers = run_to_end(engine)
    for other in {0, 1, 2} - {choice}:
        early = [token for token in seen if token.choice == other]
        assert early + answers["r", other] == expected(asked)["r", other]
    assert ("r", choice) not in answers


# ── failures ──


def test_an_error_of_the_backend_escapes_unchanged_and_the_step_can_be_repeated():
    backend = FakeBackend(40, VOCABULARY)
    engine = fake_engine(backend, max_batch_tokens=32)
    asked = [request("a", length=64, num_choices=3), request("b", length=64), request("c", length=20, first=5)]
    for each in asked:
        engine.submit(each)
    failure = OSError("the device fell over")
    answers: dict[tuple[str, int], list[Token]] = {}
    while engine.has_work():
        backend.failures.append(failure)
        with pytest.raises(OSError, match="fell over") as error:
            engine.step()
        assert error.value is failure
        check_invariants(engine)
        for token in engine.step():
            answers.setdefault((token.request_id, token.choice), []).append(token)
    assert without_cache(answers) == expected(*asked)


def test_broken_logits_end_the_requests_they_belong_to_and_no_other():
    poison = VOCABULARY - 1
    backend = FakeBackend(40, VOCABULARY, broken_after=frozenset({poison}))
    engine = fake_engine(backend)
    never = Sampling(logit_bias={poison: -100.0})
    good = [request("a", length=20, sampling=never), request("c", length=20, first=1, sampling=never)]
    engine.submit(good[0])
    engine.submit(GenerateRequest("b", (1, 2, poison), Sampling(), 5, num_choices=2))
    engine.submit(good[1])
    engine.step()  # the prompts, but for b's last token, from which its two choices fork
    with pytest.raises(RequestsFailed) as error:
        engine.step()
    assert error.value.request_ids == ("b",)
    check_invariants(engine)
    tokens = run_to_end(engine)
    assert {key: tokens[key] for key in tokens} == {key: found[1:] for key, found in expected(*good).items()}


# ── numbers ──


def test_stats_name_levels_and_counts():
    engine = fake_engine()
    run_to_end(engine, [request("a", length=64, max_tokens=3)])
    engine.submit(request("b", length=64, max_tokens=3))
    engine.step()
    stats = engine.stats()
    assert 0 <= stats.pop("last_step_seconds") < math.inf
    assert stats == {
        "sequences_running": 1,
        "sequences_waiting": 0,
        "pages": 40,
        "pages_held": 2,
        "pages_cached": 1,
        "steps": 4,
        "computed_tokens": 64 + 2 + 1,
        "generated_tokens": 4,
        "reused_tokens": 63,
        "guessed_tokens": 0,
        "right_guesses": 0,
        "drafted_tokens": 0,
        "right_drafts": 0,
        "draft_paused": 0.0,
        "preemptions": 0,
        "embedded_texts": 0,
    }


# ── a device without memory ──


def test_a_step_that_does_not_fit_costs_the_largest_request_and_no_other() -> None:
    backend = FakeBackend(40, VOCABULARY)
    engine = fake_engine(backend)
    small, large = request("small", 5), request("large", 60, first=3)
    engine.submit(small)
    engine.submit(large)
    backend.failures.append(OutOfMemory("no memory for a moment"))
    with pytest.raises(RequestsFailed, match="out of memory: no memory for a moment") as caught:
        engine.step()
    assert caught.value.request_ids == ("large",)
    assert without_cache(run_to_end(engine)) == expected(small)
