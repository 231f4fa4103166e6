"""Wall time of the stage `influence` in shards against one job: `python benchmarks/shards.py`, on two cores.

Real processes, as Snakemake starts them: as many side by side as the cores have room for. Random weights; the artifacts
are compared byte by byte.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
import yaml
from shapes import POSITIONS, SHAPES, Shape, random_model, random_prompts

from distilled_circuits.artifacts import Provenance, digest, write_hdf5, write_json
from distilled_circuits.circuits.ablation import mean_activations
from distilled_circuits.lens.hooks import HookLens

ROOT = Path(__file__).resolve().parent.parent
ITEM = ["pair=mini", "task=numerals"]
RESULTS = Path("results/pairs/mini")


def prepare(folder: Path, shapes: dict[str, Shape], prompts: int, threads: int) -> None:
    """Write what the stage reads: two random models, prompts, means over corrupted ones."""
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params["threads"]["analysis"] = threads
    params["tasks"] = params["noise"]["tasks"] = ["numerals"]
    (folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    shutil.copy(ROOT / "dvc.yaml", folder)
    described = Provenance("prompts/3", "benchmark", {}, {}, "cpu", "float32")
    asked = random_prompts(prompts, min(shape.vocabulary for shape in shapes.values()), torch.device("cpu"))
    columns = (asked.ids, asked.answers, asked.distractors, asked.corrupted)
    keys = ("ids", "answer_id", "distractor_id", "corrupted_ids")
    rows = zip(*(column.tolist() for column in columns), strict=True)
    records = [dict(zip(keys, row, strict=True)) | {"read_at": -1} for row in rows]
    place = folder / RESULTS / "numerals"
    place.mkdir(parents=True)
    write_json(place / "prompts.json", described, {"prompts": dict.fromkeys(shapes, records)})
    means = Provenance("activations/1", "benchmark", {}, {}, "cpu", "float32")
    with write_hdf5(place / "activations.h5", means) as file:
        for name, shape in shapes.items():
            model = random_model(shape, torch.device("cpu"), torch.float32)
            model.save_pretrained(folder / RESULTS / name)
            model.set_attn_implementation("eager")
            values = mean_activations(HookLens(model), asked.corrupted, 16)
            file.put(f"{name}/corrupted_mean/z", values.z[:, 0].numpy(), ("layer", "pos", "head", "d_head"))
            file.put(f"{name}/corrupted_mean/mlp_out", values.mlp_out[:, 0].numpy(), ("layer", "pos", "d_model"))


def seconds(folder: Path, shards: int, side_by_side: int) -> float:
    """Return how long the stage takes: its shards, so many at a time, and the job that gathers them."""
    start = time.perf_counter()
    waiting = [f"shard={number + 1}/{shards}" for number in range(shards)] if shards > 1 else []
    running: list[subprocess.Popen] = []
    while waiting or running:
        while waiting and len(running) < side_by_side:
            running.append(run(folder, waiting.pop(0)))
        time.sleep(0.05)
        running = [process for process in running if process.poll() is None]
    if run(folder).wait():
        raise SystemExit((folder / "said").read_text()[-2000:])
    return time.perf_counter() - start


def run(folder: Path, *shard: str) -> subprocess.Popen:
    """Start the stage, or a shard of it."""
    command = [sys.executable, "-m", "distilled_circuits.cli", "run", "influence", *ITEM, *shard]
    with (folder / "said").open("a") as said:
        return subprocess.Popen(command, cwd=folder, stdout=said, stderr=said)


def measure(name: str, shapes: dict[str, Shape], prompts: int, threads: int, shards: int) -> None:
    """Print both times and their ratio."""
    side_by_side = max(1, (os.cpu_count() or 1) // threads)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        prepare(folder, shapes, prompts, threads)
        made = folder / RESULTS / "numerals/influence.h5"
        whole = seconds(folder, 1, side_by_side)
        expected = digest(made)
        made.unlink()
        split = seconds(folder, shards, side_by_side)
        same = "the same bytes" if digest(made) == expected else "OTHER BYTES"
        if "not used" in (folder / "said").read_text():
            raise SystemExit((folder / "said").read_text()[-2000:])
    print(
        f"{name}: {prompts} prompts of {POSITIONS} tokens, {threads} thread(s) a job: one job {whole:.1f} s, "
        f"{shards} shards, {side_by_side} at a time, {split:.1f} s, ratio {split / whole:.2f}, {same}",
        flush=True,
    )


def main() -> None:
    """Measure a pair of GPT-2's and DistilGPT2's shape, and one of the default pair's."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shards", type=int, default=4)
    parser.add_argument("--prompts", type=int, default=32)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="threads of a job")
    options = parser.parse_args()
    large = SHAPES["gpt2-small"]
    pair = {"teacher": large, "student": Shape(6, large.heads, large.width, large.vocabulary)}
    mini = yaml.safe_load((ROOT / "params.yaml").read_text())
    own = mini["models"]["mini"]["teacher"]
    kept = len(mini["models"]["mini"]["student"]["layers"])
    small = {
        side: Shape(layers, own["heads"], own["width"], 1000)
        for side, layers in (("teacher", own["layers"]), ("student", kept))
    }
    for threads in options.threads:
        measure("GPT-2 and DistilGPT2 shape", pair, options.prompts, threads, options.shards)
        measure("default pair's shape", small, mini["prompts"]["number"], threads, options.shards)


if __name__ == "__main__":
    main()
