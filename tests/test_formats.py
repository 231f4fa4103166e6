"""Prompt files of every form: what is read, compared with what was worked out by hand, and what is refused."""

import csv
import hashlib
import io
import itertools
import json
import os
import pickle
import random
import re

import pytest
from lan2024 import lan_folder, needs_lan

from distilled_circuits.errors import UserError
from distilled_circuits.tasks.formats import FORMATS, read_prompts
from distilled_circuits.tasks.lexicon import load_lexicon
from distilled_circuits.tasks.registry import TASKS
from distilled_circuits.tasks.safe_pickle import load_plain


def read(name, *paths, digests=(), seed=0):
    """Read files as a run does."""
    return read_prompts(name, paths, digests, random.Random(seed))


def refused(message, name, *paths, digests=()):
    """Check that reading ends in one line that matches `message`."""
    with pytest.raises(UserError, match=message) as raised:
        read(name, *paths, digests=digests)
    assert "\n" not in str(raised.value)


def words_at(prompt, role):
    """Return the words that play a role in a prompt."""
    return [prompt.clean[start:end] for start, end in prompt.roles[role]]


# ------------------------------------------------------------------------------------------------ files and digests


@pytest.fixture
def sentences(tmp_path):
    """A file of four sentences about indirect objects, with five names and more."""
    path = tmp_path / "ioi.txt"
    path.write_text(
        "Then, Mary and John went to the store. John gave a drink to Mary.\n"
        "When Anna and Ben sat in the park, Anna handed a kiss to Ben\n"
        "\n"
        "Friends Eve and O'Neil found a ring. Eve gave it to O'Neil\n"
    )
    return path


def test_a_file_is_read_when_its_digest_is_the_expected_one(sentences):
    """Digests may be in capitals; without any the file is taken as it is."""
    digest = hashlib.sha256(sentences.read_bytes()).hexdigest()
    assert read("ioi", sentences) == read("ioi", sentences, digests=[digest.upper()])


def test_another_file_than_the_expected_one_is_refused(sentences):
    """The line names the file, both digests, and what the difference means."""
    found = hashlib.sha256(sentences.read_bytes()).hexdigest()
    message = rf"ioi\.txt: SHA-256 {found}, expected {'0' * 64}: the file differs from the one that params\.yaml was"
    refused(message, "ioi", sentences, digests=["0" * 64])


def test_a_missing_file_is_named_with_a_remedy(sentences):
    """A folder is no file either."""
    refused(r"gone\.txt: no such file; docs/data\.md says where to get it", "ioi", sentences.with_name("gone.txt"))
    refused(r"no such file; docs/data\.md says where to get it", "ioi", sentences.parent)


def test_a_mistake_in_sources_names_the_key(sentences):
    """Another number of files, of digests, and a format that there is not."""
    refused(
        r"params\.yaml: sources: 1 files for the format lan2024, allowed: 4 \(done, lost, names, corrupted\)",
        "lan2024",
        sentences,
    )
    refused(r"params\.yaml: sources: 2 digests in sha256 for 1 files, allowed: one", "ioi", sentences, digests=["", ""])
    refused(r"params\.yaml: sources: unknown format 'csv', allowed: jsonl, lan2024, simpleqa, ioi,", "csv", sentences)


def test_formats_say_what_is_asked_of_their_prompts():
    """Own tasks and sequences need one length; an answer counts by its first token in SimpleQA alone."""
    assert {name for name, form in FORMATS.items() if form.one_length} == {"jsonl"}
    assert [name for name, form in FORMATS.items() if form.first_token] == ["simpleqa"]
    assert all(name == form.name for name, form in FORMATS.items())


def test_an_own_task_is_read_by_its_format(tmp_path):
    """The reader of JSON lines is one of the formats."""
    path = tmp_path / "mine.jsonl"
    path.write_text('{"prompt": "A is", "corrupted": "B is", "answer": "a", "distractor": "b"}')
    (prompt,) = read("jsonl", path)
    assert (prompt.clean, prompt.source) == ("A is", f"{path}:1")


# ---------------------------------------------------------------------------------------------------------- pickles


