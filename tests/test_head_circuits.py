"""Circuits of heads are judged as Prakash et al. do it, equal to plain hooks, brute force and values worked by hand."""

import math
from itertools import chain

import numpy as np
import pytest
import torch
from checkpoints import random_model, random_prompts
from slow_loops import BLOCKS, OUTPUT_PROJECTION, correct_answers

from distilled_circuits.circuits.ablation import PromptTensors, ablate, mean_activations
from distilled_circuits.circuits.head_circuits import (
    Minimality,
    Search,
    circuit_of,
    completeness,
    eliminated_circuit,
    greedy_circuit,
    minimality,
    random_circuits,
    rank_by_ablation,
    top_by_faithfulness,
)
from distilled_circuits.circuits.head_groups import Group, GroupFound
from distilled_circuits.circuits.head_sets import ELSEWHERE, Answers, HeadSets, Place
from distilled_circuits.errors import UserError
from distilled_circuits.lens.components import Component
from distilled_circuits.lens.hooks import HookLens

NUMBER = 40
POSITIONS = {"last": torch.full((NUMBER,), 5), "label": torch.arange(NUMBER) % 4}


@pytest.fixture(params=["gpt2", "llama"])
def lens(request):
    """A random model whose heads matter more than a fresh one's."""
    model = random_model(request.param)
    for block in BLOCKS[request.param](model):
        OUTPUT_PROJECTION[request.param](block)[0].weight.data *= {"gpt2": 40, "llama": 4}[request.param]
    return HookLens(model)


@pytest.fixture
def prompts(lens):
    """Forty random prompts, three of four with the answer that the model gives."""
    drawn = random_prompts(NUMBER)
    given = lens.run(drawn.ids).argmax(-1)
    answers = torch.where(torch.arange(NUMBER) % 4 > 0, given, drawn.answers)
    return PromptTensors(drawn.ids, answers, drawn.distractors)


@pytest.fixture
def means(lens):
    """Means over other prompts."""
    return mean_activations(lens, random_prompts(NUMBER, seed=2).ids, 64)


@pytest.fixture
def sets(lens, prompts, means):
    """Sets of heads kept at all positions, in batches that do not divide the prompts."""
    return HeadSets(lens, prompts, means, 17)


def some_heads(lens, number, seed):
    """Return distinct heads of a model in random order."""
    heads = [component for component in lens.components if component.head is not None]
    return [heads[index] for index in np.random.default_rng(seed).permutation(len(heads))[:number].tolist()]


def slow_logits(lens, prompts, means, keeps):
    """Return logits with every z but those at `keeps`(prompt, position, head) set to its mean, one by one."""
    hooks = []
    for layer, block in enumerate(BLOCKS[lens.model.config.model_type](lens.model)):

        def replace(_module, args, layer=layer):
            z = args[0].unflatten(-1, (lens.dimensions.heads, -1)).clone()
            for row in range(z.shape[0]):
                for position in range(z.shape[1]):
                    for head in range(z.shape[2]):
                        if not keeps(row, position, Component(layer, head)):
                            z[row, position, head] = means.z[layer][0, position, head]
            return (z.flatten(-2),)

        projection, _ = OUTPUT_PROJECTION[lens.model.config.model_type](block)
        hooks.append(projection.register_forward_pre_hook(replace))
    logits = lens.model(prompts.ids).logits[:, -1]
    for hook in hooks:
        hook.remove()
    return logits


def test_all_heads_are_the_model_and_none_the_floor(lens, prompts, means, sets):
    """Keeping everything changes no answer; keeping nothing leaves what MLPs alone can do (in both modes)."""
    floor = correct_answers(lens, prompts, means, [])
    for tested in (sets, HeadSets(lens, prompts, means, 64, POSITIONS)):
        assert torch.equal(tested.answers(tested.everything).correct, correct_answers(lens, prompts, means))
        assert torch.allclose(tested.logits(tested.everything), lens.run(prompts.ids), atol=1e-4)
        assert torch.equal(tested.answers([]).correct, floor)
    assert floor.double().mean() < sets.accuracy(sets.everything)
    assert 0.7 < sets.accuracy(sets.everything) < 0.9


@pytest.mark.parametrize("number", [1, 4, 11])
def test_mode_heads_equals_edits_of_the_whole_model(lens, prompts, means, sets, number):
    """Heads outside the circuit are at their means everywhere, the same as `correct_answers`."""
    kept = some_heads(lens, number, number)
    outside = [c for c in lens.components if c.head is not None and c not in kept]
    expected = lens.run(prompts.ids, ablate(outside, means))
    assert torch.allclose(sets.logits(sets.at_all_positions(kept)), expected, atol=1e-4)
    found = sets.answers([Place(head) for head in kept])
    assert torch.equal(found.correct, correct_answers(lens, prompts, means, kept))
    chosen = expected.double().log_softmax(-1)[range(NUMBER), prompts.answers]
    assert torch.allclose(found.log_probability, chosen, atol=1e-4)


