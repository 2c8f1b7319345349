"""`camelid bench`: synthetic models, what the machine can do, what Camelid makes of it, and what others do.

The workloads' flags are the fields of their sizes, so each verb has its own and none is spelled out here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from camelid.cli.options import setting_options
from camelid.errors import InvalidSetting
from camelid.settings import ModelSettings, group, read_settings

if TYPE_CHECKING:
    from camelid.bench.result import Result
    from camelid.bench.workload import Workload

_Command = TypeVar("_Command", bound=Callable[..., Any])

SHOWN = ("threads", "cpu_isa", "cache_type")  # settings that the help of every workload repeats

VERBS = {
    "synth": "Write a model with random weights.",
    "roofline": "What this machine can do: memory and arithmetic.",
    "peers": "The same work against other engines, in turns.",
    "http": "What the server adds to an engine's own times.",
}


class Benchmarks(click.Group):
    """The verbs of this file, then the workloads, each imported when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return all names."""
        from camelid.bench.workloads import WORKLOADS

        return [*VERBS, *WORKLOADS]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a verb of this file, or make the command of a workload."""
        from camelid.bench.workloads import WORKLOADS, find_workload

        if cmd_name in WORKLOADS:
            return _workload_command(find_workload(cmd_name), WORKLOADS[cmd_name])
        return super().get_command(ctx, cmd_name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list from the tables, without importing any workload."""
        from camelid.bench.workloads import WORKLOADS

        with formatter.section("Commands"):
            formatter.write_dl([*VERBS.items(), *WORKLOADS.items()])


@click.group("bench", cls=Benchmarks)
def command() -> None:
    """Make synthetic models and measure.

    W1 to W10 are workloads. Every table says what it was taken on, and how to take it again.
    """


def output_options(command: _Command) -> _Command:
    """Add the flags that every measurement has."""
    for option in (
        click.option("--plot", type=click.Path(path_type=Path), help="Draw the result into this file, as SVG."),
        click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write the result; - is output."),
        click.option("--runs", type=click.IntRange(1, 1000), default=5, show_default=True, help="Rounds of all cases."),
    ):
        command = option(command)
    return command


def show(result: Result, json_file: Path | None, plot: Path | None) -> None:
    """Print a result's table, and write it where it was wanted."""
    from camelid.bench.plot import svg_plot
    from camelid.bench.result import to_json
    from camelid.bench.table import text_table

    if plot is not None:
        plot.write_text(svg_plot(result), encoding="utf-8")
    if str(json_file) == "-":
        click.echo(to_json(result), nl=False)
        return
    if json_file is not None:
        json_file.write_text(to_json(result), encoding="utf-8")
    click.echo(text_table(result), nl=False)


@command.command("synth")
@click.argument("shape")
@click.option("--quant", default="Q4_K_M", show_default=True, help="Quantization, as in a GGUF file's name.")
@click.option("--out", "-o", type=click.Path(path_type=Path), required=True, help="The GGUF file to write.")
@click.option("--vocabulary", type=click.Path(path_type=Path, exists=True), help="Meta's tokenizer.model to take.")
@click.option("--layers", type=click.IntRange(1), help="Fewer layers than the published shape has.")
@click.option("--active-layers", type=click.IntRange(1), help="Layers that add something; the rest only take time.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Seed of the random weights.")
def synth(
    shape: str,
    quant: str,
    out: Path,
    vocabulary: Path | None,
    layers: int | None,
    active_layers: int | None,
    seed: int,
) -> None:
    """Write a model of SHAPE (tiny, 1b, 3b, 8b, 70b) with seeded random weights:

    right in size and speed, not in sense.
    """
    from camelid.models.synth import write_synthetic

    write_synthetic(out, shape, quant, seed=seed, num_layers=layers, active_layers=active_layers, vocabulary=vocabulary)
    click.echo(f"{out}: {out.stat().st_size / 1e9:.3f} GB", err=True)


@command.command("roofline")
@click.option("--seconds", type=click.FloatRange(0.01, 60), default=0.3, show_default=True, help="Of each probe.")
@click.option("--threads", metavar="N", help="Compute threads, as the setting has them.")
@output_options
def roofline(seconds: float, threads: str | None, runs: int, json_file: Path | None, plot: Path | None) -> None:
    """Measure reading with 1 to N threads, and arithmetic for each instruction set."""
    from camelid.bench.roofline import measure_roofline

    settings = group(ModelSettings, read_settings({"threads": threads}))
    show(measure_roofline(settings, runs, seconds), json_file, plot)


@command.command("peers")
@click.argument("model")
@click.option("--with", "peers", metavar="NAMES", help="Which, separated by commas. Default: all that are known.")
@click.option("--python", type=click.Path(exists=True), help="Interpreter that has the peers. Default: this one.")
@click.option("--threads", metavar="N", help="Compute threads of every engine, as the setting has them.")
@click.option("--device", type=click.Choice(["cpu", "gpu"]), default="cpu", show_default=True, help="Where to compute.")
@click.option("--prompt", type=click.IntRange(1), default=512, show_default=True, help="Tokens of the prompt job.")
@click.option("--answer", type=click.IntRange(2), default=48, show_default=True, help="Tokens of the decode job.")
@click.option("--streams", type=click.IntRange(2), default=16, show_default=True, help="Streams of the batch job.")
@click.option("--beams", type=click.IntRange(2, 16), default=4, show_default=True, help="Beams of the search job.")
@click.option("--folder", type=click.Path(path_type=Path), help="Where models converted for peers are kept.")
@output_options
def peers(
    model: str,
    peers: str | None,
    python: str | None,
    threads: str | None,
    device: str,
    prompt: int,
    answer: int,
    streams: int,
    beams: int,
    folder: Path | None,
    runs: int,
    json_file: Path | None,
    plot: Path | None,
) -> None:
    """Let Camelid and other engines do the same work in turns:

    llama.cpp, openvino and transformers from the packages that are installed, ctranslate2 on a model of the same shape.
    """
    from camelid.bench.peers.compare import PEERS, Kind, Plan, compare

    plan = Plan(
        model,
        (
            Kind("prompt", 1, prompt, 1),
            Kind("answer", 1, 128, answer),
            Kind("answers", streams, 64, 24),
            Kind("search", 1, 64, 24, beams),
        ),
        runs,
        ("camelid", *(name for name in peers.split(",") if name != "camelid")) if peers else tuple(PEERS),
        python,
        folder or Path.home() / ".cache" / "camelid" / "bench",
    )
    settings = group(ModelSettings, read_settings({"threads": threads, "device": device}))
    show(compare(plan, settings, lambda stage: click.echo(stage, err=True)), json_file, plot)


@command.command("http")
@click.option("--streams", type=click.IntRange(1, 4096), default=256, show_default=True, help="Streams at once.")
@click.option("--rate", type=click.FloatRange(1, 1000), default=40.0, show_default=True, help="Their tokens a second.")
@click.option("--tokens", type=click.IntRange(50), default=120, show_default=True, help="Tokens of each stream.")
@click.option(
    "--idle", type=click.IntRange(1), default=1000, show_default=True, help="Streams that get no more tokens."
)
@output_options
def http(
    streams: int, rate: float, tokens: int, idle: int, runs: int, json_file: Path | None, plot: Path | None
) -> None:
    """Measure what the server adds to an engine's own times, with a stub for the engine:

    gaps between tokens of many streams, the time to the first token, and the memory of idle streams.
    """
    from camelid.bench.http.measure import Load, measure_http

    load = Load(streams, rate, tokens, idle=idle)
    show(measure_http(load, runs, lambda stage: click.echo(stage, err=True)), json_file, plot)


def _workload_command(workload: Workload, text: str) -> click.Command:
    fields = dataclasses.fields(workload.sizes["small"]) if workload.sizes["small"] is not None else ()

    @click.argument("model")
    @click.option(
        "--size",
        type=click.Choice([*workload.sizes]),
        default="small",
        show_default=True,
        help="Lengths to start from.",
    )
    @output_options
    @setting_options(ModelSettings)
    def run(model: str, size: str, runs: int, json_file: Path | None, plot: Path | None, **flags: Any) -> None:
        from camelid.bench.workload import run_workload

        given = {field.name: flags.pop(f"size_{field.name}") for field in fields}
        sizes = _sizes(workload.sizes[size], given)
        show(run_workload(workload, model, _settings(flags), sizes, runs), json_file, plot)

    for field in reversed(fields):
        default = " / ".join(_spelled(getattr(sizes, field.name)) for sizes in workload.sizes.values())
        flag = "--" + field.name.replace("_", "-")
        option = click.option(flag, f"size_{field.name}", metavar="N", help=f"Default: {default}.")
        run = option(run)
    made = click.command(
        workload.name, help=text, epilog="Every setting of a model is a flag, too: see `camelid run`."
    )(run)
    for parameter in made.params:
        if isinstance(parameter, click.Option) and parameter.name in ModelSettings.__dataclass_fields__:
            parameter.hidden = parameter.name not in SHOWN
    return made


def _settings(flags: dict[str, Any]) -> ModelSettings:
    """Return the settings; prompt lookup is off unless it is asked for: random networks repeat themselves."""
    if flags.get("max_guessed") is None:
        flags["max_guessed"] = "0"
    return group(ModelSettings, read_settings(flags))


def _sizes(sizes: Any, given: dict[str, str | None]) -> Any:
    """Return sizes with what was given in place of theirs. Raises InvalidSetting."""
    changed = {name: _parse(name, text, getattr(sizes, name)) for name, text in given.items() if text is not None}
    return dataclasses.replace(sizes, **changed) if changed else sizes


def _parse(name: str, text: str, example: Any) -> Any:
    """Parse a number, or several with commas between them, of the kind that `example` is."""
    several = isinstance(example, tuple)
    kind = type(example[0]) if several else type(example)
    try:
        values = tuple(kind(part) for part in (text.split(",") if several else [text]))
        if any(value < 0 for value in values):
            raise ValueError("must not be negative")
    except ValueError as error:
        raise InvalidSetting(f"{name} is {text!r}: {error}", hint=f"for instance {_spelled(example)}") from error
    return values if several else values[0]


def _spelled(value: Any) -> str:
    return ",".join(f"{one:g}" for one in value) if isinstance(value, tuple) else f"{value:g}"
