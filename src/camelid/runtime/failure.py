"""An error as plain data, so that it crosses from the engine process to the front and is the same error there.

Only errors of our own tree cross. Anything else that goes wrong in the engine process is a crash, and the
supervisor's business.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from camelid import errors
from camelid.errors import CamelidError, Violation

_PLAIN = (str, int, float, bool, type(None))


class Failure(msgspec.Struct, frozen=True):
    """A `CamelidError`: its class by name, its sentence and hint, and whatever plain values it carries."""

    kind: str
    message: str
    hint: str | None = None
    details: dict[str, str | int | float | bool | None] = {}
    violation: tuple[str, str, str] | None = None  # field, value (as text), rule

    @classmethod
    def of(cls, error: CamelidError) -> Failure:
        """Describe `error`."""
        details: dict[str, Any] = {}
        for name, value in vars(error).items():
            if isinstance(value, Path):
                details[name] = str(value)
            elif name not in ("message", "hint") and isinstance(value, _PLAIN):
                details[name] = value
        found = getattr(error, "violation", None)
        violation = (found.field, str(found.value), found.rule) if isinstance(found, Violation) else None
        return cls(type(error).__name__, error.message, error.hint, details, violation)

    def error(self) -> CamelidError:
        """Make the error again. A class that this side does not know becomes a plain `CamelidError`."""
        kind = getattr(errors, self.kind, None)
        if not (isinstance(kind, type) and issubclass(kind, CamelidError)):
            kind = CamelidError
        error: CamelidError = kind.__new__(kind)  # past the class's own constructor, which would word the message again
        CamelidError.__init__(error, self.message, hint=self.hint)
        for name, value in self.details.items():
            setattr(error, name, Path(str(value)) if name == "path" else value)
        if self.violation is not None:
            setattr(error, "violation", Violation(*self.violation))  # noqa: B010 - only some classes of the tree have it
        return error
