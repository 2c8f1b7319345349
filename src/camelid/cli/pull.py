"""`camelid pull`: fetch a model from a registry."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from camelid.cli.store import models_option, opened, size_of
from camelid.errors import InvalidRequest, MissingModel

if TYPE_CHECKING:
    from camelid.settings import ModelSettings
    from camelid.store.blobs import Digest
    from camelid.store.manifests import Layer, Manifest
    from camelid.store.names import Name
    from camelid.store.store import Entry, Store
    from camelid.store.transfer import Watcher


@click.command("pull")
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="Print progress as one JSON object a line.")
@click.option("--url", envvar="CAMELID_META_URL", help="For meta:…, the signed URL of Meta's mail, in single quotes.")
@models_option
def command(name: str, as_json: bool, url: str | None, models: str | None) -> None:
    """Fetch a model.

    NAME is one of Ollama's registry (llama3.1:8b), Docker Hub (ai/llama3.1), the Hugging Face hub
    (hf.co/org/repo:Q4_K_M), Meta (meta:8b-instruct, with --url), or any registry (localhost:5000/ns/model). A pull
    that was stopped goes on where it was.
    """
    fetch(opened(models), name, as_json=as_json, url=url)


def fetch(
    store: Store, name: str, *, as_json: bool = False, url: str | None = None, settings: ModelSettings | None = None
) -> None:
    """Fetch a model into a store, showing how far it is. `settings`: what it is going to be loaded with, if known."""
    from camelid.store.names import META, parse_name

    wanted = parse_name(name)
    shown = JsonLines() if as_json else Bars()
    with shown:
        if wanted.host == META:
            from camelid.store.meta import pull_meta

            entry = pull_meta(store, wanted, _given(url), shown.watcher(), lambda *found: shown.announce(store, *found))
        else:
            entry = _pull(store, wanted, shown, settings)
    shown.end(str(entry.name))


def fetch_if_missing(model: str, folder: str | None) -> None:
    """Fetch a model that has a name and is in no store here; `folder` is that of our own. Raises as `find` does."""
    from camelid.store.local import find

    try:
        find(model, folder)
    except MissingModel:
        from camelid.store.places import own_store

        fetch(own_store(folder), model)


def _pull(store: Store, wanted: Name, shown: JsonLines | Bars, given: ModelSettings | None) -> Entry:
    """Fetch a model, after it was said what it takes."""
    from camelid.cli.estimates import offer, tell
    from camelid.settings import ModelSettings, group, read_settings
    from camelid.store.transfer import origin_of, pull

    origin, settings = origin_of(wanted), given or group(ModelSettings, read_settings())

    def confirm(manifest: Manifest, need_bytes: int) -> None:
        shown.announce(store, manifest, need_bytes)
        if isinstance(shown, Bars) and need_bytes:
            with shown.paused():
                found = tell(origin, manifest, settings)
                if found is not None and not found.fits:
                    offer(wanted, settings)

    return pull(store, wanted, shown.watcher(), confirm, origin)


def _given(url: str | None) -> str:
    if not url:
        hint = "ask Meta for one, and give it with --url or in CAMELID_META_URL"
        raise InvalidRequest("Meta's models are fetched with a signed URL", field="url", hint=hint)
    return url


class JsonLines:
    """Progress for programs: `status` or `digest`, `total`, `completed`."""

    def __init__(self) -> None:
        self._layer: Layer | None = None
        self._completed = 0

    def __enter__(self) -> None:
        """Do nothing."""

    def __exit__(self, *error: object) -> None:
        """Do nothing."""

    def watcher(self) -> Watcher:
        """Return who is told."""
        from camelid.store.transfer import Watcher

        return Watcher(self._begin, self._done, lambda digest: self._say(status=f"waiting for {digest}"), self._status)

    def announce(self, store: Store, manifest: Manifest, need_bytes: int) -> None:
        """Say what is going to be fetched."""
        self._say(status="fetching", size=manifest.size, missing=need_bytes, digest=str(manifest.digest))

    def end(self, name: str) -> None:
        """Say that all is there."""
        self._say(status="success", name=name)

    def _status(self, text: str) -> None:
        self._say(status=text)

    def _begin(self, layer: Layer) -> None:
        self._layer, self._completed = layer, 0

    def _done(self, size: int) -> None:
        self._completed += size
        if self._layer is not None:
            self._say(digest=str(self._layer.digest), total=self._layer.size, completed=self._completed)

    def _say(self, **values: Any) -> None:
        click.echo(json.dumps(values))


class Bars:
    """Progress for a person: a bar for each file, with rate and time left; plain lines where nobody watches."""

    def __init__(self) -> None:
        self._progress: Any = None
        self._task: Any = None

    def __enter__(self) -> None:
        """Open the bars."""
        if not sys.stderr.isatty():
            return
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
            TransferSpeedColumn,
        )

        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
        self._progress = Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True))
        self._progress.start()

    def __exit__(self, *error: object) -> None:
        """Close the bars."""
        if self._progress is not None:
            self._progress.stop()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Keep the bars off the screen while something is said or asked."""
        if self._progress is None:
            yield
            return
        self._progress.stop()
        yield
        self._progress.start()

    def watcher(self) -> Watcher:
        """Return who is told."""
        from camelid.store.transfer import Watcher

        return Watcher(self._begin, self._done, self._wait, lambda text: click.echo(text, err=True))

    def announce(self, store: Store, manifest: Manifest, need_bytes: int) -> None:
        """Say before the first byte what it takes."""
        folder = next(parent for parent in (store.folder, *store.folder.parents) if parent.exists())
        left = shutil.disk_usage(folder).free - need_bytes
        size = size_of(manifest.size)
        click.echo(f"{size} in all, {size_of(need_bytes)} to fetch; {size_of(left)} of disk left after that", err=True)

    def end(self, name: str) -> None:
        """Say that all is there."""
        click.echo(f"{name} is ready: camelid run {name}", err=True)

    def _begin(self, layer: Layer) -> None:
        if self._progress is not None:
            self._task = self._progress.add_task(layer.digest.hex[:12], total=layer.size)

    def _done(self, size: int) -> None:
        if self._progress is not None:
            self._progress.advance(self._task, size)

    def _wait(self, digest: Digest) -> None:
        click.echo(f"another process fetches {digest.hex[:12]}; waiting for it", err=True)
