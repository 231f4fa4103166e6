"""Probes read what is planted, nothing where labels are permuted, and never see a prompt that they are tested on."""

import numpy as np
import pytest
import torch
from checkpoints import random_model, random_prompts

from distilled_circuits.lens.hooks import HookLens
from distilled_circuits.roles.features import probe_features, stage_names
from distilled_circuits.roles.probes import probe, prompt_splits
from distilled_circuits.roles.targets import Target, targets_of
from distilled_circuits.statistics import interval_over_splits

PROMPTS, SPLITS, STRENGTH = 240, 5, 0.01


def target_of(labels: np.ndarray, **kind) -> Target:
    """Return a target with these labels (prompt, place)."""
    return Target("test", ("clean",) * labels.shape[1], np.zeros_like(labels), labels, **kind)


def planted(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return features in which the class is one of many noisy channels."""
    features = rng.normal(size=(*labels.shape, 30))
    for label in np.unique(labels):
        features[..., int(label)] += 6 * (labels == label)
    return features


@pytest.fixture
def rng():
    """A generator."""
    return np.random.default_rng(5)


@pytest.mark.parametrize("kind", [{}, {"yes_or_no": True}, {"joint": True}, {"yes_or_no": True, "pooled": True}])
def test_planted_information_is_read_and_permuted_labels_are_not(rng, kind):
    """Accuracy 1 on what is there; with permuted labels the interval over splits contains chance."""
    classes = 2 if "yes_or_no" in kind else 4
    labels = rng.integers(classes, size=(PROMPTS, 3))
    target, features = target_of(labels, **kind), planted(labels, rng)
    splits = prompt_splits(np.arange(PROMPTS), SPLITS, rng)
    assert probe(features, target, splits, STRENGTH).min() > 0.999
    permuted = [target.permuted(rng) for _ in splits]
    _, low, high = interval_over_splits(probe(features, target, splits, STRENGTH, permuted))
    assert low <= target.chance <= high


def test_splits_never_share_a_prompt(rng):
    """Each split cuts all prompts in two, and splits differ."""
    splits = prompt_splits(np.arange(53), SPLITS, rng)
    for split in splits:
        assert sorted([*split.train, *split.test]) == list(range(53))
        assert len(split.test) == 11
    assert len({tuple(split.test) for split in splits}) == SPLITS


def test_wordings_of_one_fact_stay_together(rng):
    """Prompts about one person are a unit: never on both sides, and given one label when labels are permuted."""
    ids = np.repeat(np.arange(30), 3)[:, None] + np.array([[0, 100]])
    positions = {
        "relation": np.zeros((90, 1), dtype=int),
        "subject": np.zeros((90, 1), dtype=int),
        "last": np.ones((90, 1), dtype=int),
    }
    target = targets_of(ids, ids, ids[:, 0] // 2, ids[:, 0], positions)["answer"]
    for split in prompt_splits(target.units, SPLITS, rng):
        assert not set(target.units[split.train]) & set(target.units[split.test])
        assert len(split.test) == 18
    permuted = target.permuted(rng)
    assert all(len(set(permuted[target.units == unit, 0])) == 1 for unit in range(30))
    assert sorted(permuted[:, 0]) == sorted(target.labels[:, 0])


def test_a_probe_is_fitted_on_its_training_prompts_alone(rng):
    """Features that tell prompts apart, and nothing else, are of no use on prompts that were not seen."""
    labels = rng.integers(4, size=(60, 1))
    one_hot = np.eye(60)[:, None]
    reached = probe(one_hot, target_of(labels), prompt_splits(np.arange(60), SPLITS, rng), 100.0)
    assert reached.mean() < 0.45


def test_the_position_does_not_answer_a_yes_or_no_question(rng):
    """A feature that only says where a token stands has AUROC 0.5, though later tokens are more often repeated."""
    labels = (rng.random((PROMPTS, 3)) < [0.1, 0.5, 0.9]).astype(int)
    features = np.tile(np.eye(3), (PROMPTS, 1, 1))
    reached = probe(
        features, target_of(labels, yes_or_no=True), prompt_splits(np.arange(PROMPTS), SPLITS, rng), STRENGTH
    )
    assert reached == pytest.approx(0.5)


def test_rare_classes_count_as_much_as_frequent_ones(rng):
    """Always saying the frequent class gives one over the number of classes, not its share."""
    labels = (rng.random((PROMPTS, 1)) < 0.1).astype(int)
    reached = probe(
        np.zeros((PROMPTS, 1, 2)), target_of(labels), prompt_splits(np.arange(PROMPTS), SPLITS, rng), STRENGTH
    )
    assert reached == pytest.approx(0.5)


def test_a_single_class_is_no_error(rng):
    """Where all labels agree there is nothing to tell apart: accuracy 1, AUROC 0.5."""
    labels = np.ones((20, 2), dtype=int)
    features = rng.normal(size=(20, 2, 3))
    splits = prompt_splits(np.arange(20), 2, rng)
    assert probe(features, target_of(labels), splits, STRENGTH).tolist() == [1, 1]
    assert probe(features, target_of(labels, yes_or_no=True), splits, STRENGTH).tolist() == [0.5, 0.5]


def test_targets_of_sequences_by_hand():
    """The corrupted sequence 4 9 4 4: what stands where, what was there before, what comes next."""
    corrupted = np.array([[0, 4, 0, 9, 0, 4, 0, 4, 1]])
    positions = {"numerals": np.array([[1, 3, 5, 7]]), "last": np.array([[8]])}
    found = targets_of(corrupted, corrupted, np.array([6]), np.array([5]), positions)
    assert found["element_2"].labels.tolist() == [[9]]
    assert found["element_2"].places.tolist() == [[8]]
    assert found["all_elements"].labels.tolist() == [[4, 9, 4, 4]]
    assert found["all_elements"].places.tolist() == [[8, 8, 8, 8]]
    assert found["next_element"].labels.tolist() == [[6]]
    assert found["next_element"].runs == ("clean",)
    assert found["previous_element"].labels.tolist() == [[4, 9, 4]]
    assert found["previous_element"].places.tolist() == [[3, 5, 7]]
    assert found["prior_occurrence"].labels.tolist() == [[0, 1, 1]]


def test_targets_of_indirect_objects_by_hand():
    """The third name was there before in the clean prompt and not in the corrupted one, at the same place."""
    positions = {"s2": np.array([[4]]), "subject": np.array([[4]]), "last": np.array([[6]])}
    ids = np.zeros((1, 7), dtype=int)
    found = targets_of(ids, ids, np.array([3]), np.array([2]), positions)
    assert (found["answer"].labels.item(), found["subject"].labels.item()) == (3, 2)
    assert found["prior_occurrence"].labels.tolist() == [[1, 0]]
    assert found["prior_occurrence"].runs == ("clean", "corrupted")
    assert found["prior_occurrence"].groups == [[0, 1]]


def test_chance_is_what_guessing_gives(rng):
    """One over the classes, their product for joint targets, a half for AUROC."""
    labels = np.array([[0, 1], [1, 2], [2, 1], [3, 2]])
    assert target_of(labels[:, :1]).chance == 0.25
    assert target_of(labels, joint=True).chance == 0.125
    assert target_of(labels % 2, yes_or_no=True).chance == 0.5
    assert sorted(target_of(labels).permuted(rng)[:, 0]) == [0, 1, 2, 3]


def test_features_are_the_activations_at_their_places():
    """Every stage, head and place equals a whole cache read by hand, whatever the batches."""
    prompts = random_prompts()
    lens = HookLens(random_model("llama"))
    target = Target("t", ("clean", "corrupted"), np.array([[1, 5]] * 3 + [[2, 4]] * 4), np.zeros((7, 2), dtype=int))
    with torch.no_grad():
        found = probe_features(lens, {"clean": prompts.ids, "corrupted": prompts.corrupted}, {"t": target}, 3)["t"]
        layers = range(lens.dimensions.layers)
        stages = [("resid_pre", 0), *((site, layer) for layer in layers for site in ("resid_mid", "resid_post"))]
        assert len(stages) == len(stage_names(len(layers))) == len(found.residual)
        for column, ids in enumerate((prompts.ids, prompts.corrupted)):
            _, cache = lens.cache(ids, [*stages, *(("z", layer) for layer in layers)])
            for prompt, place in enumerate(target.places[:, column]):
                for stage, site in enumerate(stages):
                    assert np.allclose(found.residual[stage, prompt, column], cache[site][prompt, place], atol=1e-5)
                for layer in layers:
                    assert np.allclose(found.z[layer, prompt, column], cache["z", layer][prompt, place], atol=1e-5)


def test_interval_over_splits_by_hand():
    """Two splits of 0.4 and 0.6: mean 0.5, Student's t with one degree of freedom, variance times 1/2 + 1/4."""
    mean, low, high = interval_over_splits(np.array([[0.4, 0.6], [1.0, 1.0]]))
    assert mean.tolist() == [0.5, 1]
    assert high[0] - mean[0] == pytest.approx(12.706 * 0.02**0.5 * 0.75**0.5, rel=1e-3)
    assert (low[1], high[1]) == (1, 1)
