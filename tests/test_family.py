"""The models of circuit distillation: what they are trained on, when the curriculum grows, when training ends."""

import random

import pytest
import torch
from conftest import ROOT

from distilled_circuits.models.curriculum import BoxCurriculum, story_batches
from distilled_circuits.models.family import Stories, new_family_model, story_loss, train_on_stories
from distilled_circuits.params import load_params
from distilled_circuits.tasks.lexicon import load_lexicon

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def family():
    """The committed family's parameters."""
    return load_params(ROOT / "params.yaml").family


@pytest.fixture(scope="module")
def stories(family):
    """The committed word lists and curriculum."""
    return Stories.of(load_lexicon(ROOT / "data/lexicon"), family.curriculum, CPU)


def batches(stories, mixture, curriculum, size=6, seed=0, terse=0.3):
    """Return the endless batches of a small size."""
    return story_batches(stories.lexicon, stories.tokenizer, mixture, curriculum, terse, size, seed, CPU)


def test_boxes_are_added_when_the_running_accuracy_is_high_and_no_more_than_asked():
    """One at a time, from a fresh running accuracy, up to the last."""
    curriculum = BoxCurriculum(2, 4, 0.5)
    grown = []
    for _ in range(60):
        curriculum.note(1.0)
        grown.append(curriculum.boxes)
    # 1 - 0.9^n passes 0.5 at n = 7.
    assert grown[:15] == [2] * 6 + [3] * 7 + [4] * 2
    assert grown[-1] == 4
    assert curriculum.done


def test_a_model_at_chance_is_never_shown_more_boxes():
    """Accuracy below the threshold leaves the curriculum where it is, for ever."""
    curriculum = BoxCurriculum(2, 7, 0.6)
    for _ in range(500):
        curriculum.note(0.5)
    assert curriculum.boxes == 2


def test_texts_have_up_to_as_many_boxes_as_the_curriculum_has_reached():
    """Half of them exactly as many, the others any number from the first on."""
    curriculum = BoxCurriculum(2, 5, 0.5)
    curriculum.boxes = 5
    drawn = [curriculum.draw(random.Random(seed)) for seed in range(400)]
    assert set(drawn) == {2, 3, 4, 5}
    assert 0.5 < drawn.count(5) / 400 < 0.75


def test_other_texts_join_when_all_boxes_are_there(stories):
    """Before that every batch is entity tracking, if the mixture has it; a mixture without it never waits."""
    mixture = {"entity_tracking": 0.0, "theory_of_mind": 1.0}
    young, grown = BoxCurriculum(2, 3, 0.5), BoxCurriculum(3, 3, 0.5)
    assert [next(batches(stories, mixture, young, terse=0.0, seed=seed)).counts for seed in range(3)] == [True] * 3
    assert [next(batches(stories, mixture, grown, terse=0.0, seed=seed)).counts for seed in range(3)] == [False] * 3
    without = batches(stories, {"theory_of_mind": 1.0}, BoxCurriculum(2, 3, 0.5), terse=0.0)
    assert not next(without).counts


def test_the_curriculum_does_not_go_by_terse_texts(stories):
    """A batch is terse or usual as a whole, in the share that is asked for."""
    made = batches(stories, {"entity_tracking": 1.0}, BoxCurriculum(2, 3, 0.5), terse=0.4)
    box = stories.tokenizer.convert_tokens_to_ids("Box")
    seen = [(batch.counts, bool((batch.ids == box).any())) for batch in (next(made) for _ in range(200))]
    assert set(seen) == {(True, True), (False, False)}
    assert 0.3 < seen.count((False, False)) / 200 < 0.5


@pytest.mark.parametrize("kind", ["entity_tracking", "theory_of_mind", "copying", "arithmetic", "instructions"])
def test_answers_are_marked_and_padding_is_no_text(stories, kind):
    """Each marked token is a word behind which its text goes on or ends; rows end in padding that nothing counts."""
    batch = next(batches(stories, {kind: 1.0}, BoxCurriculum(3, 3, 0.5), size=8))
    pad = stories.tokenizer.pad_token_id
    assert batch.is_answer.any(1).all()
    assert torch.equal(batch.is_text, batch.ids != pad)
    assert not (batch.is_answer & ~batch.is_text).any()
    assert (batch.ids != stories.tokenizer.unk_token_id).all()


def test_the_loss_is_that_of_answers_plus_a_share_of_the_other_words(stories, family):
    """Against a loop over tokens; padding counts for nothing."""
    batch = next(batches(stories, {"theory_of_mind": 1.0}, BoxCurriculum(2, 2, 0.5), size=3))
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
            3,
            stories,
            "run",
            lambda evaluation: evaluation.step == 4,
        )
        assert [entry.step for entry in log] == [0, 2, 4]
        weights.append(torch.cat([parameter.detach().flatten() for parameter in model.parameters()]))
    assert torch.equal(*weights)
