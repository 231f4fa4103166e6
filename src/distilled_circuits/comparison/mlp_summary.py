"""The numbers of MLPs: pairs with their divergence at the first token, what each adds, merged and dropped ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distilled_circuits.comparison.scores import baseline_problem
from distilled_circuits.lens.components import Component
from distilled_circuits.statistics import bootstrap_weights, percentile_interval, weighted_mean, weighted_ratio

Array = NDArray[np.floating]
MODELS = ("teacher", "student")


def mlp_summary(found: Mapping[str, Any], similar: float, resamples: int, rng: np.random.Generator) -> dict[str, Any]:
    """Return the pairs of MLPs, groups of teacher MLPs ablated together, and what each MLP adds to the answer."""
    return {
        "measure": str(found["measure"][0]),
        "same_tokens": bool(found["same_tokens"]),
        "similar_pairs": int((found["similarity"] > similar).sum()),
        "all_pairs": int(found["similarity"].size),
        "pairs": _pairs(found),
        "groups": _groups(found, resamples, rng),
        "attribution": {model: _attribution(found, model, resamples, rng) for model in MODELS},
        "logit_lens": {model: _logit_lens(found, model) for model in MODELS},
    }


def _pairs(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return for each teacher MLP its most similar student MLP, by every measure that widths and tokens allow.

    `first_token_gap` is how much lower their mean outputs' cosine is at the first token than at the others.
    """
    rows = []
    for teacher, student in enumerate(found["similarity"].argmax(1)):
        row = {
            "teacher": f"MLP{teacher}",
            "student": f"MLP{student}",
            "similarity": float(found["similarity"][teacher, student]),
            "cka": float(found["cka"][teacher, student]),
        }
        if "overlap" in found:
            row["overlap"] = float(found["overlap"][teacher, student])
        if "token_cosine" in found:
            cosine = found["token_cosine"][teacher, student]
            row |= {
                "first_token_cosine": float(cosine[0]),
                "other_tokens_cosine": float(cosine[1:].mean()),
                "first_token_gap": {
                    "value": float(cosine[1:].mean() - cosine[0]),
                    "interval95": list(percentile_interval(found["first_token_gap"][teacher])),
                },
            }
        rows.append(row)
    return rows


def _groups(found: Mapping[str, Any], resamples: int, rng: np.random.Generator) -> list[dict[str, Any]] | None:
    """Return the drop in percent of each MLP of a group alone, of all together, and how much that is above the sum.

    None where models of different width have no partners, or where there is no logit difference to lose.
    """
    if "groups/full" not in found or baseline_problem(found["groups/full"]):
        return None
    full = found["groups/full"]
    weights = bootstrap_weights(len(full), resamples, rng).astype(float)
    rows = []
    for index, name in enumerate(found["groups/name"]):
        members = str(found["groups/members"][index]).split()
        alone = [100 * (full - found["groups/alone"][Component.parse(member).layer]) for member in members]
        costs = [weighted_ratio(drop, full, weights) for drop in alone]
        together = 100 * (full - found["groups/together"][index])
        rows.append(
            {
                "name": str(name),
                "members": [{"mlp": member, **cost} for member, cost in zip(members, costs, strict=True)],
                "together": weighted_ratio(together, full, weights),
                "beyond_the_sum": weighted_ratio(together - np.sum(alone, axis=0), full, weights),
            }
        )
    return rows


def _attribution(
    found: Mapping[str, Any], model: str, resamples: int, rng: np.random.Generator
) -> dict[str, Any] | None:
    """Return what MLPs, all attention and the embedding add to the logit difference, in logits."""
    if f"{model}/attribution_at_last/mlp" not in found:
        return None
    parts = {
        part: found[f"{model}/attribution_at_last/{part}"] for part in ("embedding", "attention", "mlp", "constant")
    }
    weights = bootstrap_weights(len(parts["embedding"]), resamples, rng).astype(float)
    return {
        "mlps": [weighted_mean(values, weights) for values in parts["mlp"].T],
        "attention": weighted_mean(parts["attention"].sum(1), weights),
        "embedding": weighted_mean(parts["embedding"], weights),
        "constant": weighted_mean(parts["constant"], weights),
    }


def _logit_lens(found: Mapping[str, Any], model: str) -> dict[str, Any]:
    """Return after each layer, the embedding first, mean probabilities and median ranks (0 is first)."""
    return {
        token: {
            "probability": found[f"{model}/logit_lens/{token}_probability"].mean(0).tolist(),
            "median_rank": np.median(found[f"{model}/logit_lens/{token}_rank"], axis=0).tolist(),
        }
        for token in ("answer", "distractor")
    }