class Malicious:
    """Asks for a shell when it is read."""

    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


def test_a_pickle_cannot_run_anything(tmp_path):
    """The command would leave a file behind; instead one line says what the pickle asked for."""
    path, trace = tmp_path / "evil.pkl", tmp_path / "trace"
    path.write_bytes(pickle.dumps([Malicious(f"touch {trace}")]))
    with pytest.raises(UserError, match=rf"evil\.pkl: the pickle asks for {os.system.__module__}\.system, and running"):
        load_plain(path)
    assert not trace.exists()


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_plain_pickle_is_read_as_it_was(protocol, tmp_path):
    """Lists, dicts, tuples, texts, numbers, bools and None, in each version of the form."""
    content = [{"S1": "1", "corr": " 2"}, (1, 2.5, -(10**30)), True, None, ["ü", []]]
    path = tmp_path / "plain.pkl"
    path.write_bytes(pickle.dumps(content, protocol))
    assert load_plain(path) == content


@pytest.mark.parametrize("content", [b"", pickle.dumps(["a"] * 9)[:-4], b"no pickle", b"\x80\x04h\x07.", b"(lp0\nVx"])
def test_a_broken_pickle_is_refused_with_a_remedy(content, tmp_path):
    """Nothing, half of it, and other bytes."""
    path = tmp_path / "broken.pkl"
    path.write_bytes(content)
    with pytest.raises(
        UserError, match=r"broken\.pkl: not a whole pickle .*: get the file once more \(docs/data\.md\)"
    ):
        load_plain(path)


# ------------------------------------------------------------------------------------------------ Lan et al. (2024)


def sequence(verb, start, corrupted=None):
    """Return a row in the published form; its words tell the verb and the start."""
    elements = corrupted or [str(start + k) for k in range(4)]
    clauses = [f"W{chr(97 + k)}{start} {verb} in {element}. " for k, element in enumerate(elements)]
    fields = {f"S{k + 1}": element for k, element in enumerate(elements)}
    return fields | {"corr": f" {start + 4}", "incorr": f" {start + 3}", "text": "".join(clauses) + f"End {verb} in"}


@pytest.fixture
def lan(tmp_path):
    """Writes the four files, three rows of each kind and two corrupted ones of each, changed by the arguments."""

    def write(suffix=".json", corrupted_rows=6, **changes):
        verbs = {"done": "done", "lost": "lost", "names": "born"}
        files = {kind: [sequence(verb, start) for start in (1, 2, 3)] for kind, verb in verbs.items()}
        files["corrupted"] = [sequence(verb, n, list("9292")) for verb in verbs.values() for n in (1, 2)]
        files["corrupted"] = files["corrupted"][:corrupted_rows]
        for place, change in changes.items():
            files[place][1] |= change
        dump = json.dumps if suffix == ".json" else pickle.dumps
        for kind, rows in files.items():
            content = dump(rows)
            (tmp_path / f"{kind}{suffix}").write_bytes(content if isinstance(content, bytes) else content.encode())
        return [tmp_path / f"{kind}{suffix}" for kind in files]

    return write


def test_sequences_take_turns_and_have_their_own_twin(lan):
    """Two of three rows have a twin; kinds take turns; the twin is row i of the kinds one after the other."""
    paths = lan()
    prompts = read("lan2024", *paths)
    assert [prompt.clean.split()[-2:] for prompt in prompts] == [["done", "in"], ["lost", "in"], ["born", "in"]] * 2
    assert [prompt.source for prompt in prompts[2:4]] == [f"{paths[2]}: row 1", f"{paths[0]}: row 2"]
    assert prompts[3].clean == "Wa2 done in 2. Wb2 done in 3. Wc2 done in 4. Wd2 done in 5. End done in"
    assert prompts[3].corrupted == "Wa2 done in 9. Wb2 done in 2. Wc2 done in 9. Wd2 done in 2. End done in"
    assert (prompts[3].answer, prompts[3].distractor) == ("6", "5")


