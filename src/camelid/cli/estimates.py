"""What a model is going to take, told before it is fetched, and which of its variants would fit."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import click

from camelid.cli.store import print_table, size_of
from camelid.errors import CamelidError

if TYPE_CHECKING:
    from camelid.runtime.estimate import Estimate
    from camelid.settings import ModelSettings
    from camelid.store.manifests import Manifest
    from camelid.store.names import Name
    from camelid.store.transfer import Origin
    from camelid.store.variants import Variant

_HEAD = ("NAME", "PARAMETERS", "TYPE", "CONTEXT", "SIZE", "MEMORY", "TOKENS/S", "FITS")


def tell(origin: Origin, manifest: Manifest, settings: ModelSettings) -> Estimate | None:
    """Say on standard error what memory a model needs, how fast it can be and what its licence is.

    Nothing is said that is not known.
    """
    from camelid.runtime.estimate import estimate, most_tokens_per_second
    from camelid.store.variants import head_of, licence_of, weights_bytes

    try:
        licence = licence_of(origin, manifest)
        found = estimate(head_of(origin, manifest), weights_bytes(manifest), settings)
        speed = most_tokens_per_second(weights_bytes(manifest), settings)
    except CamelidError:
        return None  # whatever is wrong with it is told when it is fetched
    if found is not None:
        kind = ", ".join(part for part in (found.parameters, found.quantization) if part)
        click.echo(f"{kind + ': ' if kind else ''}{memory_of(found)}", err=True)
    if speed is not None:
        click.echo(f"up to {speed_of(speed)} tokens/s on this machine", err=True)
    if licence:
        click.echo(f"licence: {licence[:100]}", err=True)
    return found


def memory_of(found: Estimate) -> str:
    """Write what a model takes and what there is."""
    needs = f"needs {size_of(found.memory_bytes)} of memory at a context of {found.context_length} tokens"
    return f"{needs}; {size_of(found.available_bytes)} are free"


def speed_of(tokens_per_second: float) -> str:
    """Write a number of tokens a second."""
    return f"{tokens_per_second:.{1 if tokens_per_second < 10 else 0}f}"


def offer(name: Name, settings: ModelSettings) -> None:
    """Say that a model does not fit and which variant would; ask whether to go on where a person can answer.

    Raises click.Abort when the answer is no.
    """
    fitting = _best(name, settings)
    advice = f"{fitting} fits: camelid pull {fitting}" if fitting else "none of its variants fits"
    click.echo(f"it does not fit into this machine's memory; {advice}", err=True)
    if sys.stdin.isatty() and sys.stderr.isatty():
        click.confirm("fetch it anyway?", abort=True, err=True)


def show_variants(name: Name, settings: ModelSettings, *, as_json: bool) -> None:
    """Print a table of a model's variants: what each is, what it takes on this machine, how fast it can be at most."""
    from camelid.runtime.estimate import most_tokens_per_second

    rows = [(*row, most_tokens_per_second(row[0].size, settings)) for row in _estimated(name, settings)]
    if as_json:
        for variant, found, speed in rows:
            known = vars(found) if found is not None else {}
            numbers = {"name": str(variant.name), "size": variant.size, "tokens_per_second": speed}
            click.echo(json.dumps(numbers | known))
        return
    print_table(_HEAD, [_row(*row) for row in rows])


def _row(variant: Variant, found: Estimate | None, speed: float | None) -> tuple[str, ...]:
    size, rate = size_of(variant.size), "" if speed is None else speed_of(speed)
    if found is None:
        return (str(variant.name), "", "", "", size, "", rate, "")
    memory = f"{size_of(found.memory_bytes)} at {found.context_length}"
    kinds = (found.parameters, found.quantization, str(found.trained_context))
    return (str(variant.name), *kinds, size, memory, rate, "yes" if found.fits else "no")


def _best(name: Name, settings: ModelSettings) -> str | None:
    """Return the largest variant that fits."""
    try:
        fitting = [variant for variant, found in _estimated(name, settings) if found is not None and found.fits]
    except CamelidError:
        return None
    return str(fitting[-1].name) if fitting else None


def _estimated(name: Name, settings: ModelSettings) -> list[tuple[Variant, Estimate | None]]:
    from camelid.runtime.estimate import estimate
    from camelid.store.variants import variants

    return [(variant, estimate(variant.head, variant.size, settings)) for variant in variants(name)]
