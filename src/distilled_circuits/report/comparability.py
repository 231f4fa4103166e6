"""Whether a published number and a measured one are of the same thing, and whether they agree."""

from __future__ import annotations

from typing import Any

MODELS = {
    "gpt2": ("openai-community/gpt2", "gpt2"),
    "distilgpt2": ("distilbert/distilgpt2", "distilgpt2"),
    "bert": ("google-bert/bert-base-uncased", "bert-base-uncased"),
    "distilbert": ("distilbert/distilbert-base-uncased", "distilbert-base-uncased"),
    "llama": ("meta-llama/Llama-3.1-8B", "meta-llama/Meta-Llama-3.1-8B"),
    "minitron": ("nvidia/Llama-3.1-Minitron-4B-Depth-Base",),
}
"""The first paper's models by its names for them, as repositories of the hub."""
OTHER_NAMES = {"llama-3.1-8b": "llama", "minitron-4b-depth": "minitron"}
CORRUPTED_MEANS = ("Table 1", "Table 2", "3.1.1", "Appendix L", "Appendix N")
"""Where the paper's numbers are of ablation by means over corrupted prompts."""
SCORES = ("Table 3", "Table 5", "4.2.1")
"""Where they are alignment scores."""
FAULTS = {
    "bert/distilbert": "its code set token positions to zero, not heads",
    "gpt2/distilbert": "its code set channels of the residual stream and token positions to zero, not heads",
    "llama/minitron": "its code set channels of the residual stream to zero, not heads",
    "gpt2/distilgpt2": "its notebook's teacher was damaged: the same prompts give another logit difference elsewhere",
}
"""What is known of how the paper's alignment scores were made, by pair."""


def verdict(entry: dict[str, Any], measured: dict[str, Any], pair: dict[str, Any], task: dict[str, Any] | None) -> str:
    """Say of a published number and ours: reproduced within the interval, outside, or not comparable, and why.

    `task` is what the number was measured on, None where it is of no task. Reproduced: the published value is in our
    95 % interval, or the published interval overlaps with it.
    """
    why = _why_not(entry, pair, task)
    if why:
        return f"not comparable, because {why}"
    if not measured.get("interval95"):
        return "not comparable, because no interval was measured"
    low, high = measured["interval95"]
    published = entry.get("interval95") or [entry["value"], entry["value"]]
    inside = published[0] <= high and low <= published[1]
    return f"{'reproduced within' if inside else 'outside'} the interval{_numbers_of_prompts(entry, task)}"


def _why_not(entry: dict[str, Any], pair: dict[str, Any], task: dict[str, Any] | None) -> str | None:
    setting = entry["setting"]
    other = _other_models(setting, pair)
    if other:
        return other
    if task is not None and task["published_as"] != setting.get("task"):
        return f"{task['title'].lower()} here has prompts of our own"
    if entry["where"] in CORRUPTED_MEANS and pair["ablation"] != "corrupted_mean":
        return f"components are ablated by {pair['ablation'].replace('_', ' ')} here"
    if setting.get("pair") in FAULTS and (
        entry["where"] in SCORES or (setting["pair"] == "bert/distilbert" and entry["where"] in CORRUPTED_MEANS)
    ):
        return FAULTS[setting["pair"]]
    return None


def _other_models(setting: dict[str, Any], pair: dict[str, Any]) -> str | None:
    """Say which models these are, where they are not the ones that the number is of."""
    sources = {side: found["source"].get("hub") for side, found in pair["models"].items()}
    wanted = (setting.get("pair") or setting["model"]).split("/")
    # A number of one model alone says so; a pair is named teacher first.
    expected = dict(zip(("teacher", "student"), wanted, strict=True)) if len(wanted) > 1 else {"": wanted[0]}
    for side, name in expected.items():
        known = MODELS[OTHER_NAMES.get(name, name)]
        found = {sources[side]} if side else set(sources.values())
        if not found & set(known):
            return f"{pair['pair']} is not {'/'.join(wanted)}"
    return None


def _numbers_of_prompts(entry: dict[str, Any], task: dict[str, Any] | None) -> str:
    there = entry["setting"].get("N")
    return f" (N = {there} there, {task['prompts']} here)" if there and task else ""