def test_sequences_have_the_roles_of_our_own(lan, root):
    """The same names, as many places, and the same words between the places where fillers may go."""
    theirs, own = (
        read("lan2024", *lan())[3],
        TASKS["numerals"].prompts(load_lexicon(root / "data/lexicon"), 1, random.Random(0))[0],
    )
    assert {role: len(spans) for role, spans in theirs.roles.items()} == {k: len(v) for k, v in own.roles.items()}
    assert words_at(theirs, "numerals") == ["2", "3", "4", "5"]
    assert words_at(theirs, "subjects") == ["Wa2", "Wb2", "Wc2", "Wd2", "End"]
    assert [words_at(theirs, role) for role in ("last_numeral", "subject", "last")] == [["5"], ["End"], ["in"]]
    assert len(theirs.gaps) == len(own.gaps)
    assert [theirs.clean[a:b].split()[0] for a, b in itertools.pairwise(theirs.gaps)][:3] == ["Wa2", "done", "Wb2"]


def test_published_pickles_read_like_json(lan):
    """Only the file name differs."""
    from_json, from_pickles = (read("lan2024", *lan(suffix)) for suffix in (".json", ".pkl"))
    assert [(p.clean, p.corrupted, p.roles) for p in from_json] == [
        (p.clean, p.corrupted, p.roles) for p in from_pickles
    ]


LAN_MISTAKES = {
    "a text of another form": (
        {"lost": {"text": "Van lost in 1. Sun lost in"}},
        r"lost\.json: row 2: the text 'Van lost in 1\. Sun lost in' is not `W v in n\. W",
    ),
    "a text against its fields": ({"done": {"S3": "8"}}, r"done\.json: row 2: the text shows 2, 3, 4, 5, but S1 to S4"),
    "an answer without its space": ({"names": {"corr": "6"}}, r"names\.json: row 2: corr must be a space and a word"),
    "a wrong distractor": ({"names": {"incorr": " 4"}}, r"row 2: corr must .* incorr a space and 5, the last element"),
    "a missing field": ({"done": {"text": None}}, r"done\.json: row 2: text is no text, but every row needs S1, S2,"),
    "a twin of another prompt": (
        {"corrupted": {"text": sequence("done", 1)["text"]}},
        r"corrupted\.json: row 2: .* differs from .*done\.json: row 2 in more than its elements: give the files of one",
    ),
    "a twin of the other task": (
        {"corrupted": {"text": sequence("done", 2, ["one", "two", "nine", "six"])["text"]}},
        r"corrupted\.json: row 2: .* in more than its elements: give the files of one task in the order done, lost",
    ),
    "a row too few": (
        {"corrupted_rows": 5},
        r"corrupted\.json: 5 rows, allowed: 3, 6, 9, \.\.\., as many of each kind",
    ),
    "no row": ({"corrupted_rows": 0}, r"corrupted\.json: 0 rows, allowed: 3, 6, 9"),
}


@pytest.mark.parametrize(("changes", "message"), LAN_MISTAKES.values(), ids=LAN_MISTAKES)
def test_a_mistake_in_sequences_names_file_and_row(changes, message, lan):
    """Rows are counted from 1."""
    refused(message, "lan2024", *lan(**changes))


def test_files_of_sequences_must_fit_each_other(lan):
    """Too few clean rows, no list, rows that are no objects, no JSON, a pickle that wants to run something."""
    done, *others = lan()
    for content, message in (
        (
            json.dumps([sequence("done", 1)]),
            r"done\.json: 1 rows, but .*corrupted\.json has .* for 2 of each kind: take",
        ),
        ("{}", r"done\.json: found a dict, allowed: a list of objects"),
        ("[1]", r"done\.json: row 1: found a int, allowed: an object"),
        ("[\n{]", r"done\.json:2: not JSON, column 2: "),
        ("[" * 100_000, r"done\.json:1: not JSON that can be read: "),
    ):
        done.write_text(content)
        refused(message, "lan2024", done, *others)
    evil = done.with_suffix(".pkl")
    evil.write_bytes(pickle.dumps(Malicious("true")))
    refused("the pickle asks for", "lan2024", evil, *others)


