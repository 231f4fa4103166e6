"""One training as the stages run it: which heads are trained, which pairs are aligned where, and what is answered."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from checkpoints import VOCABULARY, random_model, random_prompts
from conftest import ROOT
from slow_loops import correct_answers

from distilled_circuits.circuits.ablation import PromptTensors, mean_activations
from distilled_circuits.errors import UserError
from distilled_circuits.lens.components import Component
from distilled_circuits.lens.hooks import HookLens
from distilled_circuits.models.loading import save_model
from distilled_circuits.param_distillation import Condition, Training
from distilled_circuits.params import load_params
from distilled_circuits.seed_ranges import seeds_of
from distilled_circuits.stages.stored_questions import Questions
from distilled_circuits.stages.student_answers import (
    Examination,
    accuracy,
    chosen_right,
    companion,
    read,
    similarity,
)
from distilled_circuits.stages.student_training import Classroom, Run

CIRCUIT = ["L0H1", "L1H0", "L2H4"]
PAIRS = [("L0H1", "L0H0"), ("L1H0", "L2H2"), ("L2H4", "L2H2")]


def questions(number: int = 24, seed: int = 1) -> Questions:
    """Return random prompts with three choices each, the answer among them."""
    prompts = random_prompts(number, seed=seed, corrupted_seed=seed + 50)
    choices = torch.stack([prompts.answers, prompts.distractors, (prompts.answers + 5) % VOCABULARY], 1)
    last = torch.full((number,), prompts.ids.shape[1] - 1)
    return Questions(prompts, choices, np.array(["a"] * number), {"last": last, "first": torch.zeros(number).long()})


class Words:
    """Stands for a tokenizer, which only has to be saved."""

    def save_pretrained(self, folder) -> None:
        """Write nothing."""


@pytest.fixture(scope="module")
def room(tmp_path_factory) -> Classroom:
    """A small random student in a folder, a random teacher, and a made-up mapping."""
    folder = tmp_path_factory.mktemp("room") / "base"
    save_model(random_model("gpt2", 1), Words(), folder)
    pairs = [{"student": own, "teacher": other} for own, other in PAIRS]
    mapped = {
        "student": {"circuit": CIRCUIT, "positions": {"L0H1": "first", "L1H0": "last", "L2H4": "last"}},
        "teacher": {"circuit": ["L0H0", "L2H2"], "positions": {"L0H0": "first", "L2H2": "last"}},
        "mappings": {"impact": {"pairs": pairs}, "hungarian": {"pairs": pairs[:2]}},
        "companion": [[0.5, -0.2], [0.1, 0.4], [0.0, 0.3]],
    }
    training = Training(prompts={}, steps=2, batch_size=8, warmup=1, log_every=1)
    teacher = HookLens(random_model("gpt2", 0))
    return Classroom(folder, teacher, mapped, training, "entity_tracking", None, None, None)


def condition(**changes) -> Condition:
    """Return a condition that aligns by impact."""
    return Condition(**{"learning_rate": 0.01, "alignment": "cka", "weight": 1.0, "mapping": "impact"} | changes)


def test_random_mappings_are_drawn_for_each_seed_and_share_no_pair(room):
    """As many as the condition asks for where there are so many; the same seed draws the same."""
    aligned = room.mappings(condition(), 0)[0]
    drawn = {seed: room.mappings(condition(mapping="random", maps=3), seed) for seed in (0, 1)}
    assert drawn[0] == room.mappings(condition(mapping="random", maps=3), 0)
    for found in (*drawn[0], *drawn[1]):
        assert [own for own, _ in found.pairs] == [own for own, _ in aligned.pairs]
        # L2H2 serves two of three students, so that one of them gets the other head of the teacher's circuit.
        assert not set(found.pairs) & set(aligned.pairs)


def test_heads_outside_are_as_many_and_none_of_the_circuit(room):
    """The control trains equally many heads, drawn by the seed; `all` trains everything."""
    student = room.base_student()
    outside = [room.trained_heads(condition(trains="outside"), student, seed) for seed in (0, 0, 1)]
    assert outside[0] == outside[1] != outside[2]
    assert len(outside[0]) == len(CIRCUIT)
    assert not set(outside[0]) & set(room.circuit)
    assert room.trained_heads(condition(trains="all"), student, 0) is None


def test_pairs_are_aligned_where_their_groups_stand(room):
    """Position `role` takes each head at its own group's position, in both models; without groups it is refused."""
    asked = questions()
    by_role, pairs = condition(position="role"), room.mappings(condition(), 0)[0]
    own, other = room._positions(by_role, pairs, asked)
    assert own[:, 0].tolist() == [0, 5, 5] and other[:, 0].tolist() == [0, 5, 5]
    without = {**room.mapped, "student": {**room.mapped["student"], "positions": {}}}
    bare = Classroom(room.base, room.teacher, without, room.training, "entity_tracking", None, None, None)
    with pytest.raises(UserError, match="the circuit of this task has no groups: use last"):
        bare._positions(by_role, pairs, asked)


