"""Searches with beams against Transformers': the same answers with the same scores. A command with a size:

    python -m tools.campaign.beams --configurations 2000 --seed 1

Tiny random Llamas in 32-bit floats, random prompts and random parameters. Transformers searches for one after the
other; the engine computes them in batches, a few searches with plain requests among them, so a search that is disturbed
by its neighbours, by a shared page or by a copy that comes too late shows here, too. Sampling is left out: its draws
are not comparable (tests/engine/test_beams.py compares the distributions).
"""

from __future__ import annotations

import argparse
import string
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from camelid.backends.base import CacheType
from camelid.backends.cpu.backend import CpuBackend
from camelid.engine.engine import Engine
from camelid.engine.request import GenerateRequest, Token
from camelid.engine.settings import EngineSettings
from camelid.errors import RequestsFailed
from camelid.formats import open_checkpoint
from camelid.grammar.vocabulary import Vocabulary
from camelid.models.load import load_model
from camelid.models.rope import attention_spec
from camelid.rules import Beams, Rules
from camelid.types import Sampling

PIECES = [*string.ascii_lowercase, "ab", "cd", "the", "in", "ing", "st", "qu", "er", "zz", "xyz", ".", ",", "!", "?"]
NUM_MODELS = 4
NUM_PAGES, CONTEXT = 400, 256
SHOWN = 5  # mismatches
BATCH = 6  # searches that are in the engine at the same time
DEAD_END = -1e9  # what Transformers adds to the score of an answer that is none
TOLERANCE = 1e-4  # of a score: both sum 32-bit numbers, whose logits differ in the last bits


@dataclass(frozen=True)
class Asked:
    """One configuration, in our words and in theirs."""

    request: GenerateRequest
    theirs: dict[str, Any]


@dataclass
class Outcome:
    """What a campaign found."""

    num_configurations: int = 0
    num_dead_ends: int = 0  # of them, that rules leave too few answers: ours fails, theirs goes on with anything
    mismatches: list[str] = field(default_factory=list)
    our_seconds: float = 0.0
    their_seconds: float = 0.0
    counts: Counter[str] = field(default_factory=Counter)


class Pair:
    """The same model in Transformers and in an engine."""

    def __init__(self, seed: int, folder: Path) -> None:
        from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM
        from transformers.utils import logging

        torch.manual_seed(seed)
        config = LlamaConfig(
            vocab_size=len(PIECES),
            hidden_size=64,
            intermediate_size=96,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=512,
            tie_word_embeddings=False,
            initializer_range=0.25,
        )
        self.theirs = LlamaForCausalLM(config).eval()
        self.theirs.generation_config = GenerationConfig()
        logging.disable_progress_bar()
        logging.set_verbosity_error()  # it warns of each value that one beam leaves without meaning
        self.theirs.save_pretrained(folder)
        backend = CpuBackend(threads=1)
        model = load_model(open_checkpoint(folder), backend)
        backend.open_pages(attention_spec(model.spec), CacheType.F32, NUM_PAGES)
        settings = EngineSettings(len(PIECES), CONTEXT, NUM_PAGES, max_batch_tokens=64, max_sequences=32)
        self.engine = Engine(model, backend, settings)
        self.engine.learn(Vocabulary(tuple(piece.encode() for piece in PIECES), (), (0,)))
        self.tokenizer = _tokenizer()

    def search(self, asked: Asked) -> list[tuple[list[int], float]]:
        """Return the ids and the score of each of Transformers' answers. One beam is no search, and has the score 0,
        or that of a dead end if nothing was left for one of its tokens.
        """
        prompt = torch.tensor([asked.request.prompt])
        with torch.no_grad():
            found = self.theirs.generate(
                prompt,
                attention_mask=torch.ones_like(prompt),
                tokenizer=self.tokenizer,
                pad_token_id=0,
                do_sample=False,
                return_dict_in_generate=True,
                output_scores=True,
                **asked.theirs,
            )
        if asked.request.beams is None:
            is_dead = any(not bool(torch.isfinite(scores).any()) for scores in found.scores)
            return [(found.sequences[0, prompt.shape[1] :].tolist(), DEAD_END if is_dead else 0.0)]
        lengths = (found.beam_indices >= 0).sum(dim=1).tolist()
        first = prompt.shape[1]
        rows = [row[first : first + length].tolist() for row, length in zip(found.sequences, lengths, strict=True)]
        return list(zip(rows, found.sequences_scores.tolist(), strict=True))

    def answer(self, requests: list[GenerateRequest]) -> dict[str, list[list[Token]]]:
        """Return the tokens of each answer of the requests, computed together; none for a search that has too few."""
        tokens: dict[str, list[list[Token]]] = {
            request.id: [[] for _ in range(request.num_choices)] for request in requests
        }
        for request in requests:
            self.engine.submit(request)
        while self.engine.has_work():
            try:
                for token in self.engine.step():
                    tokens[token.request_id][token.choice].append(token)
            except RequestsFailed as error:
                tokens |= {request_id: [] for request_id in error.request_ids}
        return tokens


