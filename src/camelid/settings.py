"""Every setting, in one table:

name, variables, default, meaning. A flag wins over a variable, over the settings file, over the default.

Read once, at a door (the command, `camelid.load`), and handed down as small frozen values: no room asks the
environment itself.
The same table makes the flags of the command and the reference page, so the three cannot drift apart.
"""

from __future__ import annotations

import json
import math
import os
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from camelid.errors import InvalidSetting

_Group = TypeVar("_Group")

USUAL_KEEP_S = 300.0  # Ollama's
DURATION = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(ns|us|µs|ms|s|m|h)")  # a part of what Go writes: 1h30m
DURATION_UNITS_S = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
BYTE_UNITS = {"": 1, "b": 1, "kib": 2**10, "mib": 2**20, "gib": 2**30, "kb": 10**3, "mb": 10**6, "gb": 10**9}


@dataclass(frozen=True)
class Setting:
    """One row of the table.

    `variables` are looked up in order: ours first, then the ones that users of other tools already have set.
    """

    name: str
    variables: tuple[str, ...]
    parse: Callable[[str], Any]
    default: Any
    meaning: str
    metavar: str = "TEXT"
    other_flags: tuple[str, ...] = ()  # what other programs call it

    @property
    def flag(self) -> str:
        """The command-line flag: `--context-length` for `context_length`."""
        return "--" + self.name.replace("_", "-")


@dataclass(frozen=True)
class ModelSettings:
    """How a model is loaded and run. None means: chosen from the model and the machine, and logged."""

    device: str = "auto"
    tensor_parallel: int = 1
    gpu_memory: int | None = None
    gpu_weights: str = "as-is"
    threads: int | None = None
    cpu_isa: str | None = None
    context_length: int | None = None
    max_seq_len: int | None = None
    cache_memory: int | None = None
    cache_type: str = "f16"
    max_sequences: int = 16
    max_waiting: int = 256
    prefill_chunk: int = 256
    max_guessed: int = 6
    prefix_cache: str | None = None
    prefix_cache_size: int = 4 * 2**30
    models: str | None = None
    go_template: bool = True
    adapter: tuple[tuple[str, str], ...] = ()
    draft: str | None = None
    fast_copies: str = "auto"


@dataclass(frozen=True)
class KeepSettings:
    """How long models that were loaded on request stay, and how many. `keep_alive` None: as `serve` sees fit."""

    keep_alive: float | None = None
    max_loaded_models: int | None = None
    load_timeout: float | None = 300.0

    @property
    def usual_keep_s(self) -> float:
        """Seconds that a model stays behind its last request."""
        return USUAL_KEEP_S if self.keep_alive is None else self.keep_alive


@dataclass(frozen=True)
class ServerSettings:
    """Where the server listens, who may use it, and how it leaves."""

    host: str = "127.0.0.1"
    port: int = 11434
    api_key: tuple[str, ...] = ()
    admin_key: tuple[str, ...] = ()
    insecure_no_key: bool = False
    drain_seconds: float = 30.0
    alias: tuple[tuple[str, str], ...] = ()
    ready_file: str | None = None
    adapter_folder: str | None = None
    predict_profile: str = "documented"
    async_queue: str | None = None
    webhook_key: tuple[str, ...] = ()
    webhook_hosts: tuple[str, ...] = ()


@dataclass(frozen=True)
class WorkerSettings:
    """Whose jobs a worker answers, and how it leaves. The defaults are those of AIME's own worker."""

    api_server: str = "http://127.0.0.1:7777"
    job_type: str = "llama3"
    worker_key: str = "5b07e305b50505ca2b3284b4ae5f65d1"
    worker_id: str = "0"
    drain_seconds: float = 30.0


@dataclass(frozen=True)
class SafetySettings:
    """Who judges requests and answers, by which policy, and what happens where no judgement can be had.

    `safety` is what single models have of their own: their names, with settings of this group.
    """

    safety_model: str | None = None
    safety_checks: str = "both"
    safety_policy: str | None = None
    safety_categories: tuple[str, ...] = ()
    safety_failure: str = "closed"
    safety_hold_back: int = 200
    safety: tuple[tuple[str, tuple[tuple[str, Any], ...]], ...] = ()

    def of_model(self, name: str, same: Callable[[str], str]) -> SafetySettings:
        """Return what holds for one model. `same` turns a name that was written down into the one that it is."""
        own = [values for written, values in self.safety if same(written) == name]
        return replace(self, safety=(), **dict(own[-1] if own else ()))


