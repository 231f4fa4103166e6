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
"""Where they are alignment scores, Table 3 in one of its rows."""
FAULTS = {
    "bert/distilbert": "its code set token positions to zero, not heads",
    "gpt2/distilbert": "its code set channels of the residual stream and token positions to zero, not heads",
    "llama/minitron": "its code set channels of the residual stream to zero, not heads",
    "gpt2/distilgpt2": "its notebook's teacher was damaged: the same prompts give another logit difference elsewhere",
}
"""What is known of how the paper's alignment scores were made, by pair."""
OTHER_PROMPTS = {
    "bert": "its prompts are the first 101 of one kind, renumbered",
    "distilbert": "its prompts are the first 101 of one kind, renumbered",
    "llama": "its prompts have a space behind them, and most were read at another place",
    "minitron": "its prompts have a space behind them, and most were read at another place",
}
"""Models that the paper asked something else, by its names for them."""


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
    setting, where = entry["setting"], entry["where"]
    names = [OTHER_NAMES.get(name, name) for name in (setting.get("pair") or setting["model"]).split("/")]
    if not _are_these(names, pair):
        return f"{pair['pair']} is not {'/'.join(names)}"
    if task is None or not task["published_as"] or task["published_as"] != setting.get("task", task["published_as"]):
        return f"{task['title'].lower() if task else 'what was measured'} here has prompts of our own"
    if where in SCORES and entry["quantity"].startswith("alignment"):
        return FAULTS["/".join(names)]
    asked = next((OTHER_PROMPTS[name] for name in names if name in OTHER_PROMPTS), None)
    if asked:
        return asked
    if where in CORRUPTED_MEANS and pair["ablation"] != "corrupted_mean":
        return f"components are ablated by {pair['ablation'].replace('_', ' ')} here"
    return None


def _are_these(names: list[str], pair: dict[str, Any]) -> bool:
    """Return whether a pair's models are those that a number is of, each on its side."""
    sources = {side: found["source"].get("hub") for side, found in pair["models"].items()}
    expected = dict(zip(sources, names, strict=True)) if len(names) > 1 else {side_of(names[0]): names[0]}
    return all(sources[side] in MODELS[name] for side, name in expected.items())


def side_of(model: str) -> str:
    """Return which model of a pair a name of the paper means: a side, or the side that the model is on there."""
    if model in ("teacher", "student"):
        return model
    return "student" if model.startswith("distil") or "minitron" in model else "teacher"


def _numbers_of_prompts(entry: dict[str, Any], task: dict[str, Any] | None) -> str:
    there = entry["setting"].get("N")
    return f" (N = {there} there, {task['prompts']} here)" if there and task else ""
