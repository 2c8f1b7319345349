"""`camelid bench peers`: the same jobs, Camelid and every peer in turns, A B C A B C …, so that all share what the
machine does meanwhile.

Every peer is asked the same number of times with the same prompts. A row states how many times as fast as the peer
Camelid was, from the turns of the same round; below 1 it lost, and the notes say so first.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from camelid.bench import machine
from camelid.bench.result import Measure, Result, Row
from camelid.bench.roofs import Roofs, middle, probe_gpu, probe_roofs, usual_isa, usual_threads
from camelid.bench.work import Work, work_of
from camelid.errors import InvalidSetting
from camelid.models.spec import ModelSpec
from camelid.runtime.loading import describe
from camelid.settings import ModelSettings

from .adapter import About, Done, Job, Opening
from .process import PeerFailed, PeerProcess

# name: (adapter, whether it computes with the bytes of the GGUF file)
PEERS = {
    "camelid": ("with_camelid", True),
    "llama.cpp": ("with_llama_cpp", True),
    "openvino": ("with_openvino_genai", True),
    "ctranslate2": ("with_ctranslate2", False),
    "transformers": ("with_transformers", False),
}
OURS = "camelid"
OPEN_LIMIT_S = 900.0  # some convert the model first
F16_BYTES = 2
WARM_UP_TOKENS = 4


@dataclass(frozen=True)
class Kind:
    """One kind of job: streams at once, tokens of each prompt and answer. A prompt alone has an answer of one token."""

    name: str
    streams: int
    prompt_tokens: int
    new_tokens: int
    beams: int = 1

    @property
    def is_prompt(self) -> bool:
        """Whether the prompt is what is timed."""
        return self.new_tokens == 1

    @property
    def label(self) -> str:
        """What the table calls it."""
        streams = f"{self.streams} streams, " if self.streams > 1 else ""
        streams += f"{self.beams} beams, " if self.beams > 1 else ""
        answer = f" + {self.new_tokens}" if self.new_tokens > 1 else ""
        return f"{self.name}, {streams}{self.prompt_tokens}{answer}"

    def rate(self, done: Done) -> float:
        """Return the tokens a second that count."""
        if self.is_prompt:
            return self.streams * self.prompt_tokens / done.prompt_s
        return done.decode_tokens / done.decode_s

    def roof(self, work: Work, roofs: Roofs) -> float:
        """Return the tokens a second that the machine allows with these weights."""
        if self.is_prompt:
            return self.prompt_tokens / work.prefill_seconds(roofs, self.prompt_tokens)
        rows = self.streams * self.beams
        return rows / work.decode_seconds(roofs, rows, self.prompt_tokens + self.new_tokens / 2)


@dataclass(frozen=True)
class Plan:
    """What is compared."""

    model: str
    kinds: tuple[Kind, ...]
    runs: int
    peers: tuple[str, ...]
    python: str | None  # the interpreter that has the peers; None: this one
    folder: Path  # where converted models are kept
    limit_s: float = 600.0  # of one job


@dataclass
class _Bout:
    """The engines that opened, what each said of itself, and what was measured: rates by engine and kind."""

    engines: dict[str, PeerProcess] = field(default_factory=dict)
    abouts: dict[str, About] = field(default_factory=dict)
    rates: dict[tuple[str, str], list[float]] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)
    probed: list[Roofs] = field(default_factory=list)


def compare(plan: Plan, settings: ModelSettings, say: Callable[[str], None] = lambda stage: None) -> Result:
    """Open every peer, let all work in turns, and return the table. A peer that fails is named in the notes.

    say: is told what is being done.
    Raises InvalidSetting for a peer that is not known, and what reading the model raises.
    """
    for name in plan.peers:
        if name not in PEERS:
            raise InvalidSetting(f"there is no peer {name!r}", hint=f"known are {', '.join(PEERS)}")
    before, described = machine.this_machine(), describe(plan.model, settings)
    weights, spec = str(described.files.weights), described.spec
    bout = _Bout()
    with ExitStack() as stack:
        for name in plan.peers:
            say(f"opening {name}")
            _open(bout, stack, name, plan, _opening(plan, weights, spec, settings))
        _rounds(bout, plan, settings, spec.vocab_size, say)
    work = work_of(weights, 2 * spec.num_layers * spec.num_kv_heads * spec.head_dim * F16_BYTES)
    return Result(
        name="peers",
        title="The same work, in turns",
        subject=f"{described.files.name} ({Path(weights).stat().st_size / 1e9:.2f} GB)",
        machine=before,
        version=machine.version(),
        command=machine.command_line(),
        taken_at=machine.now(),
        rows=tuple(_rows(bout, plan.kinds, work)),
        notes=tuple(_notes(bout, plan)),
    )


def _opening(plan: Plan, weights: str, spec: ModelSpec, settings: ModelSettings) -> Opening:
    names = ("dim", "num_layers", "num_heads", "num_kv_heads", "head_dim", "ffn_dim", "vocab_size", "is_tied")
    return Opening(
        model=str(Path(weights).resolve()),
        shape={name: getattr(spec, name) for name in names},
        threads=usual_threads(settings),
        context=max(kind.prompt_tokens + kind.new_tokens + 1 for kind in plan.kinds),
        streams=max(kind.streams * kind.beams for kind in plan.kinds),
        folder=str(plan.folder),
        device="gpu" if settings.device == "gpu" else "cpu",
    )


def _open(bout: _Bout, stack: ExitStack, name: str, plan: Plan, opening: Opening) -> None:
    python = sys.executable if name == OURS or plan.python is None else plan.python
    environment = dict(os.environ)
    if name == OURS:  # run from a source tree, it must find the same one
        environment["PYTHONPATH"] = str(machine.PACKAGE.parent)
    elif plan.python is not None:
        environment.pop("PYTHONPATH", None)
    try:
        engine = PeerProcess(PEERS[name][0], python, environment, subprocess.DEVNULL)
        stack.callback(engine.close)
        bout.abouts[name] = engine.open(opening, OPEN_LIMIT_S)
        engine.halt()
        bout.engines[name] = engine
    except PeerFailed as error:
        bout.absent[name] = error.message


def _rounds(bout: _Bout, plan: Plan, settings: ModelSettings, vocab_size: int, say: Callable[[str], None]) -> None:
    """Let every engine do every kind of job once, shorter and unmeasured, then `runs` times in turns."""
    drawn = random.Random(0)
    for number in range(-1, plan.runs):
        say(f"round {number + 1} of {plan.runs}: {', '.join(bout.engines)}")
        if number >= 0:
            is_gpu = settings.device == "gpu"
            probed = probe_gpu("gpu") if is_gpu else probe_roofs(usual_isa(settings), usual_threads(settings))
            bout.probed.append(probed)
        for kind in plan.kinds:
            most = vocab_size * 9 // 10
            prompts = [[drawn.randrange(1, most) for _ in range(kind.prompt_tokens)] for _ in range(kind.streams)]
            new_tokens = kind.new_tokens if number >= 0 else min(kind.new_tokens, WARM_UP_TOKENS)
            for name in list(bout.engines):
                _work(bout, name, kind, Job(prompts, new_tokens, kind.beams), plan.limit_s, is_counted=number >= 0)


def _work(bout: _Bout, name: str, kind: Kind, job: Job, limit_s: float, *, is_counted: bool) -> None:
    try:
        done = bout.engines[name].work(job, limit_s)
    except PeerFailed as error:
        bout.absent[name] = f"{kind.label}: {error.message}"
        del bout.engines[name]
        return
    if done is not None and is_counted:
        bout.rates.setdefault((name, kind.label), []).append(kind.rate(done))


def _rows(bout: _Bout, kinds: Sequence[Kind], work: Work) -> list[Row]:
    rows = []
    for kind in kinds:
        for name, about in bout.abouts.items():
            rates = bout.rates.get((name, kind.label))
            if not rates:
                continue
            roof = kind.roof(work, middle(bout.probed)) if PEERS[name][1] else None
            measures = {"speed": Measure("tok/s", tuple(rates), roof)}
            if ratios := _ratios(bout.rates, name, kind.label):
                measures["Camelid is"] = Measure("×", ratios)
            rows.append(Row({"work": kind.label, "engine": about.version}, measures))
    return rows


def _ratios(rates: Mapping[tuple[str, str], list[float]], name: str, label: str) -> tuple[float, ...]:
    """Return how many times as fast Camelid was, round by round."""
    ours, theirs = rates.get((OURS, label), []), rates.get((name, label), [])
    if name == OURS or len(ours) != len(theirs):
        return ()
    return tuple(our / their for our, their in zip(ours, theirs, strict=True))


def _notes(bout: _Bout, plan: Plan) -> list[str]:
    notes = _losses(bout, plan.kinds)
    for name, about in bout.abouts.items():
        notes.append(f"{name}: {about.version}; {about.weights}; {about.how}")
    notes += [f"{name} was not measured: {reason}" for name, reason in bout.absent.items()]
    roofs = middle(bout.probed)
    return [
        *notes,
        f"Median and middle half of {plan.runs} rounds, all engines in turns, each in a process of its own "
        "that is halted while others work; a shorter round before was not counted",
        f"Roofs, probed before each round: {roofs.read_bytes / 1e9:.1f} GB/s, {roofs.int8_macs / 1e9:.0f} GMAC/s int8 "
        f"({roofs.isa}, {roofs.threads} threads). They are stated for engines that read the same file",
    ]


def _losses(bout: _Bout, kinds: Sequence[Kind]) -> list[str]:
    """Return a sentence for each job in which a peer was faster; one that says so if there is none."""
    lost = []
    for kind in kinds:
        for name in bout.abouts:
            if (ratios := _ratios(bout.rates, name, kind.label)) and Measure("×", ratios).median < 1:
                lost.append(f"Lost: {kind.label}: {name} is {1 / Measure('×', ratios).median:.2f} × as fast as Camelid")
    if OURS not in bout.engines:
        return ["Camelid itself was not measured"]
    return lost or ["Lost: nothing in this run"] if len(bout.abouts) > 1 else []
