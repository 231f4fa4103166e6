"""Invariants of the alignment score: worked out again from influence and similarity, and its resamples and curves."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import numpy as np

from distilled_circuits.audit.expect import close, holds, layout, nothing_else, same, within
from distilled_circuits.audit.findings import Wrong
from distilled_circuits.audit.place import Place
from distilled_circuits.comparison.alignment import PARTS, Alignment, aligned, alignment_score, applies
from distilled_circuits.comparison.battery import CANDIDATES, SAME_FUNCTION
from distilled_circuits.comparison.representations import ModelRecord, Summary, equal_weights
from distilled_circuits.comparison.scores import influence_scores, mean_drop
from distilled_circuits.comparison.similarity import Similarities
from distilled_circuits.comparison.variants import PRESETS, Variant, known_variants
from distilled_circuits.stages.job import MODELS
from distilled_circuits.stages.stored_records import stored_record

AGAIN = ("printed", "released")
"""Variants that are worked out again from the activations; the other one takes a second for each task."""


def alignment(at: Place) -> Iterator[Wrong]:
    """Every variant is what its name says; scores of pairs are their means, and come out again from what was stored."""
    content = at.json
    known = known_variants(at.params["alignment.custom"])
    yield from same("variants", list(content["variants"]), list(known))
    for name, variant in known.items():
        row = content["variants"][name]
        yield from same(f"variants.{name}.parts", row["parts"], asdict(variant))
        if row["why_none"] is None:
            yield from within(f"variants.{name}", [row["score"], row["mean_similarity"]], -1, 1)
            yield from within(f"variants.{name}.mean_agreement", row["mean_agreement"], 0, 1)
            least = "the mean similarity at most, where none is below 0"
            exceeds = variant.heads != "output" and row["score"] > row["mean_similarity"] + 1e-6
            yield from holds(f"variants.{name}.score", not exceeds, least, row["score"])
    records = {model: stored_record(at.inputs["influence"], at.inputs["activations"], model) for model in MODELS}
    possible = [name for name in PRESETS if applies(PRESETS[name], *records.values())]
    yield from same("presets", list(content["presets"]), possible)
    for name in possible:
        yield from matches(at, name)
    yield from again(at, records, [name for name in AGAIN if name in possible])


def matches(at: Place, name: str) -> Iterator[Wrong]:
    """Require that the score of a named variant is the mean over its stored pairs, of influences as ablated."""
    rows, said = at.json["presets"][name]["matches"], at.json["variants"][name]
    columns = {key: np.array([row[key] for row in rows]) for key in rows[0]}
    influences = [columns[f"{model}_influence"] for model in MODELS]
    found = alignment_score(influences[1], influences[0], columns["similarity"], columns["weight"])
    for part in PARTS:
        yield from close(f"variants.{name}.{part}", said[part], getattr(found, part), 1e-9)
    yield from close(f"variants.{name}.pairs", said["pairs"], columns["weight"].sum(), 1e-9)
    stored, variant = at.arrays_of("influence"), PRESETS[name]
    for model, influence in zip(MODELS, influences, strict=True):
        drop = mean_drop(*(stored[f"{model}/{key}"].astype(float) for key in ("unablated", "ablated")))
        components = list(stored[f"{model}/components"])
        index = [components.index(component) for component in columns[model]]
        over_pairs = variant.over == "pairs"
        expected = (
            influence_scores(drop[index], variant.influence, columns["weight"])
            if over_pairs
            else influence_scores(drop, variant.influence)[index]
        )
        yield from close(f"presets.{name}.matches, {model}_influence", influence, expected)
    chance = at.json["presets"][name]["chance"]
    for null in ("matching", "influence"):
        yield from within(f"presets.{name}.chance.{null}", list(chance[null].values()), -1, 1)


def again(at: Place, records: dict[str, ModelRecord], names: list[str]) -> Iterator[Wrong]:
    """Scores come out again from the stored activations and ablations, with the same pairs."""
    weights = equal_weights(len(records["teacher"].unablated))
    summaries = [Summary(record, weights, at.params["mlps.directions"]) for record in records.values()]
    found = Similarities(*summaries)
    components = [list(at.arrays_of("influence")[f"{model}/components"]) for model in MODELS]
    for name in names:
        result = aligned(found, PRESETS[name])
        for part in PARTS:
            said = at.json["variants"][name][part]
            yield from close(f"variants.{name}.{part}", said, getattr(result.score, part)[0], 1e-3)
        yield from same(f"presets.{name}.matches, pairs", _stored(at.json["presets"][name]), _named(result, components))


def _stored(preset: dict[str, Any]) -> list[tuple[str, str]]:
    return [(row["teacher"], row["student"]) for row in preset["matches"]]


def _named(result: Alignment, components: list[list[str]]) -> list[tuple[str, str]]:
    pairs = zip(result.teacher[0].tolist(), result.student[0].tolist(), strict=True)
    return [(components[0][one], components[1][other]) for one, other in pairs]


def sampling(at: Place) -> Iterator[Wrong]:
    """As many resamples and choices of prompts as asked for, of the variants that alignment.json has."""
    arrays, asked = at.arrays, {name: at.params[f"alignment.{name}"] for name in ("resamples", "subsets", "sizes")}
    scored = at.json_of("alignment")
    names = [name for name, row in scored["variants"].items() if row["why_none"] is None]
    form = {
        "variants": "text: variant",
        "presets": "text: preset",
        "sizes": "count: size",
        "score": "score: variant resample",
        "mean_similarity": "score: variant resample",
        "mean_agreement": "share: variant resample",
        "score_by_size": "score: preset size subset",
    }
    yield from nothing_else(arrays, *form)
    sizes = {"variant": len(names), "resample": asked["resamples"], "subset": asked["subsets"]}
    yield from layout(arrays, form, sizes | {"preset": len(scored["presets"])})
    yield from same("variants", list(arrays["variants"]), names)
    yield from same("presets", list(arrays["presets"]), list(scored["presets"]))
    number = len(at.arrays_of("influence")["teacher/unablated"])
    expected = [size for size in sorted(asked["sizes"]) if size <= number] or [number // 2]
    yield from same("sizes", arrays["sizes"].tolist(), expected)
    for row, name in enumerate(names):
        spread, said = arrays["mean_agreement"][row], scored["variants"][name]["mean_agreement"]
        reach = 6 * spread.std() + 0.1
        yield from within(
            f"mean_agreement, {name}, its mean less alignment.json's", spread.mean() - said, -reach, reach
        )
    for row, name in enumerate(scored["presets"]):
        if int(arrays["sizes"][-1]) == number:  # every choice of all prompts is all prompts
            scores = arrays["score_by_size"][row, -1]
            yield from close(
                f"score_by_size, {name}", scores, np.full_like(scores, scored["variants"][name]["score"]), 1e-3
            )


def battery(at: Place) -> Iterator[Wrong]:
    """All candidates by all variants; the printed score of a teacher with itself is one."""
    arrays, known = at.arrays, known_variants(at.params["alignment.custom"])
    resampled = dict.fromkeys(PARTS, "score or nan: replica candidate variant resample")
    drawn = {f"shuffled_{null}": "score or nan: replica variant draw" for null in ("matching", "influence")}
    means = {"logit_difference": "number: replica candidate", "mean_drop": "number or nan: replica candidate"}
    texts = {"judged": "count: replica", "candidates": "text: candidate", "variants": "text: variant"}
    form = {**texts, **resampled, **drawn, **means}
    sizes = {"resample": 1 + at.params["battery.resamples"], "draw": at.params["battery.draws"]}
    yield from nothing_else(arrays, *form)
    yield from layout(arrays, form, sizes)
    yield from same("judged", arrays["judged"].tolist(), at.params["battery.judged"])
    yield from same("candidates", list(arrays["candidates"]), list(CANDIDATES))
    yield from same("variants", list(arrays["variants"]), list(known))
    itself, printed = list(CANDIDATES).index("itself"), list(known).index("printed")
    yield from close("score, printed, itself", arrays["score"][:, itself, printed, 0], np.ones(len(arrays["judged"])))
    drops = arrays["mean_drop"][~np.isnan(arrays["mean_drop"])]
    yield from within("mean_drop", drops, 0, 100)
    same_function = [list(CANDIDATES).index(name) for name in SAME_FUNCTION]
    differences = arrays["logit_difference"][:, same_function]
    yield from close(
        "logit_difference, the teacher in other clothes", differences, differences[:, :1].repeat(3, 1), 1e-3
    )
    if at.exact("teacher") and arrays["judged"][0] == 0:
        stored = at.store.arrays(at.beside("influence.h5"))["teacher/unablated"]
        mean = stored[: at.params["battery.prompts"]].mean()
        yield from close("logit_difference, itself", arrays["logit_difference"][0, itself], mean, 1e-3)


def noise(at: Place) -> Iterator[Wrong]:
    """Curves begin without noise, where all seeds agree, and rise by the step that was asked for."""
    arrays = at.arrays
    presets = list(arrays["main/presets"])
    settings = {"main": at.params["noise.levels"], "survey": at.params["noise.survey"]}
    seeds = {"main": len(at.params["noise.seeds"]), "survey": len(at.params["noise.survey"]["seeds"])}
    readings = {"main": 1, "survey": len(at.params["noise.readings"])}
    form = {
        "readings": "text: reading",
        "presets": "text: preset",
        "level": "number: level",
        "score": "score: reading preset level seed",
        "mean_similarity": "score: reading preset level seed",
        "mean_agreement": "share: reading preset level seed",
    }
    parts = [part for part in settings if readings[part]] if presets else []
    yield from nothing_else(arrays, *(f"{part}/{name}" for part in parts or ["main"] for name in form))
    for part in parts:
        sizes = {"seed": seeds[part], "reading": readings[part], "preset": len(presets)}
        yield from layout(arrays, form, sizes, f"{part}/")
        step, stop, levels = settings[part]["step"], settings[part]["stop"], arrays[f"{part}/level"]
        yield from close(f"{part}/level", levels, step * np.arange(int(np.floor(stop / step + 1e-9)) + 1))
        first = arrays[f"{part}/score"][:, :, 0]
        yield from close(f"{part}/score, without noise", first, np.broadcast_to(first[:1, :, :1], first.shape))
    yield from without_noise(at, presets if parts else [])


def without_noise(at: Place, presets: list[str]) -> Iterator[Wrong]:
    """Without noise the score is that of the stored pair on as many prompts."""
    if not presets or not at.exact("student"):
        return
    number = at.params["noise.prompts"]
    paths = at.inputs["influence"], at.inputs["activations"]
    records = [stored_record(*paths, model, number) for model in MODELS]
    weights = equal_weights(len(records[0].unablated))
    found = Similarities(*(Summary(record, weights, at.params["mlps.directions"]) for record in records))
    for row, name in enumerate(presets):
        if name in AGAIN:
            variant: Variant = PRESETS[name]
            score = float(aligned(found, variant).score.score[0])
            yield from close(f"main/score, {name}, without noise", at.arrays["main/score"][0, row, 0, 0], score, 1e-3)
