"""The application: every route, behind one guard, with one way to say what went wrong. And a server of it."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response

from camelid import __version__
from camelid.errors import CamelidError
from camelid.settings import ServerSettings

from . import health
from .anthropic import routes as anthropic_routes
from .anthropic.models import ModelRoutes
from .anthropic.routes import AnthropicRoutes
from .auth import Keys, check_exposure
from .banner import banner
from .connection import bounded
from .contract import Loaded, ServedRuntime
from .docker.aliases import Aliased
from .docker.routes import DockerRoutes
from .door import Door, ModelNames
from .envelopes import envelope_of
from .errors import internal_problem, problem_of, problem_of_http, respond
from .guard import Guard, Named
from .jobs import routes as job_routes
from .jobs.opening import open_jobs
from .leaving import LeavingServer
from .lifecycle import Lifecycle
from .limits import Limits
from .listen import listen, url_of
from .loading import fetch_and_load
from .metrics import Metrics
from .ollama import routes as ollama_routes
from .ollama.making_routes import MakingRoutes
from .ollama.routes import OllamaRoutes
from .openai import routes as openai_routes
from .openai.adapter_routes import AdapterRoutes
from .openai.replies import error_body
from .openai.responses.routes import ResponsesRoutes
from .openai.token_routes import TokenRoutes
from .predict import routes as predict_routes
from .predict.routes import PredictRoutes
from .ready_file import keep_ready_file
from .running import run


def create_app(
    runtime: ServedRuntime,
    settings: ServerSettings,
    *,
    default_model: str,
    lifecycle: Lifecycle | None = None,
    limits: Limits | None = None,
    models: str | None = None,
) -> FastAPI:
    """Return the application that serves `runtime`. `lifecycle` is given by who starts and stops it (`serve`).

    models: the folder of the store, None for the usual one.
    """
    lifecycle = lifecycle or Lifecycle()
    door = Door(
        runtime,
        ModelNames(default_model, dict(settings.alias)),
        lifecycle,
        Metrics(__version__, runtime, lifecycle),
        limits or Limits(),
    )
    app = FastAPI(
        title="Camelid",
        version=__version__,
        summary="Llama-class language models over HTTP, in the dialects that clients speak.",
        docs_url=None,  # those pages load scripts from another host
        redoc_url=None,
        middleware=[
            Middleware(Aliased),
            Middleware(Named),
            Middleware(Guard, *_keys(settings), settings.host, envelope_of),
        ],
        separate_input_output_schemas=False,
    )
    app.state.door = door
    app.include_router(health.router(door))
    predict = PredictRoutes(door, settings.predict_profile)
    app.include_router(predict.router())  # before what takes any /v1/models/…
    jobs = open_jobs(settings, predict, door)
    app.state.jobs = jobs
    app.include_router(jobs.routes.router())
    app.include_router(ModelRoutes(door).router())  # before OpenAI's, whose paths it takes over for its own clients
    app.include_router(openai_routes.OpenAIRoutes(door, f"camelid-{__version__}").router())
    app.include_router(ResponsesRoutes(door).router())
    app.include_router(TokenRoutes(door).router())
    app.include_router(AdapterRoutes(door, settings.adapter_folder).router())
    app.include_router(AnthropicRoutes(door).router())
    app.include_router(OllamaRoutes(door, models).router())
    app.include_router(MakingRoutes(door, models).router())
    app.include_router(DockerRoutes(door, models).router())
    _answer_errors(app)
    _describe(app)
    return app


def serve(
    runtime: ServedRuntime,
    settings: ServerSettings,
    default_model: str,
    *,
    limits: Limits | None = None,
    models: str | None = None,
    fetch: Callable[[], object] = lambda: None,
    announce: Callable[[str], None] = lambda text: print(text, file=sys.stderr, flush=True),
    also: Sequence[Callable[[], Coroutine[Any, Any, None]]] = (),
) -> None:
    """Load `default_model` and serve it until SIGTERM or Ctrl-C; then finish what runs, and close the runtime.

    The port is taken first, and the probes answer while the model is fetched (`fetch`, which finds out whether that is
    needed) and loaded. `announce` is given the lines that tell that the server is up. `also`: what
    is done beside serving until it ends. Raises InvalidSetting for an
    address that cannot be used, and whatever fetching and loading raise; leaves with SystemExit when a second signal
    stopped it.
    """
    check_exposure(settings)
    limits, lifecycle = limits or Limits(), Lifecycle()
    app = create_app(
        runtime,
        settings,
        default_model=default_model,
        lifecycle=lifecycle,
        limits=limits,
        models=models,
    )
    server = LeavingServer(server_config(app, limits), lifecycle, settings.drain_seconds, limits)
    with listen(settings.host, settings.port) as listener:

        def begin(model: Loaded) -> None:
            app.state.door.names.settle(model.name)
            lifecycle.is_started = True
            gc.freeze()  # all that stays: the collector would walk it again and again, while every stream waits
            announce(banner(__version__, url_of(listener), settings, runtime.loaded()))

        loading = partial(fetch_and_load, runtime, default_model, fetch)
        run(
            server,
            listener,
            loading,
            begin,
            runtime.close,
            [*_ready_files(settings, app.state.door), app.state.jobs.run],
        )


def _ready_files(settings: ServerSettings, door: Door) -> list[Callable[[], Coroutine[Any, Any, None]]]:
    """Return what keeps the ready file, if there is to be one."""
    if settings.ready_file is None:
        return []
    return [partial(keep_ready_file, Path(settings.ready_file), lambda: health.not_ready(door) is None)]


def server_config(app: Starlette, limits: Limits) -> uvicorn.Config:
    """Return uvicorn's settings: our connections, no log of its own, nothing believed that a proxy's headers say."""
    return uvicorn.Config(
        app,
        http=bounded(limits, error_body),
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="error",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=round(limits.keep_alive_s),
        timeout_graceful_shutdown=max(1, round(limits.cut_s)),
    )


def _keys(settings: ServerSettings) -> tuple[Keys, Keys]:
    """Return the keys of those who may ask, and of those who may do everything."""
    return Keys(settings.api_key), Keys(settings.admin_key)


def _answer_errors(app: FastAPI) -> None:
    """Answer every error in the envelope of the dialect that was asked."""

    async def ours(request: Request, error: Exception) -> Response:
        assert isinstance(error, CamelidError)
        return respond(problem_of(error), envelope_of(request.scope))

    async def https(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return respond(problem_of_http(error), envelope_of(request.scope))

    async def bug(request: Request, error: Exception) -> Response:
        response = respond(internal_problem(), envelope_of(request.scope))
        response.headers["x-request-id"] = request.state.request_id  # this answer is made outside of Named
        return response

    app.add_exception_handler(CamelidError, ours)
    app.add_exception_handler(HTTPException, https)
    app.add_exception_handler(Exception, bug)


def _describe(app: FastAPI) -> None:
    """Put the bodies' schemas, which FastAPI does not see, into the OpenAPI document, once it is asked for."""
    plain = app.openapi

    def described() -> dict[str, Any]:
        document = plain()
        document.setdefault("components", {}).setdefault("schemas", {}).update(
            openai_routes.schemas()
            | anthropic_routes.schemas()
            | ollama_routes.schemas()
            | predict_routes.schemas()
            | job_routes.schemas()
        )
        for operations in document["paths"].values():
            for operation in operations.values():
                operation["responses"].pop("422", None)  # FastAPI's own refusals: nothing here is read by it
        return document

    app.openapi = described  # type: ignore[method-assign]
