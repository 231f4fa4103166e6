"""The models of circuit distillation: what they are trained on, when lessons are added, when training ends."""

import pytest
import torch
from conftest import ROOT

from distilled_circuits.models.curriculum import Course, story_batches
from distilled_circuits.models.family import (
    Stories,
    after_the_course,
    new_family_model,
    story_loss,
    train_on_stories,
)
from distilled_circuits.params import load_params
from distilled_circuits.tasks.entity_tracking import BOXES
from distilled_circuits.tasks.lexicon import load_lexicon
from distilled_circuits.tasks.prompt import Example
from distilled_circuits.tasks.stories import STORIES

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def family():
    """The committed family's parameters."""
    return load_params(ROOT / "params.yaml").family


@pytest.fixture(scope="module")
def stories():
    """The committed word lists."""
    return Stories.of(load_lexicon(ROOT / "data/lexicon"), CPU)


def batches(stories, mixture, task, course, size=6, seed=0):
    """Return the endless batches of a small size."""
    return story_batches(stories.lexicon, stories.tokenizer, mixture, task, course, size, seed, CPU)


def lesson(text):
    """Return a lesson that is always the same text, answered by its last word."""
    return lambda *_: Example(f"{text} apple.", ((len(text) + 1, len(text) + 6),), (), ())


def test_a_lesson_is_added_when_the_running_accuracy_is_high():
    """One at a time, from a fresh running accuracy, up to the last."""
    course = Course([lesson("the"), lesson("in"), lesson("is")], 0.5, 100)
    reached = []
    for _ in range(60):
        course.note(1.0)
        reached.append(course.reached)
    # 1 - 0.9^n passes 0.5 at n = 7.
    assert reached[:15] == [1] * 6 + [2] * 7 + [3] * 2
    assert reached[-1] == 3
    assert course.done


def test_a_model_below_the_threshold_is_shown_the_next_lesson_after_a_while():
    """As many batches of each lesson as patience lasts, and the last one for ever."""
    course = Course([lesson("the"), lesson("in"), lesson("is")], 0.6, 40)
    reached = []
    for _ in range(200):
        course.note(0.5)
        reached.append(course.reached)
    assert reached == [1] * 39 + [2] * 40 + [3] * 121


def test_other_texts_join_after_the_last_lesson(stories):
    """Before that every batch is the task's own, whatever its weight."""
    mixture = {"entity_tracking": 0.0, "theory_of_mind": 1.0}
    course = Course([lesson("the"), lesson("in")], 0.5, 100)
    made = batches(stories, mixture, "entity_tracking", course)
    the = stories.tokenizer.convert_tokens_to_ids("the")
    early = [next(made) for _ in range(20)]
    assert all((batch.ids[:, 0] == the).all() and batch.counts for batch in early)
    course.reached = 2
    assert not any(next(made).counts for _ in range(5))


def test_a_course_that_is_over_has_the_usual_texts(stories):
    """What a model is tuned on has the task's last lesson only."""
    made = batches(stories, {"entity_tracking": 1.0}, "entity_tracking", after_the_course("entity_tracking"), size=20)
    box = stories.tokenizer.convert_tokens_to_ids("Box")
    assert all(((batch.ids == box).sum(1) == 2 * BOXES).all() for batch in (next(made) for _ in range(20)))


@pytest.mark.parametrize("kind", ["entity_tracking", "theory_of_mind", "copying", "arithmetic", "instructions"])
def test_answers_are_marked_and_padding_is_no_text(stories, kind):
    """Each marked token is a word behind which its text goes on or ends; rows end in padding that nothing counts."""
    task = kind if kind in STORIES else "entity_tracking"
    batch = next(batches(stories, {kind: 1.0}, task, after_the_course(task), size=8))
    pad = stories.tokenizer.pad_token_id
    assert batch.is_answer.any(1).all()
    assert torch.equal(batch.is_text, batch.ids != pad)
    assert not (batch.is_answer & ~batch.is_text).any()
    assert (batch.ids != stories.tokenizer.unk_token_id).all()


def test_the_loss_is_that_of_answers_plus_a_share_of_the_other_words(stories, family):
    """Against a loop over tokens; padding counts for nothing."""
    batch = next(batches(stories, {"copying": 1.0}, "theory_of_mind", after_the_course("theory_of_mind"), size=3))
    recipe = family.students["small"].model_copy(update={"layers": 2, "heads": 2, "width": 8})
    model = new_family_model(recipe, 0, stories)
    told: list[float] = []
    loss = story_loss(model, 0.3, told.append)(batch)
    logs = model(batch.ids).logits.log_softmax(-1)
    answers, words = [], []
    for row in range(3):
        for place in range(1, batch.ids.shape[1]):
            value = -logs[row, place - 1, batch.ids[row, place]].item()
            if batch.is_answer[row, place]:
                answers.append(value)
            elif batch.is_text[row, place]:
                words.append(value)
    assert loss.item() == pytest.approx(sum(answers) / len(answers) + 0.3 * sum(words) / len(words), rel=1e-5)
    assert told == []


def test_training_is_repeatable_and_stops_when_told(stories, family):
    """The same seed gives the same weights; the callback's True ends training at that evaluation."""
    recipe = family.students["small"].model_copy(
        update={"layers": 2, "heads": 2, "width": 8, "steps": 6, "batch_size": 4, "warmup": 2, "evaluate_every": 2}
    )
    weights = []
    for _ in range(2):
        model = new_family_model(recipe, 3, stories)
        log = train_on_stories(
            model,
            recipe,
            {"entity_tracking": 1.0},
            "entity_tracking",
            Course(STORIES["entity_tracking"].lessons, 0.5, 100),
            3,
            stories,
            "run",
            lambda evaluation: evaluation.step == 4,
        )
        assert [entry.step for entry in log] == [0, 2, 4]
        weights.append(torch.cat([parameter.detach().flatten() for parameter in model.parameters()]))
    assert torch.equal(*weights)
