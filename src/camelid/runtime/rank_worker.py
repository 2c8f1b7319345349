"""A further rank of a model: loads its part, and runs each batch that the first rank tells it of. Started as `python -m
camelid.runtime.rank_worker FD`.

It draws nothing and answers nobody: the first rank has the logits. It leaves when its line closes, and on Linux also
when its parent dies in the middle of a sum.
"""

from __future__ import annotations

import os
import socket
import sys

from camelid.errors import CamelidError, ProtocolError

from .failure import Failure
from .frames import Unpacker, pack
from .rank_frames import Join, Joined, NotJoined, Run, batch_of, order_decoder
from .worker import prepare_process

READ_BYTES = 2**18


class _Line:
    """Orders from the first rank, one after the other."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._unpacker = Unpacker(order_decoder)
        self._orders: list[Join | Run] = []

    def next(self) -> Join | Run | None:
        """Return the next order, None when the line is closed."""
        while not self._orders:
            try:
                data = self._socket.recv(READ_BYTES)
            except ConnectionError:
                return None
            if not data:
                return None
            self._orders = self._unpacker.feed(data)
        return self._orders.pop(0)

    def answer(self, message: Joined | NotJoined) -> None:
        """Tell the first rank how loading went."""
        self._socket.sendall(pack(message))


def serve(connection: socket.socket) -> None:
    """Be a rank until the line closes."""
    line = _Line(connection)
    order = line.next()
    if order is None:
        return
    if not isinstance(order, Join):
        raise ProtocolError(f"the first order must be to join, got {type(order).__name__}")
    from .assembly import open_rank

    try:
        run = open_rank(order)
    except CamelidError as error:
        line.answer(NotJoined(Failure.of(error)))
        line.next()  # to leave before the first rank has read that would look like a death
        return
    line.answer(Joined())
    while (order := line.next()) is not None:
        if not isinstance(order, Run):
            raise ProtocolError("a rank joins once")
        run(batch_of(order), order.is_hidden)


def main() -> None:
    """Serve the socket whose number is the one argument."""
    prepare_process()
    with socket.socket(fileno=int(sys.argv[1])) as connection:
        serve(connection)
    sys.stderr.flush()
    os._exit(0)  # it has nothing to save, and PyTorch's own farewell takes seconds


if __name__ == "__main__":
    main()
