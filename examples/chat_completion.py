"""Answer dialogs with an instruct model from Meta's folder: the task, the flags and the defaults of Meta's example.

    python examples/chat_completion.py --ckpt_dir Meta-Llama-3-8B-Instruct/

A folder of several files needs no torchrun: they are one checkpoint here. A model of the store, a GGUF file or a folder
of safetensors will do as well.
"""

from __future__ import annotations

import click

import camelid

DIALOGS = [
    [{"role": "user", "content": "What is 17 + 25?"}],
    [
        {"role": "user", "content": "I have a day in Cusco. What should I see?"},
        {"role": "assistant", "content": "The Plaza de Armas, Sacsayhuamán above the town, and the San Pedro market."},
        {"role": "user", "content": "Why the second one?"},
    ],
    [
        {"role": "system", "content": "Answer in one short sentence."},
        {"role": "user", "content": "What do llamas eat?"},
    ],
    [
        {"role": "system", "content": "Answer in German."},
        {"role": "user", "content": "Good morning!"},
    ],
]


@click.command()
@click.option("--ckpt_dir", required=True, help="The folder, with consolidated.*.pth, params.json, tokenizer.model.")
@click.option("--temperature", default=0.6, show_default=True)
@click.option("--top_p", default=0.9, show_default=True)
@click.option("--max_seq_len", default=512, show_default=True, help="Most tokens of dialog and answer together.")
@click.option("--max_gen_len", type=int, help="Most tokens of an answer. Default: as many as there is room for.")
@click.option("--max_batch_size", default=4, show_default=True, help="Most dialogs that are answered at a time.")
@click.option("--seed", default=1, show_default=True)
def main(
    ckpt_dir: str,
    temperature: float,
    top_p: float,
    max_seq_len: int,
    max_gen_len: int | None,
    max_batch_size: int,
    seed: int,
) -> None:
    """Print each dialog with its answer."""
    with camelid.load(ckpt_dir, context_length=max_seq_len, max_sequences=max_batch_size) as model:
        results = model.chat_completion(DIALOGS, temperature, top_p, max_gen_len, seed=seed)
    for dialog, result in zip(DIALOGS, results, strict=True):
        for message in dialog:
            print(f"{message['role'].capitalize()}: {message['content']}\n")
        answer = result["generation"]
        print(f"> {answer['role'].capitalize()}: {answer['content']}")
        print("\n==================================\n")


if __name__ == "__main__":
    main()
