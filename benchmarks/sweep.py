"""Time the influence sweep against the loop it replaces, and what a user waits for: `make bench`."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from transformers import GPT2Config, GPT2LMHeadModel

from distilled_circuits.circuits.ablation import PromptTensors, ablate, logit_differences, mean_activations
from distilled_circuits.circuits.influence import influence_sweep
from distilled_circuits.lens.bridge import BridgeLens
from distilled_circuits.lens.hooks import HookLens

LAYERS, HEADS, WIDTH, POSITIONS, PROMPTS, BATCH = 6, 8, 128, 23, 96, 128
ROOT = Path(__file__).resolve().parent.parent


def model() -> GPT2LMHeadModel:
    """Return a random model of the default teacher's shape."""
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=320, n_positions=64, n_embd=WIDTH, n_layer=LAYERS, n_head=HEADS, bos_token_id=0, eos_token_id=0,
        activation_function="gelu_pytorch_tanh", initializer_range=0.08,
    )  # fmt: skip
    built = GPT2LMHeadModel(config).eval().requires_grad_(requires_grad=False)
    built.set_attn_implementation("eager")
    return built


def seconds(work: Callable[[], object], runs: int = 3) -> float:
    """Return the median wall time of a few runs after one to warm up."""
    work()
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return sorted(times)[runs // 2]


@torch.no_grad()
def sweeps() -> None:
    """Print times of one sweep: a loop over hooks, the same through TransformerBridge, ours; and their difference."""
    ids = torch.randint(0, 320, (PROMPTS, POSITIONS + 2), generator=torch.Generator().manual_seed(1))
    prompts = PromptTensors(ids[:, :POSITIONS], ids[:, -2], ids[:, -1])
    corrupted = ids.flip(0)[:, :POSITIONS]
    plain, bridge = HookLens(model()), BridgeLens(model())
    means = mean_activations(plain, corrupted, BATCH)

    def loop(lens: HookLens | BridgeLens) -> torch.Tensor:
        runs = (lens.run(prompts.ids, ablate([component], means)) for component in lens.components)
        return torch.stack([logit_differences(logits, prompts) for logits in runs])

    print(f"GPT-2 shape {LAYERS} x {HEADS}, d {WIDTH}, {PROMPTS} prompts of {POSITIONS} tokens, batch {BATCH} rows, "
          f"{torch.get_num_threads()} threads, {len(plain.components)} components")  # fmt: skip
    print(f"  loop over plain hooks          {seconds(lambda: loop(plain)):7.2f} s")
    print(f"  loop over TransformerBridge    {seconds(lambda: loop(bridge)):7.2f} s")
    print(f"  restarted sweep                {seconds(lambda: influence_sweep(plain, prompts, means, BATCH)):7.2f} s")
    difference = (influence_sweep(plain, prompts, means, BATCH).ablated - loop(bridge)).abs().max().item()
    print(f"  largest difference             {difference:7.1e}")


def waits() -> None:
    """Print what a user waits for: nothing to do, and a mistake in params.yaml."""
    if (ROOT / "results/report.html").exists():
        nothing = seconds(lambda: subprocess.run(["snakemake"], cwd=ROOT, capture_output=True, check=True))
        print(f"snakemake with nothing to do     {nothing:7.2f} s")
    command = [sys.executable, "-m", "distilled_circuits.cli", "run", "nonsense"]
    refused = seconds(lambda: subprocess.run(command, cwd=ROOT, capture_output=True, check=False))
    print(f"a mistake is said within         {refused:7.2f} s")


if __name__ == "__main__":
    sweeps()
    waits()