def test_mode_positions_equals_hooks_position_by_position(lens, prompts, means):
    """A head is kept at its group's position alone, at two of them, or at all that have no role."""
    sets = HeadSets(lens, prompts, means, 17, POSITIONS)
    one, two, three, four = some_heads(lens, 4, 0)
    kept = [Place(one, "last"), Place(two, "label"), Place(three, "last"), Place(three, "label"), Place(four)]

    def keeps(row, position, head):
        roles = [role for role, of_prompt in POSITIONS.items() if of_prompt[row] == position] or [ELSEWHERE]
        return any(Place(head, role) in kept for role in roles)

    assert torch.allclose(sets.logits(kept), slow_logits(lens, prompts, means, keeps), atol=1e-5)
    whole = sets.logits(sets.at_all_positions([one, two, three, four]))
    assert not torch.allclose(sets.logits(kept), whole, atol=1e-2)


def test_sets_are_run_once_and_streams_that_are_kept_change_nothing(lens, prompts, means, sets):
    """After many sets, in any order, answers are those of a fresh object."""
    asked = [sets.at_all_positions(some_heads(lens, 6, seed)) for seed in range(40)]
    for kept in [*asked, *asked]:
        sets.answers(kept)
    assert len(sets) == len(set(asked))
    for kept in asked[::8]:
        assert torch.equal(sets.logits(kept), HeadSets(lens, prompts, means, 17).logits(kept))


def test_places_that_are_not_there_are_refused(sets):
    """A role needs its positions."""
    with pytest.raises(ValueError, match=r"no such places: .*'label'"):
        sets.answers([Place(Component(0, 0), "label")])


def test_found_groups_become_a_circuit():
    """In mode positions a place has its group's position, in mode heads none."""
    groups = [Group("A", "last", "logits", None, 0.1), Group("B", "label", "v", "A", 0.1)]
    head = Component(1, 2)
    found = {"A": GroupFound(torch.zeros(4), (head,)), "B": GroupFound(torch.zeros(4), ())}
    assert circuit_of(groups, found, "positions") == {"A": (Place(head, "last"),), "B": ()}
    assert circuit_of(groups, found, "heads") == {"A": (Place(head),), "B": ()}
    with pytest.raises(ValueError, match="'all' is no mode"):
        circuit_of(groups, found, "all")


class Table:
    """Stands in for a model: accuracy is a function of the heads that are kept."""

    def __init__(self, heads, accuracy):
        self.heads = heads
        self.prompts = random_prompts(10)
        self.everything = self.at_all_positions(heads)
        self.rule = accuracy
        self.asked = []

    def at_all_positions(self, heads):
        return frozenset(Place(head) for head in heads)

    def accuracy(self, kept):
        return self.rule({place.head for place in kept})

    def faithfulness(self, kept):
        return self.accuracy(kept) / self.accuracy(self.everything)

    def answers(self, kept):
        self.asked.append(list(kept))
        correct = torch.arange(10) < round(10 * self.accuracy(kept))
        return Answers(correct, torch.full((10,), -5.0 + self.accuracy(kept)))


A, B, C, D = (Component(0, head) for head in range(4))


def test_minimality_of_a_circuit_worked_out_by_hand():
    """A and B back each other up, C adds 0.1, D nothing.

    A is worth 0.5 without B and nothing without another, so K = {B}: 0.7 against 0.2 is a gain of 2.5; B likewise. C is
    worth 0.1 whoever is gone, so K is the first two others: 0.2 against 0.1. D is worth nothing and goes.
    """
    sets = Table([A, B, C, D], lambda kept: 0.1 + 0.5 * bool(kept & {A, B}) + 0.1 * (C in kept))
    group = [Place(head) for head in (A, B, C, D)]
    found = minimality(sets, {"G": group})["G"]
    assert [found[place].kept for place in group] == [True, True, True, False]
    assert [found[place].score for place in group] == pytest.approx([2.5, 2.5, 1, 0])
    alone = minimality(sets, {"A": group[:1], "rest": group[1:]})
    assert alone["A"][group[0]] == Minimality(0.0, kept=False), "B is in another group and stays"


