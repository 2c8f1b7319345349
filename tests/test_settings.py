"""Where a setting's value comes from, and what happens to a bad one."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from camelid.errors import InvalidSetting
from camelid.settings import (
    SETTINGS,
    KeepSettings,
    LogSettings,
    ModelSettings,
    SafetySettings,
    ServerSettings,
    WorkerSettings,
    group,
    parse_bytes,
    parse_keep_alive,
    read_settings,
)


@pytest.fixture
def no_file(tmp_path: Path) -> dict[str, str]:
    return {"CAMELID_CONFIG": str(tmp_path / "absent.toml")}


def test_flag_wins_over_variable_over_file_over_default(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text("threads = 3\nport = 1003\nmax_waiting = 7\n")
    environment = {"CAMELID_CONFIG": str(file), "CAMELID_THREADS": "2", "CAMELID_PORT": "1002"}
    values = read_settings({"threads": 1}, environment)
    assert (values["threads"], values["port"], values["max_waiting"], values["max_sequences"]) == (1, 1002, 7, 16)


def test_variables_of_ollama_are_honoured_after_ours(no_file: dict[str, str]) -> None:
    ollama = {**no_file, "OLLAMA_HOST": "http://0.0.0.0:8080", "OLLAMA_CONTEXT_LENGTH": "4096"}
    ollama["OLLAMA_KV_CACHE_TYPE"] = "Q8_0"
    values = read_settings({}, ollama)
    assert (values["host"], values["port"], values["context_length"]) == ("0.0.0.0", 8080, 4096)
    assert values["cache_type"] == "q8_0"
    assert read_settings({}, {**ollama, "CAMELID_PORT": "9"})["port"] == 9


def test_an_ipv6_address_may_be_bracketed(no_file: dict[str, str]) -> None:
    assert read_settings({"host": "[::1]"}, no_file)["host"] == "::1"
    assert read_settings({"host": "::1"}, no_file)["host"] == "::1"


@pytest.mark.parametrize(
    ("name", "value"),
    [("port", "70000"), ("threads", "0"), ("threads", "two"), ("cache_memory", "3 parsecs"), ("cache_type", "q3"),
     ("drain_seconds", "-1"), ("log_json", "perhaps"), ("api_key", " , "), ("alias", "gpt-4"),
     ("alias", "=cria"), ("alias", "a=b,a=c")],
)  # fmt: skip
def test_a_bad_value_names_the_setting_the_value_and_its_source(name: str, value: str, no_file: dict[str, str]) -> None:
    variable = next(setting for setting in SETTINGS if setting.name == name).variables[0]
    with pytest.raises(InvalidSetting, match=f"{name} from variable {variable} is '{value}'"):
        read_settings({}, {**no_file, variable: value})


def test_an_unknown_setting_in_the_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text("thread = 3\n")
    with pytest.raises(InvalidSetting, match="unknown setting 'thread'"):
        read_settings({}, {"CAMELID_CONFIG": str(file)})


def test_aliases_come_from_a_text_or_from_a_list_in_the_file(tmp_path: Path, no_file: dict[str, str]) -> None:
    pairs = (("gpt-4o", "llama3.1:8b"), ("claude-x", "cria"))
    assert read_settings({"alias": "gpt-4o=llama3.1:8b, claude-x = cria"}, no_file)["alias"] == pairs
    file = tmp_path / "config.toml"
    file.write_text('alias = ["gpt-4o=llama3.1:8b", "claude-x=cria"]\n')
    assert read_settings({}, {"CAMELID_CONFIG": str(file)})["alias"] == pairs


@pytest.mark.parametrize(
    ("text", "size"), [("1024", 1024), ("2GiB", 2**31), ("1.5 MiB", 3 * 2**19), ("3gb", 3 * 10**9), ("7b", 7)]
)
def test_sizes_have_units(text: str, size: int) -> None:
    assert parse_bytes(text) == size


def test_every_field_of_the_groups_is_a_row_of_the_table_with_the_same_default(no_file: dict[str, str]) -> None:
    values = read_settings({}, no_file)
    groups = (ModelSettings, KeepSettings, ServerSettings, WorkerSettings, SafetySettings, LogSettings)
    assert [group(kind, values) for kind in groups] == [kind() for kind in groups]
    assert values.keys() == {name for kind in groups for name in kind.__dataclass_fields__}


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("300", 300.0), ("0", 0.0), ("-1", math.inf), ("5m", 300.0), ("1h30m", 5400.0), ("1.5s", 1.5), ("-1m", math.inf)],
)
def test_times_to_keep_a_model_are_seconds_or_durations(text: str, seconds: float) -> None:
    assert parse_keep_alive(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "5 m", "m", "nan", "5m x"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(InvalidSetting, match="keep_alive from flag --keep-alive"):
        read_settings({"keep_alive": text}, {})
