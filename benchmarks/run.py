"""Time the influence sweep against the loops it replaces and the machine's limit: `make bench`.

On a GPU: `python benchmarks/run.py --device cuda --dtype bfloat16 --shape llama-3.1-8b --prompts 64 --batch 512`.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from alignment import alignment_times
from shapes import POSITIONS, SHAPES, as_loaded, bridge_loop, hook_loop, random_model, random_prompts
from torch.utils.flop_counter import FlopCounterMode

from distilled_circuits.circuits.ablation import constant, mean_activations
from distilled_circuits.circuits.influence import influence_sweep
from distilled_circuits.lens.bridge import BridgeLens
from distilled_circuits.lens.hooks import HookLens

ROOT = Path(__file__).resolve().parent.parent


def seconds(work: Callable[[], object]) -> tuple[float, object]:
    """Return how long a piece of work takes, and its result."""
    _wait()
    start = time.perf_counter()
    result = work()
    _wait()
    return time.perf_counter() - start, result


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def matrix_rate(rows: int, width: int, device: torch.device, dtype: torch.dtype) -> float:
    """Return the machine's rate of plain matrix products, FLOP/s: the best of several runs at the MLP's shape."""
    left, right = (torch.randn(*size, device=device, dtype=dtype) for size in ((rows, width), (width, 4 * width)))
    best = 0.0
    for _ in range(8):
        taken, _ = seconds(lambda: [left @ right for _ in range(10)])
        best = max(best, 10 * 2 * rows * width * 4 * width / taken)
    return best


def multiplications(lens: HookLens, batch: int) -> float:
    """Return the FLOP of our matrix products for one prompt, as PyTorch counts them (attention's scores left out)."""
    prompts = random_prompts(2, lens.dimensions.vocabulary, lens.device)
    means = constant(mean_activations(lens, prompts.corrupted, 2))
    with FlopCounterMode(display=False) as counter:
        influence_sweep(lens, prompts, means, batch)
    counted = counter.get_flop_counts()["Global"]
    return sum(count for kind, count in counted.items() if "attention" not in str(kind)) / len(prompts)


def side_by_side(options: argparse.Namespace) -> None:
    """Print times of one sweep: two loops, ours, the floor; and the largest difference between any two."""
    shape, device, dtype = SHAPES[options.shape], torch.device(options.device), getattr(torch, options.dtype)
    plain = random_model(shape, device, dtype)
    ours = HookLens(as_loaded(plain))
    prompts = random_prompts(options.prompts, shape.vocabulary, device)
    values = mean_activations(ours, prompts.corrupted, 16)
    means = constant(values)
    rows = options.batch * POSITIONS
    say(
        f"{options.shape} shape: {shape.layers} layers, {shape.heads} heads, d {shape.width}, random weights; "
        f"{len(prompts)} prompts of {POSITIONS} tokens, {len(ours.components)} components; {options.dtype} on "
        f"{device}, {torch.get_num_threads()} threads, batches of {options.batch} rows"
    )
    rate = matrix_rate(rows, shape.width, device, dtype)
    loop, expected = seconds(lambda: hook_loop(plain, prompts, values))
    say(f"  loop over plain Hugging Face            {loop:8.1f} s")
    short, _ = seconds(lambda: hook_loop(plain, prompts, values, last_only=True))
    say(f"  the same, logits of the last position   {short:8.1f} s")
    taken, sweep = seconds(lambda: influence_sweep(ours, prompts, means, options.batch))
    say(f"  ours                                    {taken:8.1f} s")
    with_log, _ = seconds(lambda: influence_sweep(ours, prompts, means, options.batch, log_probabilities=True))
    say(f"  ours, log-probabilities too             {with_log:8.1f} s")
    rate = max(rate, matrix_rate(rows, shape.width, device, dtype))
    work = multiplications(ours, options.batch) * len(prompts)
    floor = work / rate
    say(f"  floor: {work / 1e12:6.2f} TFLOP at {rate / 1e9:6.0f} GFLOP/s {floor:12.1f} s")
    bridge = BridgeLens(eager(plain))
    bridged, theirs = seconds(lambda: bridge_loop(bridge, prompts, values))
    say(f"  loop over TransformerBridge             {bridged:8.1f} s")
    compared = ((sweep.ablated, expected), (sweep.ablated, theirs), (expected, theirs))
    differences = [(one - other).abs().max().item() for one, other in compared]
    say(
        f"  ours is {loop / taken:.2f} times as fast as the loop ({short / taken:.2f} where that spares logits, "
        f"{bridged / taken:.2f} TransformerBridge), and takes {taken / floor:.2f} times the floor"
    )
    say(
        f"  largest difference: ours to the loop {differences[0]:.1e}, to TransformerBridge {differences[1]:.1e}; "
        f"these two {differences[2]:.1e}"
    )


def scaling(options: argparse.Namespace) -> None:
    """Print how cost grows with prompts and with components."""
    shape, device = SHAPES[options.shape], torch.device(options.device)
    lens = HookLens(as_loaded(random_model(shape, device, getattr(torch, options.dtype))))
    most, batch = options.prompts, options.prompts // 4
    prompts = random_prompts(most, shape.vocabulary, device)
    means = constant(mean_activations(lens, prompts.corrupted, 16))
    heads = [component for component in lens.components if component.head is not None]
    say(f"Cost, batches of {batch} rows")
    for number in (most // 4, most // 2, most):
        taken, _ = seconds(lambda number=number: influence_sweep(lens, prompts.rows(0, number), means, batch))
        each = 1e3 * taken / number
        say(f"  {number:4d} prompts, {len(lens.components):4d} components {taken:8.2f} s  {each:8.1f} ms a prompt")
    few = prompts.rows(0, most // 2)
    for step in (4, 2, 1):
        chosen = heads[::step]
        taken, _ = seconds(lambda chosen=chosen: influence_sweep(lens, few, means, batch, components=chosen))
        each = 1e3 * taken / len(chosen)
        say(f"  {len(few):4d} prompts, {len(chosen):4d} heads      {taken:8.2f} s  {each:8.1f} ms a head")


def memory() -> None:
    """Print the peak memory of whole processes that sweep ever more prompts; models of 4 layers, width 256."""
    say("Peak memory of a process, GPT-2 shape 4 x 8, d 256, batches of 16 rows")
    for number in (16, 128, 1024):
        done = subprocess.run(
            [sys.executable, __file__, "--memory-of", str(number)], capture_output=True, text=True, check=True
        )
        say(f"  {number:4d} prompts {float(done.stdout):8.0f} MB")


def memory_of(number: int) -> None:
    """Sweep so many prompts and print this process' peak memory in MB."""
    from shapes import Shape

    lens = HookLens(as_loaded(random_model(Shape(4, 8, 256, 1000), torch.device("cpu"), torch.float32)))
    prompts = random_prompts(number, 1000, torch.device("cpu"))
    influence_sweep(lens, prompts, constant(mean_activations(lens, prompts.corrupted, 16)), 16)
    print(peak_memory())


def peak_memory() -> float:
    """Return this process' peak memory in MB.

    Linux hands ru_maxrss on from the process that started this one, so a small child would report its parent's peak.
    """
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return float(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # macOS counts bytes


def waits() -> None:
    """Print what a user waits for: nothing to do, and a mistake on the command line."""
    planned = subprocess.run(["snakemake", "--dry-run"], cwd=ROOT, capture_output=True, text=True, check=False)
    if "Nothing to be done" in planned.stdout + planned.stderr:
        nothing, _ = seconds(lambda: subprocess.run(["snakemake"], cwd=ROOT, capture_output=True, check=True))
        say(f"snakemake with nothing to do   {nothing:6.2f} s")
    command = [sys.executable, "-m", "distilled_circuits.cli", "run", "nonsense"]
    refused, _ = seconds(lambda: subprocess.run(command, cwd=ROOT, capture_output=True, check=False))
    say(f"a mistake is said within       {refused:6.2f} s")


def eager(model: torch.nn.Module) -> torch.nn.Module:
    """Return the model with the attention that TransformerBridge reads."""
    model.set_attn_implementation("eager")
    return model


def say(line: str) -> None:
    """Print a line at once: a run takes minutes."""
    print(line, flush=True)


def main() -> None:
    """Run everything, or what a child process is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", choices=SHAPES, default="gpt2-small")
    parser.add_argument("--prompts", type=int, default=16)
    parser.add_argument("--batch", type=int, default=32, help="rows (component x prompt) of one forward pass")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--memory-of", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.memory_of:
        memory_of(options.memory_of)
        return
    side_by_side(options)
    scaling(options)
    memory()
    say("Alignment scores from arrays")
    for line in alignment_times(ROOT, seconds):
        say(f"  {line}")
    waits()


if __name__ == "__main__":
    main()
