"""Write docs/compatibility.md, or tell that it is stale.

Usage: python -m tools.compatibility            writes the page
       python -m tools.compatibility --check    fails if the page is stale (a test does the same)
"""

from __future__ import annotations

import sys
from pathlib import Path

from .page import page

FILE = Path(__file__).parents[2] / "docs" / "compatibility.md"


def main() -> int:
    """Write or check the page."""
    text = page()
    if "--check" not in sys.argv:
        FILE.write_text(text, encoding="utf-8")
        return 0
    is_stale = not FILE.exists() or FILE.read_text(encoding="utf-8") != text
    if is_stale:
        print("docs/compatibility.md is stale; run python -m tools.compatibility", file=sys.stderr)
    return 1 if is_stale else 0


if __name__ == "__main__":
    sys.exit(main())
