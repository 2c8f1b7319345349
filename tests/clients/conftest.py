"""The scripted runtime and the live server of `tests/server` serve here too, and the tiny models of `tests/models`."""

import sys
from pathlib import Path

for room in ("server", "models"):
    sys.path.insert(0, str(Path(__file__).parents[1] / room))
