"""`why` says what a run will ask for before it does: models, GB, tokens, licences; and it fetches nothing."""

import pytest
import yaml
from checkpoints import random_model, write_checkpoint
from conftest import ROOT

from distilled_circuits.cli import main
from distilled_circuits.models.checkpoints import weights_digest
from distilled_circuits.models.tokenizer import word_level_tokenizer


@pytest.fixture
def params(monkeypatch, tmp_path):
    """Writes params.yaml with other pairs into an empty folder."""
    monkeypatch.chdir(tmp_path)

    def write(**models):
        content = yaml.safe_load((ROOT / "params.yaml").read_text())
        content["models"] |= models
        content |= {"pairs": list(models) or ["mini"]}
        content["battery"]["pairs"] = []
        (tmp_path / "params.yaml").write_text(yaml.safe_dump(content))

    return write


def test_models_that_are_trained_here_cost_no_download(params, capsys):
    """The default pair says what it is."""
    params()
    assert main(["why"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "mini teacher: trained here: gpt2, 6 layers, 1300 steps; nothing to fetch"
    assert said[1] == "mini student: trained here: gpt2, from 3 teacher layers, 500 steps; nothing to fetch"
    assert len(said) == 2


def test_a_local_pair_says_what_is_written_and_what_it_needs(params, tmp_path, capsys):
    """GB in the type that is asked for, twice on the disk; the token and the licence in words."""
    tokenizer = word_level_tokenizer(["a", "b"])
    write_checkpoint(tmp_path / "model", random_model("gpt2"), tokenizer)
    source = {"local": str(tmp_path / "model"), "dtype": "bfloat16"}
    needs = {"disk": 9, "memory": 3.5, "token": True, "licence": "X"}
    params(mine={"teacher": source, "student": source, "needs": needs})
    assert main(["why"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[1].startswith(f"mine teacher: {tmp_path / 'model'}: 0.00 GB to fetch, 0.00 GB cached, 0.00 GB to write")
    assert said[1].endswith("as bfloat16")
    assert said[0].startswith("mine needs: 9 GB of disk, 3.5 GB of memory, a token of the hub whose owner has accepted")
    assert said[0].endswith("licence: X")
    assert said[3].startswith("all models: 0.00 GB to fetch into the hub's cache, 2 x 0.00 GB to write here")
    assert not (tmp_path / "results").exists()


def test_what_is_wrong_with_a_source_is_one_line(params, tmp_path, capsys):
    """A directory that is not there, before any work."""
    params(mine={side: {"local": str(tmp_path / "nowhere")} for side in ("teacher", "student")})
    assert main(["why"]) == 2
    assert "nowhere" in capsys.readouterr().err.splitlines()[0]


def test_the_digest_of_weights_is_of_their_bytes(tmp_path):
    """One file has its own SHA-256; of several it is one of their names in order; another weight changes both."""
    tokenizer = word_level_tokenizer(["a", "b"])
    found = set()
    for seed in (0, 1):
        for name, options in (("whole", {}), ("shards", {"max_shard_size": "20KB"})):
            folder = tmp_path / f"{name}{seed}"
            write_checkpoint(folder, random_model("gpt2", seed), tokenizer, **options)
            found.add(weights_digest(folder))
    assert len(found) == 4
