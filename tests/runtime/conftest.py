"""The bundled model's text side, read once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from camelid.runtime.loading import describe, read_text_side
from camelid.runtime.model import Description, TextSide
from camelid.settings import ModelSettings


@pytest.fixture(scope="session")
def cria() -> Description:
    return describe("cria", ModelSettings(device="reference"))


@pytest.fixture(scope="session")
def cria_text(cria: Description) -> Iterator[TextSide]:
    text = read_text_side(cria)
    yield text
    text.template.close()
