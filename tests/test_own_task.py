"""Own tasks: what a line of JSON means, and that each mistake is one line that says where it is and what to do."""

import json
import string

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from distilled_circuits.errors import UserError
from distilled_circuits.tasks.own import read_own

GOOD = {
    "prompt": "Van done in 1. Sun done in",
    "corrupted": "Van done in 7. Sun done in",
    "answer": "2",
    "distractor": "1",
}
OTHER = GOOD | {"prompt": "Hat done in 1. Sun done in"}


@pytest.fixture
def task(tmp_path):
    """Writes lines (objects or texts) to a file and returns its path."""

    def write(*lines):
        path = tmp_path / "mine.jsonl"
        written = (line if isinstance(line, str) else json.dumps(line, ensure_ascii=False) for line in lines)
        path.write_text("\n".join(written) + "\n", encoding="utf-8")
        return path

    return write


def test_a_line_is_a_prompt(task):
    """Texts are taken as they are; texts and offsets name places; the last word is a role of its own."""
    path = task(GOOD | {"positions": {"subject": "Sun", "several": ["1", [9, 11]], "one": [12, 13]}})
    (prompt,) = read_own(path)
    assert (prompt.clean, prompt.corrupted) == (GOOD["prompt"], GOOD["corrupted"])
    assert (prompt.answer, prompt.distractor) == ("2", "1")
    assert prompt.roles == {
        "subject": ((15, 18),),
        "several": ((12, 13), (9, 11)),
        "one": ((12, 13),),
        "last": ((24, 26),),
    }
    assert prompt.source == f"{path}:1"


def test_blank_lines_count_but_are_skipped(task):
    """The second prompt stands in line 4, and says so."""
    assert [prompt.source[-2:] for prompt in read_own(task(GOOD, "", "  ", OTHER))] == [":1", ":4"]


def test_a_byte_order_mark_and_windows_line_ends_are_accepted(tmp_path):
    """Editors on Windows write both."""
    path = tmp_path / "mine.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(GOOD).encode() + b"\r\n" + json.dumps(OTHER).encode() + b"\r\n")
    assert [prompt.clean for prompt in read_own(path)] == [GOOD["prompt"], OTHER["prompt"]]


def test_offsets_are_characters_and_not_bytes(task):
    """`ü` is one of them, and a separator that Python takes for the end of a line does not end it."""
    row = GOOD | {"prompt": "Tür\u2028done in 1. Sun done in", "positions": {"verb": [4, 8], "sun": "Sun"}}
    (prompt,) = read_own(task(row))
    assert prompt.clean[slice(*prompt.roles["verb"][0])] == "done"
    assert prompt.clean[slice(*prompt.roles["sun"][0])] == "Sun"


MISTAKES = {
    "no JSON": ("{prompt: 1}", "not JSON, column 2: "),
    "two objects": (json.dumps(GOOD) * 2, "not JSON, column .*: Extra data; every line is one whole object"),
    "a huge number": ("[" + "1" * 5000 + "]", "not JSON that can be read: "),
    "no object": (["a"], 'found ."a"., allowed: an object with the keys prompt, corrupted, answer, distractor'),
    "a missing key": ({k: v for k, v in GOOD.items() if k != "answer"}, "the key 'answer' is missing: every line"),
    "an unknown key": (GOOD | {"anwser": "2"}, "unknown key 'anwser', allowed: prompt, corrupted, answer, "),
    "a key given twice": ('{"prompt": "a", "prompt": "b"}', "the key 'prompt' stands there twice: leave one"),
    "a wrong type": (GOOD | {"answer": 2}, "answer: found 2, allowed: a text in quotes"),
    "an empty text": (GOOD | {"corrupted": " "}, "corrupted is empty: write a text there"),
    "half a character": (json.dumps(GOOD | {"answer": "\ud800"}), "answer has half of a surrogate pair"),
    "a prompt that ends in a space": (GOOD | {"prompt": "Van in "}, "prompt ends in white space: take it away, the"),
    "a twin that ends in a space": (GOOD | {"corrupted": "Van in\n"}, "corrupted ends in white space: take it away"),
    "an answer with a space": (GOOD | {"answer": " 2"}, "answer ' 2' begins or ends with white space: .* as ' 2' any"),
    "a distractor with a space": (GOOD | {"distractor": "1 "}, "distractor '1 ' begins or ends with .* as ' 1' any"),
    "nothing to compare": (GOOD | {"answer": "1"}, "answer and distractor are both '1': "),
    "nothing corrupted": (GOOD | {"corrupted": GOOD["prompt"]}, "prompt and corrupted are the same text: change in"),
    "positions of a wrong type": (GOOD | {"positions": ["Sun"]}, 'positions: found ."Sun"., allowed: an object of'),
    "a name with a slash": (GOOD | {"positions": {"a/b": "Sun"}}, "position 'a/b': a name has letters, digits and _ "),
    "the name that is taken": (GOOD | {"positions": {"last": "in"}}, "position 'last' is the last word of every"),
    "no place": (GOOD | {"positions": {"sun": []}}, "position 'sun' has no place: give one or leave"),
    "a place of a wrong type": (
        GOOD | {"positions": {"sun": [None]}},
        "position 'sun': found null, allowed: a text of",
    ),
    "truth as offsets": (GOOD | {"positions": {"sun": [False, True]}}, "position 'sun': found false, allowed: a text"),
    "an empty place": (GOOD | {"positions": {"sun": ""}}, "position 'sun': found \"\", allowed: a text of the prompt"),
    "a place with a space": (GOOD | {"positions": {"sun": "Sun "}}, "position 'sun': 'Sun ' begins or ends with white"),
    "offsets of a space": (GOOD | {"positions": {"sun": [14, 18]}}, "position 'sun': .14, 18. is ' Sun', which begins"),
    "a place elsewhere": (GOOD | {"positions": {"sun": "Moon"}}, "position 'sun': 'Moon' is not in the prompt: write"),
    "two places": (
        GOOD | {"positions": {"v": "done"}},
        r"'done' is in the prompt 2 times: .* such as \[4, 8\], \[19, 23\]",
    ),
    "a place outside": (GOOD | {"positions": {"sun": [24, 27]}}, ".24, 27. is outside .* 0 <= start < end <= 26"),
    "a place before": (GOOD | {"positions": {"sun": [-1, 2]}}, ".-1, 2. is outside of the prompt or empty, allowed"),
}


