"""Prompts have the form that the papers describe, are unseen in training, and are encoded without surprises."""

import itertools
import json
import random
import re

import pytest
from lan2024 import lan_folder, needs_lan

from distilled_circuits.errors import UserError
from distilled_circuits.models.tokenizer import word_level_tokenizer
from distilled_circuits.tasks.lexicon import load_lexicon
from distilled_circuits.tasks.prompt import Example, compose, is_held_out, scatter, spread
from distilled_circuits.tasks.registry import TASKS, vocabulary

CLAUSE = re.compile(r"(\w+) (\w+) in(?: (\w+)\.)?")


@pytest.fixture(scope="module")
def tokenizer(lexicon):
    """The models' own tokenizer."""
    return word_level_tokenizer(vocabulary(lexicon))


def structure(text: str, correct: str, incorrect: str, elements: list[str]) -> dict:
    """Return what the form of Lan et al. fixes of a sequence prompt, read from its text alone."""
    clauses = CLAUSE.findall(text)
    shown = [elements.index(element) + 1 for _, _, element in clauses[:-1]]
    return {
        "clauses": len(clauses),
        "text is clauses": " ".join(f"{w} {v} in" + (f" {e}." if e else "") for w, v, e in clauses) == text,
        "one verb": len({verb for _, verb, _ in clauses}),
        "open end": clauses[-1][2] == "",
        "steps": [b - a for a, b in itertools.pairwise(shown)],
        "start in 1..8": 1 <= shown[0] <= 8,
        "answer follows": elements.index(correct) + 1 == shown[-1] + 1,
        "distractor is last": elements.index(incorrect) + 1 == shown[-1],
        "subjects capitalised": all(word[0].isupper() for word, _, _ in clauses),
    }


NUMBERS = {
    "numerals": [str(n) for n in range(1, 14)],
    "words": [
        "one",
        "two",
        "three",
        "four",
        "five",
        "six",
        "seven",
        "eight",
        "nine",
        "ten",
        "eleven",
        "twelve",
        "more",
    ],
}


@pytest.mark.parametrize("task", ["numerals", "words"])
def test_sequences_have_the_published_form(task, lexicon):
    """Five clauses of one verb, four consecutive elements, the last clause open; starts cycle through 1 to 8."""
    prompts = TASKS[task].prompts(lexicon, 48, random.Random(0))
    for prompt in prompts:
        found = structure(prompt.clean, prompt.answer, prompt.distractor, NUMBERS[task])
        assert found == {
            "clauses": 5,
            "text is clauses": True,
            "one verb": 1,
            "open end": True,
            "steps": [1, 1, 1],
            "start in 1..8": True,
            "answer follows": True,
            "distractor is last": True,
            "subjects capitalised": True,
        }
    done = [prompt for prompt in prompts if " done " in prompt.clean]
    assert [NUMBERS[task].index(CLAUSE.search(prompt.clean).group(3)) for prompt in done] == [*range(8), *range(8)]


@needs_lan
@pytest.mark.parametrize(("task", "published"), [("numerals", "numerals"), ("words", "numwords")])
def test_sequences_have_the_structure_of_lan_et_als_files(task, published, lexicon):
    """Published and own prompts read alike: same clauses, verbs, steps, starts in cycles, answer and distractor."""
    own = TASKS[task].prompts(lexicon, 48, random.Random(0))
    for kind, verb in (("done", "done"), ("lost", "lost"), ("names", "born")):
        rows = json.loads((lan_folder() / f"{published}_prompts_{kind}.json").read_text())
        theirs = [structure(r["text"], r["corr"].strip(), r["incorr"].strip(), NUMBERS[task]) for r in rows]
        ours = [structure(p.clean, p.answer, p.distractor, NUMBERS[task]) for p in own if f" {verb} " in p.clean]
        assert all(found == theirs[0] for found in theirs + ours)
        assert {CLAUSE.search(row["text"]).group(2) for row in rows} == {verb}
        starts = [NUMBERS[task].index(row["S1"].strip()) for row in rows]
        assert starts == [row % 8 for row in range(len(rows))]


@needs_lan
@pytest.mark.parametrize(("task", "published"), [("numerals", "randDS_numerals"), ("words", "randDS_numwords")])
def test_corruption_has_the_structure_of_lan_et_als_files(task, published, lexicon):
    """Corrupted prompts keep every word but the elements, and never end in a step of +1."""
    elements = [*NUMBERS[task], *(str(n) for n in range(13, 200))]
    rows = json.loads((lan_folder() / f"{published}.json").read_text())
    own = [prompt.corrupted for prompt in TASKS[task].prompts(lexicon, 48, random.Random(0))]
    for text in [row["text"] for row in rows] + own:
        clauses = CLAUSE.findall(text)
        third, last = (elements.index(clauses[n][2]) for n in (2, 3))
        assert len(clauses) == 5 and clauses[-1][2] == ""
        assert last != third + 1


def test_indirect_objects_are_those_of_wang_et_al(lexicon):
    """Two names, one of them twice; the other is the answer; both orders; the corrupted prompt repeats no name."""
    prompts = TASKS["ioi"].prompts(lexicon, 40, random.Random(0))
    orders = set()
    for prompt in prompts:
        names = [word for word in re.findall(r"\w+", prompt.clean) if word in lexicon.names]
        assert names.count(prompt.answer) == 1
        assert names.count(prompt.distractor) == 2
        orders.add(names.index(prompt.answer))
        others = [word for word in re.findall(r"\w+", prompt.corrupted) if word in lexicon.names]
        assert len(set(others)) == 3
        assert not set(others) & set(names)
        for role, name in (("io", prompt.answer), ("s1", prompt.distractor), ("s2", prompt.distractor)):
            (start, end), *_ = prompt.roles[role]
            assert prompt.clean[start:end] == name
    assert orders == {0, 1}


