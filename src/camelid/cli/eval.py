"""`camelid eval`: how good a model is, in numbers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from camelid.cli.options import setting_options
from camelid.errors import InvalidRequest
from camelid.settings import ModelSettings, group, read_settings


@click.group("eval")
def command() -> None:
    """Measure how good a model is."""


@command.command("perplexity", epilog="Every setting of a model is a flag, too: see `camelid run`.")
@click.argument("model")
@click.argument("text", required=False)
@click.option("--file", "-f", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="The text's file.")
@click.option("--window", type=int, default=512, show_default=True, help="Tokens that are looked at together.")
@click.option("--stride", type=int, help="Tokens from one window to the next. Default: half a window.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@setting_options(ModelSettings)
def perplexity(
    model: str, text: str | None, file: Path | None, window: int, stride: int | None, as_json: bool, **flags: Any
) -> None:
    """Tell how well MODEL predicts TEXT, or the text of a file: the lower the better.

    The text is read in windows that overlap; each token is counted once, with at least a window less a stride of text
    before it, but at the text's beginning.
    """
    from camelid.bench.perplexity import Windows, measure_perplexity

    windows = Windows(window, max(window // 2, 1) if stride is None else stride)
    settings = group(ModelSettings, read_settings(flags))
    found = measure_perplexity(model, settings, _text(text, file), windows, _tell)
    click.echo("\r", err=True, nl=False)
    if as_json:
        names = ("model", "num_tokens", "num_bytes", "log_loss", "error", "perplexity", "bits_per_byte")
        values = {name: getattr(found, name) for name in names}
        click.echo(json.dumps(values | {"window": windows.window, "stride": windows.stride}, indent=2))
        return
    low, high = found.perplexity * (1 - found.error), found.perplexity * (1 + found.error)
    click.echo(f"perplexity {found.perplexity:.4f} (± one standard error: {low:.4f} to {high:.4f})")
    click.echo(
        f"{found.bits_per_byte:.4f} bits per byte; {found.num_tokens} tokens of {found.num_bytes} bytes, "
        f"windows of {windows.window} every {windows.stride}"
    )


def _text(text: str | None, file: Path | None) -> str:
    """Return the text that is to be read. Raises InvalidRequest."""
    if (text is None) == (file is None):
        raise InvalidRequest("give a text or a file", field="text", hint="--file PATH reads one")
    if file is None:
        return text or ""
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"{file} is no UTF-8 text: {error.reason} at byte {error.start}", field="file") from error


def _tell(done: int, all_: int) -> None:
    click.echo(f"\r{done} of {all_} tokens", err=True, nl=False)
