"""Reading what a person types: line editing, history, several lines between triple quotes."""

from __future__ import annotations

import os
from pathlib import Path

from prompt_toolkit import PromptSession
from prompt_toolkit.history import FileHistory, History, InMemoryHistory

QUOTES = '"""'


class Leave(Exception):
    """The person wants to go."""


class EntryReader:
    """A prompt with a history that outlives the chat."""

    def __init__(self) -> None:
        self.session: PromptSession[str] = PromptSession(history=_history(), enable_open_in_editor=True)

    async def read(self) -> str:
        """Return the next entry, without surrounding blanks; Ctrl-C gives an empty one.

        Raises Leave at the end of input.
        """
        try:
            entry = (await self.session.prompt_async(">>> ")).strip()
            return await self._read_quoted(entry) if entry.startswith(QUOTES) else entry
        except KeyboardInterrupt:
            return ""
        except EOFError:
            raise Leave from None

    async def _read_quoted(self, first: str) -> str:
        lines = [first[len(QUOTES) :]]
        while not lines[-1].rstrip().endswith(QUOTES):
            lines.append(await self.session.prompt_async("... "))
        return "\n".join(lines).rstrip().removesuffix(QUOTES).strip("\n")


def _history() -> History:
    """Return the history file in the user's state folder, or one in memory where that cannot be written."""
    folder = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "camelid"
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        (folder / "history").touch(mode=0o600)
    except OSError:
        return InMemoryHistory()
    return FileHistory(str(folder / "history"))
