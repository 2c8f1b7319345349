"""Print the commands of a README that are promised to work, one per line, so that CI runs exactly what newcomers read.

A command is promised when its fenced block follows a line `<!-- checked -->`. Lines that end in a backslash are joined.
Usage: python3 tools/readme_commands.py README.md
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

BLOCK = re.compile(r"<!-- checked -->\n+```(?:sh|bash|console)\n(.*?)```", re.DOTALL)


def checked_commands(readme: str) -> list[str]:
    """Return the commands of all checked blocks of `readme`."""
    lines = [line for block in BLOCK.findall(readme) for line in block.replace("\\\n", " ").splitlines()]
    return [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]


if __name__ == "__main__":
    print("\n".join(checked_commands(Path(sys.argv[1]).read_text(encoding="utf-8"))))
