"""The deployments as Ray Serve takes them: replicas of engines, and fronts that reach them.

Only what Ray has to be told stands here. Source: Ray Serve 2.60.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import replace
from typing import Any

from camelid.errors import MissingDependency, Overloaded
from camelid.runtime.frames import Load
from camelid.runtime.remote_engine import About, RemoteEngine, ReplicaLost
from camelid.runtime.runtime import Runtime
from camelid.server.app import create_app
from camelid.server.lifecycle import Lifecycle
from camelid.settings import ModelSettings, ServerSettings, group, read_settings

from .options import Options
from .replica import Replica, fetch_if_missing

ROUTER = "ray.serve.experimental.consistent_hash_router.ConsistentHashRouter"
ROOM = 4  # how many times its target a replica takes before requests go to the next one
LEAVING_S = 600  # how long a replica that is taken away finishes what it has
LOOK_S, LOOK_TIMEOUT_S = 10, 30


def application(options: Options) -> Any:
    """Return the Serve application. Raises MissingDependency."""
    try:
        from ray import serve
        from ray.serve.config import RequestRouterConfig
    except ImportError as error:
        raise MissingDependency("Ray is not installed", hint="pip install 'camelid[ray]'") from error

    engines = serve.deployment(
        Engines,
        name="Engines",
        ray_actor_options={"num_cpus": options.cpus, "num_gpus": options.gpus},
        max_ongoing_requests=options.target_ongoing * ROOM,
        request_router_config=RequestRouterConfig(request_router_class=ROUTER),
        graceful_shutdown_timeout_s=LEAVING_S,
        health_check_period_s=LOOK_S,
        health_check_timeout_s=LOOK_TIMEOUT_S,
        **_number(options),
    )
    front = serve.deployment(
        serve.ingress()(Front),
        name="Front",
        num_replicas=options.fronts,
        ray_actor_options={"num_cpus": 0},
        max_ongoing_requests=10_000,  # it is the replicas that say when there is too much
        graceful_shutdown_timeout_s=LEAVING_S,
    )
    return front.bind(engines.bind(options.model), options.model)


def _number(options: Options) -> dict[str, Any]:
    if options.most_replicas <= options.replicas:
        return {"num_replicas": options.replicas}
    scaling = {
        "min_replicas": options.replicas,
        "max_replicas": options.most_replicas,
        "target_ongoing_requests": options.target_ongoing,
        "downscale_delay_s": 600,  # a model takes minutes to load again
    }
    return {"autoscaling_config": scaling}


class Engines:
    """The deployment whose replicas hold engines."""

    async def __init__(self, model: str) -> None:  # type: ignore[misc]
        self._replica = await Replica.open(model, group(ModelSettings, read_settings()))

    async def generate(self, packed: bytes) -> AsyncGenerator[bytes, None]:
        """Yield a request's packed tokens."""
        async for one in self._replica.generate(packed):
            yield one

    async def embed(self, packed: bytes) -> bytes:
        """Return a request's packed vectors."""
        return await self._replica.embed(packed)

    async def about(self) -> dict[str, Any]:
        """Return what a front has to know."""
        return self._replica.about()

    async def check_health(self) -> None:
        """Tell Serve how the engine is: a replica that fails is replaced."""
        self._replica.check()


class Front:
    """The deployment that speaks HTTP: the whole server, with engines that are elsewhere."""

    async def __init__(self, engines: Any, model: str) -> None:  # type: ignore[misc]
        found = await engines.about.remote()
        about = About(found["name"], found["backend"], found["context_length"])
        settings = read_settings()
        own = replace(group(ModelSettings, settings), context_length=about.context_length)

        async def open_engine(load: Load) -> RemoteEngine:
            return RemoteEngine(Handles(engines), about)

        fetch_if_missing(model, own.models)  # its tokenizer and template are read here
        lifecycle = Lifecycle()
        runtime = Runtime(own, open_engine=open_engine)
        served = replace(group(ServerSettings, settings), host="0.0.0.0")  # whom Serve's proxies let in
        self._app = create_app(runtime, served, default_model=model, lifecycle=lifecycle, models=own.models)
        loaded = await runtime.load(model)
        self._app.state.door.names.settle(loaded.name)
        lifecycle.is_started = True

    def __serve_build_asgi_app__(self) -> Any:
        """Return the server's application."""
        return self._app


class Handles:
    """`Replicas` over a handle of Serve."""

    def __init__(self, engines: Any) -> None:
        self._engines = engines

    async def generate(self, request: bytes, key: str) -> AsyncGenerator[bytes, None]:
        """Yield what a replica answers. Closing the iterator ends the request there."""
        answer = self._engines.options(stream=True, session_id=key).generate.remote(request)
        try:
            async for packed in answer:
                yield packed
        except _overloaded() as error:
            raise Overloaded("all replicas have as much as they take", retry_after_s=1.0) from error
        except _lost() as error:
            raise ReplicaLost(str(error).partition("\n")[0]) from error
        finally:
            answer.cancel()

    async def embed(self, request: bytes, key: str) -> bytes:
        """Return what a replica answers."""
        try:
            found: bytes = await self._engines.options(session_id=key).embed.remote(request)
        except _overloaded() as error:
            raise Overloaded("all replicas have as much as they take", retry_after_s=1.0) from error
        except _lost() as error:
            raise ReplicaLost(str(error).partition("\n")[0]) from error
        return found


def _lost() -> tuple[type[Exception], ...]:
    from ray import exceptions
    from ray.serve.exceptions import DeploymentUnavailableError, ReplicaUnavailableError

    gone = (exceptions.RayActorError, exceptions.WorkerCrashedError, exceptions.NodeDiedError)
    return (*gone, exceptions.ObjectLostError, DeploymentUnavailableError, ReplicaUnavailableError)


def _overloaded() -> type[Exception]:
    from ray.serve.exceptions import BackPressureError

    found: type[Exception] = BackPressureError
    return found
