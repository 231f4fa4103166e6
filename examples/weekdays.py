"""Make two checkpoints and a task to try the tutorial with: `python examples/weekdays.py mine`, a minute on a laptop.

Writes mine/{teacher,student} (GPT-2 architecture, a byte-level tokenizer of their own) and mine/weekdays.jsonl.
Plain transformers, as anybody's training script: the pipeline knows nothing of this file.
"""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, pre_tokenizers, trainers
from tokenizers.models import BPE
from torch.nn.functional import cross_entropy, kl_div
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
NAMES = ("Ann", "Ben", "Cid", "Dan", "Eve", "Fay", "Gus", "Hal", "Ida", "Jon", "Kim", "Lea")
STEPS, BATCH, ROWS = 400, 64, 126


def visits(names: list[str], days: list[int]) -> str:
    """Return a text of three visits up to the day of the last one."""
    first, second = (DAYS[day % 7] for day in days[:2])
    return f"{names[0]} came on {first}, {names[1]} on {second}, {names[2]} on"


def training_text(rng: random.Random) -> str:
    """Return three visits one, two or six days apart, and the day of the last."""
    start, step = rng.randrange(7), rng.choice((1, 2, 6))
    days = [start + step * n for n in range(3)]
    return f"{visits(rng.sample(NAMES, 3), days)} {DAYS[days[2] % 7]}."


def task_row(names: list[str], start: int, rng: random.Random) -> dict[str, object]:
    """Return a line of the task: days in order, against days that are not."""
    other = rng.choice([(a, b) for a in range(7) for b in range(7) if (b - a) % 7 not in (0, 1, 2, 6)])
    return {
        "prompt": visits(names, [start, start + 1]),
        "corrupted": visits(names, list(other)),
        "answer": DAYS[(start + 2) % 7],
        "distractor": DAYS[(start + 1) % 7],
        "positions": {"days": [DAYS[start], DAYS[(start + 1) % 7]], "last_day": DAYS[(start + 1) % 7]},
    }


def tokenizer_of(texts: list[str]) -> PreTrainedTokenizerFast:
    """Return a byte-level tokenizer that knows the words of the texts."""
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=500, special_tokens=["<|end|>"], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **dict.fromkeys(("eos_token", "pad_token"), "<|end|>"))


def train(model: GPT2LMHeadModel, teacher: GPT2LMHeadModel | None, texts: list[str], tokenizer: object) -> None:
    """Train on the text; a student also on its teacher's distribution."""
    optimiser = torch.optim.AdamW(model.parameters(), lr=2e-3)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=2e-3, total_steps=STEPS)
    for step in range(STEPS):
        ids = tokenizer(texts[step * BATCH : (step + 1) * BATCH], return_tensors="pt", padding=True)["input_ids"]
        logits = model(ids).logits[:, :-1].flatten(0, 1)
        loss = cross_entropy(logits, ids[:, 1:].flatten())
        if teacher is not None:
            with torch.no_grad():
                wanted = teacher(ids).logits[:, :-1].flatten(0, 1).softmax(-1)
            loss = loss + kl_div(logits.log_softmax(-1), wanted, reduction="batchmean")
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        rate.step()
        if step % 100 == 99:
            print(
                f"{'student' if teacher else 'teacher'}: step {step + 1} of {STEPS}, loss {loss.item():.3f}", flush=True
            )


def main(folder: Path) -> None:
    """Write both checkpoints and the task."""
    torch.manual_seed(0)
    torch.set_num_threads(1)  # on models this small more threads only wait for each other
    rng = random.Random(0)
    texts = [training_text(rng) for _ in range(STEPS * BATCH)]
    # Every name once at the beginning of a text and once within, so that each is one token at both places.
    tokenizer = tokenizer_of(texts[:2000])
    models = []
    for layers in (4, 2):
        config = GPT2Config(
            vocab_size=len(tokenizer), n_positions=64, n_embd=64, n_layer=layers, n_head=4, initializer_range=0.1,
            bos_token_id=0, eos_token_id=0, resid_pdrop=0, embd_pdrop=0, attn_pdrop=0,
        )  # fmt: skip
        model = GPT2LMHeadModel(config).train()
        train(model, models[0] if models else None, texts, tokenizer)
        models.append(model.eval())
    for name, model in zip(("teacher", "student"), models, strict=True):
        model.save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)
    rows = [task_row(rng.sample(NAMES, 3), row % 7, rng) for row in range(ROWS)]
    (folder / "weekdays.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "mine"))