@dataclass(frozen=True)
class LogSettings:
    """What is logged, to standard error."""

    log_level: str = "info"
    log_json: bool = False


def parse_count(text: str) -> int:
    """Parse a positive whole number."""
    value = int(text)
    if value < 1:
        raise ValueError("must be at least 1")
    return value


def parse_ranks(text: str) -> int:
    """Parse over how many GPUs a model is shared out."""
    value = int(text)
    if value not in (1, 2, 4, 8):
        raise ValueError("must be 1, 2, 4 or 8")
    return value


def parse_guesses(text: str) -> int:
    """Parse a number of guessed tokens; 0 is none."""
    value = int(text)
    if not 0 <= value <= 15:
        raise ValueError("must be 0–15")
    return value


def parse_port(text: str) -> int:
    """Parse a TCP port; 0 lets the system choose one."""
    value = int(text)
    if not 0 <= value <= 65535:
        raise ValueError("must be 0–65535")
    return value


def parse_seconds(text: str) -> float:
    """Parse a duration of at least 0 seconds and at most a day."""
    value = float(text)
    if not 0 <= value <= 86400:
        raise ValueError("must be 0–86400")
    return value


def parse_duration(text: str) -> float:
    """Parse a duration as Go writes it (`10m`, `1h30m`, `-1s`) into seconds; a negative one is for ever."""
    sign, rest = (-1.0, text[1:]) if text.startswith("-") else (1.0, text)
    parts = DURATION.findall(rest)
    if not parts or "".join(number + unit for number, unit in parts) != rest:
        raise ValueError("must be a number of seconds, or a duration such as 10m or 1h30m")
    return math.inf if sign < 0 else sum(float(number) * DURATION_UNITS_S[unit] for number, unit in parts)


def parse_keep_alive(text: str) -> float:
    """Parse how long something is kept: seconds or a duration; negative for ever."""
    try:
        seconds = float(text)
    except ValueError:
        return parse_duration(text)
    if math.isnan(seconds):
        raise ValueError("must be a number of seconds")
    return math.inf if seconds < 0 else seconds


def parse_timeout(text: str) -> float | None:
    """Parse how long is waited: seconds or a duration; 0 or negative for as long as it takes."""
    seconds = parse_keep_alive(text)
    return None if seconds in (0.0, math.inf) else seconds


def parse_limit(text: str) -> int | None:
    """Parse a whole number; 0 is no limit."""
    value = int(text)
    if value < 0:
        raise ValueError("must be at least 0")
    return value or None


def parse_bytes(text: str) -> int:
    """Parse a size: a number with an optional unit (KiB, MiB, GiB, KB, MB, GB)."""
    digits = text.strip().rstrip("aAbBgGiIkKmM").strip()
    unit = text.strip()[len(digits) :].strip().lower()
    if unit not in BYTE_UNITS:
        raise ValueError(f"has the unit {unit!r}; known are KiB, MiB, GiB, KB, MB, GB")
    value = float(digits)
    if not 0 < value * BYTE_UNITS[unit] < 2**60:
        raise ValueError("must be positive and below 1 EiB")
    return int(value * BYTE_UNITS[unit])


def parse_keys(text: str) -> tuple[str, ...]:
    """Parse API keys separated by commas."""
    keys = tuple(key.strip() for key in text.split(",") if key.strip())
    if not keys:
        raise ValueError("must hold at least one key")
    return keys


def parse_aliases(text: str) -> tuple[tuple[str, str], ...]:
    """Parse names that stand for models: NAME=MODEL, separated by commas."""
    return _parse_pairs(text, "MODEL")


def parse_adapters(text: str) -> tuple[tuple[str, str], ...]:
    """Parse names of adapters and where they lie: NAME=PATH, separated by commas."""
    return _parse_pairs(text, "PATH")


def _parse_pairs(text: str, what: str) -> tuple[tuple[str, str], ...]:
    entries = [entry.partition("=") for entry in text.split(",") if entry.strip()]
    pairs = {name.strip(): value.strip() for name, _, value in entries}
    if not pairs or not all(name and value for name, value in pairs.items()):
        raise ValueError(f"must be NAME={what}, or several of these separated by commas")
    if len(pairs) < len(entries):
        raise ValueError("gives a name twice")
    return tuple(pairs.items())


