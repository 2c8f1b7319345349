"""How a template fails: one constructor, so that every message names the template and the line alike."""

from __future__ import annotations

from camelid.errors import TemplateError

HINT = "use the model's own template, or correct this one (camelid show NAME --template)"


def failure(line: int, what: str) -> TemplateError:
    """Return the error of a Go template that goes wrong on `line`, counted from 1."""
    return TemplateError(f"the Go template, line {line}: {what}", hint=HINT, line=line)
