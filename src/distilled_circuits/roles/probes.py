"""Linear probes: whether something can be read off an activation, held against permuted labels and chance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from distilled_circuits.roles.targets import Target

Array = NDArray[np.floating]
Labels = NDArray[np.integer]
HELD_OUT = 0.2
"""Share of the prompts that a probe is tested on (DC Appendix J)."""


@dataclass(frozen=True)
class Split:
    """Prompts that probes are fitted on, and others that they are tested on."""

    train: NDArray[np.integer]
    test: NDArray[np.integer]


def prompt_splits(units: NDArray[np.integer], splits: int, rng: np.random.Generator) -> list[Split]:
    """Return random splits by unit (prompt,): rows of a prompt, and prompts of a unit, are never on both sides."""
    different = np.unique(units)
    held_out = max(1, round(HELD_OUT * len(different)))
    tested = [np.isin(units, rng.permutation(different)[:held_out]) for _ in range(splits)]
    return [Split(np.flatnonzero(~test), np.flatnonzero(test)) for test in tested]


def probe(
    features: Array, target: Target, splits: Sequence[Split], strength: float, labels: Sequence[Labels] | None = None
) -> Array:
    """Return what probes reach on the held-out prompts of each split (split,).

    `features` is (prompt, place, feature). A probe is a logistic regression on standardised features, with penalty
    1 / `strength` on its squared weights and every class of equal weight in total. What is measured is the accuracy,
    balanced over classes; for a yes-or-no target the AUROC, for a joint one the share of prompts with all places right.
    `labels`, one array a split, take the place of the target's own: for the control.
    """
    found = []
    for index, split in enumerate(splits):
        given = target.labels if labels is None else labels[index]
        if target.joint:
            hits = [
                _fit(features[:, [column]], given[:, [column]], split, strength).predict(features[split.test, column])
                == given[split.test, column]
                for column in range(given.shape[1])
            ]
            found.append(np.all(hits, axis=0).mean())
            continue
        fitted = _fit(features, given, split, strength)
        if target.yes_or_no:
            found.append(_auroc(fitted.predict_proba(_rows(features[split.test]))[:, -1], given[split.test], target))
        else:
            found.append(_balanced(fitted.predict(_rows(features[split.test])), given[split.test].ravel()))
    return np.array(found)


def _balanced(predicted: Labels, labels: Labels) -> float:
    return float(np.mean([(predicted[labels == label] == label).mean() for label in np.unique(labels)]))


def _auroc(chances: Array, labels: Labels, target: Target) -> float:
    """Return the AUROC within each group of places, averaged over those that have both answers."""
    chances = chances.reshape(labels.shape)
    both = [group for group in target.groups if 0 < labels[:, group].mean() < 1]
    return float(np.mean([roc_auc_score(labels[:, group].ravel(), chances[:, group].ravel()) for group in both] or 0.5))


def _fit(features: Array, labels: Labels, split: Split, strength: float) -> Pipeline:
    given = labels[split.train].ravel()
    # With one class there is nothing to fit: it is what is predicted.
    kind = LogisticRegression(C=strength, class_weight="balanced", max_iter=1000)
    if len(np.unique(given)) == 1:
        kind = DummyClassifier()
    return make_pipeline(StandardScaler(), kind).fit(_rows(features[split.train]), given)


def _rows(features: Array) -> Array:
    return features.reshape(-1, features.shape[-1])
