"""What the front adds to an engine's own times: a real server, a stub for an engine, and a client that reads streams.

Four processes: the stub is an engine process like any other, under the same supervisor; the server is `serve`; the
client is the command itself.
"""
