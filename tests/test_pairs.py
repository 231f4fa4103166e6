"""Checkpoints of every architecture, written by `save_pretrained`, go through the whole graph from a directory."""

import json
from pathlib import Path

import pytest
from checkpoints import random_model, write_checkpoint
from projects import quick_probes, run_in_process, smoke_params

from distilled_circuits.models.shapes import student_from_layers
from distilled_circuits.models.tokenizer import word_level_tokenizer
from distilled_circuits.tasks.registry import vocabulary

PAIRS = ["gpt2", "llama", "bert", "mismatched", "widths"]


def write_pairs(folder: Path, lexicon) -> dict[str, dict[str, dict[str, str]]]:
    """Write a teacher and a student of each kind; return the `models` section that names them."""
    causal, masked = (word_level_tokenizer(vocabulary(lexicon), masked=masked) for masked in (False, True))
    sizes = len(causal), len(masked)
    gpt2, llama, bert = (
        random_model(name, vocabulary=sizes[name == "bert"]) for name in ("gpt2", "llama_scaled", "bert")
    )
    models = {
        "gpt2": (gpt2, student_from_layers(gpt2, [0, 2])),
        "llama": (llama, student_from_layers(llama, [0, 1])),  # depth-pruned, as Minitron is
        "bert": (bert, random_model("distilbert", vocabulary=sizes[1])),
        "mismatched": (gpt2, random_model("distilbert", 3, vocabulary=sizes[1])),  # tokens of another number
        "widths": (llama, gpt2),  # the same tokens, 24 channels beside 20
    }
    section: dict[str, dict[str, dict[str, str]]] = {}
    for pair, sides in models.items():
        section[pair] = {}
        for side, model in zip(("teacher", "student"), sides, strict=True):
            place = folder / pair / side
            shards = {"max_shard_size": "40KB"} if pair == "llama" else {}
            write_checkpoint(
                place, model, masked if model.config.model_type in ("bert", "distilbert") else causal, **shards
            )
            section[pair][side] = {"local": str(place)}
    return section


@pytest.fixture(scope="module")
def finished(tmp_path_factory, lexicon) -> Path:
    """A finished run of all pairs on the first paper's graph."""
    folder = tmp_path_factory.mktemp("pairs")
    section = write_pairs(folder / "checkpoints", lexicon)
    params = smoke_params(
        **{
            "pairs": PAIRS,
            "battery.pairs": [],
            "distillation.tasks": [],
            "models": section,
            "noise.tasks": ["ioi"],
            "tasks": ["ioi"],  # the other tests have numerals
        }
    )
    with pytest.MonkeyPatch.context() as patch:
        quick_probes(patch)
        run_in_process(folder / "project", params, patch)
    return folder / "project"


def test_every_pair_is_in_the_report(finished):
    """With its numbers, and without a battery or a training that it does not have."""
    compared = json.loads((finished / "results/comparison.json").read_text())
    assert list(compared["pairs"]) == PAIRS
    page = (finished / "results/report.html").read_text()
    for pair in PAIRS:
        assert f'id="{pair}-models"' in page