def parse_words(text: str) -> tuple[str, ...]:
    """Parse words separated by commas."""
    return tuple(word.strip() for word in text.split(",") if word.strip())


def parse_characters(text: str) -> int:
    """Parse a number of characters; 0 stands for all."""
    value = int(text)
    if value < 0:
        raise ValueError("must be at least 0")
    return value


def parse_model_or_none(text: str) -> str | None:
    """Parse the name of a model; `none` stands for no model."""
    return None if text == "none" else text


def parse_safety(text: str) -> tuple[tuple[str, tuple[tuple[str, Any], ...]], ...]:
    """Parse what single models have of their own: a JSON object of names, each with settings of safety by name."""
    given = json.loads(text)
    if not isinstance(given, dict) or not all(isinstance(own, dict) for own in given.values()):
        raise ValueError('must be tables of the settings file, such as [safety."llama3.1"]')
    rows = {row.name.removeprefix("safety_"): row for row in SETTINGS if row.name.startswith("safety_")}
    return tuple((model, tuple(_own_value(rows, *item) for item in own.items())) for model, own in given.items())


def _own_value(rows: Mapping[str, Setting], name: str, value: Any) -> tuple[str, Any]:
    if name not in rows:
        raise ValueError(f"has the unknown name {name!r}; known are {', '.join(rows)}")
    return rows[name].name, _parse(rows[name], value, f"safety.{name}")


def parse_bool(text: str) -> bool:
    """Parse yes or no in the spellings that environment variables have."""
    if text.lower() in ("1", "true", "yes", "on"):
        return True
    if text.lower() in ("0", "false", "no", "off", ""):
        return False
    raise ValueError("must be 1 or 0")


def parse_host(text: str) -> str:
    """Parse an address to listen on.

    A scheme and a port, which Ollama's variable may have, are cut off (the port is read on its own).
    """
    host = text.split("://", 1)[-1].rstrip("/")
    if host.startswith("["):
        return host[1 : host.index("]")]
    return host.rsplit(":", 1)[0] if host.count(":") == 1 else host


def parse_choice(*choices: str) -> Callable[[str], str]:
    """Return a parser that admits only `choices`."""

    def parse(text: str) -> str:
        if text.lower() not in choices:
            raise ValueError(f"must be one of {', '.join(choices)}")
        return text.lower()

    return parse


_DEFAULT_MODEL, _DEFAULT_SERVER, _DEFAULT_LOG = ModelSettings(), ServerSettings(), LogSettings()
_DEFAULT_WORKER = WorkerSettings()
_DEFAULT_KEEP, _DEFAULT_SAFETY = KeepSettings(), SafetySettings()