def test_minimality_over_an_accuracy_of_zero():
    """A gain from nothing is without bound, nothing from nothing is none."""
    sets = Table([A, B], lambda kept: 0.4 * (A in kept))
    group = [Place(A), Place(B)]
    assert minimality(sets, {"G": group})["G"][group[0]] == Minimality(math.inf, kept=True)
    never = Table([A, B], lambda _: 0.0)
    assert minimality(never, {"G": group})["G"][group[0]] == Minimality(0.0, kept=False)


@pytest.mark.parametrize("mode", ["heads", "positions"])
def test_minimality_equals_brute_force(lens, prompts, means, mode):
    """Every accuracy from a run of its own, K_h written out as in the paper's code."""
    sets = HeadSets(lens, prompts, means, 64, POSITIONS if mode == "positions" else None)
    heads = some_heads(lens, 12, 5)
    circuit = {
        name: [Place(head, role if mode == "positions" else ELSEWHERE) for head in part]
        for name, role, part in (("A", "last", heads[:6]), ("B", "label", heads[6:9]), ("C", "last", heads[9:]))
    }
    whole = set(chain(*circuit.values()))

    def accuracy(removed):
        kept = whole - set(removed)
        logits = HeadSets(lens, prompts, means, 64, POSITIONS if mode == "positions" else None).logits(kept)
        return (logits.argmax(-1) == prompts.answers).double().mean().item()

    found = minimality(sets, circuit, share=0.5)
    scores = []
    for name, group in circuit.items():
        for h in group:
            drop = [(round(accuracy([other]) - accuracy([other, h]), 6), -index) for index, other in enumerate(group)]
            best = sorted((pair for pair in drop if pair[0] > 0), reverse=True)[: math.ceil(0.5 * len(group))]
            k = [group[-index] for _, index in best if group[-index] != h]
            score = accuracy(k) / accuracy([*k, h]) - 1
            scores.append(score)
            assert found[name][h].score == pytest.approx(score)
            assert found[name][h].kept == (score >= 0.01)
    assert len({round(score, 6) for score in scores}) > 1


def test_completeness_equals_brute_force(lens, prompts, means, sets):
    """The model and the circuit lose the same heads; random ones are each taken with probability one half."""
    heads = some_heads(lens, 6, 1)
    circuit = {"A": [Place(head) for head in heads[:4]], "B": [Place(head) for head in heads[4:]]}
    everything = [component for component in lens.components if component.head is not None]

    def gap(removed):
        left = ([head for head in of if head not in removed] for of in (everything, heads))
        model, rest = (correct_answers(lens, prompts, means, kept).double().mean().item() for kept in left)
        return abs(model - rest)

    found = completeness(sets, circuit, 8, np.random.default_rng(3))
    assert found.groups == pytest.approx({"A": gap(heads[:4]), "B": gap(heads[4:])})
    rng = np.random.default_rng(3)
    expected = [gap([head for head, x in zip(sorted(heads), rng.random(6), strict=True) if x < 0.5]) for _ in range(8)]
    assert found.random == pytest.approx(expected)
    assert max(expected) > min(expected)


def test_completeness_by_position_removes_the_position_alone(lens, prompts, means):
    """M less K keeps K's heads at all positions but the group's (Prakash et al.)."""
    sets = HeadSets(lens, prompts, means, 64, POSITIONS)
    head = Component(1, 1)
    found = completeness(sets, {"A": [Place(head, "label")]}, 0, np.random.default_rng(0))
    logits = slow_logits(
        lens, prompts, means, lambda row, position, other: other != head or POSITIONS["label"][row] != position
    )
    model = (logits.argmax(-1) == prompts.answers).double().mean().item()
    assert found.groups["A"] == pytest.approx(abs(model - sets.accuracy([])))
    assert found.random == ()


def test_random_circuits_have_the_size_of_the_circuit_for_each_role():
    """Distinct heads for each role, other ones in every draw, the same from the same generator."""
    table = Table([Component(layer, head) for layer in range(3) for head in range(4)], lambda _: 0.3)
    places = [Place(A, "last"), Place(B, "last"), Place(C, "last"), Place(A, "label"), Place(A, "label")]
    answered = random_circuits(table, places, 5, np.random.default_rng(0))
    assert answered.shape == (5, 10) and answered.dtype == torch.bool
    assert answered.sum(1).tolist() == [3] * 5
    for drawn in table.asked:
        assert sorted(place.position for place in drawn) == ["label", "last", "last", "last"]
        assert len(set(drawn)) == 4
    assert len({frozenset(drawn) for drawn in table.asked}) == 5
    random_circuits(table, places, 5, np.random.default_rng(0))
    assert table.asked[:5] == table.asked[5:]
    assert random_circuits(table, places, 0, np.random.default_rng(0)).shape == (0, 10)


