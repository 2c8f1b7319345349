"""The command's door: help, version, errors, exit codes, and what it does not import."""

from __future__ import annotations

import subprocess
import sys

import pytest

from camelid.cli.main import VERBS, run

HEAVY = ("numpy", "rich", "prompt_toolkit", "fastapi", "uvicorn", "tokenizers", "jinja2", "asyncio")


def modules_after(statement: str) -> set[str]:
    """Return the names of the top-level modules that a fresh interpreter holds after `statement`."""
    script = f"import sys\n{statement}\nprint(*(name for name in sys.modules if '.' not in name))"
    printed = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    return set(printed.splitlines()[-1].split())


def test_help_lists_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--help"]) == 0
    printed = capsys.readouterr().out
    assert [line.split()[0] for line in printed.partition("Commands:\n")[2].splitlines() if line] == list(VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_its_own_help(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([verb, "--help"]) == 0
    assert f"Usage: camelid {verb}" in capsys.readouterr().out


def test_importing_camelid_and_asking_for_help_load_nothing_heavy() -> None:
    assert not modules_after("import camelid") & set(HEAVY)
    assert not modules_after("from camelid.cli.main import run; run(['--help'])") & set(HEAVY)


def test_the_version_is_the_packages_own(capsys: pytest.CaptureFixture[str]) -> None:
    import camelid

    assert run(["--version"]) == 0
    assert capsys.readouterr().out == f"camelid {camelid.__version__}\n"


def test_an_error_has_a_hint_and_exit_code_1(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["run", "cria", "hello", "--threads", "0"]) == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("error: threads from flag --threads is '0': must be at least 1\n\nhint: --threads:")


def test_an_unknown_verb_or_flag_has_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["fly"]) == 2
    assert run(["run", "--fast"]) == 2
    assert capsys.readouterr().out == ""


def test_settings_never_show_a_key(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAMELID_API_KEY", "secret-one,secret-two")
    assert run(["settings"]) == 0
    assert run(["settings", "--json"]) == 0
    printed = capsys.readouterr().out
    assert "secret" not in printed
    assert "api_key = 2 set" in printed