def _tokenizer() -> Any:
    """Return a tokenizer of Transformers with our pieces, for the stop strings."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE({piece: index for index, piece in enumerate(PIECES)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


class Chooser:
    """Random configurations."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)

    def asked(self, number: int) -> Asked:
        """Return a search."""
        random = self.random
        num_beams = int(random.integers(1, 9)) if random.random() < 0.95 else 12
        prompt = self.ids(int(random.integers(2, 70)))
        max_tokens = int(random.integers(1, 26))
        ends = sorted(set(self.ids(int(random.choice([0, 1, 2, 3])))))
        stops = self.stops() if num_beams > 1 and random.random() < 0.25 else ()
        early: Any = [False, True, "never"][int(random.integers(3))]
        penalty = float(random.choice([1.0, 0.0, 0.5, 2.0, -0.5, 5.0]))
        choices = int(random.integers(1, min(num_beams, 8) + 1))
        repetition = float(random.choice([1.0, 1.0, 1.3, 0.8]))
        least = self.least(len(prompt), max_tokens) if ends else {}
        rules, theirs = self.rules(max_tokens, ends)
        guide = self.ids(int(random.integers(0, 9))) if num_beams == 1 else ()
        if num_beams == 1 and self.chance(0.5):
            rules = replace(rules, guidance_scale=1.5)
            theirs |= {"guidance_scale": 1.5} | ({"negative_prompt_ids": torch.tensor([guide])} if guide else {})
        request = GenerateRequest(
            id=f"search-{number}",
            prompt=prompt,
            sampling=Sampling(temperature=0.0, repetition_penalty=repetition),
            max_tokens=max_tokens,
            min_tokens=max(least.get("min_new_tokens", 0), least.get("min_length", 0) - len(prompt), 0),
            end_ids=frozenset(ends),
            num_choices=choices,
            rules=rules,
            beams=Beams(num_beams, penalty, early) if num_beams > 1 else None,
            guide=guide,
            stops=tuple(stop.encode() for stop in stops),
        )
        theirs |= {
            "num_beams": num_beams,
            "max_new_tokens": max_tokens,
            "length_penalty": penalty,
            "early_stopping": early,
            "num_return_sequences": choices,
            "repetition_penalty": repetition,
            "eos_token_id": ends or None,
            **least,
        }
        return Asked(request, theirs | ({"stop_strings": list(stops)} if stops else {}))

    def plain(self, number: int) -> GenerateRequest:
        """Return a request that is no search, to be in the same batches."""
        length = int(self.random.integers(1, 70))
        return GenerateRequest(
            f"plain-{number}", self.ids(length), Sampling(seed=number), int(self.random.integers(30)) + 1
        )

    def rules(self, max_tokens: int, ends: list[int]) -> tuple[Rules, dict[str, Any]]:
        """Return rules in our words and in theirs."""
        ours: dict[str, Any] = {}
        if self.chance(0.3):
            ours["no_repeat_ngram_size"] = int(self.random.choice([1, 2, 2, 2, 3, 3, 4]))
        if self.chance(0.3):
            count = int(self.random.integers(1, 6))
            ours["bad_words_ids"] = tuple(self.ids(int(self.random.integers(1, 4))) for _ in range(count))
        if self.chance(0.1):
            ours["sequence_bias"] = tuple({self.ids(int(self.random.integers(1, 3))): 1.5 for _ in range(3)}.items())
        if self.chance(0.1):
            ours["suppress_tokens"] = self.ids(3)
        if self.chance(0.1):
            ours["begin_suppress_tokens"] = self.ids(3)
        if self.chance(0.1):
            ours["encoder_repetition_penalty"] = 1.5
        if self.chance(0.1):
            ours["renormalize_logits"] = True
        if self.chance(0.1) and ends:
            ours["exponential_decay_length_penalty"] = (int(self.random.integers(0, max_tokens)), 1.2)
        theirs = {name: self.theirs(name, value) for name, value in ours.items()}
        if self.chance(0.1) and ends and ends[0] not in ours.get("suppress_tokens", ()):
            ours["forced_eos_token_ids"] = theirs["forced_eos_token_id"] = (ends[0],)
            theirs["forced_eos_token_id"] = [ends[0]]
        return Rules(**ours), theirs

    @staticmethod
    def theirs(name: str, value: Any) -> Any:
        """Return a value in the form that Transformers takes."""
        if name == "sequence_bias":
            return dict(value)
        return [list(ids) for ids in value] if name == "bad_words_ids" else value

    def least(self, num_prompt: int, max_tokens: int) -> dict[str, int]:
        """Return a shortest length, or none."""
        if self.chance(0.6):
            return {}
        if self.chance(0.5):
            return {"min_new_tokens": int(self.random.integers(0, max_tokens + 1))}
        return {"min_length": num_prompt + int(self.random.integers(-9, max_tokens + 1))}

    def stops(self) -> tuple[str, ...]:
        """Return stop strings that the pieces can write."""
        words = ("".join(PIECES[token] for token in self.ids(int(self.random.integers(1, 3)))) for _ in range(2))
        return tuple(word[int(self.random.integers(0, 2)) :] or word for word in words)

    def chance(self, share: float) -> bool:
        """Be true in that share of the cases."""
        return bool(self.random.random() < share)

    def ids(self, count: int) -> tuple[int, ...]:
        """Return random token ids."""
        return tuple(self.random.integers(0, len(PIECES), count).tolist())