DIGESTS = {
    "numerals_prompts_done": "c3fd52559e0bc6bdda817774b72d6cce506768167e069052d7e7a1f4a25cf27f",
    "numerals_prompts_lost": "bbdcc54821a4161fe37dba67383222dc4039403e7ac8974dfbea31b84a758a32",
    "numerals_prompts_names": "dd309860048fe8404af503524be2feb0d8768aae8306677e7774b73d767e8aa0",
    "randDS_numerals": "30a902a8e7e5926659404345646910444a67d08f8486116e97584f5b0d98f419",
    "numwords_prompts_done": "e60fa37157ee8db5802f621bf78c16f5e3a74d29dba269427faf7d4c65321dc1",
    "numwords_prompts_lost": "4a6a8b9769a82711a6ece51dc0d85b82aa7582c375863ceca9e84ffab6aabb17",
    "numwords_prompts_names": "f3f652d9ba0a997df7c5d4f79cc575e252905e750485f373f4ab375d33b062e1",
    "randDS_numwords": "c72c680987eafd77c03938d369bc93515a46e514f44af294c7c01591d06088f2",
}
"""SHA-256 of Lan et al.'s files as JSON (docs/data.md)."""


@pytest.mark.parametrize("task", ["numerals", "numwords"])
def test_the_documentation_has_the_digests(task, root):
    """What a person copies from docs/data.md is what is compared here."""
    written = (root / "docs/data.md").read_text()
    assert all(f"| `{name}.json` | `{digest}` |" in written for name, digest in DIGESTS.items() if task in name)


@needs_lan
@pytest.mark.parametrize("task", ["numerals", "numwords"])
def test_the_published_sequences_are_read(task):
    """1536 prompts, the kinds in turn, each with the text of its own corrupted row, numerals where they stand."""
    names = [name for name in DIGESTS if task in name]
    paths = [lan_folder() / f"{name}.json" for name in names]
    prompts = read("lan2024", *paths, digests=[DIGESTS[name] for name in names])
    kinds, corrupted = [json.loads(path.read_text()) for path in paths[:3]], json.loads(paths[3].read_text())
    assert len(prompts) == 1536
    assert [prompt.clean for prompt in prompts[:4]] == [rows[0]["text"] for rows in kinds] + [kinds[0][1]["text"]]
    # The first 384 are the paper's: the first 128 of each kind.
    assert {prompt.clean for prompt in prompts[:384]} == {row["text"] for rows in kinds for row in rows[:128]}
    for n, prompt in enumerate(prompts):
        row, kind = divmod(n, 3)
        published = kinds[kind][row]
        assert prompt.corrupted == corrupted[512 * kind + row]["text"]
        assert words_at(prompt, "numerals") == [published[f"S{k}"] for k in (1, 2, 3, 4)]
        assert words_at(prompt, "last_numeral") == [prompt.distractor] == [published["incorr"].strip()]
        assert prompt.answer == published["corr"].strip()


# --------------------------------------------------------------------------------------------------------- SimpleQA


def metadata(kind):
    """Return metadata as the published file has them: a Python dictionary in a text."""
    return repr({"topic": "Art", "answer_type": kind, "urls": ["https://a.org/x,y"]})


@pytest.fixture
def qa(tmp_path):
    """Writes rows to a CSV file and returns its path."""

    def write(*rows, columns=("metadata", "problem", "answer")):
        text = io.StringIO(newline="")
        csv.writer(text).writerows([columns, *rows])
        path = tmp_path / "qa.csv"
        path.write_text(text.getvalue(), encoding="utf-8", newline="")
        return path

    return write


QUESTIONS = [
    (metadata("Person"), "Who painted it?", "Ann Lee"),
    (metadata("Date"), 'In which year,\nand "where"?', "1956"),
    (metadata("Person"), "Who wrote it? ", " Ann Ross"),
    (metadata("Person"), "Who sang it?", "Bo Ek"),
    (metadata("Date"), "When did it end?", "2 May 1990"),
]