SETTINGS: tuple[Setting, ...] = (
    Setting(
        "device",
        ("CAMELID_DEVICE",),
        parse_choice("auto", "gpu", "cpu", "reference", "gpu-on-cpu"),
        _DEFAULT_MODEL.device,
        "Where to compute: `auto`, `gpu`, `cpu`, or, slowly and for checking, `reference` (numpy) and `gpu-on-cpu` "
        "(what runs on GPUs, on the processor). `auto` takes the GPU if there is one and the model fits.",
        "NAME",
    ),
    Setting(
        "tensor_parallel",
        ("CAMELID_TENSOR_PARALLEL",),
        parse_ranks,
        _DEFAULT_MODEL.tensor_parallel,
        "Over how many GPUs of this machine each model is shared out: 1, 2, 4 or 8.",
        "N",
    ),
    Setting(
        "gpu_memory",
        ("CAMELID_GPU_MEMORY",),
        parse_bytes,
        None,
        "Most memory that a model with its cache may take of each GPU. Default: what is free.",
        "SIZE",
    ),
    Setting(
        "gpu_weights",
        ("CAMELID_GPU_WEIGHTS",),
        parse_choice("as-is", "fp8"),
        _DEFAULT_MODEL.gpu_weights,
        "How a GPU keeps weights that are floats in the file: `as-is`, or `fp8`: rounded to 8 bits when they are "
        "loaded, with a scale for each row.",
        "NAME",
    ),
    Setting(
        "threads",
        ("CAMELID_THREADS", "OLLAMA_NUM_THREADS"),
        parse_count,
        None,
        "Compute threads. Default: the cores this process may use, from its affinity and its container's limit.",
        "N",
    ),
    Setting(
        "cpu_isa",
        ("CAMELID_CPU_ISA",),
        str,
        None,
        "Force an instruction set (portable, avx2, avx512, avx512vnni). Default: the best one of the machine.",
        "NAME",
    ),
    Setting(
        "context_length",
        ("CAMELID_CONTEXT_LENGTH", "OLLAMA_CONTEXT_LENGTH"),
        parse_count,
        None,
        "Most tokens of prompt and answer together. Default: what the model was trained for, as far as memory allows.",
        "N",
    ),
    Setting(
        "max_seq_len",
        ("CAMELID_MAX_SEQ_LEN",),
        parse_count,
        None,
        "Upper bound of the context length that is chosen; less is taken where less fits.",
        "N",
    ),
    Setting(
        "cache_memory",
        ("CAMELID_CACHE_MEMORY",),
        parse_bytes,
        None,
        "Memory for keys and values of all sequences. Default: a quarter of what is free after the weights, "
        "at most what can be used.",
        "SIZE",
    ),
    Setting(
        "cache_type",
        ("CAMELID_CACHE_TYPE", "OLLAMA_KV_CACHE_TYPE"),
        parse_choice("f16", "f32", "q8_0"),
        _DEFAULT_MODEL.cache_type,
        "Type of cached keys and values: `f16`, `f32`, or `q8_0`: 8 bits and a scale for each token and head, which "
        "halves the memory of a context.",
        "TYPE",
    ),
    Setting(
        "max_sequences",
        ("CAMELID_MAX_SEQUENCES", "OLLAMA_NUM_PARALLEL"),
        parse_count,
        _DEFAULT_MODEL.max_sequences,
        "Most answers computed at the same time.",
        "N",
        ("--max-batch-size",),
    ),
    Setting(
        "max_waiting",
        ("CAMELID_MAX_WAITING", "OLLAMA_MAX_QUEUE"),
        parse_count,
        _DEFAULT_MODEL.max_waiting,
        "Most requests that wait for their turn; one more is told to come back later (503).",
        "N",
    ),
    Setting(
        "prefill_chunk",
        ("CAMELID_PREFILL_CHUNK",),
        parse_count,
        _DEFAULT_MODEL.prefill_chunk,
        "Most tokens computed in one step. Smaller keeps running answers smoother while a long prompt is read.",
        "N",
    ),
    Setting(
        "max_guessed",
        ("CAMELID_MAX_GUESSED",),
        parse_guesses,
        _DEFAULT_MODEL.max_guessed,
        "Most tokens of an answer that are guessed in one step, from what followed the same words before (prompt "
        "lookup decoding); 0 for none. Answers are the same with and without.",
        "N",
    ),
    Setting(
        "draft",
        ("CAMELID_DRAFT",),
        str,
        None,
        "A small model with the same tokenizer that guesses what the model says next, up to --max-guessed tokens in a "
        "step (speculative decoding). Answers are the same with and without; where it does not pay, it is left alone.",
        "MODEL",
    ),
    Setting(
        "prefix_cache",
        ("CAMELID_PREFIX_CACHE",),
        str,
        _DEFAULT_MODEL.prefix_cache,
        "Folder in which computed prompts are kept, so that they need not be read again after a restart. They can be "
        "told back into text, so guard it as you guard the prompts. Default: none are kept.",
        "FOLDER",
    ),
    Setting(
        "prefix_cache_size",
        ("CAMELID_PREFIX_CACHE_SIZE",),
        parse_bytes,
        _DEFAULT_MODEL.prefix_cache_size,
        "Most disk space for the computed prompts of one model; what was unused for longest goes first.",
        "SIZE",
    ),
    Setting(
        "models",
        ("CAMELID_MODELS",),
        str,
        _DEFAULT_MODEL.models,
        "Folder of the models that are pulled. Default: camelid/models where the system keeps data (XDG_DATA_HOME). "
        "Models of Ollama (OLLAMA_MODELS) are found, too, and left alone.",
        "FOLDER",
    ),
    Setting(
        "fast_copies",
        ("CAMELID_FAST_COPIES",),
        parse_choice("auto", "on", "first", "existing", "off"),
        _DEFAULT_MODEL.fast_copies,
        "Whether a model that runs on the CPU gets a second copy of its weights on disk, laid out for the processor, "
        "which is read in place of the first: `on`, in the background; `auto`, where the disk has ten times its size "
        "free; `first`, before the model answers; `existing`, only those that are there; `off`. Answers are the same.",
        "CHOICE",
    ),
    Setting(
        "keep_alive",
        ("CAMELID_KEEP_ALIVE", "OLLAMA_KEEP_ALIVE"),
        parse_keep_alive,
        _DEFAULT_KEEP.keep_alive,
        "How long a model stays in memory behind its last request, where the request says nothing: seconds or a "
        "duration (`10m`), 0 for not at all, negative for ever. Default: 5m for models that were loaded on request, "
        "for ever for the one that `serve` was started with.",
        "TIME",
    ),
    Setting(
        "max_loaded_models",
        ("CAMELID_MAX_LOADED_MODELS", "OLLAMA_MAX_LOADED_MODELS"),
        parse_limit,
        _DEFAULT_KEEP.max_loaded_models,
        "Most models in memory at the same time; the one unused for longest leaves for the next. "
        "Default, and 0: as many as fit.",
        "N",
    ),
    Setting(
        "load_timeout",
        ("CAMELID_LOAD_TIMEOUT", "OLLAMA_LOAD_TIMEOUT"),
        parse_timeout,
        _DEFAULT_KEEP.load_timeout,
        "How long a request waits for its model to be loaded, and loading for memory that other models use: seconds "
        "or a duration; 0 for as long as it takes.",
        "TIME",
    ),
    Setting(
        "go_template",
        ("CAMELID_GO_TEMPLATE", "OLLAMA_GO_TEMPLATE"),
        parse_bool,
        _DEFAULT_MODEL.go_template,
        "Whether the Go template of a stored model (Modelfile's TEMPLATE) makes its prompts: 1 or 0. With 0 it is the "
        "chat template inside the weights, as for models that have no other.",
        "1|0",
    ),
    Setting(
        "adapter",
        ("CAMELID_ADAPTER",),
        parse_adapters,
        _DEFAULT_MODEL.adapter,
        "LoRA adapters that requests may choose, as `MODEL:NAME`: a GGUF file or a folder of PEFT's for each NAME, "
        "separated by commas, or the flag several times. They belong to the model that the command is started with.",
        "NAME=PATH",
    ),
    Setting(
        "adapter_folder",
        ("CAMELID_ADAPTER_FOLDER",),
        str,
        _DEFAULT_SERVER.adapter_folder,
        "Folder from which adapters may be loaded while the server runs (POST /v1/load_lora_adapter), by everyone who "
        "may use it. Default: none may.",
        "FOLDER",
    ),
    Setting(
        "host",
        ("CAMELID_HOST", "OLLAMA_HOST"),
        parse_host,
        _DEFAULT_SERVER.host,
        "Address to listen on. Anything wider than this machine needs an API key.",
        "ADDRESS",
    ),
    Setting(
        "port",
        ("CAMELID_PORT",),
        parse_port,
        _DEFAULT_SERVER.port,
        "Port to listen on; 0 takes a free one. The default is the one Ollama's clients look for.",
        "N",
    ),
    Setting(
        "api_key",
        ("CAMELID_API_KEY",),
        parse_keys,
        _DEFAULT_SERVER.api_key,
        "Keys that requests must carry as `Authorization: Bearer KEY`, separated by commas. Default: none on loopback.",
        "KEYS",
    ),
    Setting(
        "insecure_no_key",
        ("CAMELID_INSECURE_NO_KEY",),
        parse_bool,
        _DEFAULT_SERVER.insecure_no_key,
        "Serve beyond this machine without a key. Everyone who reaches the port can use the server.",
        "",
    ),
    Setting(
        "drain_seconds",
        ("CAMELID_DRAIN_SECONDS",),
        parse_seconds,
        _DEFAULT_SERVER.drain_seconds,
        "How long running answers may take to finish after SIGTERM.",
        "SECONDS",
    ),
    Setting(
        "alias",
        ("CAMELID_ALIAS",),
        parse_aliases,
        _DEFAULT_SERVER.alias,
        "Other names of models, as NAME=MODEL separated by commas: who asks for NAME is answered by MODEL.",
        "NAMES",
    ),
    Setting(
        "ready_file",
        ("CAMELID_READY_FILE",),
        str,
        _DEFAULT_SERVER.ready_file,
        "A file that is there as long as requests are welcome, for probes that run a command. Default: none.",
        "FILE",
    ),
    Setting(
        "api_server",
        ("CAMELID_API_SERVER",),
        str,
        _DEFAULT_WORKER.api_server,
        "Address of the AIME API server that a worker takes jobs from.",
        "URL",
    ),
    Setting(
        "job_type",
        ("CAMELID_JOB_TYPE",),
        str,
        _DEFAULT_WORKER.job_type,
        "Type of the jobs that a worker takes, as the endpoint's configuration on the server names it.",
    ),
    Setting(
        "worker_key",
        ("CAMELID_WORKER_KEY", "API_AUTH_KEY"),
        str,
        _DEFAULT_WORKER.worker_key,
        "Key of the job type, from the same configuration.",
        "KEY",
    ),
    Setting(
        "worker_id",
        ("CAMELID_WORKER_ID",),
        str,
        _DEFAULT_WORKER.worker_id,
        "Tells workers on one machine apart.",
        "ID",
    ),
    Setting(
        "predict_profile",
        ("CAMELID_PREDICT_PROFILE",),
        parse_choice("documented", "as-built"),
        _DEFAULT_SERVER.predict_profile,
        "How the route `predict` answers where a request does not say: `documented`, as the README of the Llama 3 "
        "Truss promises (four beams, every parameter of `generate`), or `as-built`, as its code does (a stream, with "
        "the prompt in front).",
        "NAME",
    ),
    Setting(
        "async_queue",
        ("CAMELID_ASYNC_QUEUE",),
        str,
        _DEFAULT_SERVER.async_queue,
        "File of the queue of requests that are answered later (`async_predict`), made if it is not there. Prompts and "
        "answers are in it. Default: no such requests are taken.",
        "FILE",
    ),
    Setting(
        "webhook_key",
        ("CAMELID_WEBHOOK_KEY",),
        parse_keys,
        _DEFAULT_SERVER.webhook_key,
        "Keys that the notices of `async_predict` are signed with, separated by commas. Default: they are not signed.",
        "KEYS",
    ),
    Setting(
        "webhook_hosts",
        ("CAMELID_WEBHOOK_HOSTS",),
        parse_words,
        _DEFAULT_SERVER.webhook_hosts,
        "Hosts (`name` or `name:port`) that notices may be sent to wherever they are, and without https. "
        "Default: public addresses over https only.",
        "HOSTS",
    ),
    Setting(
        "admin_key",
        ("CAMELID_ADMIN_KEY",),
        parse_keys,
        _DEFAULT_SERVER.admin_key,
        "Keys of those who may do everything, separated by commas: a request that carries one may leave safety checks "
        "out. They are keys like the others besides. Default: nobody may.",
        "KEYS",
    ),
    Setting(
        "safety_model",
        ("CAMELID_SAFETY_MODEL",),
        parse_model_or_none,
        _DEFAULT_SAFETY.safety_model,
        "Model that judges what is asked and answered, of the Llama Guard 3 family; `none` for no checks.",
        "MODEL",
    ),
    Setting(
        "safety_checks",
        ("CAMELID_SAFETY_CHECKS",),
        parse_choice("both", "input", "output"),
        _DEFAULT_SAFETY.safety_checks,
        "What is judged: the request (`input`), the answer (`output`), or `both`.",
        "NAME",
    ),
    Setting(
        "safety_policy",
        ("CAMELID_SAFETY_POLICY",),
        str,
        _DEFAULT_SAFETY.safety_policy,
        "File with a policy of your own, written as the prompt lists it: lines `S1: Name.`, each with what it covers "
        "in the lines below. Default: the 14 categories of Llama Guard 3.",
        "FILE",
    ),
    Setting(
        "safety_categories",
        ("CAMELID_SAFETY_CATEGORIES",),
        parse_words,
        _DEFAULT_SAFETY.safety_categories,
        "Categories of the policy that count, by key (`S1,S2,S9`). Default: all.",
        "KEYS",
    ),
    Setting(
        "safety_failure",
        ("CAMELID_SAFETY_FAILURE",),
        parse_choice("closed", "open"),
        _DEFAULT_SAFETY.safety_failure,
        "What happens where the safety model cannot be asked or gives no verdict: the request fails (`closed`), or is "
        "answered without the check (`open`).",
        "NAME",
    ),
    Setting(
        "safety_hold_back",
        ("CAMELID_SAFETY_HOLD_BACK",),
        parse_characters,
        _DEFAULT_SAFETY.safety_hold_back,
        "Characters of an answer that are gathered before they are judged and shown. Fewer make a stream smoother and "
        "ask the safety model more often; 0 judges whole answers.",
        "N",
    ),
    Setting(
        "safety",
        ("CAMELID_SAFETY",),
        parse_safety,
        _DEFAULT_SAFETY.safety,
        'What single models have of their own. In the settings file: a table `[safety."llama3.1"]` with `model`, '
        "`checks`, `policy`, `categories`, `failure` or `hold_back`; as a flag or variable, the same as JSON.",
        "TABLES",
    ),
    Setting(
        "log_level",
        ("CAMELID_LOG_LEVEL",),
        parse_choice("debug", "info", "warning", "error"),
        _DEFAULT_LOG.log_level,
        "Least severe messages that are logged.",
        "LEVEL",
    ),
    Setting(
        "log_json", ("CAMELID_LOG_JSON",), parse_bool, _DEFAULT_LOG.log_json, "Log JSON objects, one per line.", ""
    ),
)


