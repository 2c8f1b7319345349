"""`camelid deploy`: what other places need to serve a model, written to standard output."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from camelid.settings import parse_bytes

if TYPE_CHECKING:
    from camelid.integrations.deployment import Deployment

IMAGE = "camelid:latest"
_Command = TypeVar("_Command", bound=Callable[..., Any])


class Size(click.ParamType[int]):
    """A size with a unit."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return bytes."""
        try:
            return parse_bytes(str(value))
        except ValueError as error:
            self.fail(f"{value!r}: {error}", param, ctx)


@click.group("deploy")
def command() -> None:
    """Write what another place needs to serve a model."""


def _deployment_options(*, replicas: int, gpus: int) -> Callable[[_Command], _Command]:
    """Return a decorator that adds the options of every place."""
    options = (
        click.argument("model"),
        click.option("--name", help="Name of the deployment. Default: made from MODEL."),
        click.option("--image", default=IMAGE, show_default=True, help="Container image with Camelid in it."),
        click.option("--replicas", default=replicas, show_default=True, help="How many servers there are."),
        click.option("--cpus", default=4, show_default=True, help="Processors for each."),
        click.option("--gpus", default=gpus, show_default=True, help="GPUs for each."),
        click.option("--context-length", default=8192, show_default=True, help="Tokens of prompt and answer."),
        click.option("--model-size", type=Size(), help="Size of the weights. Default: as the store or registry says."),
        click.option("--memory", type=Size(), help="Memory for each. Default: what the model takes, and a tenth more."),
    )

    def decorate(function: _Command) -> _Command:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


@command.command("kubernetes")
@_deployment_options(replicas=2, gpus=0)
@click.option(
    "--models",
    type=click.Choice(["claim", "ephemeral", "image"]),
    default="claim",
    show_default=True,
    help="Where the model lies: on a volume that all share, on one that goes with each, or in the image.",
)
@click.option("--storage-class", help="Storage class of the volume. Default: the cluster's own.")
@click.option("--most-replicas", default=0, help="Add replicas under load, up to so many. Default: no autoscaler.")
def kubernetes(models: str, storage_class: str | None, most_replicas: int, **given: Any) -> None:
    """Write the objects that serve MODEL in Kubernetes, for `kubectl apply -f -`.

    The key that clients send is yours: kubectl create secret generic NAME --from-literal=api-key=KEY
    """
    import yaml

    from camelid.integrations.kubernetes import Models, objects

    made = objects(_deployment(**given), Models(models), storage_class=storage_class, most=most_replicas)
    click.echo(yaml.safe_dump_all(made, sort_keys=False), nl=False)


@command.command("salad")
@_deployment_options(replicas=3, gpus=1)
@click.option("--gpu-class", "gpu_classes", multiple=True, help="Identifier of a kind of GPU; may be given again.")
@click.option("--no-auth", is_flag=True, help="Let everyone use it: the gateway asks for no Salad-Api-Key.")
@click.option("--older-spelling", is_flag=True, help="Write load_balancer where today's API has loadBalancer.")
def salad(gpu_classes: tuple[str, ...], no_auth: bool, older_spelling: bool, **given: Any) -> None:
    """Write the container group that serves MODEL on SaladCloud, for its API."""
    from camelid.integrations import salad as place

    group = place.container_group(_deployment(**given), gpu_classes, needs_key=not no_auth)
    click.echo(json.dumps(place.older_spelling(group) if older_spelling else group, indent=2))


@command.command("truss")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--model", default="llama3:8b", show_default=True, help="A name, or a GGUF file to pack.")
@click.option(
    "--form",
    type=click.Choice(["class", "docker"]),
    default="class",
    show_default=True,
    help="Truss's server with a Model class that runs Camelid, or Camelid's own with Truss's proxy in front.",
)
@click.option("--name", help="Name of the deployment. Default: made from the model.")
@click.option("--image", default=IMAGE, show_default=True, help="Image with Camelid in it, for the form `docker`.")
@click.option("--package", help="What pip installs as Camelid, for the form `class`. Default: this version.")
@click.option("--hub-key", "needs_hub_key", is_flag=True, help="Use the secret hf_access_token for gated models.")
@click.option("--accelerator", default="", help="GPU, as Truss says it: L4, A100, H100:2. Default: none.")
@click.option("--cpus", default=4, show_default=True, help="Processors.")
@click.option("--context-length", default=8192, show_default=True, help="Tokens of prompt and answer.")
@click.option("--model-size", type=Size(), help="Size of the weights. Default: as the store or registry says.")
@click.option("--memory", type=Size(), help="Memory. Default: what the model takes, and a tenth more.")
def truss(folder: Path, form: str, accelerator: str, package: str | None, needs_hub_key: bool, **given: Any) -> None:
    """Write FOLDER, which `truss push` deploys on Baseten and which any server of Truss serves."""
    from dataclasses import replace

    from camelid.integrations.truss.export import Form, Packaging, own_package, write_folder

    packaging = Packaging(Form(form), accelerator, package or own_package(with_gpu=bool(accelerator)), needs_hub_key)
    if Path(given["model"]).is_file():
        packaging = replace(packaging, weights=Path(given["model"]))
    for file in write_folder(folder, _deployment(replicas=1, **given), packaging):
        click.echo(file)


def _deployment(
    model: str, name: str | None, model_size: int | None, memory: int | None, context_length: int, **given: Any
) -> Deployment:
    from camelid.integrations.deployment import Deployment, name_for
    from camelid.integrations.sizes import sizes_of

    if model_size is None or memory is None:
        found_size, found_memory = sizes_of(model, context_length)
        model_size, memory = model_size or found_size, memory or found_memory
    return Deployment(
        name=name or name_for(model),
        model=model,
        model_bytes=model_size,
        memory_bytes=memory,
        context_length=context_length,
        **given,
    )