def run(num_configurations: int, seed: int) -> Outcome:
    """Compare so many searches and return what came of it."""
    outcome, chooser = Outcome(), Chooser(seed)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        pair_of = cache(lambda index: Pair(seed * NUM_MODELS + index, Path(folder) / str(index)))
        while outcome.num_configurations < num_configurations:
            pair = pair_of(outcome.num_configurations // BATCH % NUM_MODELS)
            first = outcome.num_configurations
            count = min(BATCH, num_configurations - first)
            _compare(pair, [chooser.asked(first + index) for index in range(count)], chooser.plain(first), outcome)
    return outcome


def _compare(pair: Pair, asked: list[Asked], plain: GenerateRequest, outcome: Outcome) -> None:
    started_s = time.perf_counter()
    answers = pair.answer([*(one.request for one in asked), plain])
    outcome.our_seconds += time.perf_counter() - started_s
    for one in asked:
        started_s = time.perf_counter()
        theirs = pair.search(one)
        outcome.their_seconds += time.perf_counter() - started_s
        ours = [([token.id for token in tokens], tokens[0].score or 0.0) for tokens in answers[one.request.id]]
        outcome.num_configurations += 1
        for name in one.theirs:
            outcome.counts[name] += 1
        is_dead = any(not ids or not score > DEAD_END / 2 for ids, score in theirs)  # or no number
        outcome.num_dead_ends += is_dead
        if bool(ours) is is_dead or not (is_dead or _agree(ours, theirs)):
            outcome.mismatches.append(f"{one.request}\n  ours:   {ours}\n  theirs: {theirs}")


def _agree(ours: list[tuple[list[int], float]], theirs: list[tuple[list[int], float]]) -> bool:
    return [ids for ids, _ in ours] == [ids for ids, _ in theirs] and all(
        abs(mine - other) <= TOLERANCE * max(1.0, abs(other))
        for (_, mine), (_, other) in zip(ours, theirs, strict=True)
    )


def main() -> None:
    """Run a campaign and say what happened in it."""
    parser = argparse.ArgumentParser(description="Compare searches with beams with those of Transformers.")
    parser.add_argument("--configurations", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    outcome = run(arguments.configurations, arguments.seed)
    for mismatch in outcome.mismatches[:SHOWN]:
        print(mismatch)
    print(
        f"configurations: {outcome.num_configurations}  mismatches: {len(outcome.mismatches)}  "
        f"dead ends in both: {outcome.num_dead_ends}  "
        f"time: {outcome.our_seconds:.1f} s here, {outcome.their_seconds:.1f} s in Transformers"
    )
    print("  " + ", ".join(f"{name} {count}" for name, count in sorted(outcome.counts.items())))
    raise SystemExit(bool(outcome.mismatches))


if __name__ == "__main__":
    main()
