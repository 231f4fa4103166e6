"""Predicted and measured memory and time of a sweep on large random Llamas: `python benchmarks/large.py`.

Layers of Llama 3.1 8B's shape (4096 channels, 32 heads to 8 keys and values, MLPs of 14336, 128256 words) in bfloat16.
All of a model is in memory, of its components some are swept: memory does not depend on their number. On a GPU:
`python benchmarks/large.py --device cuda --layers 32 --components 1056 --prompts 384 --batch 1024`.
"""

from __future__ import annotations

import argparse
import dataclasses
import subprocess
import sys
from pathlib import Path

import torch
from run import eager, peak_memory, seconds
from shapes import POSITIONS, SHAPES, random_model, random_prompts

from distilled_circuits.circuits.ablation import constant, mean_activations
from distilled_circuits.circuits.estimate import estimate_sweep, sweep_products
from distilled_circuits.circuits.influence import influence_sweep
from distilled_circuits.lens.hooks import HookLens
from distilled_circuits.lens.self_check import self_check

GB = 1e9


def measure(options: argparse.Namespace, layers: int) -> str:
    """Return one row: layers, parameters, memory and time as predicted and as measured (Linux, or a GPU)."""
    device = torch.device(options.device)
    shape = dataclasses.replace(SHAPES["llama-3.1-8b"], layers=layers)
    base = 0.0 if device.type == "cuda" else peak_memory() / 1e3  # Python and torch
    lens = HookLens(eager(random_model(shape, device, torch.bfloat16)))
    if device.type == "cpu":
        Path("/proc/self/clear_refs").write_text("5")  # the peak from here on: making random weights takes more
    self_check(lens)
    prompts = random_prompts(options.prompts, shape.vocabulary, device)
    expected = estimate_sweep(lens, len(prompts), POSITIONS, options.batch)
    means = constant(mean_activations(lens, prompts.corrupted, options.batch))
    chosen = lens.components[-options.components :]
    taken, _ = seconds(
        lambda: influence_sweep(lens, prompts, means, options.batch, components=chosen, log_probabilities=True)
    )
    peak = torch.cuda.max_memory_allocated() / GB if device.type == "cuda" else peak_memory() / 1e3 - base
    parameters = sum(parameter.numel() for parameter in lens.model.parameters()) / 1e9
    whole = sweep_products(lens, len(prompts), POSITIONS) / expected.rate / 3600
    return (
        f"{layers:6d} {parameters:9.2f} {expected.memory / GB:13.2f} {peak:13.2f} {len(chosen):11d} {taken:9.1f} "
        f"{expected.rate / 1e9:10.0f} {whole:12.2f}"
    )


def main() -> None:
    """Measure each size in a process of its own, whose peak it is."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--layers", type=int, nargs="+", default=[4, 8, 16, 32])
    parser.add_argument("--prompts", type=int, default=4)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--components", type=int, default=33, help="how many are swept, the last ones")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.alone:
        print(measure(options, options.layers[0]), flush=True)
        return
    print(
        f"{options.prompts} prompts of {POSITIONS} tokens, batches of {options.batch} rows, bfloat16, {options.device}"
    )
    print("layers parameters predicted, GB  measured, GB  components   seconds    GFLOP/s  all, hours at that rate")
    for layers in options.layers:
        own = ["--alone", "--layers", str(layers)]
        others = [f"--{name}={getattr(options, name)}" for name in ("prompts", "batch", "components", "device")]
        done = subprocess.run([sys.executable, __file__, *own, *others], stdout=subprocess.PIPE, text=True, check=True)
        print(done.stdout.rstrip(), flush=True)


if __name__ == "__main__":
    main()
