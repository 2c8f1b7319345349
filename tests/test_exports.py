"""The public names: listed once, all there, and cheap until they are used."""

from __future__ import annotations

import subprocess
import sys

import camelid

HEAVY = ("numpy", "asyncio", "msgspec", "tokenizers", "jinja2", "fastapi", "torch")


def test_every_public_name_is_there() -> None:
    assert sorted(camelid.__all__) == camelid.__all__
    assert {name: hasattr(camelid, name) for name in camelid.__all__} == dict.fromkeys(camelid.__all__, True)
    assert dir(camelid) == camelid.__all__


def test_other_names_are_not() -> None:
    assert not hasattr(camelid, "nonsense")


def test_importing_camelid_imports_nothing_heavy() -> None:
    script = f"import sys, camelid; print(*(name for name in {HEAVY!r} if name in sys.modules))"
    printed = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert printed.split() == []
