"""Training, distilling and loading models: strict, repeatable, with the losses that the papers name."""

import json
import random

import pytest
import torch
from torch.nn.functional import kl_div

from distilled_circuits.errors import UserError
from distilled_circuits.models.corpus import ROW_LENGTH, evaluation_questions, training_batches
from distilled_circuits.models.loading import choose_device, load_model, load_tokenizer, save_model
from distilled_circuits.models.shapes import new_gpt2, student_from_layers
from distilled_circuits.models.tokenizer import word_level_tokenizer
from distilled_circuits.models.training import (
    CAUSAL,
    Schedule,
    language_loss,
    softened_divergence,
    teacher_loss,
    train,
)
from distilled_circuits.tasks.encoding import Reader
from distilled_circuits.tasks.registry import TASKS, vocabulary

CPU = torch.device("cpu")
MIXTURE = {"numerals": 1.0, "words": 1.0, "ioi": 1.0, "facts": 1.0}


@pytest.fixture(scope="module")
def tokenizer(lexicon):
    """The models' own tokenizer."""
    return word_level_tokenizer(vocabulary(lexicon))


def small(tokenizer, layers: int = 4, seed: int = 0):
    """Return a small untrained GPT-2."""
    torch.manual_seed(seed)
    return new_gpt2(len(tokenizer), layers, 3, 12, 0.2, tokenizer.eos_token_id)


def test_rows_are_full_and_mark_the_determined_words(lexicon, tokenizer):
    """Every row has its 64 tokens; a marked token is a numeral, a number word, a name, a town or a craft."""
    batch = next(training_batches(lexicon, tokenizer, MIXTURE, 40, 0, CPU))
    assert batch.ids.shape == (40, ROW_LENGTH)
    answers = set(tokenizer.convert_ids_to_tokens(batch.ids[batch.is_answer].tolist()))
    known = {*lexicon.numerals, *lexicon.number_words, *lexicon.names, *(fact.answer for fact in lexicon.facts)}
    assert answers <= known
    assert answers & set(lexicon.numerals) and answers & set(lexicon.names)


def test_a_mixture_draws_only_what_has_weight(lexicon, tokenizer):
    """A weight of zero leaves a task out."""
    only = {**dict.fromkeys(MIXTURE, 0.0), "facts": 1.0}
    batch = next(training_batches(lexicon, tokenizer, only, 10, 0, CPU))
    tokens = set(tokenizer.convert_ids_to_tokens(batch.ids.flatten().tolist()))
    assert "Q" in tokens
    assert not tokens & set(lexicon.numerals)


def test_language_loss_weighs_answers_and_text(lexicon, tokenizer):
    """Mean cross entropy on answers plus the weight times the mean on all other tokens, token by token."""
    batch = next(training_batches(lexicon, tokenizer, MIXTURE, 2, 0, CPU))
    logits = torch.randn(2, ROW_LENGTH, len(tokenizer), generator=torch.Generator().manual_seed(0))
    answers, text = [], []
    for row in range(2):
        for position in range(1, ROW_LENGTH):
            loss = -logits[row, position - 1].log_softmax(-1)[batch.ids[row, position]]
            (answers if batch.is_answer[row, position] else text).append(loss)
    expected = torch.stack(answers).mean() + 0.3 * torch.stack(text).mean()
    assert language_loss(logits, batch, 0.3).item() == pytest.approx(expected.item(), abs=1e-5)


def test_distillation_loss_is_the_softened_divergence():
    """T² KL(teacher || student) as in equations 1 and 2; zero for equal logits."""
    student, teacher = torch.randn(2, 3, 5, 7, generator=torch.Generator().manual_seed(0))
    p = (teacher / 2).softmax(-1)
    expected = 4 * (p * (p.log() - (student / 2).log_softmax(-1))).sum(-1).mean()
    assert softened_divergence(student, teacher, 2.0).item() == pytest.approx(expected.item(), abs=1e-5)
    assert softened_divergence(teacher, teacher, 2.0).item() == pytest.approx(0, abs=1e-6)
    assert kl_div((student / 2).log_softmax(-1), p, reduction="sum").item() > 0


