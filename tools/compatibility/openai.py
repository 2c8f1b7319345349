"""What is sent to OpenAI's routes and to vLLM's beside them."""

from __future__ import annotations

from typing import Any

from camelid.server.openai import bodies, embeddings, rerank, tokens

from . import extensions
from .shapes import Dialect, Route, Shape

HI = {"role": "user", "content": "hi"}
CALL = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
ASKED = [HI, {"role": "assistant", "tool_calls": [CALL, {**CALL, "id": "call_2"}]}]
TOOL = {"type": "function", "function": {"name": "f"}}
LABEL = "a label, for the caller's own use"
CACHED = "prefixes are cached without being asked"
GENERATION: dict[str, Any] = {
    **extensions.SAMPLES,
    "model": ["other"],
    "logit_bias": [{"5": 1}],
    "stop": [["\n"]],
    "ignore_eos": [True],
    "stream_options": [{"include_usage": True}],
    "top_k": [3],
    "n": [2],
}
CHOICES: list[Any] = ["auto", "none", "required", {"type": "function", "function": {"name": "f"}}]
OPEN: dict[str, Any] = {"messages": [HI, {"role": "assistant", "content": "Well, "}]}
COMPANY: dict[str, Any] = {
    **extensions.COMPANY,
    "stream_options": {"stream": True},
    "top_logprobs": {"logprobs": True},
    "tool_choice": {"tools": [TOOL]},
    "continue_final_message": OPEN,
}
FORMS: dict[str, Any] = {
    "response_format": [
        {"type": "text"},
        {"type": "json_object"},
        {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}}},
    ],
    "structured_outputs": [{"regex": "a+"}],
    "guided_json": [{"type": "object"}],
    "guided_regex": ["a+"],
    "guided_choice": [["a", "b"]],
    "guided_grammar": ['start: "a"'],
}
SILENT = {**extensions.SILENT, "user": LABEL, "metadata": LABEL, "prompt_cache_key": CACHED, "safety_identifier": LABEL}


def chat(**fields: Any) -> dict[str, Any]:
    """Return a body of chat completions."""
    return {"messages": [HI], **fields}


def _said(role: str) -> Any:
    return lambda fields: chat(messages=[HI, {"role": role, "content": "x", **fields}])


def _part(kind: str, **own: Any) -> Any:
    return lambda fields: chat(messages=[{"role": "user", "content": [{"type": kind, **own, **fields}]}])


def _call(fields: Any) -> Any:
    called = {"role": "assistant", "tool_calls": [{**CALL, **fields}]}
    return chat(messages=[HI, called])


