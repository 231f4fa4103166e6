"""A pair may come from a directory: strictly loaded, in the type that is asked for, and known by its digest."""

import json

import pytest
import torch
from checkpoints import random_model, write_checkpoint
from transformers import BertForPreTraining

from distilled_circuits.errors import UserError
from distilled_circuits.models.checkpoints import find_checkpoint, weights_digest
from distilled_circuits.models.loading import load_model
from distilled_circuits.models.reading import load_reader
from distilled_circuits.models.tokenizer import word_level_tokenizer
from distilled_circuits.param_models import Local, Scratch
from distilled_circuits.stages.job import Job
from distilled_circuits.stages.model_making import bring_in

WORDS = [f"w{n}" for n in range(30)]


@pytest.fixture
def folder(tmp_path):
    """A GPT-2 in several files, as large ones are."""
    write_checkpoint(tmp_path / "from", random_model("gpt2"), word_level_tokenizer(WORDS), max_shard_size="20KB")
    assert len(list((tmp_path / "from").glob("*.safetensors"))) > 1
    return tmp_path / "from"


def change(folder, **values) -> None:
    """Write other values into a configuration."""
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **values}))


def job(tmp_path) -> Job:
    """Return the job of a teacher."""
    return Job("teacher@mine", {"pair": "mine"}, {}, {}, {"teacher": tmp_path / "to"})


def test_a_directory_is_brought_in_whole(folder, tmp_path, capsys):
    """The same function in one file, in the type asked for; model.json says where from; its cost is said first."""
    digest = weights_digest(folder)
    source = Local(local=str(folder), sha256=digest, begins=True)
    bring_in(job(tmp_path), source, "teacher")
    ids = torch.tensor([[3, 4, 5]])
    before, after = (load_model(place, torch.device("cpu"))(ids).logits for place in (folder, tmp_path / "to"))
    assert torch.equal(before, after)
    record = json.loads((tmp_path / "to/model.json").read_text())
    assert record["origin"] == "local"
    assert record["source"] == {"local": str(folder), "sha256": digest}
    assert record["training"] == []
    assert (tmp_path / "to/model.safetensors").exists()
    assert "0.00 GB to fetch" in capsys.readouterr().err.splitlines()[0]


def test_weights_are_stored_and_loaded_in_the_type_that_was_asked_for(folder, tmp_path):
    """bfloat16 stays bfloat16; float32 can still be asked for."""
    bring_in(job(tmp_path), Local(local=str(folder), dtype="bfloat16"), "teacher")
    cpu = torch.device("cpu")
    assert load_model(tmp_path / "to", cpu).dtype == torch.bfloat16
    assert load_model(tmp_path / "to", cpu, torch.float32).dtype == torch.float32


def test_how_it_reads_prompts_comes_along(folder, tmp_path):
    """A beginning-of-text token needs a tokenizer that has one: the line says what to do."""
    bring_in(job(tmp_path), Local(local=str(folder), begins=True), "teacher")
    with pytest.raises(UserError, match=r"no beginning-of-text token: set begins to false in params\.yaml"):
        load_reader(tmp_path / "to", "the teacher")
    bring_in(job(tmp_path), Local(local=str(folder)), "teacher")
    assert not load_reader(tmp_path / "to", "the teacher").begins


def test_a_masked_model_needs_a_mask(tmp_path):
    """A BERT with a tokenizer that has none is refused with the remedy."""
    write_checkpoint(tmp_path / "from", random_model("bert"), word_level_tokenizer(WORDS))
    bring_in(job(tmp_path), Local(local=str(tmp_path / "from")), "teacher")
    with pytest.raises(UserError, match="no mask token, but the model answers at one: save it with mask_token"):
        load_reader(tmp_path / "to", "the teacher")


