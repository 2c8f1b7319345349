"""A model with the manners of the Llama 3 8B Instruct Truss, and one answer: it reads the same fields, in the same way.

Run by the real Truss server. It is loaded once the file that DUMMY_GATE names is there, so that a server that is
not ready can be asked, too.
"""

import os
import time

BEGIN, HEADER, END = "<|begin_of_text|>", "<|start_header_id|>{}<|end_header_id|>\n\n", "<|eot_id|>"
PIECES = ("Hel", "lo")


class Model:
    """The class that Truss looks for."""

    def __init__(self, **kwargs):
        pass

    def load(self):
        """Wait for the gate."""
        while not os.path.exists(os.environ["DUMMY_GATE"]):
            time.sleep(0.02)

    def predict(self, request):
        """Return a stream with the prompt in front, or the prompt's text and the answer."""
        messages = request.pop("messages")
        if request.pop("stream", True):
            return self._stream(messages)
        plain = "".join(f"{message['role']}\n\n{message['content']}" for message in messages)
        return {"output": plain + "assistant\n\n" + "".join(PIECES)}

    def _stream(self, messages):
        said = "".join(HEADER.format(message["role"]) + message["content"] + END for message in messages)
        yield BEGIN + said + HEADER.format("assistant")
        yield from PIECES
        yield END