def test_facts_are_asked_with_a_distractor_of_the_same_type(lexicon):
    """Answer and distractor are both towns or both crafts, and the corrupted question is about somebody else."""
    answers = {(fact.person, fact.relation): fact.answer for fact in lexicon.facts}
    of_relation = {r: {f.answer for f in lexicon.facts if f.relation == r} for r in ("town", "craft")}
    for prompt in TASKS["facts"].prompts(lexicon, 60, random.Random(0)):
        (start, end), *_ = prompt.roles["subject"]
        person = prompt.clean[start:end]
        relation = next(r for r in of_relation if answers[person, r] == prompt.answer)
        assert prompt.distractor in of_relation[relation] - {prompt.answer}
        assert person not in prompt.corrupted


def test_too_many_facts_are_an_error_with_a_remedy(lexicon):
    """There are only so many questions; asking for more says how many."""
    with pytest.raises(UserError, match=r"facts\.csv makes only 384: lower prompts\.number"):
        TASKS["facts"].prompts(lexicon, 385, random.Random(0))


@pytest.mark.parametrize("task", [t for t in TASKS if t != "facts"])
def test_training_never_shows_a_prompt(task, lexicon):
    """Prompts come from the held-out fifth of texts, training texts from the rest."""
    prompts = TASKS[task].prompts(lexicon, 60, random.Random(0))
    assert all(is_held_out(prompt.clean) for prompt in prompts)
    assert len({prompt.clean for prompt in prompts}) == 60
    rng = random.Random(1)
    for _ in range(300):
        example = TASKS[task].example(lexicon, rng)
        start = example.answers[-1][0]
        assert not is_held_out(example.text[:start].rstrip())


@pytest.mark.parametrize("task", list(TASKS))
def test_prompts_depend_on_the_seed_alone(task, lexicon):
    """The same seed gives the same prompts, another seed others."""
    first, again, other = (TASKS[task].prompts(lexicon, 24, random.Random(seed)) for seed in (3, 3, 4))
    assert first == again != other


@pytest.mark.parametrize("task", list(TASKS))
def test_every_text_is_in_the_vocabulary(task, lexicon, tokenizer):
    """No prompt and no training text, with fillers or without, becomes an unknown token."""
    rng = random.Random(0)
    texts = [TASKS[task].example(lexicon, rng) for _ in range(200)]
    scattered = [scatter(example, lexicon.fillers, 0.5, rng).text for example in texts]
    prompts = TASKS[task].prompts(lexicon, 40, rng)
    for text in [*(e.text for e in texts), *scattered, *(p.clean for p in prompts), *(p.corrupted for p in prompts)]:
        assert tokenizer.unk_token_id not in tokenizer(text)["input_ids"], text


def test_training_counts_up_and_down_by_one_and_two(lexicon):
    """All four steps occur, so that the last element alone does not tell the next one."""
    rng = random.Random(0)
    steps = set()
    for _ in range(200):
        numbers = [int(n) for n in re.findall(r"\d+", TASKS["numerals"].example(lexicon, rng).text)]
        assert len({b - a for a, b in itertools.pairwise(numbers)}) == 1
        steps.add(numbers[1] - numbers[0])
    assert steps == {1, 2, -1, -2}


def test_fillers_move_answers_but_do_not_touch_them():
    """Words go into gaps only, and the spans of answers still cover them."""
    example = Example("Hat done in 1. Van done in 2.", ((27, 28),), gaps=(0, 4, 15, 19), decoys=("7",))
    rng = random.Random(0)
    for _ in range(50):
        moved = scatter(example, ("now", "then"), 0.7, rng)
        (start, end), *_ = moved.answers
        assert moved.text[start:end] == "2"
        assert re.sub(r"\b(now|then)( 7)? ", "", moved.text) == example.text


def test_pieces_are_joined_and_remembered():
    """A piece with role names leaves its span under each of them."""
    text, roles = compose(["in ", ("one", "numeral last"), " and ", ("two", "numeral")])
    assert text == "in one and two"
    assert roles == {"numeral": ((3, 6), (11, 14)), "last": ((3, 6),)}


def test_a_missing_word_list_is_named(tmp_path):
    """The error names the file and how to get it back."""
    with pytest.raises(UserError, match=r"objects\.txt: no such word list; restore it with `git checkout"):
        (tmp_path / "numerals.csv").write_text("numeral,word\n1,one\n")
        load_lexicon(tmp_path)


@pytest.mark.parametrize("task", list(TASKS))
def test_spread_prompts_keep_their_roles_and_move_them(task, lexicon):
    """Fillers go in front or into gaps: the same words play the roles, at other places from prompt to prompt."""
    rng = random.Random(3)
    made = TASKS[task].prompts(lexicon, 24, rng)
    spread_out = [spread(prompt, lexicon.fillers, 6, rng) for prompt in made]
    for before, after in zip(made, spread_out, strict=True):
        for role, spans in before.roles.items():
            old, new = (
                [text[a:b] for a, b in found]
                for text, found in ((before.clean, spans), (after.clean, after.roles[role]))
            )
            assert old == new, role
        words, longer = before.clean.split(), after.clean.split()
        assert len(longer) == len(words) + 6
        assert [word for word in longer if word not in lexicon.fillers] == [
            w for w in words if w not in lexicon.fillers
        ]
        assert after.answer == before.answer
    places = {after.roles["subject"][0] for after in spread_out}
    assert len(places) > 6
