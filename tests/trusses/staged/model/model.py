"""A Model class with all three stages and annotated inputs."""

import asyncio

from pydantic import BaseModel


class Inputs(BaseModel):
    """What is asked."""

    text: str
    times: int = 1


class Model:
    """Repeats a text."""

    async def preprocess(self, inputs: Inputs) -> dict:
        """Prepare."""
        await asyncio.sleep(0)
        return {"text": inputs.text.upper(), "times": inputs.times}

    async def predict(self, inputs):
        """Repeat, or stream."""
        if inputs["times"] == 0:
            return self._pieces()
        return inputs["text"] * inputs["times"]

    async def _pieces(self):
        yield b"x"

    def postprocess(self, text):
        """Wrap."""
        return {"output": text}
