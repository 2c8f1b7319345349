"""`camelid create`: a model of the store from a Modelfile."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click

from camelid.cli.progress import bar
from camelid.cli.store import models_option, opened, size_of
from camelid.errors import NotFound


@click.command("create")
@click.argument("name")
@click.option("--file", "-f", "path", type=click.Path(path_type=Path), default=Path("Modelfile"), help="The Modelfile.")
@click.option("--quantize", "-q", "quantization", metavar="TYPE", help="Write the weights in TYPE, such as Q4_K_M.")
@models_option
def command(name: str, path: Path, quantization: str | None, models: str | None) -> None:
    """Make the model NAME as a Modelfile says, with PARAMETER, SYSTEM and more.

    FROM names a stored model, a GGUF file, a folder with safetensors, or one of Meta's with consolidated.*.pth. ADAPTER
    names a LoRA adapter: a GGUF file, or the folder that PEFT wrote.
    """
    from camelid.runtime.adapter_files import gguf_adapters
    from camelid.runtime.converting import gguf_for_store
    from camelid.runtime.overview import check_go_template
    from camelid.store.making import create, weights_of
    from camelid.store.modelfile import parse_modelfile
    from camelid.store.names import parse_name

    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise NotFound(f"{path} cannot be read: {error}", hint="give the Modelfile with -f") from error
    given = parse_modelfile(text)
    if given.template is not None:
        check_go_template(given.template)
    store, wanted = opened(models), parse_name(name)
    base = weights_of(store, given.base, path.parent)
    with (
        bar("making the model", 0) as done,
        gguf_adapters([path.parent / Path(one).expanduser() for one in given.adapters], base, store.making) as adapters,
        gguf_for_store(base, store.making, quantization, done) as weights,
    ):
        given = replace(given, adapters=tuple(map(str, adapters)))
        manifest = create(store, wanted, given, path.parent, done, weights)
    click.echo(f"{name} is ready, {size_of(manifest.size)}: camelid run {name}", err=True)
