"""A Model class that does whatever the body asks for: one for the tests of how Truss's classes are served."""

import os
import signal
import threading
import time

import numpy as np
from fastapi import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, StreamingResponse


class Model:
    """Everything that a class may return or raise."""

    def __init__(self, **kwargs):
        self.given = sorted(set(kwargs) - {"environment", "lazy_data_resolver"})
        self.secrets = kwargs["secrets"]
        self.config = kwargs["config"]
        self.running = self.most = 0
        self.lock = threading.Lock()

    def load(self):
        """Remember that this ran."""
        self.is_loaded = True

    def is_healthy(self):
        """Tell what `load` left."""
        return self.is_loaded

    async def chat_completions(self, inputs, request: Request):
        """Show inputs and a header."""
        return {"said": inputs, "header": request.headers.get("x-test")}

    def completions(self, inputs):
        """Stream."""
        yield f"data: {inputs['prompt']}\n\n"

    def predict(self, inputs):
        """Do what `do` says."""
        return getattr(self, f"do_{inputs['do']}")(inputs)

    def do_echo(self, inputs):
        return inputs

    def do_given(self, inputs):
        return {"given": self.given, "name": self.config["model_name"], "colour": os.environ["COLOUR"]}

    def do_secret(self, inputs):
        return self.secrets["token"]

    def do_no_secret(self, inputs):
        return self.secrets["other"]

    def do_raise(self, inputs):
        raise ValueError("told to nobody")

    def do_refuse(self, inputs):
        raise HTTPException(418, "a teapot")

    def do_refuse_at_length(self, inputs):
        raise HTTPException(409, {"why": ["a", 1]})

    def do_numpy(self, inputs):
        return {"array": np.arange(6, dtype=np.float32).reshape(2, 3), "number": np.int64(7)}

    def do_unwritable(self, inputs):
        return {"set": {1}}

    def do_pieces(self, inputs):
        yield from ("Hé", b"l", "lo")

    def do_slowly(self, inputs):
        def pieces():
            for number in range(5):
                time.sleep(0.05)
                yield f"{number} "

        return pieces()

    def do_fail_in_stream(self, inputs):
        yield "first"
        raise ValueError("told to nobody")

    def do_response(self, inputs):
        return PlainTextResponse("made", 201, {"x-made": "here"})

    def do_bad_response(self, inputs):
        return PlainTextResponse("no", 429)

    def do_streaming_response(self, inputs):
        return StreamingResponse(iter([b"a", b"b"]), media_type="text/event-stream")

    def do_nothing(self, inputs):
        return None

    def do_most(self, inputs):
        with self.lock:
            self.running += 1
            self.most = max(self.most, self.running)
        time.sleep(0.05)
        with self.lock:
            self.running -= 1
        return self.most

    def do_die(self, inputs):
        os.kill(os.getpid(), signal.SIGKILL)

    def do_wait(self, inputs):
        while not os.path.exists(inputs["file"]):
            time.sleep(0.01)
        return "waited"
