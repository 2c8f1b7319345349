"""How verbs talk to a server that runs: its address from the settings, its errors as ours.

Only what `ps` and `stop` need. The paths are Ollama's, so a server of Ollama can be asked just as well.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from camelid.errors import CamelidError, NotFound, ProtocolError, Unauthorized, Unavailable
from camelid.settings import ServerSettings, group, read_settings

TIMEOUT_S = 30.0
WILD = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # addresses to listen on that mean all, and where to ask then


def ask(
    method: str, path: str, flags: Mapping[str, str | None], body: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Send a request to the server that the settings name; return the object that it answers with.

    Raises Unavailable where nobody answers, NotFound, Unauthorized, and CamelidError for other refusals.
    """
    import urllib3

    settings = group(ServerSettings, read_settings(flags))
    url = address(settings)
    headers = {"authorization": f"Bearer {settings.api_key[0]}"} if settings.api_key else {}
    try:
        answer = urllib3.request(method, url + path, json=body, headers=headers, timeout=TIMEOUT_S, retries=False)
    except urllib3.exceptions.HTTPError as error:
        hint = "start one: camelid serve; --host and --port, or CAMELID_HOST, say where to look"
        raise Unavailable(f"no server answers at {url}", hint=hint) from error
    return _content(answer.status, answer.data, url)


def address(settings: ServerSettings) -> str:
    """Return the URL under which this machine reaches the server of `settings`."""
    host = WILD.get(settings.host, settings.host)
    return f"http://[{host}]:{settings.port}" if ":" in host else f"http://{host}:{settings.port}"


def _content(status: int, data: bytes, url: str) -> dict[str, Any]:
    try:
        content = json.loads(data) if data else {}
    except ValueError as error:
        raise ProtocolError(f"what answers at {url} is no server of models: {data[:60]!r}") from error
    if status < 400 and isinstance(content, dict):
        return content
    said = str(content.get("error", content))[:500] if isinstance(content, dict) else str(content)[:500]
    if status == 401:
        raise Unauthorized(said, hint="give the server's key: --api-key, or CAMELID_API_KEY")
    raise (NotFound if status == 404 else CamelidError)(said)