def settings_file(environment: Mapping[str, str]) -> Path:
    """Return where the settings file is looked for:

    CAMELID_CONFIG, else camelid/config.toml in the user's configuration folder.
    """
    if "CAMELID_CONFIG" in environment:
        return Path(environment["CAMELID_CONFIG"])
    base = environment.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    return Path(base) / "camelid" / "config.toml"


def read_settings(
    flags: Mapping[str, Any] | None = None, environment: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Return every setting's effective value by name.

    `flags` holds what was given explicitly (None counts as not given). Raises InvalidSetting, naming where the
    value came from.
    """
    environment = os.environ if environment is None else environment
    file = settings_file(environment)
    from_file = _read_file(file)
    return {setting.name: _resolve(setting, flags or {}, environment, from_file, file) for setting in SETTINGS}


def group(kind: type[_Group], values: Mapping[str, Any]) -> _Group:
    """Return the settings of one group (ModelSettings, ServerSettings, LogSettings) out of all."""
    return kind(**{name: values[name] for name in kind.__dataclass_fields__})  # type: ignore[attr-defined]


def _resolve(
    setting: Setting, flags: Mapping[str, Any], environment: Mapping[str, str], from_file: Mapping[str, Any], file: Path
) -> Any:
    given = flags.get(setting.name)
    if given is not None and given != ():  # a flag that may be given several times, and was not
        return _parse(setting, given, f"flag {setting.flag}")
    for variable in setting.variables:
        if environment.get(variable, "") != "":
            return _parse(setting, environment[variable], f"variable {variable}")
    if setting.name == "port" and ":" in environment.get("OLLAMA_HOST", "").split("://")[-1]:
        return _parse(setting, environment["OLLAMA_HOST"].rstrip("/").rsplit(":", 1)[-1], "variable OLLAMA_HOST")
    if setting.name in from_file:
        return _parse(setting, from_file[setting.name], f"{file}")
    return setting.default


def _parse(setting: Setting, value: Any, source: str) -> Any:
    """Parse what a flag, a variable or the file gave; every source goes through the same parser."""
    if isinstance(value, (list, tuple)):
        value = ",".join(str(item) for item in value)
    elif isinstance(value, dict):
        value = json.dumps(value)
    try:
        return setting.parse(str(value))
    except ValueError as error:
        raise InvalidSetting(
            f"{setting.name} from {source} is {value!r}: {error}", hint=f"{setting.flag}: {setting.meaning}"
        ) from error


def _read_file(file: Path) -> dict[str, Any]:
    try:
        content = tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InvalidSetting(f"{file} cannot be read: {error}") from error
    unknown = sorted(set(content) - {setting.name for setting in SETTINGS})
    if unknown:
        known = ", ".join(setting.name for setting in SETTINGS)
        raise InvalidSetting(f"{file} has the unknown setting {unknown[0]!r}", hint=f"known settings: {known}")
    return content