def test_pair_weights_are_the_companion_terms_without_negative_ones(room):
    """Each pair's similarity times agreement; below zero counts as nothing."""
    pairs = room.mappings(condition(), 0)[0]
    weights = room._weights(condition(pair_weights="companion"), pairs)
    assert weights.tolist() == pytest.approx([0.5, 0.4, 0.3])
    assert room._weights(condition(), pairs) is None


def test_a_training_starts_from_the_base_and_moves_only_its_heads(room):
    """Two runs of one seed end alike, the base stays as it is, and so does everything outside the circuit."""
    taught = room.taught(condition(), room.mappings(condition(), 0)[0], questions(16))
    first, log = room.train(Run("run", condition(), 5), taught)
    second, _ = room.train(Run("run", condition(), 5), taught)
    before = room.base_student().model.state_dict()
    changed = {name for name, value in first.model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed and all("attn" in name for name in changed)
    assert all(torch.equal(value, second.model.state_dict()[name]) for name, value in first.model.state_dict().items())
    assert [step.step for step in log] == [1, 2]


def test_a_loss_that_is_no_number_names_the_run_its_seed_and_its_step(room):
    """A learning rate that is far too high ends in one line, not in a student."""
    wild = condition(learning_rate=1e30, cross_entropy=1.0)
    with pytest.raises(UserError, match=r"ce_wild-3, seed 3: the loss is nan at step 2"):
        room.train(Run("ce_wild-3", wild, 3), room.taught(wild, room.mappings(wild, 3)[0], questions(16)))


@pytest.mark.parametrize("changes", [{}, {"position": "role"}, {"alignment": "attention_kl", "mapping": "hungarian"}])
def test_fewer_prompts_are_taught_as_if_there_were_no_others(changes, room):
    """The first rows of what many prompts give are what these rows give alone, whatever is aligned."""
    asked, described = questions(20), condition(**changes)
    pairs = room.mappings(described, 0)[0]
    part, alone = room.taught(described, pairs, asked).first(9), room.taught(described, pairs, asked.first(9))
    torch.testing.assert_close(part.ids, alone.ids)
    torch.testing.assert_close(part.answers.__dict__, alone.answers.__dict__)
    torch.testing.assert_close(part.pairs.targets, alone.pairs.targets)
    assert part.pairs.positions is None or torch.equal(part.pairs.positions, alone.pairs.positions)


def test_answers_are_those_of_the_plain_model_and_of_its_circuit():
    """Against full forward passes, and heads outside the circuit at their means by hooks."""
    lens = HookLens(random_model("gpt2", 2))
    test, circuit = questions(20, 3), questions(18, 4)
    with_answers = lens.logits(test.prompts.ids).argmax(-1)
    ids = test.prompts.ids
    test = Questions(PromptTensors(ids, with_answers, with_answers, ids), test.choices, test.kinds, test.roles)
    exam = Examination(test, circuit, {"other": circuit}, SimpleNamespace(searched=9, random_draws=2, seed=0))
    heads = [Component.parse(name) for name in CIRCUIT]
    found = exam.answers(lens, heads, exam.means(lens), judged=12)
    means = mean_activations(lens, circuit.corrupted, 7)
    assert found["full"] == [1] * 20
    assert found["circuit"] == correct_answers(lens, test.prompts, means, heads)[:12].int().tolist()
    assert found["variants"] == {"other": pytest.approx(accuracy(lens, circuit))}


def test_a_multiple_choice_looks_at_the_choices_alone():
    """The best of three, though another word is likelier than all."""
    asked = questions(4)
    logits = torch.zeros(4, VOCABULARY)
    logits[:, 36] = 9
    logits[torch.arange(4), asked.prompts.answers] = torch.tensor([1.0, -1, 1, -1])
    assert chosen_right(logits, asked).tolist() == [True, False, True, False]


def test_a_model_is_like_itself(room):
    """CKA of a head with itself is 1, and so is the companion score of a model with itself."""
    asked = questions(70)
    exam = Examination(asked, asked, {}, None)
    same = room.mappings(condition(), 0)[0].__class__(tuple((head, head) for head in room.circuit))
    _, z = read(room.teacher, room.circuit, asked)
    assert similarity(z, z, same) == pytest.approx(1, abs=1e-4)
    record = exam.record(room.teacher, exam.means(room.teacher))
    assert companion(record, record) == pytest.approx(1, abs=1e-4)


def test_every_committed_condition_can_be_named_in_runs():
    """The committed runs are conditions, and each condition differs from every other."""
    params = load_params(ROOT / "params.yaml")
    assert set(params.distillation.runs) <= set(params.conditions)
    described = [str(each) for each in params.conditions.values()]
    assert len(set(described)) == len(described)


@pytest.mark.parametrize(
    ("written", "seeds"), [(3, [3]), ("3", [3]), ("0-2", [0, 1, 2]), ("7-7", [7]), ("9-10", [9, 10])]
)
def test_an_entry_of_seeds_is_a_number_or_a_range(written, seeds):
    """Both ends belong to a range."""
    assert list(seeds_of(written)) == seeds
