"""A process that serves a scripted runtime, for tests that send it signals.

`serve_fake.py SCRIPT DRAIN_SECONDS ACCEPT_SECONDS`

Scripts: `short` answers after a second or so, `endless` never ends, `loading` never finishes loading.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncGenerator

from fake_runtime import FakeRuntime

from camelid.server.app import serve
from camelid.server.limits import Limits
from camelid.settings import ServerSettings
from camelid.types import ChatRequest, CompletionRequest, Event, Finished, FinishReason, Started, Text, Usage


class SlowRuntime(FakeRuntime):
    """Emits a word every 20 ms, 50 of them or without end."""

    is_endless = False

    async def _play(self, request: ChatRequest | CompletionRequest) -> AsyncGenerator[Event, None]:
        yield Started(1)
        number = 0
        while self.is_endless or number < 50:
            await asyncio.sleep(0.02)
            yield Text(f"{number} ")
            number += 1
        yield Finished(FinishReason.STOP, usage=Usage(1, number))


def main() -> None:
    script, drain, accept = sys.argv[1], float(sys.argv[2]), float(sys.argv[3])
    runtime = SlowRuntime()
    runtime.is_endless = script == "endless"
    if script == "loading":
        print("loading", file=sys.stderr, flush=True)
        runtime.may_load = asyncio.Event()
    limits = Limits(accept_after_term_s=accept, cut_s=1.0)
    serve(runtime, ServerSettings(port=0, drain_seconds=drain), "tiny", limits=limits)


if __name__ == "__main__":
    main()
