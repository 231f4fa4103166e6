"""The figures of one task that say what components do: heads, MLPs, patches, probes, shift; each with its caption."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from distilled_circuits.figures.heads import attention_maps, role_scores_map, token_labels
from distilled_circuits.figures.mlps import attribution_maps, logit_lens_curves, mlp_heat_maps, mlp_scatters
from distilled_circuits.figures.roles import block_patches, head_patches, output_scores_map, probe_curves
from distilled_circuits.figures.shift import shift_bars
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
    tokens = token_labels(task.prompts)
    count = len(task.prompts)
    by_model = {key: {model: task.heads[f"{model}/{key}"] for model in MODELS} for key in ("score", "plays")}
    maps = {}
    for role in roles:
        played = {model: task.roles_played[model][role] for model in MODELS}
        if not any(entry["plays"] for entry in played.values()):
            continue
        where = {model: tuple(map(int, entry["best"][1:].split("H"))) for model, entry in played.items()}
        titles = {
            model: f"{model[0].upper()}-{entry['best']}" + ("" if entry["plays"] else ": best, does not stand out")
            for model, entry in played.items()
        }
        patterns = {model: task.heads[f"{model}/mean_pattern"][where[model]] for model in MODELS}
        maps[role] = Picture.of(
            attention_maps(patterns, titles, task.heads[f"cells/{role}"], tokens),
            f"{_sentence(played['teacher']['title'])}: mean attention from each token (row) to each earlier one, N = "
            f"{count} prompts. Outlined: the cells that define the role; dashed: in a part of the prompts.",
            f"attention of the {played['teacher']['title']}",
        )
    return {
        "role_scores": Picture.of(
            role_scores_map(by_model["score"], by_model["plays"], [role.replace("_", " ") for role in roles]),
            f"Every head's score in every role: mean attention inside the role's cells, N = {count} prompts. Framed: "
            "heads that stand out from shuffled positions and from the other heads of their model.",
            "scores of all heads in all roles",
        ),
        "attention": maps,
    }


def mlp_pictures(task: TaskResults, numbers: Mapping[str, Any], similar: float) -> dict[str, Picture]:
    """Return similarities, scatters of all pairs, what MLPs add by layer and position, and the logit lens."""
    found, count = task.mlps, len(task.prompts)
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
            f"Logit lens: the stream at the last token after each layer, read through the final norm and the "
            f"unembedding. Mean probability and median rank over N = {count} prompts; 0: the embedding.",
            "logit lens",
        ),
    }
    parts = {model: found[f"{model}/attribution/mlp"] for model in MODELS if f"{model}/attribution/mlp" in found}
    if parts:
        shown["attribution"] = Picture.of(
            attribution_maps(parts, token_labels(task.prompts)),
            "What each MLP adds to the logit difference that would be read at each position (DC Figs. 10, 11): its "
            f"output through the final norm, whose scale is held, mean over N = {count} prompts.",
            "residual attribution of MLPs",
        )
    return shown


def role_pictures(task: TaskResults, numbers: Mapping[str, Any], first: int) -> dict[str, Picture]:
    """Return maps of activation patching, of output scores, and the curves of probes."""
    count = len(task.prompts)
    shown = {
        "output_scores": Picture.of(
            output_scores_map(
                {
                    kind: {model: np.array(numbers["output_scores"][model][kind]["heads"]) for model in MODELS}
                    for kind in ("successor", "copy")
                }
            ),
            f"Share of N = {count} prompts in which the answer (successor score) or the distractor (copy score) is "
            f"among the first {first} tokens that a head's output at the last token promotes.",
            "successor and copy scores",
        ),
        "probes": Picture.of(
            probe_curves(numbers["probes"]),
            "Linear probes on the residual stream, from the embedding (0) through each layer's attention and MLP to "
            "the last block (1). Balanced accuracy, or AUROC within positions for yes-or-no questions, on held-out "
            f"prompts; N = {count} prompts, mean and 95 % t interval over splits. Dotted: labels permuted; grey line: "
            "chance. Crosses: the best head of each layer by its z; dots: the best one with labels permuted.",
            "probe curves",
        ),
    }
    if any(numbers["patching"][model]["why_none"] for model in MODELS):
        return shown
    prompts = numbers["patching"]["teacher"]["prompts"]
    tokens = token_labels(task.prompts)
    blocks = {part: _recovered(task, part, slice(0, len(tokens))) for part in ("resid", "attention", "mlp")}
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
    heads = _by_path(task)
    shown["heads"] = Picture.of(
        head_patches(heads, "share recovered"),
        "Activation patching of single heads: their z at the last token, and by path, clean queries and keys together "
        f"or clean values, at all positions; share of the logit difference that comes back, N = {prompts} prompts.",
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
            f"N = {rows[0]['prompts']} prompts of each kind, bars 95 % over prompts.",
            "distribution shift",
        )
    }


def _recovered(task: TaskResults, part: str, places: Any) -> dict[str, np.ndarray]:
    """Return recoveries of both models at some places, with the place as last axis or gone."""
    found = {}
    for model in MODELS:
        arrays = task.roles[model]
        values = arrays[f"patching/{part}"][..., places, :].astype(float)
        found[model] = recovery(values, arrays["patching/clean"], arrays["patching/corrupted"])
    return found


def _shares(recovered: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {model: within_layer(values) for model, values in recovered.items()}


def _by_path(task: TaskResults) -> dict[str, dict[str, np.ndarray]]:
    whole, named = (list(task.roles["teacher"][f"patching/{key}_places"]) for key in ("whole", "named"))
    return {
        "z at the last token": _recovered(task, "z", whole.index("last")),
        "q and k": _recovered(task, "qk", named.index("all")),
        "v": _recovered(task, "v", named.index("all")),
    }


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:]
