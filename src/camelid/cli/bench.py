"""`camelid bench`: making synthetic models of published shapes. The measurements join it as they are written."""

from __future__ import annotations

from pathlib import Path

import click


@click.group("bench")
def command() -> None:
    """Make synthetic models and measure."""


@command.command("synth")
@click.argument("shape")
@click.option("--quant", default="Q4_K_M", show_default=True, help="Quantization, as in a GGUF file's name.")
@click.option("--out", "-o", type=click.Path(path_type=Path), required=True, help="The GGUF file to write.")
@click.option("--vocabulary", type=click.Path(path_type=Path, exists=True), help="Meta's tokenizer.model to take.")
@click.option("--layers", type=click.IntRange(1), help="Fewer layers than the published shape has.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Seed of the random weights.")
def synth(shape: str, quant: str, out: Path, vocabulary: Path | None, layers: int | None, seed: int) -> None:
    """Write a model of SHAPE (tiny, 1b, 3b, 8b, 70b) with seeded random weights:

    right in size and speed, not in sense.
    """
    from camelid.models.synth import write_synthetic

    write_synthetic(out, shape, quant, seed=seed, num_layers=layers, vocabulary=vocabulary)
    click.echo(f"{out}: {out.stat().st_size / 1e9:.3f} GB", err=True)
