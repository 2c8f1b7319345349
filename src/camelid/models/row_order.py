"""In which order the rows of query and key matrices lie.

Layouts of weights pair the dimensions that rotate together in two ways.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from camelid.errors import UnsupportedModel

from .names import Naming
from .spec import ModelSpec, Weight


def row_order(spec: ModelSpec, weight: Weight, source: Naming, target: Naming) -> NDArray[np.intp] | None:
    """Return where each row of a head comes from in the source, None where rows stay.

    Raises UnsupportedModel for heads that rotate in part.
    """
    is_halves = (source is Naming.HUGGING_FACE, target is Naming.HUGGING_FACE)
    if weight not in (Weight.QUERY, Weight.KEY) or is_halves[0] == is_halves[1]:
        return None
    if spec.rope.rotary_dim != spec.head_dim:
        raise UnsupportedModel("heads that rotate in part cannot be converted")
    dimensions = np.arange(spec.head_dim)
    pairs = dimensions.reshape(2, -1).T if is_halves[0] else dimensions.reshape(-1, 2).T
    return pairs.reshape(-1)
