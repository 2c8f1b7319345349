"""What the documentation promises is what the code does."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from tools.benchmarks_page import COMMANDS
from tools.benchmarks_page import page as benchmarks_page

ROOT = Path(__file__).parents[1]


def test_reference_pages_are_what_the_code_says() -> None:
    checked = subprocess.run(
        [sys.executable, str(ROOT / "tools" / "reference_pages.py"), "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (checked.returncode, checked.stderr) == (0, "")


def test_the_benchmarks_page_shows_the_results_that_lie_beside_it() -> None:
    page = ROOT / "docs" / "benchmarks.md"
    names = re.findall(r"<!-- table: (\w+) -->", page.read_text(encoding="utf-8"))
    assert names == list(dict.fromkeys(names))
    assert set(names) == set(COMMANDS)
    assert benchmarks_page() == page.read_text(encoding="utf-8")


def test_the_readme_has_the_two_commands_that_ci_runs() -> None:
    printed = subprocess.run(
        [sys.executable, str(ROOT / "tools" / "readme_commands.py"), str(ROOT / "README.md")],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    assert len(printed) == 2
    assert "camelid run cria" in printed[0]
    assert "pytest" in printed[1]


def test_links_in_the_documentation_lead_somewhere() -> None:
    for page in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text(encoding="utf-8")):
            if not target.startswith(("http://", "https://", "mailto:")):
                assert (page.parent / target).exists(), f"{page.name} links to {target}"
