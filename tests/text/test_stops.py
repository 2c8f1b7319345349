"""Stop strings are caught wherever the text is cut."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from camelid.text.stops import StopMatcher

STOPS = st.lists(st.text("abc\n", min_size=1, max_size=6), min_size=1, max_size=4)


def _run(stops: list[str], chunks: list[str]) -> tuple[str, str | None]:
    matcher = StopMatcher(stops)
    shown = "".join(matcher.push(chunk)[0] for chunk in chunks)
    return shown + matcher.flush(), matcher.hit


def _first_complete(stops: list[str], text: str) -> tuple[str, str | None]:
    """The definition, character by character."""
    for end in range(len(text) + 1):
        for stop in sorted(stops, key=len, reverse=True):
            if text[:end].endswith(stop):
                return text[: end - len(stop)], stop
    return text, None


@settings(max_examples=250, deadline=None)
@given(STOPS, st.lists(st.text("abc\n", max_size=7), max_size=12))
def test_any_chunking_shows_the_same_text_and_hits_the_same_stop(stops: list[str], chunks: list[str]) -> None:
    assert _run(stops, chunks) == _first_complete(stops, "".join(chunks))


@settings(max_examples=300, deadline=None)
@given(STOPS, st.text("abc\n", max_size=20))
def test_only_a_possible_beginning_is_held_back(stops: list[str], text: str) -> None:
    matcher = StopMatcher(stops)
    shown, hit = matcher.push(text)
    if hit is None:
        held = text[len(shown) :]
        longest = max(
            (k for stop in stops for k in range(min(len(stop), len(text) + 1)) if text.endswith(stop[:k])), default=0
        )
        assert len(held) == longest


def test_text_up_to_the_stop_is_shown_and_nothing_after() -> None:
    matcher = StopMatcher(["<END>"])
    assert [matcher.push(chunk) for chunk in ("one <", "b> two <E", "ND> three", "four")] == [
        ("one ", None),
        ("<b> two ", None),
        ("", "<END>"),
        ("", "<END>"),
    ]
    assert matcher.flush() == ""


def test_without_stops_everything_is_shown_at_once() -> None:
    matcher = StopMatcher([])
    assert (matcher.push("abc"), matcher.flush()) == (("abc", None), "")
