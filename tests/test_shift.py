"""Prompts off the distribution are what they are called, and the verdict on brittleness follows the intervals."""

import random
import re

import numpy as np
import pytest

from distilled_circuits.comparison.shift_summary import answer_in_words, shift_summary
from distilled_circuits.tasks.registry import TASKS, vocabulary
from distilled_circuits.tasks.sequences import RANGE, VERBS
from distilled_circuits.tasks.shifts import shifts_of


@pytest.fixture(params=list(TASKS))
def task(request):
    """Each task in turn."""
    return request.param


def words(text: str) -> list[str]:
    """Return words and marks."""
    return re.findall(r"\w+|[^\w\s]", text)


def test_shifted_prompts_are_of_one_length_and_known_words(task, lexicon):
    """Every shift can be encoded by the models' own tokenizer, clean and corrupted, and is the same twice."""
    known = set(vocabulary(lexicon))
    for shift in shifts_of(task, lexicon).values():
        made = shift.prompts(30, random.Random(0))
        assert made == shift.prompts(30, random.Random(0))
        assert len({len(words(text)) for prompt in made for text in (prompt.clean, prompt.corrupted)}) == 1
        for prompt in made:
            assert {*words(prompt.clean), *words(prompt.corrupted), prompt.answer, prompt.distractor} <= known
            assert prompt.answer != prompt.distractor


def test_longer_prompts_are_longer(task, lexicon):
    """Longer than the task's own, by whole clauses or by words in between."""
    usual = TASKS[task].prompts(lexicon, 8, random.Random(0))[0]
    longer = shifts_of(task, lexicon)["longer"].prompts(8, random.Random(0))[0]
    assert len(words(longer.clean)) > len(words(usual.clean))


def test_larger_numbers_are_beyond_what_training_counts_to(lexicon):
    """Answers are above the range; training never counts up by one there, though it knows the numbers."""
    answers = {
        int(prompt.answer) for prompt in shifts_of("numerals", lexicon)["larger_numbers"].prompts(48, random.Random(0))
    }
    assert answers == {13, 14, 15, 16}
    rng = random.Random(1)
    seen = set()
    for _ in range(3000):
        numbers = [int(n) for n in re.findall(r"\d+", TASKS["numerals"].example(lexicon, rng).text)]
        seen |= set(numbers)
        if numbers[1] - numbers[0] == 1:
            assert max(numbers) <= RANGE
    assert answers <= seen


def test_a_list_without_larger_numbers_has_no_such_shift(lexicon):
    """Nothing is made up: word lists that end at the range leave the shift out."""
    from dataclasses import replace

    assert "larger_numbers" not in shifts_of("numerals", replace(lexicon, numerals=lexicon.numerals[:RANGE]))


def test_other_verbs_and_names_are_none_that_training_has_there(lexicon):
    """No verb of training where verbs stand, no name of the lists where names stand."""
    for prompt in shifts_of("words", lexicon)["other_verbs"].prompts(24, random.Random(0)):
        assert not set(words(prompt.clean)) & set(VERBS)
    for prompt in shifts_of("ioi", lexicon)["other_verbs"].prompts(24, random.Random(0)):
        assert not {"gave", "handed"} & set(words(prompt.clean))
    for prompt in shifts_of("ioi", lexicon)["other_names"].prompts(24, random.Random(0)):
        assert not set(words(prompt.clean)) & set(lexicon.names)
    for prompt in shifts_of("numerals", lexicon)["other_names"].prompts(24, random.Random(0)):
        kind = lexicon.objects if "born" in prompt.clean else lexicon.names
        assert set(words(prompt.clean)) & set(kind)
    trained = {TASKS["facts"].example(lexicon, random.Random(seed)).text.split("?")[0] for seed in range(400)}
    assert (
        not {p.clean.split("?")[0] for p in shifts_of("facts", lexicon)["other_verbs"].prompts(40, random.Random(0))}
        & trained
    )


def artifact(kept: dict[str, float], usual: float = 4.0) -> dict:
    """Return a shift artifact of one variant in which each model keeps a share of its logit difference."""
    noise = np.linspace(-0.2, 0.2, 40)
    found = {
        "variant": np.array(["usual", "longer", "odd"]),
        "title": np.array(["as in training", "longer ones", "odd ones"]),
        "example": np.array(["a", "b", "c"]),
        "why_none": np.array(["", "", "no such words"]),
    }
    for model, share in kept.items():
        found[f"{model}/heads"] = np.array(["L0H1"])
        for name, value in (("usual", usual), ("longer", usual * share)):
            full = value + noise
            found |= {
                f"{name}/{model}/full": full,
                f"{name}/{model}/correct": np.ones(40, dtype=bool),
                f"{name}/{model}/only_circuit": 0.8 * full,
                f"{name}/{model}/in_circuit": (0.8 - (0.2 if name == "usual" else 0.5)) * full[None],
            }
    return found


def summary_of(kept: dict[str, float], **changes) -> dict:
    """Return the summary with one head that plays a role in the teacher's circuit, and one outside the student's."""
    circuits = {"teacher": {"nodes": ["L0H1"], "why_none": None}, "student": {"nodes": ["L1H1"], "why_none": None}}
    entry = {"title": "successor head", "plays": True, "best": "L0H1"}
    played = {model: {"successor": entry} for model in kept}
    return shift_summary(artifact(kept, **changes), circuits, played, 200, np.random.default_rng(0))


def test_what_is_kept_and_who_keeps_less():
    """The student keeps half, the teacher three quarters: 25 points less, and the verdict says so."""
    summary = summary_of({"teacher": 0.75, "student": 0.5})
    usual, longer, odd = summary["variants"]
    assert usual["difference"] is None
    assert longer["teacher"]["kept"]["value"] == pytest.approx(75)
    assert longer["difference"]["value"] == pytest.approx(-25)
    assert longer["verdict"] == "student keeps less"
    assert odd["why_none"] == "no such words"
    assert answer_in_words(summary["variants"]).startswith("The student is more brittle off distribution")


def test_the_verdict_needs_an_interval_that_excludes_zero():
    """Equal shares show no difference; a student that keeps more is not more brittle."""
    assert summary_of({"teacher": 0.5, "student": 0.5})["variants"][1]["verdict"] == "no difference shown"
    more = summary_of({"teacher": 0.5, "student": 0.7})["variants"]
    assert more[1]["verdict"] == "student keeps more"
    assert "not more brittle" in answer_in_words(more)


def test_the_in_circuit_change_of_a_roles_head():
    """20 points on usual prompts, 50 on longer ones; a head outside the circuit has none."""
    teacher, student = summary_of({"teacher": 0.75, "student": 0.5})["roles"]
    assert teacher["changes"]["usual"]["value"] == pytest.approx(-20)
    assert teacher["changes"]["longer"]["value"] == pytest.approx(-50)
    assert not student["in_circuit"]
    assert student["changes"]["usual"] is None


def test_nothing_is_kept_of_nothing():
    """Without a logit difference on the usual prompts there are no shares, and no verdict."""
    variants = summary_of({"teacher": 0.5, "student": 0.5}, usual=0.0)["variants"]
    assert variants[1]["teacher"]["kept"] is None
    assert answer_in_words(variants) == "No shift could be measured against both models' usual prompts."


def test_a_model_that_prefers_the_distractor_keeps_nothing():
    """A ratio of two negative differences is no share: there is no verdict for such a model."""
    variants = summary_of({"teacher": 0.5, "student": 2.0}, usual=-2.0)["variants"]
    assert variants[1]["student"]["kept"] is None
    assert variants[1]["verdict"] == ""
