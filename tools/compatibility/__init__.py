"""What the server does with every field of every route: found out by sending each one, and written down as a page."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "tests" / "server"))  # the scripted runtime lives with its tests
