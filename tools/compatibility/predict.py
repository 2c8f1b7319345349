"""What is sent to the routes of `predict`."""

from __future__ import annotations

from typing import Any

from camelid.server.jobs import routes as jobs
from camelid.server.predict import bodies
from camelid.server.predict.routes import DEPLOYED_PATHS, NAMED_PATHS, PATHS

from .shapes import Body, Dialect, Route, Shape

HI = {"role": "user", "content": "hi"}
DRAWN: Body = {"num_beams": 1}  # four beams are the default, and those draw nothing
GUESSED = "answers are the same, and text that was there before is guessed from, without being asked"
NOT_PADDED = "nothing is padded"

SAMPLES: dict[str, Any] = {
    "messages": [[HI, HI]],
    "prompt": ["x"],
    "model": ["other"],
    "profile": ["documented", "as-built"],
    "stream": [True, False],
    "stop_strings": ["x", ["x", "y"]],
    "early_stopping": [True, False, "never"],
    "do_sample": [True, False],
    "num_beams": [2, 17],
    "num_return_sequences": [2, 5],
    "negative_prompt": ["x"],
    "negative_prompt_ids": [[5]],
    "sequence_bias": [[[[5, 6], -2.0]]],
    "bad_words_ids": [[[5, 6]]],
    "forced_eos_token_id": [5, [5, 6]],
    "exponential_decay_length_penalty": [[3, 1.5]],
    "suppress_tokens": [[5]],
    "begin_suppress_tokens": [[5]],
    "eos_token_id": [5, [5, 6]],
    "penalty_alpha": [0.0, 0.6],
    "dola_layers": ["high"],
    "num_beam_groups": [1, 2],
    "diversity_penalty": [0.0, 0.5],
    "output_logits": [False, True],
    "output_attentions": [False, True],
    "output_hidden_states": [False, True],
    "trust_remote_code": [False, True],
    "synced_gpus": [False, True],
}
SILENT = {
    "model": "the reply does not show it",
    "profile": "the default",
    "stream": "the default",
    "early_stopping": "the default",
    "do_sample": "the default",
    "use_cache": "the same answer in less time; there is always a cache",
    "return_dict_in_generate": "an answer is always an object",
    "pad_token_id": NOT_PADDED,
    "bos_token_id": "the chat template begins the prompt",
    **dict.fromkeys(("num_assistant_tokens", "prompt_lookup_num_tokens", "max_matching_ngram_size"), GUESSED),
    **dict.fromkeys(
        (
            *("penalty_alpha", "num_beam_groups", "diversity_penalty", "output_logits"),
            *("output_attentions", "output_hidden_states", "trust_remote_code", "synced_gpus"),
        ),
        "the default",
    ),
}
FILTERS = ("temperature", "top_h", "top_k", "top_p", "min_p", "typical_p", "epsilon_cutoff", "eta_cutoff")
COMPANY: dict[str, Body] = {
    **{name: {"num_beams": 4} for name in ("do_sample", "early_stopping", "length_penalty", "num_return_sequences")},
    **dict.fromkeys((*FILTERS, "guidance_scale", "max_time"), DRAWN),
    "negative_prompt": {**DRAWN, "guidance_scale": 1.5},
    "negative_prompt_ids": {**DRAWN, "guidance_scale": 1.5},
}
PREDICT = Dialect(
    "Predict: Truss, Baseten, SageMaker",
    "The parameters of Transformers' `generate`, with its meaning. Bodies are JSON, or msgpack with the content type\n"
    "`application/octet-stream`; the answer is the same, or raw text where a stream is asked for. The profile\n"
    "`as-built` reads what the code of the Llama 3 Truss reads, passes over all else (`x-camelid-ignored` says what),\n"
    "and puts the prompt in front of the answer. See decisions/0053.",
    [
        Route(
            "POST",
            "/predict",
            [
                Shape(
                    bodies.PredictBody,
                    "body",
                    lambda fields: {"messages": None if "prompt" in fields else [HI], **fields},
                    SAMPLES,
                    SILENT,
                    COMPANY,
                ),
                Shape(
                    bodies.Message,
                    "`messages[]`",
                    lambda fields: {"messages": [{**HI, **fields}]},
                    {"role": ["system", "assistant", "tool"], "content": ["x"]},
                ),
            ],
            "Several beams cannot be streamed: with `stream` alone there is one.",
        ),
        *(Route("POST", path, (), "As /predict.") for path in (*PATHS[1:], *DEPLOYED_PATHS)),
        *(
            Route("POST", path.replace(":path", ""), (), "As /predict, for a model by its name.")
            for path in NAMED_PATHS
        ),
        *(
            Route(
                "POST", path, (), "Takes what /predict takes as `model_input`, and answers later: see deploy/async.md."
            )
            for path in (*jobs.PATHS, *jobs.DEPLOYED_PATHS)
        ),
        Route("GET", "/async_request/{identity}", (), "How far such a request is."),
        Route("DELETE", "/async_request/{identity}", (), "Cancels one that is queued."),
        Route("GET", "/ping", (), "Whether requests are welcome: 200 or 503."),
        Route("GET", "/v1/models/model", (), "The same."),
        Route("GET", "/v1/models/{name}/loaded", (), "The same for one model; `model` is the server's own."),
        Route("GET", "/v1/models/{name}/schema", (), "The JSON schema of the body."),
    ],
)