def test_distractors_are_answers_of_the_same_type_and_twins_their_questions(qa):
    """Ann Lee's distractor can only be Bo Ek: Ann Ross begins with the same word, so her first token is no other."""
    path = qa(*QUESTIONS)
    prompts = read("simpleqa", path)
    assert [prompt.clean for prompt in prompts] == [text.strip() for _, text, _ in QUESTIONS]
    assert [prompt.answer for prompt in prompts] == [answer.strip() for _, _, answer in QUESTIONS]
    asked = [(prompt.distractor, prompt.corrupted) for prompt in prompts]
    assert asked[:3] == [("Bo Ek", "Who sang it?"), ("2 May 1990", "When did it end?"), ("Bo Ek", "Who sang it?")]
    assert asked[3] in {("Ann Lee", "Who painted it?"), ("Ann Ross", "Who wrote it?")}
    assert words_at(prompts[0], "last") == ["?"]


def test_lines_of_questions_are_those_where_they_begin(qa):
    """The second question has a line break, so the third one begins in line 5."""
    assert [prompt.source[-2:] for prompt in read("simpleqa", qa(*QUESTIONS))] == [":2", ":3", ":5", ":6", ":7"]


def test_without_metadata_the_type_is_read_off_the_answer(qa):
    """Dates go with dates, numbers with numbers, other texts with each other."""
    dates, numbers, texts = ("1956", "May 3, 1990", "2 June"), ("12", "$3.5 million"), ("Ann Lee", "a May song", "Oslo")
    rows = [(f"Question {n}?", answer) for n, answer in enumerate((*dates, *numbers, *texts))]
    for prompt in read("simpleqa", qa(*rows, columns=("problem", "answer"))):
        (group,) = (group for group in (dates, numbers, texts) if prompt.answer in group)
        assert prompt.distractor in group and prompt.distractor != prompt.answer


def test_distractors_depend_on_the_seed_alone(qa):
    """The same seed draws the same distractors, another seed others."""
    path = qa(*((metadata("Person"), f"Who is {n}?", f"N{n}") for n in range(20)))
    assert read("simpleqa", path) == read("simpleqa", path) != read("simpleqa", path, seed=1)


def test_a_mistake_in_questions_names_file_and_line(qa):
    """Columns, empty fields, metadata, a type of its own, quotes that do not end."""
    first = QUESTIONS[0]
    for rows, message in (
        ([], r"qa\.csv:1: the file has no questions"),
        ([first, (metadata("Person"), "", "Bo")], r"qa\.csv:3: problem is empty: fill it or leave the line out"),
        ([first, (metadata("Person"), "Who?", " ")], r"qa\.csv:3: answer is empty: fill it"),
        ([first, first[:2]], r"qa\.csv:3: another number of fields than the first line: put texts with commas in quot"),
        ([first, (*first, "more")], r"qa\.csv:3: another number of fields"),
        ([first, ("{'topic'", *first[1:])], r"qa\.csv:3: metadata is no dictionary with a text for 'answer_type'"),
        ([("__import__('os')", *first[1:])], r"qa\.csv:2: metadata is no dictionary"),
        ([("{'answer_type': 1}", *first[1:])], r"qa\.csv:2: metadata is no dictionary"),
        (
            [first, QUESTIONS[2]],
            r"qa\.csv:2: no other answer of the type 'Person' begins with another word than 'Ann Le",
        ),
    ):
        refused(message, "simpleqa", qa(*rows))
    refused(r"qa\.csv:1: no column 'answer', needed: problem, answer; metadata", "simpleqa", qa(columns=("problem",)))
    path = qa(first)
    path.write_text('problem,answer\nWho?,"Ann\n')
    refused(r"qa\.csv:2: not CSV: unexpected end of data", "simpleqa", path)


# ------------------------------------------------------------------------------------------------- indirect objects


def test_sentences_lose_their_last_name_and_know_their_roles(sentences):
    """Both orders of the first two names; a final full stop may be there; `O'Neil` is one name."""
    prompts = read("ioi", sentences)
    assert [prompt.clean.rpartition(" ")[2] for prompt in prompts] == ["to"] * 3
    assert [(prompt.answer, prompt.distractor) for prompt in prompts] == [
        ("Mary", "John"),
        ("Ben", "Anna"),
        ("O'Neil", "Eve"),
    ]
    assert prompts[0].clean == "Then, Mary and John went to the store. John gave a drink to"
    assert prompts[0].roles == {
        "io": ((6, 10),),
        "s1": ((15, 19),),
        "s2": ((39, 43),),
        "subject": ((39, 43),),
        "last": ((57, 59),),
    }
    assert words_at(prompts[1], "s1") == ["Anna"] and prompts[1].roles["s1"] == ((5, 9),)
    assert [prompt.source[-2:] for prompt in prompts] == [":1", ":2", ":4"]