@pytest.mark.parametrize(("line", "message"), MISTAKES.values(), ids=MISTAKES)
def test_each_mistake_is_one_line_that_begins_with_its_place(line, message, task):
    """The line that is wrong is the second one; its message says what is wrong and what to do."""
    path = task(OTHER, line if isinstance(line, str) else json.dumps(line))
    with pytest.raises(UserError, match=message) as raised:
        read_own(path)
    assert str(raised.value).startswith(f"{path}:2: ")
    assert "\n" not in str(raised.value)


def test_lines_that_do_not_go_together_name_the_earlier_one(task):
    """A prompt that stands there twice, other positions, and another number of places."""
    placed = [row | {"positions": {"sun": "Sun"}} for row in (GOOD, OTHER)]
    for second, message in (
        (placed[0], "the same prompt stands in line 1: leave one of them out"),
        (OTHER, "positions are none, but in line 1 sun: give every line the same ones"),
        (OTHER | {"positions": {"sun": ["Sun", "1"]}}, "position 'sun' has 2 places, but in line 1 1: give every line"),
    ):
        with pytest.raises(UserError, match=f"mine.jsonl:2: {message}"):
            read_own(task(placed[0], second))


@pytest.mark.parametrize("content", [b"", b"\n \n", b"\xef\xbb\xbf"])
def test_an_empty_file_is_a_mistake(content, tmp_path):
    """Blank lines and a byte order mark are nothing either."""
    path = tmp_path / "mine.jsonl"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"mine.jsonl:1: the file is empty: it needs at least one line"):
        read_own(path)


def test_other_encodings_name_line_and_byte(tmp_path):
    """`ü` in Latin-1 is the byte 0xfc, here the second one of the second line."""
    path = tmp_path / "mine.jsonl"
    path.write_bytes(json.dumps(GOOD).encode() + b"\nT\xfcr\n")
    with pytest.raises(UserError, match=r"mine.jsonl:2: byte 2 of the line \(0xfc\) is not UTF-8: save the file as"):
        read_own(path)


words = st.text(string.ascii_letters + 'äß漢 .,\n\t"\\', min_size=1).filter(lambda text: text == text.strip() != "")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(texts=st.lists(words, min_size=4, max_size=4, unique=True))
def test_what_was_written_is_read(texts, tmp_path):
    """Any four different texts come back as they are, and the whole prompt can be a position."""
    path = tmp_path / "mine.jsonl"
    row = dict(zip(GOOD, texts, strict=True)) | {"positions": {"whole": texts[0]}}
    path.write_text(json.dumps(row), encoding="utf-8")
    (prompt,) = read_own(path)
    assert [prompt.clean, prompt.corrupted, prompt.answer, prompt.distractor] == texts
    assert prompt.roles["whole"] == ((0, len(texts[0])),)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150, deadline=None)
@given(content=st.one_of(st.binary(), st.text().map(str.encode)))
def test_no_file_ends_in_anything_but_prompts_or_a_message(content, tmp_path):
    """Whatever bytes a file has, a person sees one line."""
    path = tmp_path / "mine.jsonl"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"^.*mine.jsonl:\d+: [^\n]*$"):
        read_own(path)
