"""A published number is compared where models, prompts and method are the same, and only there."""

import pytest

from distilled_circuits.report.comparability import verdict

GPT2 = {"teacher": "openai-community/gpt2", "student": "distilbert/distilgpt2"}
LAN = {"title": "Sequences of Lan et al.", "published_as": "numerals", "prompts": 384}
OURS = {"title": "Numeral sequence completion", "published_as": "", "prompts": 384}
MEASURED = {"value": 3.0, "interval95": [2.0, 4.0]}


def pair(sources: dict[str, str], ablation: str = "corrupted_mean") -> dict:
    """Return a pair of models of the hub, or trained here where a source is empty."""
    models = {side: {"source": {"hub": hub} if hub else {}} for side, hub in sources.items()}
    return {"pair": "mine", "models": models, "ablation": ablation}


def entry(value: float = 3.5, interval: list[float] | None = None, where: str = "Table 2", **setting) -> dict:
    """Return a published number of GPT2/DistilGPT2 on numerals."""
    setting = {"pair": "gpt2/distilgpt2", "task": "numerals", **setting}
    return {"where": where, "setting": setting, "value": value, "interval95": interval}


@pytest.mark.parametrize(
    ("published", "said"),
    [
        (entry(3.5), "reproduced within the interval"),
        (entry(4.5), "outside the interval"),
        (entry(4.5, [3.9, 5.0]), "reproduced within the interval"),
        (entry(1.0, [0.5, 1.9]), "outside the interval"),
        (entry(3.5, N=100), "reproduced within the interval (N = 100 there, 384 here)"),
    ],
)
def test_the_same_setting_is_judged_by_intervals(published, said):
    """The published value in ours, or the two intervals overlap."""
    assert verdict(published, MEASURED, pair(GPT2), LAN) == said


@pytest.mark.parametrize(
    ("published", "sources", "task", "why"),
    [
        (entry(), {"teacher": "", "student": ""}, LAN, "mine is not gpt2/distilgpt2"),
        (entry(), {"teacher": GPT2["student"], "student": GPT2["teacher"]}, LAN, "mine is not gpt2/distilgpt2"),
        (entry(), GPT2, OURS, "numeral sequence completion here has prompts of our own"),
        (entry(where="Table 3"), GPT2, LAN, "its notebook's teacher was damaged"),
        (entry(pair=None, model="bert"), GPT2, LAN, "mine is not bert"),
        (entry(pair="llama/minitron"), GPT2, LAN, "mine is not llama/minitron"),
    ],
)
def test_other_models_prompts_and_faulty_numbers_are_not_compared(published, sources, task, why):
    """And the reason is said."""
    assert verdict(published, MEASURED, pair(sources), task).startswith(f"not comparable, because {why}")


def test_one_model_of_another_pair_is_the_same_model():
    """A number of GPT-2 alone may be compared in any pair that has it."""
    mixed = {"teacher": GPT2["teacher"], "student": "distilbert/distilbert-base-uncased"}
    assert verdict(entry(pair=None, model="gpt2"), MEASURED, pair(mixed), LAN) == "reproduced within the interval"


def test_another_ablation_and_a_missing_interval_are_reasons_too():
    """Means over corrupted prompts are what those tables are of; without an interval nothing can be said."""
    zeroed = verdict(entry(), MEASURED, pair(GPT2, "zero"), LAN)
    assert zeroed == "not comparable, because components are ablated by zero here"
    assert verdict(entry(), {"value": 3.0}, pair(GPT2), LAN) == "not comparable, because no interval was measured"
    bert = {"teacher": "google-bert/bert-base-uncased", "student": "distilbert/distilbert-base-uncased"}
    faulty = verdict(entry(pair="bert/distilbert"), MEASURED, pair(bert), LAN)
    assert faulty == "not comparable, because its code set token positions to zero, not heads"
