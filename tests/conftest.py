"""Its place makes pytest put the repository's root on the path, so that every folder can import `tests.fakes`."""

import logging
import os
from collections.abc import Iterator

import pytest

# Read when numpy is first imported. Its threads wait for each other by spinning: on two busy cores, products of float64
# matrices took four times as long with two threads as with one.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

# Run by `python -m tools.counterparts NAME`, each with an environment of its own.
collect_ignore = ["counterparts"]


@pytest.fixture(autouse=True)
def log_as_it_was() -> Iterator[None]:
    """A command that runs in this process sets up the log for itself; the next test finds it as it was."""
    logger = logging.getLogger("camelid")
    handlers, propagate, level = logger.handlers[:], logger.propagate, logger.level
    yield
    logger.handlers[:], logger.propagate = handlers, propagate
    logger.setLevel(level)