def test_corrupted_sentences_repeat_no_name(sentences):
    """Three different names of the file, none of them in the sentence, in the same words."""
    names = {"Mary", "John", "Anna", "Ben", "Eve", "O'Neil"}
    for seed in range(20):
        for prompt in read("ioi", sentences, seed=seed):
            clean, corrupted = (re.findall(r"[\w']+", text) for text in (prompt.clean, prompt.corrupted))
            changed = [new for old, new in zip(clean, corrupted, strict=True) if old != new]
            assert len(set(changed)) == len(changed) == 3
            assert set(changed) <= names - {prompt.answer, prompt.distractor}


def test_a_mistake_in_sentences_names_file_and_line(tmp_path):
    """The end is no name, the name is new, nobody or more than one is repeated, there are too few names."""
    path = tmp_path / "ioi.txt"
    good = "When Ann and Bo sat, Bo sang to Ann\n"
    for line, message in (
        ("When Ann and Bo sat, Bo sang to her", r"'.* to her' does not end with a name: the indirect object must be"),
        ("Ann", "'Ann' does not end with a name"),
        ("When Ann and Bo sat, Bo sang to Cy", "'Cy' stands 0 times before the end, allowed: once"),
        ("When Ann and Bo sat, Ann sang to Ann", "'Ann' stands 2 times before the end, allowed: once"),
        ("When Ann and Bo sat, Cy sang to Ann", "capitalised words that stand there twice: none; allowed: one, who"),
        ("So Ann and Bo sat. So Bo sang to Ann", "words that stand there twice: 'So', 'Bo'; allowed: one, who gives"),
    ):
        path.write_text(good + line)
        refused(rf"ioi\.txt:2: .*{message}", "ioi", path)
    path.write_text(good)
    refused(r"ioi\.txt:1: the corrupted prompt needs three names .* the file has only 0: add sentences", "ioi", path)
    path.write_text("")
    refused(r"ioi\.txt:1: the file is empty", "ioi", path)


# -------------------------------------------------------------------------------------------------------- CausalToM

FILLED = "<character_1> fills <container_1> with <state_1>. <character_2> fills <container_2> with <state_2>."
SEEING = " <character_2> cannot observe <character_1>'s actions. <character_1> can observe <character_2>'s actions."
ASKED = "What does <character_q> believe the <container_q> contains?"
"""Our own wording in the published form."""


@pytest.fixture
def stories(tmp_path):
    """Writes the four files, with two templates and one that is skipped, and returns their paths."""

    def write(templates=None, **words):
        default = [
            {"context": FILLED, "question": ASKED, "state_type": "drinks"},
            {"context": FILLED + SEEING, "question": ASKED},
            {"context": "<character_3> fills <container_3> with <state_3>.", "question": ASKED},
        ]
        lists = {
            "characters": ["Ann", "Bo", "Cy", "Di", "Ed", "Flo", "Gus", "Hal", "Ida"],
            "bottles": ["cup", "jar", "mug", "pot", "urn"],
            "drinks": ["ale", "gin", "mead", "port", "tea"],
        }
        files = {"templates": {"templates": default} if templates is None else templates} | lists | words
        for name, content in files.items():
            (tmp_path / f"{name}.json").write_text(json.dumps(content))
        return [tmp_path / f"{name}.json" for name in files]

    return write


