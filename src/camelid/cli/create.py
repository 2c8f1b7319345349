"""`camelid create`: a model of the store from a Modelfile."""

from __future__ import annotations

from pathlib import Path

import click

from camelid.cli.progress import bar
from camelid.cli.store import models_option, opened, size_of
from camelid.errors import NotFound


@click.command("create")
@click.argument("name")
@click.option("--file", "-f", "path", type=click.Path(path_type=Path), default=Path("Modelfile"), help="The Modelfile.")
@models_option
def command(name: str, path: Path, models: str | None) -> None:
    """Make the model NAME as a Modelfile says: FROM a GGUF file or a stored model, with PARAMETER, SYSTEM and more."""
    from camelid.runtime.overview import check_adapter, check_go_template
    from camelid.store.making import create
    from camelid.store.modelfile import parse_modelfile
    from camelid.store.names import parse_name

    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise NotFound(f"{path} cannot be read: {error}", hint="give the Modelfile with -f") from error
    given = parse_modelfile(text)
    if given.template is not None:
        check_go_template(given.template)
    for adapter in given.adapters:
        check_adapter(path.parent / Path(adapter).expanduser())
    base = path.parent / given.base
    with bar("reading the weights", base.stat().st_size if base.is_file() else 0) as done:
        manifest = create(opened(models), parse_name(name), given, path.parent, done)
    click.echo(f"{name} is ready, {size_of(manifest.size)}: camelid run {name}", err=True)
