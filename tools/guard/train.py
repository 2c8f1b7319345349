"""Train guard: `python -m tools.guard.train --folder DIR --minutes 25`, and write DIR/guard.gguf. Goes on where the
folder holds a checkpoint.

Network, optimizer and export are cria's; the head start is not needed. The first third of the time only the words and
their categories are learned, from prompts of the conversation alone: they have a sixth of the tokens. One thread, so
that it may run beside other work.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import torch
from tokenizers import Tokenizer

from camelid.formats.blocks import BlockType
from camelid.text.llama_guard import guard_question

from ..cria.chat import BOS, EOT, header
from ..cria.export import Trained, write_gguf
from ..cria.model import Cria, Shape
from ..cria.optimizer import Muon
from ..cria.tokenizer import train as train_tokenizer
from ..cria.train import Encoded, batches, greedy_share, loss_sum
from .data import POLICY, Example, examples, verdict

VOCABULARY = 1280
STEP_ROWS, STEP_SHORT_ROWS = 32, 128
SHORT_SHARE = 0.3  # of the time
DECAY_SHARE = 0.5
MUON_RATE = 0.02
ADAM_RATE = 4e-3
NUM_TESTS = 500


def asked(example: Example, *, is_short: bool = False) -> str:
    """Return the prompt of an example, as the classifier is given it, or of its last message alone."""
    last = example.conversation[-1]
    short = f"{last.speaker}: {last.text.strip()}\n\n<END CONVERSATION>\n\n"
    question = short if is_short else guard_question(example.conversation, example.policy)
    return BOS + header("user") + question + EOT + header("assistant")


def encode(tokenizer: Tokenizer, example: Example, *, is_short: bool = False) -> Encoded:
    """Tokenize an example; what is learned is the verdict."""
    true = verdict(example.conversation[-1].text, POLICY) if is_short else example.verdict
    prompt = tokenizer.encode(asked(example, is_short=is_short), add_special_tokens=False).ids
    answer = tokenizer.encode(true + EOT, add_special_tokens=False).ids
    return Encoded(prompt + answer, [False] * len(prompt) + [True] * len(answer))


def load_tokenizer(path: Path) -> Tokenizer:
    """Return the tokenizer at `path`, trained first if there is none: most of a prompt is the same few sentences."""
    if not path.exists():
        train_tokenizer(_texts(), VOCABULARY).save(str(path))
    return Tokenizer.from_file(str(path))


def _texts() -> Iterator[str]:
    for number, example in enumerate(islice(examples("tokenizer", held_out=False), 12000)):
        yield from (said.text for said in example.conversation)
        yield example.verdict
        if number % 6 == 0:
            yield guard_question(example.conversation, example.policy)


class Run:
    """One run in a folder."""

    def __init__(self, folder: Path, minutes: float, seed: int) -> None:
        self.folder = folder
        self.tokenizer = load_tokenizer(folder / "tokenizer.json")
        torch.manual_seed(seed)
        vocabulary = self.tokenizer.get_vocab_size()
        shape = Shape(vocabulary, width=128, layers=3, heads=4, key_heads=2, hidden=256, context=1024)
        self.model = Cria(shape)
        matrices = [p for n, p in self.model.named_parameters() if n.endswith("_proj.weight")]
        others = [p for n, p in self.model.named_parameters() if not n.endswith("_proj.weight")]
        self.muon = Muon(matrices, MUON_RATE)
        self.adam = torch.optim.AdamW(others, lr=ADAM_RATE, betas=(0.9, 0.98), weight_decay=0.0)
        self.path, self.short_share = folder / "checkpoint.pt", SHORT_SHARE
        if self.path.exists():
            self.model.load_state_dict(torch.load(self.path, weights_only=True))
            self.short_share = 0.0
        self.average = {name: value.clone() for name, value in self.model.state_dict().items()}
        self.source = examples(seed, held_out=False)
        self.tests = [encode(self.tokenizer, one) for one in islice(examples("test", held_out=True), NUM_TESTS)]
        self.pool = ThreadPoolExecutor(1)
        self.step, self.begin, self.end = 0, time.time(), time.time() + 60 * minutes

    def train_step(self) -> float:
        """Take one step and return its mean loss."""
        is_short = time.time() - self.begin < self.short_share * (self.end - self.begin)
        drawn = islice(self.source, STEP_SHORT_ROWS if is_short else STEP_ROWS)
        rows = [encode(self.tokenizer, example, is_short=is_short) for example in drawn]
        wanted, total = sum(sum(row.target) for row in rows), 0.0
        for batch in batches(rows, tokens=6000):
            loss = loss_sum(self.model, *batch) / wanted
            loss.backward()  # type: ignore[no-untyped-call]
            total += loss.item()
        scale = self._scale()
        for group in self.adam.param_groups:
            group["lr"] = ADAM_RATE * scale
        torch.nn.utils.clip_grad_norm_(self.adam.param_groups[0]["params"], 1.0)
        self.muon.step(scale, self.pool)
        self.adam.step()
        self.model.zero_grad(set_to_none=True)
        self.step += 1
        with torch.no_grad():
            for name, value in self.model.state_dict().items():
                self.average[name].lerp_(value, 0.02)
        return total

    def _scale(self) -> float:
        left = (self.end - time.time()) / (DECAY_SHARE * (self.end - self.begin))
        return max(0.0, min(1.0, left, (self.step + 1) / 40))

    def run(self) -> None:
        """Train until the time is over, log now and then, and write the model with its running average."""
        losses: list[float] = []
        while time.time() < self.end:
            losses.append(self.train_step())
            if self.step % 50 == 0:
                self._log(loss=sum(losses[-50:]) / 50, score=greedy_share(self.model, self.tests[:100]))
        self.model.load_state_dict(self.average)
        torch.save(self.average, self.path)
        self._log(score=greedy_share(self.model, self.tests))
        trained = Trained(self.model.shape, self.average, self.tokenizer, "guard", "0.6M", ("en",))
        write_gguf(trained, self.folder / "guard.gguf", BlockType.Q8_0)

    def _log(self, **values: float) -> None:
        line = {"seconds": round(time.time() - self.begin), "step": self.step, **values}
        with (self.folder / "log.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")


def main() -> None:
    """Read the command line and train."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.folder.mkdir(parents=True, exist_ok=True)
    Run(options.folder, options.minutes, options.seed).run()


if __name__ == "__main__":
    main()