def test_heads_are_ranked_by_loss_of_margin(lens, prompts, sets, means):
    """The answer's logit minus the best of the other choices, each head ablated in a pass of its own."""
    choices = torch.stack([prompts.distractors, prompts.answers, (prompts.answers + 1) % 37], dim=1)
    found = rank_by_ablation(sets, choices)

    def margin(removed):
        logits = lens.run(prompts.ids, ablate(removed, means)).double()
        margins = []
        for row, answer, options in zip(logits, prompts.answers.tolist(), choices.tolist(), strict=True):
            margins.append(row[answer] - max(row[option] for option in options if option != answer))
        return torch.stack(margins).mean().item()

    expected = {h: margin([]) - margin([h]) for h in lens.components if h.head is not None}
    assert found == pytest.approx(expected, abs=1e-4)
    assert list(found.values()) == sorted(found.values(), reverse=True)
    with pytest.raises(ValueError, match="a choice beside its answer"):
        rank_by_ablation(sets, prompts.answers[:, None])


def test_the_fewest_heads_that_reach_the_target_are_taken():
    """Of a model at 0.8: A alone 0.4, with B 0.78; a third of 12 heads may be taken at most, here 2 or 4."""
    heads = [Component(layer, head) for layer in range(3) for head in range(4)]
    ranking = [A, B, C, D, *heads[4:]]
    table = Table(heads, lambda kept: 0.8 if len(kept) > 3 else 0.4 * (A in kept) + 0.38 * (B in kept))
    curve = [0.5, 0.975, 0.975, 1]
    found = top_by_faithfulness(table, ranking, 4 / 12)
    assert found == Search((A, B), pytest.approx(tuple(curve)))
    assert top_by_faithfulness(table, ranking, 4 / 12, target=0.99).heads == (A, B, C, D)
    assert top_by_faithfulness(table, ranking, 0.25, target=0.99) == Search((A, B), pytest.approx(tuple(curve[:3])))
    assert top_by_faithfulness(table, ranking, 0.01).heads == (A,)


def test_greedy_search_finds_what_a_ranking_misses():
    """A and B back each other up, so that neither costs anything alone; C is needed too, D is not."""
    heads = [D, C, B, A, *(Component(1, head) for head in range(4))]
    table = Table(heads, lambda kept: 0.1 + 0.2 * (C in kept) + 0.6 * bool(kept & {A, B}))
    found = greedy_circuit(table, 0.5)
    assert found.heads == (B, C)
    assert found.faithfulness == pytest.approx((0.7 / 0.9, 1))
    assert greedy_circuit(table, 0.5, target=2.0).heads == (B, C), "four are tried, and the first two are as good"
    assert greedy_circuit(table, 0.125) == Search((B,), pytest.approx((0.7 / 0.9,)))


def test_elimination_keeps_what_is_of_use_only_together():
    """A and B alone do nothing, together all: addition goes astray on C, elimination does not."""
    heads = [D, C, B, A, *(Component(1, head) for head in range(4))]
    table = Table(heads, lambda kept: 0.1 + 0.7 * ({A, B} <= kept) + 0.1 * (C in kept))
    found = eliminated_circuit(table, 0.5)
    assert set(found.heads) == {A, B, C}
    assert found.faithfulness[1:] == pytest.approx((0.8 / 0.9, 1, 1))
    assert len(found.faithfulness) == 4
    assert set(eliminated_circuit(table, 0.5, target=0.8).heads) == {A, B}
    assert greedy_circuit(table, 0.25).heads[0] == C


def test_equal_accuracies_are_told_apart_by_log_probability(sets):
    """Greedy search on a real model: no head could have been added that does better in (accuracy, log-probability)."""
    found = greedy_circuit(sets, 0.2, target=9.0)
    assert len(found.faithfulness) == 0.2 * len(sets.heads) // 1
    kept = []
    for chosen in found.heads:
        performance = {
            head: (
                sets.accuracy(sets.at_all_positions([*kept, head])),
                sets.answers(sets.at_all_positions([*kept, head])).log_probability.mean().item(),
            )
            for head in sets.heads
            if head not in kept
        }
        assert performance[chosen] == max(performance.values())
        kept.append(chosen)


def test_faithfulness_of_a_model_that_knows_nothing_is_refused(lens, prompts, means):
    """A share of zero says nothing."""
    wrong = PromptTensors(prompts.ids, (lens.run(prompts.ids).argmax(-1) + 1) % 37, prompts.distractors)
    with pytest.raises(UserError, match="answers no prompt right"):
        HeadSets(lens, wrong, means, 64).faithfulness([])
