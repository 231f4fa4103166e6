"""A published number is compared where models, prompts and method are the same, and only there."""

import json

import pytest
from conftest import ROOT

from distilled_circuits.report.comparability import verdict

GPT2 = {"teacher": "openai-community/gpt2", "student": "distilbert/distilgpt2"}
BERT = {"teacher": "google-bert/bert-base-uncased", "student": "distilbert/distilbert-base-uncased"}
LLAMA = {"teacher": "meta-llama/Llama-3.1-8B", "student": "nvidia/Llama-3.1-Minitron-4B-Depth-Base"}
LAN = {"title": "Numerals, Lan et al.", "published_as": "numerals", "prompts": 384}
OURS = {"title": "Numeral sequence completion", "published_as": "", "prompts": 384}
MEASURED = {"value": 3.0, "interval95": [2.0, 4.0]}


def pair(sources: dict[str, str], ablation: str = "corrupted_mean") -> dict:
    """Return a pair of models of the hub, or trained here where a source is empty."""
    models = {side: {"source": {"hub": hub} if hub else {}} for side, hub in sources.items()}
    return {"pair": "mine", "models": models, "ablation": ablation}


def entry(
    value: float = 3.5, interval: list[float] | None = None, where: str = "Table 2", quantity: str = "drop", **setting
) -> dict:
    """Return a published number of GPT2/DistilGPT2 on numerals."""
    setting = {"pair": "gpt2/distilgpt2", "task": "numerals", **setting}
    return {"where": where, "quantity": quantity, "setting": setting, "value": value, "interval95": interval}


@pytest.mark.parametrize(
    ("published", "said"),
    [
        (entry(3.5), "reproduced within the interval"),
        (entry(4.5), "outside the interval"),
        (entry(4.5, [3.9, 5.0]), "reproduced within the interval"),
        (entry(1.0, [0.5, 1.9]), "outside the interval"),
        (entry(3.5, N=100), "reproduced within the interval (N = 100 there, 384 here)"),
        (entry(3.5, where="Table 3", quantity="mean of logit differences"), "reproduced within the interval"),
        (entry(pair=None, model="distilgpt2", where="Table 4"), "reproduced within the interval"),
    ],
)
def test_the_same_setting_is_judged_by_intervals(published, said):
    """The published value in ours, or the two intervals overlap; logit differences of Table 3 are no scores."""
    assert verdict(published, MEASURED, pair(GPT2), LAN) == said


@pytest.mark.parametrize(
    ("published", "sources", "task", "why"),
    [
        (entry(), {"teacher": "", "student": ""}, LAN, "mine is not gpt2/distilgpt2"),
        (entry(), {"teacher": GPT2["student"], "student": GPT2["teacher"]}, LAN, "mine is not gpt2/distilgpt2"),
        (entry(pair=None, model="gpt2"), {"teacher": "gpt2-medium", "student": "gpt2"}, LAN, "mine is not gpt2"),
        (entry(), GPT2, OURS, "numeral sequence completion here has prompts of our own"),
        (entry(task=None), GPT2, None, "what was measured here has prompts of our own"),
        (entry(where="Table 3", quantity="alignment"), GPT2, LAN, "its notebook's teacher was damaged"),
        (entry(pair=None, model="bert"), GPT2, LAN, "mine is not bert"),
        (entry(pair="llama/minitron"), GPT2, LAN, "mine is not llama/minitron"),
        (entry(pair="bert/distilbert"), BERT, LAN, "its prompts are the first 101 of one kind, renumbered"),
        (entry(pair=None, model="llama-3.1-8b"), LLAMA, LAN, "its prompts have a space behind them"),
        (entry(pair="llama/minitron", where="Table 5", quantity="alignment"), LLAMA, LAN, "its code set channels"),
    ],
)
def test_other_models_prompts_and_faulty_numbers_are_not_compared(published, sources, task, why):
    """And the reason is said."""
    assert verdict(published, MEASURED, pair(sources), task).startswith(f"not comparable, because {why}")


def test_a_number_whose_setting_names_no_task_is_of_the_prompts_that_it_was_measured_on():
    """Appendix L says no task: the paper's own prompts are compared, ours are not."""
    published = entry(3.5, where="Appendix L")
    del published["setting"]["task"]
    assert verdict(published, MEASURED, pair(GPT2), LAN) == "reproduced within the interval"
    assert "prompts of our own" in verdict(published, MEASURED, pair(GPT2), OURS)


def test_one_model_of_another_pair_is_the_same_model():
    """A number of GPT-2 alone may be compared in any pair that has it on the same side."""
    mixed = {"teacher": GPT2["teacher"], "student": BERT["student"]}
    assert verdict(entry(pair=None, model="gpt2"), MEASURED, pair(mixed), LAN) == "reproduced within the interval"


def test_another_ablation_and_a_missing_interval_are_reasons_too():
    """Means over corrupted prompts are what those tables are of; without an interval nothing can be said."""
    zeroed = verdict(entry(), MEASURED, pair(GPT2, "zero"), LAN)
    assert zeroed == "not comparable, because components are ablated by zero here"
    assert verdict(entry(), {"value": 3.0}, pair(GPT2), LAN) == "not comparable, because no interval was measured"


def test_every_published_number_has_a_verdict_in_every_pair():
    """No setting of the register is one that nobody thought of."""
    published = json.loads((ROOT / "data/published_numbers.json").read_text())
    for number in published:
        if number["paper"].startswith("2505"):
            for sources in (GPT2, BERT, LLAMA, {"teacher": GPT2["teacher"], "student": BERT["student"]}):
                assert verdict(number, MEASURED, pair(sources), LAN)
