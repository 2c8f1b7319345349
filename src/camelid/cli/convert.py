"""`camelid convert`: a model in another layout."""

from __future__ import annotations

from pathlib import Path

import click

from camelid.cli.progress import bar

SUFFIXES = {".gguf": "gguf"}


@click.command("convert")
@click.argument("source", type=click.Path(path_type=Path))
@click.argument("target", type=click.Path(path_type=Path))
@click.option(
    "--to",
    type=click.Choice(["gguf", "safetensors", "meta"]),
    help="The layout; default: gguf for a TARGET with that ending, else safetensors.",
)
@click.option("--type", "-q", "quantization", metavar="TYPE", help="Type of the weights; default: as they are.")
@click.option("--files", type=click.IntRange(1, 64), default=1, show_default=True, help="For meta: number of files.")
@click.option("--merged-names", "is_merged", is_flag=True, help="For meta: AIME's names, merged.NGPUs.00.pth.")
@click.option(
    "--merge-adapter",
    "adapters",
    metavar="PATH",
    type=click.Path(path_type=Path),
    multiple=True,
    help="Merge a LoRA adapter, a GGUF file or the folder that PEFT wrote, into the weights. Several may be given.",
)
def command(
    source: Path,
    target: Path,
    to: str | None,
    quantization: str | None,
    files: int,
    is_merged: bool,
    adapters: tuple[Path, ...],
) -> None:
    """Write the model SOURCE to TARGET in another layout, with its tokenizer.

    SOURCE is a GGUF file, a folder with safetensors and config.json, or one of Meta's with consolidated.*.pth or
    merged.*.pth and params.json, whose pickles are read and never run; Meta's become another number of Meta's byte for
    byte. TYPE is BF16, F16 or F32, and for gguf also Q8_0, Q4_K_M and the
    others that `camelid quantize` knows. Matrices that an adapter changes are Q8_0 where they have fewer bits in SOURCE
    and no TYPE is given.
    """
    from camelid.cli.logs import configure_logs
    from camelid.runtime.converting import Layout, convert_model, total_bytes
    from camelid.settings import LogSettings

    configure_logs(LogSettings(log_level="warning"), quiet=False)
    layout = Layout(to or SUFFIXES.get(target.suffix, "safetensors"))
    with bar(f"converting to {layout.value}", total_bytes(source)) as done:
        convert_model(
            source,
            target,
            layout,
            quantization=quantization,
            num_files=files,
            is_merged=is_merged,
            adapters=adapters,
            progress=done,
        )
    click.echo(f"{target} is ready: camelid run {target}", err=True)
