"""Stop strings, found across token borders while text arrives.

Text that may yet turn out to be the beginning of a stop string is held back, and nothing more than that. Separate
because it knows characters only: neither tokens nor what a stop means.
"""

from __future__ import annotations

from collections.abc import Sequence


class StopMatcher:
    """Watches one growing text. However the text is cut into pushes, the same text comes out and the same stop is hit.

    The stop string that is complete first counts; of several complete at the same character, the longest.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        """Watch for `stops`, none of which is empty."""
        self._stops = tuple(sorted(stops, key=len, reverse=True))
        self._held = ""
        self.hit: str | None = None

    def push(self, text: str) -> tuple[str, str | None]:
        """Return the text that is safe to show, and the stop string if one was hit. After a hit there is none."""
        if self.hit is not None:
            return "", self.hit
        text = self._held + text
        self.hit, start = self._first_hit(text)
        if self.hit is None:
            start = self._first_doubt(text)
            self._held = text[start:]
        else:
            self._held = ""
        return text[:start], self.hit

    def flush(self) -> str:
        """Return what is held back when the text ends without a stop."""
        held, self._held = self._held, ""
        return held

    def _first_hit(self, text: str) -> tuple[str | None, int]:
        """Return the stop that ends first, and where it starts."""
        found = [(start + len(stop), start, stop) for stop in self._stops if (start := text.find(stop)) >= 0]
        if not found:
            return None, len(text)
        _, start, stop = min(found)
        return stop, start

    def _first_doubt(self, text: str) -> int:
        """Return where the longest end of the text starts that is the beginning of a stop; the length if none is."""
        first = len(text)
        for stop in self._stops:
            start = text.find(stop[0], max(0, len(text) - len(stop) + 1))
            while 0 <= start < first:
                if stop.startswith(text[start:]):
                    first = start
                start = text.find(stop[0], start + 1)
        return first