def test_a_student_starts_as_its_teachers_layers(tokenizer):
    """Embeddings, final norm and the named layers are copies; nothing is shared with the teacher."""
    teacher = small(tokenizer)
    student = student_from_layers(teacher, [1, 3])
    for block, layer in zip(student.transformer.h, (1, 3), strict=True):
        for name, value in block.state_dict().items():
            assert torch.equal(value, teacher.transformer.h[layer].state_dict()[name])
    assert torch.equal(student.transformer.wte.weight, teacher.transformer.wte.weight)
    student.transformer.wte.weight.data.zero_()
    assert teacher.transformer.wte.weight.abs().max() > 0


def test_training_repeats_and_reports(lexicon, tokenizer):
    """Two runs of one seed give the same weights and the same log; the loss falls."""
    results = []
    for _ in range(2):
        model = small(tokenizer)
        seen = []
        log = train(
            model,
            teacher_loss(model, 0.1, CAUSAL),
            training_batches(lexicon, tokenizer, MIXTURE, 8, 0, CPU),
            Schedule(20, 0.01, 5, 0.01, 10),
            evaluation_questions(lexicon, Reader(tokenizer, "ours"), CPU),
            "test",
            seen.append,
        )
        assert len(seen) == len(log) == 3
        results.append((log[1:], {name: value.clone() for name, value in model.state_dict().items()}))
    (first_log, first), (second_log, second) = results
    assert first_log == second_log
    assert [entry.step for entry in first_log] == [10, 20]
    assert first_log[1].loss < first_log[0].loss
    assert set(first_log[0].accuracy) == set(TASKS)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_schedule_warms_up_and_decays_to_zero():
    """Linear up to the peak, cosine down to nothing at the last step."""
    schedule = Schedule(steps=110, learning_rate=1, warmup=10, weight_decay=0, evaluate_every=1)
    assert [schedule.rate(step) for step in (0, 9, 10, 60)] == pytest.approx([0.1, 1, 1, 0.5])
    assert schedule.rate(110) == pytest.approx(0, abs=1e-12)


def test_a_saved_model_comes_back(tokenizer, tmp_path):
    """Weights, tokenizer and the digests of all files."""
    model = small(tokenizer).eval()
    files = save_model(model, tokenizer, tmp_path)
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= set(files)
    loaded = load_model(tmp_path, CPU)
    ids = torch.tensor([[3, 4, 5]])
    assert torch.allclose(loaded(ids).logits, model(ids).logits, atol=1e-5)
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    assert load_tokenizer(tmp_path)("Adam").input_ids == tokenizer("Adam").input_ids


def test_a_checkpoint_that_does_not_fill_the_model_is_refused(tokenizer, tmp_path):
    """A missing tensor is an error that names it, never a random weight."""
    save_model(small(tokenizer), tokenizer, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "n_layer": 5}))
    with pytest.raises(UserError, match=r"does not fill the model, missing keys: transformer\.h\.4"):
        load_model(tmp_path, CPU)
    (tmp_path / "config.json").write_text(json.dumps({**config, "n_layer": 3}))
    with pytest.raises(UserError, match=r"does not fill the model, unexpected keys: transformer\.h\.3"):
        load_model(tmp_path, CPU)


def test_a_folder_without_a_model_is_named(tmp_path):
    """No checkpoint, no tokenizer: one line each with the folder."""
    with pytest.raises(UserError, match="no loadable checkpoint"):
        load_model(tmp_path, CPU)
    with pytest.raises(UserError, match="no loadable tokenizer"):
        load_tokenizer(tmp_path)


def test_devices(monkeypatch):
    """`auto` takes what is there; demanding a GPU that is not there is an error with the remedy."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto") == choose_device("cpu") == CPU
    with pytest.raises(UserError, match="torch finds no GPU: set device to auto or cpu"):
        choose_device("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch, "use_deterministic_algorithms", lambda mode, warn_only: None)  # noqa: ARG005
    assert choose_device("auto").type == choose_device("cuda").type == "cuda"


def test_evaluation_prompts_are_the_same_for_every_model(lexicon, tokenizer):
    """Accuracies of all models and seeds are measured on one set of prompts."""
    random.seed(1)
    first = evaluation_questions(lexicon, Reader(tokenizer, "ours"), CPU)
    random.seed(2)
    second = evaluation_questions(lexicon, Reader(tokenizer, "ours"), CPU)
    assert all(torch.equal(a.ids, b.ids) for a, b in zip(first, second, strict=True))
