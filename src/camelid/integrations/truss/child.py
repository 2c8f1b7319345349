"""The process of a user's class: loads it, then answers on a socket of the file system until it is told to end.

    python -m camelid.integrations.truss.child FOLDER SOCKET

It ends by itself when its standard input does: whoever started it is gone then.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from pathlib import Path

import uvicorn

from .application import ModelApplication
from .folder import read_folder
from .methods import load_model

LEAVE_S = 3600  # of running calls; whoever is in front does not wait so long


def main() -> None:
    """Load and serve."""
    folder, socket = read_folder(Path(sys.argv[1])), sys.argv[2]
    threading.Thread(target=_end_with_input, daemon=True).start()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    os.chdir(folder.path)
    application = ModelApplication(folder, load_model(folder)).application()
    config = uvicorn.Config(
        application,
        uds=socket,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        timeout_graceful_shutdown=LEAVE_S,
    )
    uvicorn.Server(config).run()


def _end_with_input() -> None:
    while os.read(0, 1):  # not sys.stdin: its lock would be held when the interpreter ends
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    main()
