"""Continue some texts with a base model from Meta's folder: the task, the flags and the defaults of Meta's example.

    python examples/text_completion.py --ckpt_dir Meta-Llama-3-8B/

A folder of several files needs no torchrun: they are one checkpoint here. A model of the store, a GGUF file or a folder
of safetensors will do as well.
"""

from __future__ import annotations

import click

import camelid

PROMPTS = [
    "The llama is at home in",
    "In short, the theory of evolution says that",
    "A letter of thanks to all colleagues:\n\nDear all,\n\nthe move is done, and",
    "English to Spanish:\n\nbread => pan\ncheese => queso\nbutter => mantequilla\napple =>",
]


@click.command()
@click.option("--ckpt_dir", required=True, help="The folder, with consolidated.*.pth, params.json, tokenizer.model.")
@click.option("--temperature", default=0.6, show_default=True)
@click.option("--top_p", default=0.9, show_default=True)
@click.option("--max_seq_len", default=128, show_default=True, help="Most tokens of prompt and answer together.")
@click.option("--max_gen_len", default=64, show_default=True, help="Most tokens of an answer.")
@click.option("--max_batch_size", default=4, show_default=True, help="Most texts that are continued at a time.")
@click.option("--seed", default=1, show_default=True)
def main(
    ckpt_dir: str,
    temperature: float,
    top_p: float,
    max_seq_len: int,
    max_gen_len: int,
    max_batch_size: int,
    seed: int,
) -> None:
    """Print how each text goes on."""
    with camelid.load(ckpt_dir, context_length=max_seq_len, max_sequences=max_batch_size) as model:
        results = model.text_completion(PROMPTS, temperature, top_p, max_gen_len, seed=seed)
    for prompt, result in zip(PROMPTS, results, strict=True):
        print(prompt)
        print(f"> {result['generation']}")
        print("\n==================================\n")


if __name__ == "__main__":
    main()
