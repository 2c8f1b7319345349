"""How large a model is that is to be deployed: from this machine's stores or, without fetching it, its registry."""

from __future__ import annotations

from camelid.errors import CamelidError, InvalidRequest, MissingModel, NotFound
from camelid.runtime.estimate import estimate
from camelid.settings import ModelSettings
from camelid.store.local import find
from camelid.store.names import parse_name
from camelid.store.transfer import origin_of
from camelid.store.variants import HEAD_BYTES, head_of, weights_bytes

SPARE = 1.1  # of the memory: prompts, buffers, and what a kernel counts


def sizes_of(model: str, context_length: int, models: str | None = None) -> tuple[int, int]:
    """Return the bytes of a model's weights and of the memory that serving it takes at a context.

    Raises InvalidRequest where neither a store nor a registry tells.
    """
    try:
        weight_bytes, head = _here(model, models)
    except MissingModel:
        weight_bytes, head = _elsewhere(model)
    found = estimate(head, weight_bytes, ModelSettings(device="cpu", context_length=context_length))
    if found is None:
        raise InvalidRequest(f"{model} does not say how much memory it takes", hint="give it: --memory 8GiB")
    return weight_bytes, int(found.memory_bytes * SPARE)


def _here(model: str, models: str | None) -> tuple[int, bytes]:
    weights = find(model, models).weights
    if weights.is_dir():
        head = (weights / "config.json").read_bytes() if (weights / "config.json").is_file() else b""
        return sum(file.stat().st_size for file in weights.iterdir() if file.is_file()), head
    with weights.open("rb") as file:
        return weights.stat().st_size, file.read(HEAD_BYTES)


def _elsewhere(model: str) -> tuple[int, bytes]:
    try:
        origin = origin_of(parse_name(model))
        manifest = origin.manifest()
        return weights_bytes(manifest), head_of(origin, manifest)
    except NotFound:
        raise
    except CamelidError as error:
        hint = "give them: --model-size 5GiB --memory 8GiB"
        raise InvalidRequest(f"the sizes of {model} are not known: {error.message}", hint=hint) from error
