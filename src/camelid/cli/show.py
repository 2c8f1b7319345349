"""`camelid show`: what a model is, in sections as Ollama prints them, or one text of it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import click

from camelid.cli.store import models_option, size_of
from camelid.errors import InvalidRequest
from camelid.settings import ModelSettings, group, read_settings

if TYPE_CHECKING:
    from camelid.runtime.overview import Overview

_NUM_LINES = 2  # of a long text in a section
_GAP = 4  # spaces between two columns, and in front of a row
Section = tuple[str, Sequence[tuple[str, ...]]]


@click.command("show")
@click.argument("name")
@click.option("--modelfile", "wanted", flag_value="modelfile", help="Print the Modelfile that makes it again.")
@click.option("--template", "wanted", flag_value="template", help="Print the template that makes its prompts.")
@click.option("--parameters", "wanted", flag_value="parameters", help="Print its makers' parameters.")
@click.option("--system", "wanted", flag_value="system", help="Print its system prompt.")
@click.option("--license", "wanted", flag_value="license", help="Print its licences.")
@click.option("--json", "as_json", is_flag=True, help="Print all of it as one JSON object.")
@click.option("--variants", "of_registry", is_flag=True, help="Show what its registry has of it, and what would fit.")
@models_option
def command(name: str, wanted: str | None, as_json: bool, of_registry: bool, models: str | None) -> None:
    """Show what a model is: a name of the store, `cria`, or a file.

    With --variants, a table of all there is of it where it comes from: parameters, type, longest context, size, and
    the memory that it needs here at the context that it would be loaded with, and how fast it can be at most.
    """
    from camelid.cli.estimates import show_variants
    from camelid.runtime import overview
    from camelid.store.local import find
    from camelid.store.names import parse_name

    settings = group(ModelSettings, read_settings({"models": models}))
    if of_registry:
        show_variants(parse_name(name), settings, as_json=as_json)
        return
    shown = overview.overview(find(name, settings.models), uses_go_template=settings.go_template)
    if as_json:
        click.echo(json.dumps(overview.as_json(shown), indent=2, ensure_ascii=False))
    elif wanted is not None:
        click.echo(_text(shown, wanted), nl=False)
    else:
        click.echo("\n".join(_lines([*sections(shown), *_copy_section(shown, settings.models)])))


def _text(shown: Overview, wanted: str) -> str:
    """Return one text of a model, with a line end. Raises InvalidRequest where it has none."""
    text = {
        "modelfile": lambda: shown.modelfile,
        "template": lambda: shown.template,
        "parameters": lambda: shown.parameters,
        "system": lambda: shown.files.system,
        "license": lambda: shown.license,
    }[wanted]()
    if not text:
        raise InvalidRequest(f"{shown.files.name} has no {wanted}", field=wanted)
    return text if text.endswith("\n") else f"{text}\n"


def sections(shown: Overview) -> list[Section]:
    """Return the sections with their rows; what a model does not have is left out."""
    summary = shown.summary
    kept = ("architecture", "parameters", "context length", "embedding length", "quantization")
    model = [(key, str(summary[key])) for key in kept]
    if shown.files.requires:
        model.append(("requires", shown.files.requires))
    found: list[Section] = [
        ("Model", model),
        ("Capabilities", [(name,) for name in shown.capabilities]),
        ("Parameters", list(shown.parameter_rows())),
        ("System", _beginning(shown.files.system)),
        ("License", _beginning(shown.license)),
    ]
    return [(title, rows) for title, rows in found if rows]


def _copy_section(shown: Overview, models: str | None) -> list[Section]:
    """Return where the fast copy of the weights lies, and its size, if there is one."""
    from camelid.store.copies import place_of
    from camelid.store.places import own_store

    weights = shown.files.weights
    path = place_of(weights, own_store(models).folder).path if weights.is_file() else None
    if path is None or not path.is_file():
        return []
    return [("Fast copy", [("size", size_of(path.stat().st_size)), ("path", str(path))])]


def _beginning(text: str) -> list[tuple[str, ...]]:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    rows: list[tuple[str, ...]] = [(line,) for line in lines[:_NUM_LINES]]
    return [*rows, ("...",)] if len(lines) > _NUM_LINES else rows


def _lines(found: Sequence[Section]) -> Iterator[str]:
    """Yield the lines of sections: rows indented, their columns aligned, an empty line after each."""
    for title, rows in found:
        yield f"  {title}"
        width = max(len(row[0]) for row in rows) + _GAP
        for row in rows:
            yield " " * _GAP + "".join(cell.ljust(width) for cell in row[:-1]) + row[-1]
        yield ""
