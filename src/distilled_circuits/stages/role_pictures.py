"""The figures of one task that say what components do: heads, MLPs, patches, probes, shift; each with its caption."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from distilled_circuits.figures.heads import attention_maps, role_scores_map, token_labels
from distilled_circuits.figures.mlps import attribution_maps, logit_lens_curves, mlp_heat_maps, mlp_scatters
from distilled_circuits.figures.roles import block_patches, head_patches, output_scores_map, probe_curves
from distilled_circuits.figures.shift import shift_bars
from distilled_circuits.lens.components import Component
from distilled_circuits.report.page import Picture
from distilled_circuits.roles.effects import recovery, within_layer
from distilled_circuits.stages.collect import TaskResults
from distilled_circuits.stages.job import MODELS

MEASURES = {
    "similarity": "mean |cosine|",
    "overlap": "subspace overlap",
    "token_cosine": "token by token",
    "cka": "CKA",
}
"""Ways to compare MLPs, in the order of the figure, where an artifact has them."""


def head_pictures(task: TaskResults) -> dict[str, Any]:
    """Return the scores of all heads, and mean attention for each role that a head of either model plays."""
    roles = list(task.heads["role"])
    tokens = {model: token_labels(task.prompts[model]) for model in MODELS}
    count, spread = task.count, task.roles_played["prompts"]
    kind = "filler words at random places" if task.roles_played["scattered"] else "their words in place"
    by_model = {key: {model: task.heads[f"{model}/{key}"] for model in MODELS} for key in ("score", "plays")}
    maps = {}
    for role in roles:
        played = {model: task.roles_played[model][role] for model in MODELS}
        if not any(entry["plays"] for entry in played.values()):
            continue
        best = {model: Component.parse(entry["best"]) for model, entry in played.items()}
        titles = {
            model: f"{model[0].upper()}-{entry['best']}" + ("" if entry["plays"] else ": best, does not stand out")
            for model, entry in played.items()
        }
        patterns = {model: task.heads[f"{model}/mean_pattern"][best[model].layer, best[model].head] for model in MODELS}
        maps[role] = Picture.of(
            attention_maps(patterns, titles, {model: task.heads[f"{model}/cells/{role}"] for model in MODELS}, tokens),
            f"{_sentence(played['teacher']['title'])}: mean attention from each token (row) to those that it reads, "
            f"N = {count} prompts. Outlined: the cells that define the role; dashed: in a part of the prompts.",
            f"attention of the {played['teacher']['title']}",
        )
    return {
        "role_scores": Picture.of(
            role_scores_map(by_model["score"], by_model["plays"], [role.replace("_", " ") for role in roles]),
            f"Every head's score in every role: mean attention inside the role's cells, N = {spread} prompts with "
            f"{kind}. Framed: heads that stand out from shuffled positions and from the other "
            "heads of their model.",
            "scores of all heads in all roles",
        ),
        "attention": maps,
    }


def mlp_pictures(task: TaskResults, numbers: Mapping[str, Any], similar: float) -> dict[str, Picture]:
    """Return similarities, scatters of all pairs, what MLPs add by layer and position, and the logit lens."""
    found, count = task.mlps, task.count
    measures = {
        title: found[key].mean(-1) if key == "token_cosine" else found[key]
        for key, title in MEASURES.items()
        if key in found and not (key == "similarity" and numbers["measure"] == "cka")
    }
    pairs = [
        (
            f"T-{row['teacher']}", found["teacher/scatter"][int(row["teacher"][3:])],
            f"S-{row['student']}", found["student/scatter"][int(row["student"][3:])],
        )
        for row in numbers["pairs"]
    ]  # fmt: skip
    shown = {
        "heat_map": Picture.of(
            mlp_heat_maps(measures, similar, [name for name in measures if name != "CKA" or len(measures) == 1]),
            f"Similarity of all pairs of MLPs over N = {count} prompts and all tokens; above {similar} framed. Mean "
            "|cosine|: of paired leading directions (DC eq. 6). Overlap: mean squared cosine of principal angles, free "
            "of their order. Token by token: cosine of mean outputs, averaged over positions (as in DC Fig. 7). CKA "
            "needs no common basis and is high wherever both tell tokens apart: framed only where it stands alone.",
            "similarity of MLPs",
        ),
        "scatter": Picture.of(
            mlp_scatters(pairs),
            f"Each teacher MLP and its most similar student MLP below: outputs at every token of {len(pairs[0][1])} "
            "prompts, in each model's own first two principal directions (signs are arbitrary).",
            "principal directions of pairs of MLPs",
        ),
        "logit_lens": Picture.of(
            logit_lens_curves(numbers["logit_lens"]),
            f"Logit lens: the stream where the answer is read, after each layer, through the final norm and the "
            f"unembedding. Mean probability and median rank over N = {count} prompts; 0: the embedding.",
            "logit lens",
        ),
    }
    parts = {model: found[f"{model}/attribution/mlp"] for model in MODELS if f"{model}/attribution/mlp" in found}
    if parts:
        shown["attribution"] = Picture.of(
            attribution_maps(parts, {model: token_labels(task.prompts[model]) for model in parts}),
            "What each MLP adds to the logit difference that would be read at each position (DC Figs. 10, 11): its "
            f"output through the final norm, whose scale is held, mean over N = {count} prompts.",
            "residual attribution of MLPs",
        )
    return shown


def role_pictures(task: TaskResults, numbers: Mapping[str, Any], first: int) -> dict[str, Picture]:
    """Return maps of activation patching, of output scores, and the curves of probes."""
    count = task.count
    shown = {
        "output_scores": Picture.of(
            output_scores_map(
                {
                    kind: {model: np.array(numbers["output_scores"][model][kind]["heads"]) for model in MODELS}
                    for kind in ("answer", "distractor")
                }
            ),
            f"Share of N = {count} prompts in which the answer or the distractor is among the first {first} tokens "
            "that a head's output promotes where the answer is read. On sequences: the successor and the copy score.",
            "scores of heads' outputs",
        ),
        "probes": Picture.of(
            probe_curves(numbers["probes"]),
            "Linear probes on the residual stream, from the embedding (0) through each layer's attention and MLP to "
            "the last block (1). Balanced accuracy, or AUROC within positions for yes-or-no questions, on held-out "
            f"prompts; N = {count} prompts, mean and 95 % t interval over splits, corrected for their overlap. Dotted: "
            "labels permuted; grey line: chance. Crosses: the best head of each layer by its z; dots: the best one "
            "with labels permuted.",
            "probe curves",
        ),
    }
    having = [model for model in MODELS if not numbers["patching"][model]["why_none"]]
    if not having:
        return shown
    prompts = numbers["patching"][having[0]]["prompts"]
    tokens = {model: token_labels(task.prompts[model]) for model in having}
    blocks = {part: _at_positions(task, tokens, part) for part in ("resid", "attention", "mlp")}
    shown["blocks"] = Picture.of(
        block_patches(blocks, tokens, "share recovered"),
        "Activation patching: the stream after a block (resid), or the output of its attention or MLP, at one "
        "position, taken from the clean prompt into the corrupted one; "
        f"share of the logit difference between them that comes back, N = {prompts} prompts. Below zero: it gets "
        "worse.",
        "activation patching of blocks",
    )
    shown["blocks_within_layer"] = Picture.of(
        block_patches({part: _shares(found) for part, found in blocks.items()}, tokens, "share of the layer"),
        "The same normalised within each layer: each recovery over the sum of the layer's absolute recoveries. A layer "
        "that brings back nearly nothing is blown up by this.",
        "activation patching within layers",
    )
    heads = _by_path(task, having)
    shown["heads"] = Picture.of(
        head_patches(heads, "share recovered"),
        "Activation patching of single heads: their z where the answer is read, and by path, clean queries and keys "
        "together or clean values, at all positions; share of the logit difference that comes back, "
        f"N = {prompts} prompts.",
        "activation patching of heads",
    )
    shown["heads_within_layer"] = Picture.of(
        head_patches({kind: _shares(found) for kind, found in heads.items()}, "share of the layer"),
        "The same normalised within each layer.",
        "activation patching of heads within layers",
    )
    return shown


def shift_pictures(numbers: Mapping[str, Any]) -> dict[str, Picture]:
    """Return the bars of what is kept off distribution, where shares could be taken."""
    rows = [row for row in numbers["variants"] if row.get("difference")]
    if not rows:
        return {}
    return {
        "shift": Picture.of(
            shift_bars(rows),
            f"Mean logit difference on prompts unlike those of training, as a share of that on the usual ones; "
            f"N = {_range([row['prompts'] for row in rows])} prompts of each kind, black lines 95 % over prompts.",
            "distribution shift",
        )
    }


def _at_positions(task: TaskResults, tokens: Mapping[str, Sequence[str]], part: str) -> dict[str, np.ndarray]:
    """Return recoveries (layer, pos) at every single position: the first places, before the named ones."""
    return {model: _recovered(task, model, part, slice(0, len(own))) for model, own in tokens.items()}


def _recovered(task: TaskResults, model: str, part: str, places: Any) -> np.ndarray:
    """Return a model's recoveries at some places, with the place as last axis or gone."""
    arrays = task.roles[model]
    values = arrays[f"patching/{part}"][..., places, :].astype(float)
    return recovery(values, arrays["patching/clean"], arrays["patching/corrupted"])


def _shares(recovered: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {model: within_layer(values) for model, values in recovered.items()}


def _by_path(task: TaskResults, models: Sequence[str]) -> dict[str, dict[str, np.ndarray]]:
    kinds = {
        "z where the answer is read": ("z", "whole", "last"),
        "q and k": ("qk", "named", "all"),
        "v": ("v", "named", "all"),
    }
    return {
        kind: {
            model: _recovered(task, model, part, list(task.roles[model][f"patching/{places}_places"]).index(place))
            for model in models
        }
        for kind, (part, places, place) in kinds.items()
    }


def _range(numbers: Sequence[int]) -> str:
    low, high = min(numbers), max(numbers)
    return f"{low}" if low == high else f"{low} to {high}"


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:]
