"""Its place makes pytest put the repository's root on the path, so that every folder can import `tests.fakes`."""

import os

# Read when numpy is first imported. Its threads wait for each other by spinning: on two busy cores, products of float64
# matrices took four times as long with two threads as with one.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

# Run by `python -m tools.counterparts NAME`, each with an environment of its own.
collect_ignore = ["counterparts"]