CHAT = Route(
    "POST",
    "/v1/chat/completions",
    [
        Shape(
            bodies.ChatBody,
            "body",
            lambda fields: chat(**fields),
            {
                **GENERATION,
                "messages": [[HI, HI]],
                "logprobs": [True],
                "top_logprobs": [2],
                "tools": [[TOOL]],
                "tool_choice": CHOICES,
                "parallel_tool_calls": [True, False],
                "add_generation_prompt": [True, False],
                "continue_final_message": [True, False],
                "metadata": [{"a": "b"}],
                "modalities": [["text"], ["audio"]],
                "prompt_cache_retention": ["in_memory", "24h"],
                "reasoning_effort": ["none", "high"],
                **FORMS,
                "service_tier": ["auto", "default", "flex"],
                "store": [False, True],
                "verbosity": ["medium", "low"],
            },
            {
                **SILENT,
                "add_generation_prompt": "the default",
                "continue_final_message": "the default",
                "modalities": "answers are text",
                "parallel_tool_calls": "the default",
                "prompt_cache_retention": CACHED,
                "reasoning_effort": "no model here thinks on request",
                "response_format": "the default",
                "service_tier": "there is one tier",
                "store": "the default",
                "verbosity": "the default",
                "tool_choice": "the default",
            },
            COMPANY,
        ),
        Shape(
            bodies.StreamOptions,
            "`stream_options`",
            lambda fields: chat(stream=True, stream_options=fields),
            {"include_obfuscation": [False, True]},
            {"include_obfuscation": "the default"},
        ),
        *(
            Shape(kind, f"message of role {role}", _said(role), {"content": ["y", [{"type": "text", "text": "y"}]]})
            for kind, role in (
                (bodies.SystemMessage, "system"),
                (bodies.DeveloperMessage, "developer"),
                (bodies.UserMessage, "user"),
            )
        ),
        Shape(
            bodies.AssistantMessage,
            "message of role assistant",
            _said("assistant"),
            {
                "content": ["y", [{"type": "text", "text": "y"}]],
                "tool_calls": [[CALL]],
                "annotations": [[], [{}]],
            },
            {"annotations": "there are none"},
        ),
        Shape(
            bodies.ToolMessage,
            "message of role tool",
            lambda fields: chat(
                messages=[*ASKED, {"role": "tool", "content": "x", "tool_call_id": "call_1", **fields}]
            ),
            {"content": ["y"], "tool_call_id": ["call_2", "nobody's"], "name": ["f", "g"]},
            {"name": "the call has it already"},
        ),
        Shape(
            bodies.AssistantCall,
            "`tool_calls[]`",
            _call,
            {"function": [{"name": "g", "arguments": "{}"}], "type": ["function"]},
            {"type": "there is one type", "index": "left over from a stream"},
        ),
        Shape(
            bodies.CalledFunction,
            "`tool_calls[].function`",
            lambda fields: _call({"function": {**CALL["function"], **fields}}),
        ),
        Shape(bodies.TextPart, "content part `text`", _part("text", text="y")),
        Shape(bodies.ImagePart, "content part `image_url`", _part("image_url")),
        Shape(bodies.AudioPart, "content part `input_audio`", _part("input_audio")),
        Shape(bodies.FilePart, "content part `file`", _part("file")),
        Shape(bodies.RefusalPart, "content part `refusal`", _part("refusal")),
        Shape(
            bodies.Tool,
            "`tools[]`",
            lambda fields: chat(tools=[{**TOOL, **fields}]),
            {"type": ["function", "custom"], "function": [{"name": "g"}]},
            {"type": "the default"},
        ),
        Shape(
            bodies.Function,
            "`tools[].function`",
            lambda fields: chat(tools=[{"type": "function", "function": {"name": "f", **fields}}]),
            {"parameters": [{"type": "object"}], "strict": [False, True]},
            {"strict": "the default"},
        ),
    ],
)
COMPLETIONS = Route(
    "POST",
    "/v1/completions",
    [
        Shape(
            bodies.CompletionBody,
            "body",
            lambda fields: {"prompt": "hi", **fields},
            {**GENERATION, **FORMS, "prompt": ["x", ["x", "y"], [1, 2], [[1], [2]]], "logprobs": [2], "best_of": [2]},
            SILENT,
            {**extensions.COMPANY, "stream_options": {"stream": True}},
        ),
        Shape(
            bodies.StreamOptions,
            "`stream_options`",
            lambda fields: {"prompt": "hi", "stream": True, "stream_options": fields},
            {"include_obfuscation": [False, True]},
            {"include_obfuscation": "the default"},
        ),
    ],
    "`suffix` is honoured by models that were trained to fill in, and refused for others.",
)
TOKENIZE = Route(
    "POST",
    "/tokenize",
    [
        Shape(
            tokens.TokenizeBody,
            "body with `prompt`",
            lambda fields: {"prompt": "hi", **fields},
            {
                "messages": [[HI]],
                "add_special_tokens": [True, False],
                "tools": [[TOOL]],
                "model": ["other"],
                "continue_final_message": [False, True],
            },
            {"add_special_tokens": "the default", "model": "the reply does not show it"},
        ),
        Shape(
            tokens.TokenizeBody,
            "body with `messages`",
            lambda fields: {"messages": [HI], **fields},
            {
                "messages": [[HI, HI]],
                "add_generation_prompt": [True, False],
                "tools": [[TOOL]],
                "model": ["other"],
                "continue_final_message": [False, True],
            },
            {
                "add_generation_prompt": "the default",
                "continue_final_message": "the default",
                "model": "the reply does not show it",
            },
            {"continue_final_message": OPEN},
        ),
    ],
)
DETOKENIZE = Route(
    "POST",
    "/detokenize",
    [
        Shape(
            tokens.DetokenizeBody,
            "body",
            lambda fields: {"tokens": [65], **fields},
            {"model": ["other"], "tokens": [[66]]},
            {"model": "the reply does not show it"},
        )
    ],
)
EMBEDDINGS = Route(
    "POST",
    "/v1/embeddings",
    [
        Shape(
            embeddings.EmbeddingBody,
            "body",
            lambda fields: {"input": "hi", **fields},
            {
                "input": ["x", ["x", "y"], [1, 2], [[1], [2]]],
                "model": ["other"],
                "dimensions": [2],
                "encoding_format": ["base64", "float"],
            },
            {"user": LABEL, "encoding_format": "the default"},
        )
    ],
)
RERANK = Route(
    "POST",
    "/v1/rerank",
    [
        Shape(
            rerank.RerankBody,
            "body",
            lambda fields: {"query": "hi", "documents": ["a", "b"], **fields},
            {"documents": [["b"], [{"text": "b"}]], "model": ["other"], "top_n": [1, 0]},
        ),
        Shape(rerank.Document, "`documents[]`", lambda fields: {"query": "hi", "documents": [{"text": "a", **fields}]}),
    ],
    "For cross-encoders with one label; other models refuse it.",
)
ADAPTERS = "vLLM's bodies, for adapters in the folder that `--adapter-folder` names; see adapters.md."
OPENAI = Dialect(
    "OpenAI: chat, completions, embeddings, models",
    "Beside OpenAI's own fields these routes take the sampling that Transformers and vLLM name, and the\n"
    "searches and rules of Transformers' `generate` (num_beams, bad_words_ids …, see predict).",
    [
        CHAT,
        COMPLETIONS,
        EMBEDDINGS,
        RERANK,
        Route("GET", "/v1/models", (), "What is loaded, under all its names."),
        Route("GET", "/v1/models/{name}", (), "One of them."),
        TOKENIZE,
        DETOKENIZE,
        Route("POST", "/v1/load_lora_adapter", (), ADAPTERS),
        Route("POST", "/v1/unload_lora_adapter", (), ADAPTERS),
    ],
)
