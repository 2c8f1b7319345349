"""How much one caller may send, and how long it may take about it.

Every number the server bounds something with stands here, so that a reader sees the whole surface at once and a test
can use small ones. They are no settings: an operator who needs others has a proxy in front. What a request may ask of
the model is bounded in `types.py`.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Bounds of one server. The defaults are what nginx and the public APIs do, a little tighter."""

    # the connection (connection.py)
    max_connections: int = 4096
    request_line_bytes: int = 8 * 1024
    header_bytes: int = 16 * 1024  # request line included
    header_fields: int = 100
    silent_s: float = 20.0  # connected, and not one byte of a request
    header_s: float = 10.0  # from the first byte of a request to the end of its headers
    body_s: float = 30.0  # from the end of the headers to the end of the body …
    body_s_per_mib: float = 1.0  # … and this much more for each MiB that is announced or has arrived
    keep_alive_s: float = 75.0  # between two requests
    linger_s: float = 2.0  # after a refused body: read and drop, so that the client can read the answer
    write_buffer_bytes: int = 256 * 1024  # unread answer, before the sequence is paused
    stalled_s: float = 30.0  # a reader that leaves the buffer full for this long is cut off

    # the body (decode.py)
    body_bytes: int = 4 * 1024 * 1024
    upload_bytes: int = 256 * 2**30  # of a file: no more time than such a one gets
    json_depth: int = 64
    messages: int = 4096
    tools: int = 128
    prompts: int = 64  # of one plain completion; each takes a sequence

    # what is kept for clients that come back (openai/responses/store.py)
    stored_responses: int = 1024
    stored_bytes: int = 64 * 1024 * 1024

    # the answer (stream.py)
    first_beat_s: float = 2.0  # headers and a comment go out this soon, even if there is no token yet
    beat_s: float = 10.0  # a comment when nothing else was sent for this long: gateways give up on silence

    # leaving (lifecycle.py, serve.py)
    accept_after_term_s: float = 5.0  # after SIGTERM new requests still come in, until the balancers have noticed
    cut_s: float = 2.0  # to write the last events of answers that are cut