def test_a_changed_directory_is_noticed(folder, tmp_path):
    """Other weights than those of the digest are refused, with both; without a digest a line says what it is."""
    said: list[str] = []
    found = find_checkpoint(Local(local=str(folder)), "mine", tmp_path, said.append)
    assert f"no sha256 in params.yaml, so a change of {folder} will not be noticed; it is" in said[-1]
    write_checkpoint(folder, random_model("gpt2", 5), word_level_tokenizer(WORDS), max_shard_size="20KB")
    with pytest.raises(UserError, match=rf"but params.yaml says {found.source['sha256']}"):
        bring_in(job(tmp_path), Local(local=str(folder), sha256=found.source["sha256"]), "teacher")
    assert not (tmp_path / "to").exists()


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda folder: (folder / "config.json").unlink(), "no config.json"),
        (lambda folder: next(folder.glob("*-of-*.safetensors")).unlink(), "safetensors"),
        (lambda folder: next(folder.glob("*-of-*.safetensors")).write_bytes(b"12345"), "safetensors"),
        (lambda folder: (folder / "tokenizer.json").unlink(), "no loadable tokenizer"),
        (lambda folder: (folder / "tokenizer.json").write_text("{}"), "no loadable tokenizer"),
        (lambda folder: change(folder, n_embd=40), "no loadable checkpoint"),
        (lambda folder: change(folder, n_layer="two"), "no loadable checkpoint"),
        (lambda folder: (folder / "config.json").write_text("{"), "no loadable checkpoint"),
    ],
)
def test_a_spoiled_directory_is_one_line_and_leaves_nothing(folder, tmp_path, spoil, said):
    """No configuration or one of another model, a missing or a cut shard, no tokenizer or one that is none."""
    spoil(folder)
    with pytest.raises(UserError, match=said) as caught:
        bring_in(job(tmp_path), Local(local=str(folder)), "teacher")
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.glob("to*"))


def test_pickled_weights_that_are_none_are_one_line(folder, tmp_path):
    """What a proxy answers in place of a file is no checkpoint."""
    for file in folder.glob("*safetensors*"):
        file.unlink()
    (folder / "pytorch_model.bin").write_text("<html>")
    with pytest.raises(UserError, match="no loadable checkpoint") as caught:
        bring_in(job(tmp_path), Local(local=str(folder)), "teacher")
    assert "\n" not in str(caught.value)


def test_a_bert_as_it_was_trained_is_loaded_without_its_other_heads(tmp_path):
    """Published BERTs have a pooler and a head for the next sentence: words behind a mask need neither."""
    own = random_model("bert")
    whole = BertForPreTraining(own.config)
    whole.bert.load_state_dict(own.bert.state_dict(), strict=False)
    whole.cls.predictions.load_state_dict(own.cls.predictions.state_dict())
    tokenizer = word_level_tokenizer(WORDS, masked=True)
    write_checkpoint(tmp_path / "from", whole, tokenizer)
    bring_in(job(tmp_path), Local(local=str(tmp_path / "from")), "teacher")
    ids = torch.tensor([[3, 4, 5]])
    assert torch.allclose(load_model(tmp_path / "to", torch.device("cpu"))(ids).logits, own(ids).logits, atol=1e-6)


def test_too_little_room_is_said_before_anything_is_fetched(folder, tmp_path, monkeypatch):
    """The model directory's size is known from the source."""
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 10})())
    with pytest.raises(UserError, match="the model directory"):
        find_checkpoint(Local(local=str(folder)), "mine", tmp_path, lambda _: None)


def test_an_architecture_that_no_lens_knows_is_named(folder, tmp_path):
    """With those that are known."""
    change(folder, model_type="opt")
    with pytest.raises(UserError, match="model type 'opt' is not supported; supported are gpt2, llama, bert"):
        bring_in(job(tmp_path), Local(local=str(folder)), "teacher")


def test_a_source_is_told_from_a_recipe_by_its_keys():
    """`local` makes a directory; a recipe has an architecture."""
    assert Local(local="x").dtype == "float32"
    with pytest.raises(ValueError, match="architecture"):
        Scratch(local="x")
