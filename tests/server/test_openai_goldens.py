"""OpenAI's dialect as files: what each body asks of the runtime, and what is written back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from goldens import case_files, outcome

from camelid.errors import ContextOverflow
from camelid.server.errors import http_problem, problem_of
from camelid.server.openai.replies import ChatStream, Stamp, error_body
from camelid.server.openai.requests import Form


@pytest.mark.parametrize("file", case_files(), ids=lambda file: file.stem)
def test_body_asks_and_answer_are_as_written_down(file: Path) -> None:
    case = json.loads(file.read_text())
    assert case == {"says": case["says"], "body": case["body"], "events": case["events"]} | outcome(case)


def test_an_error_has_openais_envelope() -> None:
    assert json.loads(error_body(http_problem(404, "nothing here"))) == {
        "error": {"message": "nothing here", "type": "invalid_request_error", "param": None, "code": "unknown_url"}
    }


def test_a_prompt_that_is_too_long_is_told_its_length_and_the_limit() -> None:
    assert json.loads(error_body(problem_of(ContextOverflow(5000, 4096)))) == {
        "error": {
            "message": "the prompt has 5000 tokens, and the context holds 4096. Shorten it to 4096 tokens, or load the "
            "model with a longer context (--context-length)",
            "type": "invalid_request_error",
            "param": "messages",
            "code": "context_length_exceeded",
            "num_tokens": 5000,
            "limit": 4096,
        }
    }


def test_an_error_in_the_middle_ends_the_stream_without_done() -> None:
    stream = ChatStream(Stamp("id", 0, "f"), Form("tiny", stream=True))
    assert stream.fail(http_problem(503, "gone")) == b"data: " + error_body(http_problem(503, "gone")) + b"\n\n"
