"""A real server on a free port of this machine, in the loop of the test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

from openai import AsyncOpenAI, DefaultAsyncHttpxClient

from camelid.server.app import create_app, server_config
from camelid.server.contract import ServedRuntime
from camelid.server.leaving import LeavingServer
from camelid.server.lifecycle import Lifecycle
from camelid.server.limits import Limits
from camelid.server.listen import listen, url_of
from camelid.settings import ServerSettings

USUAL = Limits()
ON_A_FREE_PORT = ServerSettings(port=0, drain_seconds=0.0)


@dataclass
class Live:
    url: str
    port: int
    lifecycle: Lifecycle
    server: LeavingServer


def openai_client(url: str, key: str = "not needed") -> AsyncOpenAI:
    """Return the official client. Without certificates, which it need not check here and takes long to read."""
    plain = DefaultAsyncHttpxClient(verify=False)
    return AsyncOpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0, http_client=plain)


@asynccontextmanager
async def live(
    runtime: ServedRuntime,
    settings: ServerSettings = ON_A_FREE_PORT,
    limits: Limits = USUAL,
    model: str = "tiny",
) -> AsyncIterator[Live]:
    """Serve `runtime` while the block runs; it counts as loaded. `gpt-4` is an alias of the model."""
    lifecycle = Lifecycle()
    lifecycle.is_started = True
    settings = replace(settings, alias=(("gpt-4", model),))
    app = create_app(runtime, settings, default_model=model, lifecycle=lifecycle, limits=limits)
    server = LeavingServer(server_config(app, limits), lifecycle, settings.drain_seconds, limits)
    with listen(settings.host, settings.port) as listener:
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            yield Live(url_of(listener), listener.getsockname()[1], lifecycle, server)
        finally:
            server.should_exit = True
            await serving
