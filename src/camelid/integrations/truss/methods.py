"""A user's Model class: how it is loaded, which methods it has, and how each wants to be called.

Source: Truss's contract of the class, version 0.18. Methods are sync or async, and take nothing, the inputs, the
request, or both; two are told apart by the annotation of the request.
"""

from __future__ import annotations

import importlib.util
import inspect
import logging
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import anyio.to_thread
import pydantic
from starlette.requests import Request

from camelid.errors import InvalidRequest

from .folder import Secrets, TrussFolder

OPTIONAL = (
    "preprocess",
    "predict",
    "postprocess",
    "is_healthy",
    "chat_completions",
    "completions",
    "embeddings",
    "messages",
    "responses",
)
_LOAD_AGAIN_S = 1.0
_logger = logging.getLogger("camelid.truss")


@dataclass(frozen=True)
class Method:
    """A method and what it takes."""

    function: Callable[..., Any]
    takes_inputs: bool
    takes_request: bool

    async def call(self, inputs: Any, request: Request) -> Any:
        """Return what the method returns; generators are returned, not run. Others that are sync run in a thread."""
        given = [inputs] * self.takes_inputs + [request] * self.takes_request
        if inspect.isgeneratorfunction(self.function) or inspect.isasyncgenfunction(self.function):
            return self.function(*given)
        if inspect.iscoroutinefunction(self.function):
            return await self.function(*given)
        return await anyio.to_thread.run_sync(self.function, *given)

    @property
    def input_type(self) -> type[pydantic.BaseModel] | None:
        """The pydantic class that the inputs are annotated with."""
        first = next(iter(inspect.signature(self.function).parameters.values()), None)
        return first.annotation if first is not None and _is_pydantics(first.annotation) else None


def method_of(model: object, name: str) -> Method | None:
    """Return a method of the model; None if it has none of that name. Raises InvalidRequest for a wrong signature."""
    function = getattr(model, name, None)
    if function is None:
        return None
    signature = inspect.signature(function)
    parameters = list(signature.parameters.values())
    if len(parameters) > 2:
        raise InvalidRequest(f"`{name}` must take at most inputs and a request, got {signature}")
    if len(parameters) == 2:
        if _is_request(parameters[0].annotation) or not _is_request(parameters[1].annotation):
            raise InvalidRequest(f"`{name}` must take the inputs first and then `request: Request`, got {signature}")
        return Method(function, takes_inputs=True, takes_request=True)
    takes_request = bool(parameters) and _is_request(parameters[0].annotation)
    return Method(function, takes_inputs=bool(parameters) and not takes_request, takes_request=takes_request)


def methods_of(model: object) -> Mapping[str, Method]:
    """Return all methods that are served. Raises InvalidRequest for a class that breaks the contract."""
    found = {name: method for name in OPTIONAL if (method := method_of(model, name)) is not None}
    if "predict" not in found:
        raise InvalidRequest("the Model class must have `predict`; one with `websocket` alone is not served here")
    only_request = [name for name, one in found.items() if one.takes_request and not one.takes_inputs]
    if "preprocess" in found and "predict" in only_request:
        raise InvalidRequest("`predict` must take inputs where there is `preprocess`, or its result would be lost")
    if "postprocess" in only_request:
        raise InvalidRequest("`postprocess` must take inputs, or the result of `predict` would be lost")
    if "is_healthy" in found and (found["is_healthy"].takes_inputs or found["is_healthy"].takes_request):
        raise InvalidRequest("`is_healthy` must take nothing")
    return found


def load_model(folder: TrussFolder) -> object:
    """Import the class, make it and load it, once more if that fails. Raises whatever the class raises."""
    sys.path[:0] = [str(folder.path), *map(str, folder.packages)]
    kind = _class_of(folder)
    given = {
        "config": dict(folder.config),
        "data_dir": folder.data,
        "secrets": Secrets(folder.config.get("secrets")),
        "environment": None,
        "lazy_data_resolver": None,
    }
    parameters = inspect.signature(kind).parameters
    takes_all = any(one.kind is inspect.Parameter.VAR_KEYWORD for one in parameters.values())
    model = kind(**{name: value for name, value in given.items() if takes_all or name in parameters})
    if hasattr(model, "load"):
        try:
            model.load()
        except Exception:
            _logger.warning("load() failed and is tried again", exc_info=True)
            time.sleep(_LOAD_AGAIN_S)
            model.load()
    return model


def _class_of(folder: TrussFolder) -> Any:
    file = folder.model_file
    name = f"{file.parent.name}.{file.stem}" if file.parent.name == file.stem else file.stem
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise ImportError(f"{file} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # what is defined there looks itself up by this name
    spec.loader.exec_module(module)
    return getattr(module, folder.class_name)


def _is_request(annotation: object) -> bool:
    return annotation in ("Request", "starlette.requests.Request", "fastapi.Request") or (
        inspect.isclass(annotation) and issubclass(annotation, Request)
    )


def _is_pydantics(annotation: object) -> bool:
    return inspect.isclass(annotation) and issubclass(annotation, pydantic.BaseModel)
