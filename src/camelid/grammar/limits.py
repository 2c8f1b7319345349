"""How much a schema, regex or grammar may ask for. All numbers stand here, so that a reader sees the whole surface.

Lengths of the source are bounded where a request is read (`types.Grammar`). Separate from what enforces them, because
several files enforce it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

MAX_DEPTH = 64  # levels of JSON in a schema; the library's own parser ends at 128
MAX_NODES = 2_000  # objects and lists in a schema
MAX_BOUND = 10_000  # of maxLength, minItems and the like
BOUNDS = ("minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties")

CHECK_S = 2.0  # of one check; ordinary schemas take a few milliseconds
CHECK_MEMORY = 256 * 2**20  # bytes of address space; ordinary schemas take 20 MiB
START_S = 20.0  # a busy machine may take seconds to start a process
MAX_PROCESSES = 2

# What the library itself may spend; its defaults, but for the first two. Fuel is what building and walking a lexer
# costs: about 50,000 a millisecond at first, 14,000 at each token.
PARSER: Mapping[str, Any] = {
    "initial_lexer_fuel": 1_000_000,
    "step_lexer_fuel": 200_000,
    "step_max_items": 50_000,
    "max_items_in_row": 2_000,
    "max_lexer_states": 50_000,  # 1–2 kB each, for each grammar that is in use
    "max_grammar_size": 200_000,
}
