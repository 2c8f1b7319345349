"""The recipe of the bundled model: its split, its checks and its chat format."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))

from tools.cria import chat
from tools.cria.conversation import MARK, Conversation, Draw, Turn, is_held_out, is_right, to_messages
from tools.cria.data import MIXED, SKILLS, conversations, held_out
from tools.cria.skills import arithmetic, tools


def _trained(count: int) -> list[Conversation]:
    return list(islice(conversations(7, dict.fromkeys([*SKILLS, MIXED], 1.0)), count))


def test_the_same_seed_draws_the_same_conversations() -> None:
    assert _trained(200) == _trained(200)
    assert [held_out(skill, 5) for skill in SKILLS] == [held_out(skill, 5) for skill in SKILLS]


def test_a_tenth_of_all_operand_pairs_is_held_out() -> None:
    pairs = [f"{a}+{b}" for a in range(100) for b in range(100)]
    assert 0.08 < sum(map(is_held_out, pairs)) / len(pairs) < 0.12


@pytest.mark.parametrize("side", [False, True])
def test_operands_come_from_their_own_side_of_the_split(side: bool) -> None:
    draw = Draw(Random(5), held_out=side)
    drawn = [arithmetic.problem(draw) for _ in range(500)]
    assert {is_held_out(arithmetic.key(problem)) for problem in drawn if problem[1] != "*"} == {side}


def test_products_are_learned_by_heart_and_never_scored() -> None:
    drawn = {
        held_out: [arithmetic.problem(Draw(Random(n), held_out)) for n in range(500)] for held_out in (False, True)
    }
    assert not any(operator == "*" for _, operator, _ in drawn[True])
    assert any(is_held_out(arithmetic.key(problem)) for problem in drawn[False] if problem[1] == "*")


@pytest.mark.parametrize("skill", [s for s in SKILLS if s not in ("arithmetic", "lookup", "long lookup", "tools")])
def test_no_held_out_message_is_trained(skill: str) -> None:
    asked = {(c.system if skill == "schema" else None, t.message) for c in held_out(skill, 200) for t in c.turns}
    draw = Draw(Random(9), held_out=False)
    trained = [SKILLS[skill](draw) for _ in range(2000)]
    assert not asked & {(c.system if skill == "schema" else None, t.message) for c in trained for t in c.turns}


def test_no_held_out_call_is_trained() -> None:
    calls = {t.answer for c in held_out("tools", 200) for t in c.turns if t.call}
    assert calls
    assert not calls & {t.answer for c in _trained(4000) for t in c.turns if t.call}


@pytest.mark.parametrize("skill", SKILLS)
def test_the_check_accepts_the_true_answer_and_no_other(skill: str) -> None:
    for drawn in held_out(skill, 50):
        for turn in drawn.turns:
            assert is_right(turn, turn.answer)
            assert not is_right(turn, "")
            assert not is_right(turn, turn.answer + "0")


def test_json_answers_are_compared_as_values() -> None:
    turn = Turn("", '{"name": "f", "parameters": {"a": 1}}', call=True)
    assert is_right(turn, '{"parameters":{"a":1},"name":"f"}')
    assert not is_right(turn, '{"name": "f", "parameters": {"a": "1"}}')


def test_sums_are_true() -> None:
    assert [arithmetic.answer_to(p) for p in ((17, "+", 25), (3, "-", 8), (12, "*", 12))] == [42, -5, 144]


def test_of_a_drill_only_the_results_are_learned() -> None:
    marked = f"17 + 25 = {MARK}42{MARK}; 3 * 4 = {MARK}12{MARK}"
    drilled = Conversation("arithmetic", (Turn("Sums.", marked, drill=True),))
    assert [text for text, wanted in chat.pieces(drilled) if wanted] == ["42", "12"]
    assert "".join(text for text, _ in chat.pieces(drilled)).endswith("17 + 25 = 42; 3 * 4 = 12<|eot_id|>")


def test_a_result_is_told_field_by_field() -> None:
    assert tools.result_sentence({"temperature": 21, "unit": "C"}) == "The temperature is 21 and the unit is C."


def _rendered(messages: list[dict[str, Any]], definitions: list[dict[str, Any]] | None, open_answer: bool) -> str:
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    environment.filters["tojson"] = lambda value, indent=None: json.dumps(value, indent=indent, ensure_ascii=False)
    template = environment.from_string(chat.TEMPLATE)
    return template.render(messages=messages, tools=definitions, bos_token=chat.BOS, add_generation_prompt=open_answer)


@pytest.mark.parametrize("skill", SKILLS)
def test_the_template_gives_the_text_that_is_trained(skill: str) -> None:
    for drawn in held_out(skill, 20):
        given = "".join(text for text, _ in chat.pieces(drawn))
        assert _rendered(to_messages(drawn), list(drawn.tools) or None, False) == given
        asked = "".join(text for text, _ in chat.pieces(drawn, 1))
        assert _rendered(to_messages(drawn, 1), list(drawn.tools) or None, True) == asked


def test_a_plain_question_gets_no_system_header() -> None:
    drawn = Conversation("arithmetic", (Turn("What is 17 + 25?", "42"),))
    assert chat.pieces(drawn) == [
        ("<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nWhat is 17 + 25?<|eot_id|>"
         "<|start_header_id|>assistant<|end_header_id|>\n\n", False),
        ("42<|eot_id|>", True),
    ]  # fmt: skip
    assert chat.pieces(replace(drawn, system="Be brief."))[0][0].startswith(
        "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|>"
    )
