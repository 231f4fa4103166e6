"""The figures that say what an alignment score is worth, each with its caption."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from distilled_circuits.comparison.battery import SAME_FUNCTION
from distilled_circuits.comparison.variants import PRESETS
from distilled_circuits.figures.alignment import (
    battery_dots,
    gap_scatter,
    matched_pairs,
    noise_curve,
    size_curves,
    survey_curves,
)
from distilled_circuits.report.page import Picture
from distilled_circuits.stages.collect import TaskResults


def alignment_pictures(task: TaskResults, numbers: Mapping[str, Any], plateau: float) -> dict[str, Picture]:
    """Return the matched pairs of one task, and its curves under noise where they were measured."""
    shown = {}
    if "printed" in task.alignment["presets"]:
        matches = task.alignment["presets"]["printed"]["matches"]
        shown["matches"] = Picture.of(
            matched_pairs(matches),
            f"The {len(matches)} matched pairs behind the printed score; a pair on the dashed line has equal "
            "influence. Named are the largest influences that stand apart.",
            "matched pairs",
        )
    found = numbers["noise"]
    if found:
        shown["noise"] = Picture.of(
            noise_curve(found["level"], found["presets"], plateau),
            f"Noise on {found['reading']}. Mean over {found['seeds']} seeds, bars one standard deviation; the "
            "student's influence and similarity are redone at each level.",
            "alignment under noise",
        )
        if found["survey"]:
            shown["survey"] = Picture.of(
                survey_curves(found["survey"], [name for name in PRESETS if name in found["presets"]]),
                f"The other readings of “the student's activations”, mean over {found['survey'][0]['seeds']} seeds. "
                "Absolute noise is in the activation's own units, relative noise in its standard deviations.",
                "alignment under noise, by reading",
            )
    return shown


def pair_pictures(numbers: Mapping[str, Any]) -> dict[str, Picture]:
    """Return what all tasks of a pair show together: number of prompts, the battery, performance gaps."""
    tasks = numbers["tasks"]
    subsets = next(iter(tasks.values()))["alignment"]["by_size"]["subsets"]
    sizes = {task["title"]: task["alignment"]["by_size"] for task in tasks.values()}
    shown = _battery_pictures(tasks, numbers["battery"]["prompts"]) if numbers["battery"] else {}
    if all(set(PRESETS) <= set(found["presets"]) for found in sizes.values()):
        shown["sizes"] = Picture.of(
            size_curves(sizes, list(PRESETS)),
            f"Scores on fewer prompts: mean and range of {subsets} random choices of so many of them.",
            "alignment by number of prompts",
        )
    return shown


def _battery_pictures(tasks: Mapping[str, Any], prompts: int) -> dict[str, Picture]:
    candidates = {name: task["battery"] for name, task in tasks.items()}

    def values(preset: str, candidate: str) -> list[float]:
        columns = (found["variants"][preset][candidate] for found in candidates.values())
        return [value for column in columns for value in column if value is not None]

    def points(preset: str, candidate: str) -> list[tuple[float, float]]:
        return [
            (gap[found["candidates"].index(candidate)], value)
            for found in candidates.values()
            for gap, value in zip(found["gap"], found["variants"][preset][candidate], strict=True)
            if value is not None
        ]

    names = next(iter(candidates.values()))["candidates"]
    students = [name for name in names if name not in SAME_FUNCTION]
    return {
        "battery": Picture.of(
            battery_dots({preset: {name: values(preset, name) for name in names} for preset in PRESETS}),
            f"Every candidate by the three named scores: a dot for each task and judged teacher, N = {prompts} "
            "prompts; the stroke is their mean. Itself, permuted and rotated are one and the same function: anything "
            "but 1 is a failure of the score.",
            "the battery",
        ),
        "gaps": Picture.of(
            gap_scatter({preset: {name: points(preset, name) for name in students} for preset in PRESETS}),
            f"Alignment against the teacher's mean logit difference less the student's, N = {prompts} prompts: a dot "
            "for each task and judged teacher.",
            "alignment against performance gap",
        ),
    }