def test_stories_are_answered_as_their_template_says(stories):
    """Own deeds are known; the other's only in the second template, where the first character sees the second."""
    answers = {}
    for prompt in read("causal_tom", *stories()):
        actors = re.findall(r"(\w+) fills", prompt.clean)
        containers, contents = words_at(prompt, "containers"), words_at(prompt, "contents")
        (asker,), (container,) = words_at(prompt, "asker"), words_at(prompt, "question_container")
        case = (prompt.source[-1], actors.index(asker), containers.index(container))
        content = contents[case[2]]
        assert words_at(prompt, "context_container") == [container] and words_at(prompt, "context_content") == [content]
        known = prompt.answer != "unknown"
        assert {prompt.answer, prompt.distractor} == {content, "unknown"}
        answers.setdefault(case, set()).add(known)
    assert answers == {
        (template, asker, owner): {asker == owner or (template, asker) == ("2", 0)}
        for template in "12"
        for asker in (0, 1)
        for owner in (0, 1)
    }


def test_stories_have_the_published_form_and_another_story_as_twin(stories):
    """Three lines; the twin has the same words but other entities, and asks what the prompt does not: known or not."""
    prompts = read("causal_tom", *stories())
    assert len({prompt.clean for prompt in prompts}) == len(prompts) > 1500
    for prompt in prompts[:100]:
        form = r"Story: .*\nQuestion: What does \w+ believe the \w+ contains\?\nAnswer:"
        assert re.fullmatch(form, prompt.clean) and re.fullmatch(form, prompt.corrupted)
        assert words_at(prompt, "last") == [":"]
        entities = {word for role in ("asker", "containers", "contents") for word in words_at(prompt, role)}
        assert not entities & set(re.findall(r"\w+", prompt.corrupted))
        assert len(prompt.clean.split()) == len(prompt.corrupted.split())
        actors, asker = (
            re.findall(r"(\w+) fills (\w+)", prompt.corrupted),
            re.search(r"does (\w+)", prompt.corrupted)[1],
        )
        asked = re.search(r"believe the (\w+)", prompt.corrupted)[1]
        known = (asker, asked) in actors or (prompt.source[-1] == "2" and asker == actors[0][0])
        assert known == (prompt.answer == "unknown")


def test_an_instruction_goes_in_front(stories):
    """It is a key of ours beside the published templates."""
    templates = {"templates": [{"context": FILLED, "question": ASKED}], "instruction": "Say who believes what. "}
    prompt = read("causal_tom", *stories(templates))[0]
    assert prompt.clean.startswith("Instruction: Say who believes what.\n\nStory: ")
    assert words_at(prompt, "asker")[0] in re.findall(r"(\w+) fills", prompt.clean)


def test_where_all_is_seen_the_twin_is_still_another_story(stories):
    """There is no unanswerable question then; the contents differ all the same."""
    seeing = SEEING.replace("cannot", "can")
    for prompt in read("causal_tom", *stories({"templates": [{"context": FILLED + seeing, "question": ASKED}]})):
        assert prompt.distractor == "unknown" and prompt.answer not in prompt.corrupted.split()


def test_a_mistake_in_stories_names_file_and_template(stories):
    """Templates are counted from 1; a wording about seeing that is not known must not pass for blindness."""

    def template(context=FILLED, question=ASKED):
        return {"templates": [{"context": context, "question": question}]}

    for templates, message in (
        ([], r"templates\.json: allowed: an object with a list of `templates`, as published"),
        ({"templates": []}, r"templates\.json: no template with two containers"),
        ({"templates": ["x"]}, r"templates\.json: template 1: allowed: an object with the texts `context` and `quest"),
        (template() | {"instruction": 1}, r"templates\.json: instruction must be a text"),
        (template("<character_1> has <container_1>."), r"template 1: context: <container_2> must stand there once"),
        (template(FILLED + " <state_1>"), r"template 1: context: <state_1> must stand there once"),
        (template(question="<character_q>?"), r"template 1: question: <container_q> must stand there once"),
        (template(FILLED + " <place_1>"), r"template 1: context: <place_1> is no known field"),
        (template(FILLED + " <character_1> observes all."), r"template 1: who sees whom must read `<character_1> can"),
    ):
        refused(message, "causal_tom", *stories(templates))
    refused(r"drinks\.json: allowed: a list of words, as published", "causal_tom", *stories(drinks={"a": 1}))
    refused(
        r"bottles\.json: 1 different words, but two stories .* need 4", "causal_tom", *stories(bottles=["cup", "cup"])
    )
