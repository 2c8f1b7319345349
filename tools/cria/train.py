"""Train cria: `python -m tools.cria.train --folder DIR --minutes 100`. Resumes where the folder holds a checkpoint.

The learning rate is constant and falls to zero over the last part of the time, so the end may be moved while it runs
(`control.json` in the folder: {"end": seconds since the epoch, "weights": {skill: weight}}).
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional

from . import tokenizer as tokenizers_
from .chat import pieces
from .conversation import Conversation
from .data import SKILLS, conversations, held_out
from .headstart import head_start
from .model import Cria, Shape
from .optimizer import Muon

STEP_TOKENS = 3200
MICRO_TOKENS = 900
DECAY_SHARE = 0.6
MUON_RATE = 0.015
ADAM_RATE = 2e-3
LONGEST = ((0, 300), (5_000_000, 700), (10_000_000, 1300))  # conversations up to so many tokens, from so many tokens on
WEIGHTS = {
    "arithmetic": 10.0,
    "lookup": 4.0,
    "long lookup": 0.6,
    "copying": 4.0,
    "sorting": 10.0,
    "greeting": 2.0,
    "tools": 2.5,
    "schema": 4.0,
    "identity": 2.0,
    "mixed": 1.0,
}
KNOWN = 0.12  # share of its weight that a skill keeps when every held-out answer is right
Batch = tuple[Tensor, Tensor]  # ids and targets


@dataclass(frozen=True)
class Encoded:
    """A conversation's ids and, for each, whether the model is to produce it."""

    ids: list[int]
    target: list[bool]


def encode(tokenizer: Tokenizer, conversation: Conversation) -> Encoded:
    """Tokenize a conversation piece by piece."""
    ids: list[int] = []
    target: list[bool] = []
    for text, wanted in pieces(conversation):
        found = tokenizer.encode(text, add_special_tokens=False).ids
        ids += found
        target += [wanted] * len(found)
    return Encoded(ids, target)


