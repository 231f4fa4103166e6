"""BERT, DistilBERT and Llama train themselves as GPT-2 does: their starts, their masked texts, their losses."""

import pytest
import torch
from checkpoints import random_model
from torch.nn.functional import cross_entropy

from distilled_circuits.models.masked import MASKED, MaskedBatch, language_loss, mask_logits, masked_batches
from distilled_circuits.models.recipes import Data, distil, train_from_scratch
from distilled_circuits.models.shapes import student_from_layers
from distilled_circuits.models.training import student_loss
from distilled_circuits.param_models import Distilled, Scratch

CPU = torch.device("cpu")
IDS = torch.arange(21).reshape(3, 7) * 5 % 37
MIXTURE = {"numerals": 1.0, "ioi": 1.0}
TRAINING = {
    "steps": 12, "batch_size": 16, "learning_rate": 0.003, "warmup": 2, "weight_decay": 0.01, "text_weight": 0.1,
    "evaluate_every": 6,
}  # fmt: skip
PAIRS = [
    ("gpt2", "gpt2"), ("llama_scaled", "llama"), ("bert", "bert"), ("distilbert", "distilbert"), ("bert", "distilbert"),
]  # fmt: skip


def scratch(architecture: str) -> Scratch:
    """Return a recipe of a small model."""
    shape = {"seed": 0, "layers": 2, "heads": 2, "width": 12, "initial_scale": 0.2}
    own = {"key_value_heads": 1} if architecture == "llama" else {}
    return Scratch(architecture=architecture, mixture=MIXTURE, **shape, **own, **TRAINING)


@pytest.mark.parametrize(
    ("teacher", "student"),
    [
        ("gpt2", "gpt2"),
        ("llama_scaled", "llama"),
        ("bert", "bert"),
        ("distilbert", "distilbert"),
        ("bert", "distilbert"),
    ],
)
def test_a_student_of_all_layers_is_the_teacher(teacher, student):
    """The same logits; of some layers other ones, and a layer that is not there is named."""
    model = random_model(teacher)
    found = student_from_layers(model, [0, 1, 2], student).eval()
    found.set_attn_implementation("eager")
    assert torch.allclose(found(IDS).logits, model(IDS).logits, atol=1e-5)
    assert found.config.model_type == student
    fewer = student_from_layers(model, [0, 2], student).eval()
    assert fewer.config.num_hidden_layers == 2
    assert not torch.allclose(fewer(IDS).logits, model(IDS).logits, atol=1e-2)


def test_masked_texts_end_in_their_answer(lexicon):
    """The answer and some other words are masked, nothing stands behind it but [SEP] and padding."""
    data = Data.of(lexicon, scratch("bert"), CPU)
    batch = next(data.batches(200, 0))
    tokenizer = data.tokenizer
    masked = batch.is_answer | batch.is_text
    assert (batch.ids[masked] == tokenizer.mask_token_id).all()
    assert torch.equal(batch.ids[~masked], batch.targets[~masked])
    assert (batch.is_answer.sum(1) == 1).all()
    assert not (batch.is_answer & batch.is_text).any()
    for row in range(len(batch.ids)):
        (at,) = batch.is_answer[row].nonzero()[:, 0].tolist()
        assert batch.ids[row, 0] == tokenizer.cls_token_id
        assert batch.ids[row, at + 1] == tokenizer.sep_token_id
        assert not batch.is_there[row, at + 2 :].any()
    words = batch.is_there & (batch.targets > tokenizer.mask_token_id) & ~batch.is_answer
    assert 0.1 < batch.is_text.sum() / words.sum() < 0.2


def test_masked_losses_by_hand():
    """Cross entropy at the answers plus a share of that at the other masks, each a mean of its own."""
    model = random_model("bert")
    ids = torch.tensor([[1, 5, 2, 0], [1, 5, 5, 2]])
    targets = torch.tensor([[1, 7, 2, 0], [1, 8, 9, 2]])
    is_answer = torch.tensor([[False, True, False, False], [False, False, True, False]])
    is_text = torch.tensor([[False, False, False, False], [False, True, False, False]])
    batch = MaskedBatch(ids, targets, is_answer, is_text, torch.tensor([[True, True, True, False], [True] * 4]))
    whole = model(ids, attention_mask=batch.is_there.long()).logits
    alone = model(ids[:1, :3]).logits
    assert torch.allclose(whole[0, :3], alone[0], atol=1e-5)  # padding is not read
    answers = (cross_entropy(whole[0, 1], targets[0, 1]) + cross_entropy(whole[1, 2], targets[1, 2])) / 2
    others = cross_entropy(whole[1, 1], targets[1, 1])
    found = language_loss(mask_logits(model, batch), batch, 0.3)
    assert torch.allclose(found, answers + 0.3 * others)
    alike = student_loss(model, model, 2.0, 1.0, 0.5, 0.3, MASKED)(batch)
    assert torch.allclose(alike, 0.5 * found, atol=1e-5)  # its own teacher: no divergence


@pytest.mark.parametrize("architecture", ["llama", "bert", "distilbert"])
def test_training_repeats_and_learns(architecture, lexicon):
    """Two runs of one seed give the same weights, and the loss falls."""
    recipe = scratch(architecture)
    data = Data.of(lexicon, recipe, CPU)
    (first, log), (second, _) = (train_from_scratch(recipe, 0, data, "test") for _ in range(2))
    weights = second.state_dict()
    assert all(torch.equal(value, weights[name]) for name, value in first.state_dict().items())
    assert log[2].loss < log[1].loss
    assert set(log[0].accuracy) == {"numerals", "words", "ioi", "facts"}


def test_a_masked_student_comes_nearer_to_its_teacher(lexicon):
    """Distillation of a DistilBERT from a BERT lowers its loss."""
    recipe = scratch("bert")
    data = Data.of(lexicon, recipe, CPU)
    teacher, _ = train_from_scratch(recipe, 0, data, "test")
    weights = {"temperature": 2.0, "kl_weight": 1.0, "lm_weight": 0.5}
    own = Distilled(architecture="distilbert", seed=1, layers=[1], **weights, **TRAINING)
    log = distil(student_from_layers(teacher, [1], "distilbert"), teacher, own, 1, data, "test")
    assert log[2].loss < log[1].loss


def test_masked_batches_of_one_seed_are_the_same(lexicon):
    """And of another are others."""
    data = Data.of(lexicon, scratch("bert"), CPU)
    first, again, other = (
        next(masked_batches(lexicon, data.tokenizer, MIXTURE, 8, seed, CPU)).ids for seed in (0, 0, 1)
    )
    assert torch.equal(first, again)
    assert first.shape != other.shape or not torch.equal(first, other)
