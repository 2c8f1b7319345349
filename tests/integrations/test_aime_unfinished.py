"""Jobs that outlive the worker that took them."""

from __future__ import annotations

from pathlib import Path

import pytest

from camelid.errors import InvalidSetting
from camelid.integrations.aime.jobs import Job
from camelid.integrations.aime.unfinished import Unfinished


def test_a_job_is_kept_until_it_is_forgotten_by_one_worker_at_a_time(tmp_path: Path) -> None:
    one = Unfinished(tmp_path)
    with one.locked(), pytest.raises(InvalidSetting, match="another worker"), Unfinished(tmp_path).locked():
        pass
    with one.locked():
        one.keep(Job("j", {"text": "x"}, 3))
        (tmp_path / "broken.job").write_text("{")
        assert one.left() == [Job("j", {"text": "x"}, 3)]
        one.forget("j")
        assert one.left() == []