def batches(rows: list[Encoded], tokens: int = MICRO_TOKENS) -> Iterator[Batch]:
    """Yield ids and targets (-100 where none) of rows of like length, padded at the end."""
    rows = sorted(rows, key=lambda row: len(row.ids))
    while rows:
        longest = len(rows[-1].ids)
        count = max(1, tokens // longest)
        taken = [row for row in rows[-count:] if len(row.ids) > longest * 0.75]
        rows = rows[: len(rows) - len(taken)]
        ids = torch.zeros(len(taken), longest - 1, dtype=torch.long)
        wanted = torch.full_like(ids, -100)
        for index, row in enumerate(taken):
            whole, mask = torch.tensor(row.ids), torch.tensor(row.target)
            ids[index, : len(whole) - 1] = whole[:-1]
            wanted[index, : len(whole) - 1] = torch.where(mask[1:], whole[1:], -100)
        yield ids, wanted


def loss_sum(model: Cria, ids: Tensor, wanted: Tensor) -> Tensor:
    """Return the summed cross-entropy over the wanted positions only."""
    chosen = wanted >= 0
    return functional.cross_entropy(model.logits(model(ids, chosen)), wanted[chosen], reduction="sum")


@torch.no_grad()
def greedy_share(model: Cria, rows: list[Encoded]) -> float:
    """Return the share of answers whose every token is the model's first choice, as greedy decoding would have it."""
    right = total = 0
    for ids, wanted in batches(rows):
        good = model.logits(model(ids)).argmax(-1) == wanted
        for row_good, row_wanted in zip(good, wanted >= 0, strict=True):
            starts = row_wanted & ~torch.cat((torch.zeros(1, dtype=torch.bool), row_wanted[:-1]))
            answer = starts.cumsum(0)[row_wanted]
            wrong = answer[~row_good[row_wanted]].unique().numel()
            count = int(starts.sum())
            right, total = right + count - wrong, total + count
    return right / max(total, 1)


class Run:
    """One training run in a folder."""

    def __init__(self, folder: Path, seed: int, minutes: float, threads: int) -> None:
        self.folder, self.seed = folder, seed
        self.tokenizer = tokenizers_.load(folder / "tokenizer.json")
        torch.manual_seed(seed)
        self.model = Cria(Shape(vocabulary=self.tokenizer.get_vocab_size()))
        head_start(self.model, tokenizers_.numbers(self.tokenizer))
        matrices = [p for n, p in self.model.named_parameters() if n.endswith("_proj.weight")]
        others = [p for n, p in self.model.named_parameters() if not n.endswith("_proj.weight")]
        self.muon = Muon(matrices, MUON_RATE)
        self.adam = torch.optim.AdamW(others, lr=ADAM_RATE, betas=(0.9, 0.98), weight_decay=0.0)
        self.average = {name: value.clone() for name, value in self.model.state_dict().items()}
        self.pool, self.lock = ThreadPoolExecutor(threads), Lock()
        self.step = self.tokens = 0
        self.begin, self.end = time.time(), time.time() + 60 * minutes
        self.wished, self.weights = dict(WEIGHTS), dict(WEIGHTS)
        self._resume()
        self.source = conversations(seed + self.step, self.weights)
        self.tests = {skill: [encode(self.tokenizer, c) for c in held_out(skill, 25)] for skill in SKILLS}

    def _resume(self) -> None:
        path = self.folder / "checkpoint.pt"
        if not path.exists():
            return
        state: dict[str, Any] = torch.load(path, weights_only=True)
        self.model.load_state_dict(state["model"])
        self.muon.load_state_dict(state["muon"])
        self.adam.load_state_dict(state["adam"])
        self.average, self.step, self.tokens = state["average"], state["step"], state["tokens"]
        self.weights.update(state["weights"])
        self.begin = time.time() - state["seconds"]

    def save(self) -> None:
        """Write the checkpoint, whole or not at all."""
        state = {
            "model": self.model.state_dict(),
            "muon": self.muon.state_dict(),
            "adam": self.adam.state_dict(),
            "average": self.average,
            "step": self.step,
            "tokens": self.tokens,
            "weights": dict(self.weights),
            "seconds": time.time() - self.begin,
        }
        temporary = self.folder / "checkpoint.tmp"
        torch.save(state, temporary)
        os.replace(temporary, self.folder / "checkpoint.pt")

    def _control(self) -> None:
        path = self.folder / "control.json"
        if path.exists():
            control = json.loads(path.read_text())
            self.end = control.get("end", self.end)
            self.wished.update(control.get("weights", {}))

    def _rows(self) -> list[Encoded]:
        limit = max(longest for begin, longest in LONGEST if self.tokens >= begin)
        rows: list[Encoded] = []
        size = 0
        while size < STEP_TOKENS:
            row = encode(self.tokenizer, next(self.source))
            if len(row.ids) <= limit:
                rows.append(row)
                size += len(row.ids)
        self.tokens += size
        return rows

    def _scale(self) -> float:
        left = (self.end - time.time()) / (DECAY_SHARE * (self.end - self.begin))
        return max(0.0, min(1.0, left, (self.step + 1) / 40))

    def train_step(self) -> float:
        """Take one step and return its mean loss."""
        rows = self._rows()
        wanted = sum(sum(row.target) for row in rows)
        found = self.pool.map(lambda batch: self._gradients(batch, wanted), batches(rows))
        total = sum(found)
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
                self.average[name].lerp_(value, 0.01)
        return total

    def _gradients(self, batch: Batch, wanted: int) -> float:
        """Add one batch's share to the gradients; runs in a thread of the pool."""
        parameters = list(self.model.parameters())
        loss = loss_sum(self.model, *batch) / wanted
        gradients = torch.autograd.grad(loss, parameters)
        with self.lock, torch.no_grad():
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter.grad = gradient if parameter.grad is None else parameter.grad.add_(gradient)
        return loss.item()

    def measure(self) -> dict[str, float]:
        """Return the held-out share of right answers per skill, of the averaged weights."""
        current = {name: value.clone() for name, value in self.model.state_dict().items()}
        self.model.load_state_dict(self.average)
        found = {skill: round(greedy_share(self.model, rows), 3) for skill, rows in self.tests.items()}
        self.model.load_state_dict(current)
        return found

    def _weigh(self, scores: dict[str, float]) -> None:
        """Give most of the time to what is not known yet."""
        for skill, wish in self.wished.items():
            self.weights[skill] = wish * (KNOWN + (1 - KNOWN) * (1 - scores.get(skill, 0.5)))

    def run(self) -> None:
        """Train until the end, with a line of log and a checkpoint every few minutes."""
        logged, mark, losses = time.time(), self.tokens, [0.0]
        while time.time() < self.end:
            self._control()
            losses.append(self.train_step())
            if self.step % 50 == 0:
                self._log(loss=sum(losses[-50:]) / 50, rate=(self.tokens - mark) / (time.time() - logged))
                logged, mark = time.time(), self.tokens
            if self.step % 250 == 0:
                scores = self.measure()
                self._weigh(scores)
                self._log(scores=scores)
                self.save()
                logged, mark = time.time(), self.tokens
        self._log(scores=self.measure())
        self.save()

    def _log(self, **values: Any) -> None:
        line = {
            "time": time.strftime("%H:%M:%S"),
            "step": self.step,
            "tokens": self.tokens,
            "scale": round(self._scale(), 3),
            **values,
        }
        with (self.folder / "log.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")


def main() -> None:
    """Read the command line and train."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(1)  # each thread of the pool works on a batch of its own
    options.folder.mkdir(parents=True, exist_ok=True)
    Run(options.folder, options.seed, options.minutes, options.threads).run()


if __name__ == "__main__":
    main()
