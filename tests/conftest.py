"""Fixtures: random models of every architecture, one to work out by hand, prompts, word lists, one finished run."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import pytest
import torch
from checkpoints import MODELS, random_model, random_prompts
from projects import call, smoke_project
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedModel

from distilled_circuits.circuits.ablation import PromptTensors
from distilled_circuits.tasks.lexicon import Lexicon, load_lexicon

torch.set_num_threads(1)  # on models this small more threads only wait for each other

ROOT = Path(__file__).resolve().parent.parent
LONGEST = (
    "test_pipeline", "test_pairs", "test_faults", "test_rerun_matrix", "test_tutorial", "test_docs",
    "test_shared_cache", "test_slurm", "test_shards", "test_audit", "test_task_files", "test_bad_input", "test_edges",
)  # fmt: skip
"""Files that pytest's processes begin with, so that none is left with a long one when the others are done."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the longest files, and skip what takes minutes unless it is asked for."""
    place = {name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path.stem, len(place)))
    for item in items:
        if item.get_closest_marker("long") and "LONG" not in os.environ:
            item.add_marker(pytest.mark.skip(reason="takes minutes: `make faults` and `make cluster` run it"))


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository."""
    return ROOT


@pytest.fixture(scope="session")
def lexicon() -> Lexicon:
    """The project's own word lists."""
    return load_lexicon(ROOT / "data/lexicon")


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of the whole smoke graph by Snakemake and DVC: to read, or to copy (`projects.copy_of`).

    It is made once, by the first of pytest's processes that asks; the others wait, since it keeps both cores busy.
    """
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    folder, done = shared / "finished", shared / "finished.done"
    with (shared / "finished.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            call(smoke_project(folder), "snakemake", "--cores", "2")
            done.touch()
    return folder


@pytest.fixture(params=list(MODELS))
def any_model(request: pytest.FixtureRequest) -> PreTrainedModel:
    """A random model of each architecture in turn."""
    return random_model(request.param)


@pytest.fixture
def gpt2() -> PreTrainedModel:
    """A random GPT-2 with 3 layers of 5 heads."""
    return random_model("gpt2")


@pytest.fixture
def prompts() -> PromptTensors:
    """Seven random prompts of six tokens."""
    return random_prompts()


def _set(module: torch.nn.Module, weight: list[list[float]]) -> None:
    module.weight.data = torch.tensor(weight)
    if getattr(module, "bias", None) is not None:
        module.bias.data.zero_()


@pytest.fixture
def hand_model() -> PreTrainedModel:
    """A GPT-2 of 2 layers with 2 heads of width 1, integer weights and no norms: small enough to work out by hand.

    Queries and keys are zero, so attention is the mean over the positions so far; head h reads channel h. What the
    components write is in `tests/test_hand_model.py`.
    """
    config = GPT2Config(
        vocab_size=4, n_positions=4, n_embd=2, n_layer=2, n_head=2, n_inner=1, activation_function="relu",
        tie_word_embeddings=False, bos_token_id=3, eos_token_id=3,
    )  # fmt: skip
    model = GPT2LMHeadModel(config)
    model.transformer.wte.weight.data = torch.tensor([[2.0, 0], [0, 4], [4, 2], [0, 0]])
    model.transformer.wpe.weight.data.zero_()
    model.transformer.ln_f = torch.nn.Identity()
    model.lm_head.weight.data = torch.tensor([[1.0, 0], [0, 1], [0, 0], [0, 0]])
    writes = [([[0.0, 1], [1, 0]], [[-1.0], [1]], [[2.0, 0]]), ([[1.0, 0], [0, -1]], [[1.0], [-1]], [[1.0, 0]])]
    for block, (heads, reads, out) in zip(model.transformer.h, writes, strict=True):
        block.ln_1, block.ln_2 = torch.nn.Identity(), torch.nn.Identity()
        _set(block.attn.c_attn, [[0.0, 0, 0, 0, 1, 0], [0, 0, 0, 0, 0, 1]])
        _set(block.attn.c_proj, heads)
        _set(block.mlp.c_fc, reads)
        _set(block.mlp.c_proj, out)
    model.set_attn_implementation("eager")
    return model.eval().requires_grad_(requires_grad=False)
