"""`camelid quantize`: a model in fewer bits."""

from __future__ import annotations

from pathlib import Path

import click

from camelid.cli.progress import bar
from camelid.cli.store import size_of


@click.command("quantize")
@click.argument("source", type=click.Path(path_type=Path))
@click.argument("target", type=click.Path(path_type=Path))
@click.argument("quantization")
def command(source: Path, target: Path, quantization: str) -> None:
    """Write the model of the GGUF file SOURCE to TARGET in QUANTIZATION.

    One of Q8_0, Q6_K, Q5_K_M, Q5_K_S, Q4_K_M, Q4_K_S, Q4_0, F16, BF16, F32.
    """
    from camelid.models.quantize import quantize

    size = source.stat().st_size if source.is_file() else 0
    with bar(f"quantizing to {quantization.upper()}", size) as done:
        quantize(source, target, quantization, done)
    click.echo(f"{target}: {size_of(target.stat().st_size)}, was {size_of(size)}", err=True)
