"""Invariants of what heads and MLPs do: roles, patching, probes, similarities of MLPs, prompts unlike training's."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from scipy.stats import norm

from distilled_circuits.audit.circuits import of_both, share_lost
from distilled_circuits.audit.expect import close, holds, layout, nothing_else, same, within
from distilled_circuits.audit.findings import Wrong
from distilled_circuits.audit.place import Place
from distilled_circuits.comparison.mlps import direction_similarity, subspace_overlap
from distilled_circuits.lens.components import Component
from distilled_circuits.roles.detectors import TINY
from distilled_circuits.stages.job import MODELS

HEADS = {
    "mean_pattern": "share: layer head query_pos key_pos",
    "chance": "share: role",
    "score": "share: role layer head",
    "expected": "share: role layer head",
    "excess": "number: role layer head",
    "shuffled_p": "share: role layer head",
    "outlier": "number: role layer head",
    "plays": "flag: role layer head",
}
PATCHED = dict.fromkeys(("attention", "mlp", "resid"), "number: layer place prompt")
PATCHED_HEADS = {"z": "number: layer head place prompt"}
PATCHED_INPUTS = dict.fromkeys(("qk", "v"), "number: layer head place prompt")
MLPS = {
    "directions": "number: mlp direction d_model",
    "explained": "share: mlp direction",
    "attribution/mlp": "?number: layer pos",
    "attribution_at_last/embedding": "?number: prompt",
    "attribution_at_last/attention": "?number: prompt layer",
    "attribution_at_last/mlp": "?number: prompt layer",
    "attribution_at_last/constant": "?number: prompt",
    **{f"logit_lens/{token}_rank": "count: prompt stage" for token in ("answer", "distractor")},
    **{f"logit_lens/{token}_probability": "share: prompt stage" for token in ("answer", "distractor")},
}
MLP_PAIRS = {
    "same_tokens": "flag:",
    "cka": "share: teacher_mlp student_mlp",
    "similarity": "share: teacher_mlp student_mlp",
    "measure": "text: one",
    "overlap": "?share: teacher_mlp student_mlp",
    "token_cosine": "?score: teacher_mlp student_mlp pos",
    "first_token_gap": "?number: teacher_mlp resample",
    "groups/full": "?number: prompt",
    "groups/alone": "?number: mlp prompt",
    "groups/name": "?text: group",
    "groups/members": "?text: group",
    "groups/together": "?number: group prompt",
}
VARIANT = {
    "correct": "flag: prompt",
    "full": "number: prompt",
    "only_circuit": "number: prompt",
    "in_circuit": "number: head prompt",
}


def heads(at: Place) -> Iterator[Wrong]:
    """Scores are shares; excess and verdict follow from them; the mean pattern is that of the activations."""
    arrays, settings = at.arrays, at.params["heads"]
    roles = list(arrays["role"])
    yield from nothing_else(arrays, "role", *of_both(*HEADS, *(f"cells/{role}" for role in roles)))
    for model in MODELS:
        axes = at.axes(model)
        axes |= {"role": len(roles), "query_pos": axes["pos"], "key_pos": axes["pos"]}
        cells = {f"cells/{role}": "share: query_pos key_pos" for role in roles}
        yield from layout(arrays, HEADS | cells, axes, f"{model}/")
        score, expected, excess, outlier = (arrays[f"{model}/{n}"] for n in ("score", "expected", "excess", "outlier"))
        yield from close(f"{model}/excess", excess, (score - expected) / np.maximum(1 - expected, TINY))
        if roles:
            number = excess[0].size
            beyond = norm.isf(settings["level"] / number) if number > 1 else -np.inf
            rule = (excess >= settings["minimum"]) & (arrays[f"{model}/shuffled_p"] < settings["level"])
            plays = arrays[f"{model}/plays"]
            yield from same(f"{model}/plays", plays.tolist(), (rule & (outlier > beyond)).tolist())
        stored = at.arrays_of("activations")
        total = sum(block.sum(0, dtype=np.float64) for block in stored.blocks(f"{model}/pattern"))
        yield from close(f"{model}/mean_pattern", arrays[f"{model}/mean_pattern"], total / axes["prompt"])


def roles_played(at: Place) -> Iterator[Wrong]:
    """Require that what is said of each role is what heads.h5, the ablations and the circuit say."""
    stored = at.arrays_of("heads")
    roles = list(stored["role"])
    for model in MODELS:
        yield from same(f"{model}, roles", list(at.json[model]), roles)
        for index, role in enumerate(roles):
            said, place = at.json[model][role], f"{model}.{role}"
            best = Component.parse(said["best"])
            where = (index, best.layer, best.head)
            for key in ("score", "expected", "excess", "shuffled_p", "outlier"):
                yield from close(f"{place}.{key}", said[key], stored[f"{model}/{key}"][where], 1e-9)
            plays, excess = stored[f"{model}/plays"][index], stored[f"{model}/excess"][index]
            largest = np.where(plays, excess, -np.inf).max() if plays.any() else excess.max()
            yield from close(f"{place}.best, its excess", said["excess"], largest, 1e-9)
            players = [f"L{layer}H{head}" for layer, head in np.argwhere(plays).tolist()]
            yield from same(f"{place}.all", said["all"], players)
            yield from same(f"{place}.plays", said["plays"], bool(players))
            yield from costs(at, model, said, place)


def costs(at: Place, model: str, said: dict[str, Any], place: str) -> Iterator[Wrong]:
    """Require that what the task loses without a head is the mean over stored prompts, alone and in the circuit."""
    stored, kept = at.arrays_of("influence"), at.arrays_of("evaluation")
    unablated, nodes = stored[f"{model}/unablated"], at.json_of("circuit")[model]["nodes"]
    row = list(stored[f"{model}/components"]).index(said["best"])
    alone = share_lost(unablated, stored[f"{model}/ablated"][row])
    yield from same(f"{place}.alone, whether known", said["alone"] is None, alone is None)
    if said["alone"] and alone is not None:
        yield from close(f"{place}.alone.value", said["alone"]["value"], alone)
    if said["in_circuit"]:
        full, only, without = (kept[f"{model}/{name}"] for name in ("full", "only_circuit", "without_node"))
        change = 100 * (without[nodes.index(said["best"])] - only).mean() / full.mean()
        yield from close(f"{place}.in_circuit.value", said["in_circuit"]["value"], change)


def roles(at: Place) -> Iterator[Wrong]:
    """Patches of every layer and place; the clean run is that of the single ablations; probes reach at most 1."""
    arrays, number = at.arrays, at.params["patching"]["prompts"]
    for model in MODELS:
        axes, place = at.axes(model, number), f"{model}/patching/"
        ends = {"clean": "number: prompt", "corrupted": "number: prompt"}
        whole = {"whole_places": "text: place", **PATCHED, **PATCHED_HEADS}
        yield from layout(arrays, ends | whole, axes, place)
        yield from layout(arrays, {"named_places": "text: place", **PATCHED_INPUTS}, axes, place)
        promoted = {f"promoted/{token}": "flag: layer head prompt" for token in ("answer", "distractor")}
        yield from layout(arrays, promoted, at.axes(model), f"{model}/")
        if at.exact(model):
            unablated = at.arrays_of("influence")[f"{model}/unablated"]
            yield from close(f"{place}clean", arrays[f"{place}clean"], unablated[: axes["prompt"]])
        axes |= {"stage": len(arrays[f"{model}/probes/stages"]), "split": at.params["probes"]["splits"]}
        for path in [path for path in arrays if path.startswith(f"{model}/probes/") and path.count("/") == 3]:
            name = path.rpartition("/")[2]
            axis = "stage" if name.startswith("residual") else "layer head"
            form = {"chance": "number:", "title": "text:"}.get(name, f"number: {axis} split")
            yield from layout(arrays, {path: form}, axes)
            if name != "title":
                yield from within(path, arrays[path], -np.inf, 1)


def mlps(at: Place) -> Iterator[Wrong]:
    """Similarities follow from the stored directions; what layers add sums to the logit difference."""
    arrays, measured = at.arrays, at.arrays_of("influence")
    yield from nothing_else(arrays, *MLP_PAIRS, *of_both(*MLPS, "scatter"))
    axes = at.axes("teacher") | {"teacher_mlp": at.sizes("teacher").layers, "student_mlp": at.sizes("student").layers}
    yield from layout(arrays, MLP_PAIRS, axes | {"resample": at.params["mlps"]["resamples"]})
    for model in MODELS:
        own = at.axes(model) | {"stage": at.sizes(model).layers + 1, "direction": at.params["mlps"]["directions"]}
        yield from layout(arrays, MLPS, own, f"{model}/")
        yield from layout(arrays, {"scatter": "number: mlp scattered pos axis".replace("scattered", "prompt")},
                          at.axes(model, 32) | {"axis": 2}, f"{model}/")  # fmt: skip
        found = arrays[f"{model}/directions"]
        products = found @ found.swapaxes(1, 2)
        yield from close(
            f"{model}/directions, their products", products, np.eye(found.shape[1])[None].repeat(len(found), 0)
        )
        unablated, place = measured[f"{model}/unablated"], f"{model}/attribution_at_last/"
        if f"{place}constant" in arrays and at.exact(model):
            parts = [arrays[f"{place}{part}"] for part in ("embedding", "constant")]
            total = sum(parts) + sum(arrays[f"{place}{part}"].sum(1) for part in ("attention", "mlp"))
            yield from close(f"{place}*, their sum", total, unablated, 1e-3)
        ranks = [arrays[f"{model}/logit_lens/{token}_rank"][:, -1] for token in ("answer", "distractor")]
        clear = np.abs(unablated) > 1e-3
        ahead = (ranks[0] < ranks[1])[clear].tolist()
        yield from same(f"{model}/logit_lens, whether the answer leads", ahead, (unablated > 0)[clear].tolist())
    yield from of_pairs(at)


def of_pairs(at: Place) -> Iterator[Wrong]:
    """Similarity and overlap are those of the directions; single ablations are those of the sweep."""
    arrays, measured = at.arrays, at.arrays_of("influence")
    if arrays["measure"][0] == "directions":
        directions = [arrays[f"{model}/directions"] for model in MODELS]
        yield from close("similarity", arrays["similarity"], direction_similarity(*directions))
        yield from close("overlap", arrays["overlap"], subspace_overlap(*directions))
    else:
        yield from same("similarity", arrays["similarity"].tolist(), arrays["cka"].tolist())
    if "groups/alone" in arrays and at.exact("teacher"):
        rows = [not name.startswith("L") for name in measured["teacher/components"]]
        yield from close("groups/full", arrays["groups/full"], measured["teacher/unablated"])
        yield from close("groups/alone", arrays["groups/alone"], measured["teacher/ablated"][rows])


def shift(at: Place) -> Iterator[Wrong]:
    """Both models on every variant; the usual prompts are the first of the task's; heads are those that play a role."""
    arrays = at.arrays
    variants = list(arrays["variant"])
    texts = ("variant", "title", "example", "why_none")
    yield from layout(arrays, dict.fromkeys(texts, "text: variant"), {})
    measured = [name for name, why in zip(variants, arrays["why_none"], strict=True) if not why]
    names = [*texts, *of_both("heads"), *(f"{v}/{name}" for v in measured for name in of_both(*VARIANT))]
    yield from nothing_else(arrays, *names)
    played = at.json_of("roles_played")
    for model in MODELS:
        best = sorted({entry["best"] for entry in played[model].values() if entry["plays"]})
        yield from same(f"{model}/heads", list(arrays[f"{model}/heads"]), best)
        usual = at.axes(model, at.params["shift"]["prompts"])["prompt"]
        for variant in measured:
            number = usual if variant == measured[0] else at.params["shift"]["prompts"]
            yield from layout(arrays, VARIANT, {"prompt": number, "head": len(best)}, f"{variant}/{model}/")
        if at.exact(model):
            unablated = at.store.arrays(at.beside("influence.h5"))[f"{model}/unablated"]
            yield from close(f"{measured[0]}/{model}/full", arrays[f"{measured[0]}/{model}/full"], unablated[:usual])
    yield from holds("variant", bool(measured), "at least the usual prompts", variants)
