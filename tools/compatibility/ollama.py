"""What is sent to Ollama's routes."""

from __future__ import annotations

from typing import Any

from camelid.server.ollama import bodies, embeddings, making

from . import extensions
from .shapes import Body, Dialect, Route, Shape

HI = {"role": "user", "content": "hi"}
TOOL: Body = {"type": "function", "function": {"name": "f"}}
CALL: Body = {"function": {"name": "f", "arguments": {}}}
SHARED: dict[str, Any] = {
    "model": ["other"],
    "stream": [True],
    "options": [{"temperature": 0.5}],
    "keep_alive": ["5m"],
    "format": ["", "json"],
    "think": [False, True],
    "truncate": [True],
    "shift": [True],
    "images": [["x"]],
    "logprobs": [True],
    "top_logprobs": [2, 21],
}
COMPANY: dict[str, Any] = {"top_logprobs": {"logprobs": True}}
FULL = "a conversation that is too long is refused, never cut"
SILENT = {
    "format": "the default",
    "think": "the default",
    "truncate": FULL,
    "shift": FULL,
    "keep_alive": "models stay until they are unloaded",
}
OURS = "decided when the model is loaded, by the server's settings"
_SAMPLING = ("temperature", "top_p", "min_p", "typical_p", "repeat_penalty", "presence_penalty", "frequency_penalty")
_LOADING = ("num_ctx", "num_batch", "num_gpu", "main_gpu", "num_thread", "use_mmap", "numa")
OPTIONS: dict[str, Any] = {
    **extensions.SAMPLES,
    **{name: [0.5] for name in _SAMPLING},
    **{name: [3] for name in ("top_k", "seed", "num_predict", "repeat_last_n")},
    "stop": [["x"]],
    **{name: [1] for name in (*_LOADING, "num_keep")},
}


def _chat(**fields: Any) -> Body:
    return {"model": "tiny", "stream": False, "messages": [HI], **fields}


def _generate(**fields: Any) -> Body:
    return {"model": "tiny", "stream": False, "prompt": "hi", **fields}


OLLAMA = Dialect(
    "Ollama",
    "The native API of Ollama 0.33. OpenAI's and Anthropic's routes, which Ollama has as well, are the ones above.",
    [
        Route(
            "POST",
            "/api/chat",
            [
                Shape(
                    bodies.ChatBody,
                    "body",
                    lambda fields: _chat(**fields),
                    {**SHARED, "messages": [[HI, HI]], "tools": [[TOOL]]},
                    SILENT,
                    COMPANY,
                ),
                Shape(
                    None,
                    "`options`",
                    lambda fields: _chat(options=fields),
                    OPTIONS,
                    {**dict.fromkeys(_LOADING, OURS), "num_keep": FULL, **extensions.SILENT},
                    extensions.COMPANY,
                ),
                Shape(
                    bodies.Message,
                    "`messages[]`",
                    lambda fields: _chat(messages=[HI, {"role": "assistant", "content": "x", **fields}]),
                    {"role": ["user", "robot"], "content": ["y"], "tool_calls": [[CALL]], "images": [["x"]]},
                    {"thinking": "earlier thoughts are passed over"},
                ),
                Shape(
                    bodies.Tool,
                    "`tools[]`",
                    lambda fields: _chat(tools=[{**TOOL, **fields}]),
                    {"function": [{"name": "g"}], "type": ["function"]},
                    {"type": "there is one type"},
                ),
                Shape(
                    bodies.ToolFunction,
                    "`tools[].function`",
                    lambda fields: _chat(tools=[{"type": "function", "function": {"name": "f", **fields}}]),
                    {"parameters": [{"type": "object"}]},
                ),
            ],
            "Without messages the model is loaded, or unloaded with `keep_alive` 0.",
        ),
        Route(
            "POST",
            "/api/generate",
            [
                Shape(
                    bodies.GenerateBody,
                    "body",
                    lambda fields: _generate(**fields),
                    {**SHARED, "context": [[1]], "raw": [True]},
                    SILENT,
                    COMPANY,
                )
            ],
            "Without a prompt the model is loaded, or unloaded with `keep_alive` 0.",
        ),
        Route(
            "POST",
            "/api/embed",
            [
                Shape(
                    embeddings.EmbedBody,
                    "body",
                    lambda fields: {"model": "tiny", "input": "hi", **fields},
                    {
                        "model": ["other"],
                        "input": ["x", ["x", "y"], 3],
                        "dimensions": [2],
                        "keep_alive": ["5m"],
                        "options": [{"num_ctx": 1}],
                        "truncate": [True, False],
                    },
                    {
                        "keep_alive": "the model stays as long as it says",
                        "options": OURS,
                        "truncate": "only a text that is too long shows it",
                    },
                )
            ],
            "Without input the model is loaded.",
        ),
        Route(
            "POST",
            "/api/embeddings",
            [
                Shape(
                    embeddings.OldEmbedBody,
                    "body",
                    lambda fields: {"model": "tiny", "prompt": "hi", **fields},
                    {"model": ["other"], "keep_alive": ["5m"], "options": [{"num_ctx": 1}]},
                    {
                        "model": "the reply does not show it",
                        "keep_alive": "the model stays as long as it says",
                        "options": OURS,
                    },
                )
            ],
            "Of one text.",
        ),
        *(
            Route(method, path, (), note)
            for method, path, note in (
                ("GET", "/api/tags", "The models on this machine."),
                ("GET", "/api/ps", "The loaded ones."),
                ("GET", "/api/version", "Camelid's version."),
                ("POST", "/api/show", "A model; `model` or `name`, and `verbose` for the lists of its header."),
                ("POST", "/api/pull", "Fetches a model; `model` or `name`, `insecure` for plain HTTP, `stream`."),
                ("POST", "/api/push", "Sends a model to a registry; the same fields."),
                (
                    "POST",
                    "/api/create",
                    "Makes a model: `model` or `name`, `from` or `files` (one GGUF file by its digest), `adapters`\n"
                    "(one), `template`, `system`, `license`, `parameters`, `messages`, `quantize` or `quantization`,\n"
                    "`requires`, `stream`; or, as older clients send it, `name` and the text of a `modelfile`\n"
                    "whose files are written `@sha256:…`. Refused by name: "
                    + ", ".join(f"`{name}`" for name in making.REFUSED)
                    + ".",
                ),
                ("HEAD", "/api/blobs/{digest}", "Whether a file is here."),
                ("POST", "/api/blobs/{digest}", "Takes a file in, for `/api/create`; checked against its digest."),
                ("POST", "/api/copy", "`source` and `destination`."),
                ("DELETE", "/api/delete", "`model` or `name`."),
            )
        ),
    ],
)
