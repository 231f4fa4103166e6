"""Prompts become token ids without surprises: one answer token, one length, and the place where it is read."""

import random

import pytest
from checkpoints import byte_level_tokenizer

from distilled_circuits.errors import UserError
from distilled_circuits.models.tokenizer import word_level_tokenizer
from distilled_circuits.tasks.encoding import AnswerForm, Reader, encode_alike, encode_prompts
from distilled_circuits.tasks.prompt import Prompt
from distilled_circuits.tasks.registry import TASKS, vocabulary

IN_1 = Prompt("Bell done in 1. Arrow done in", "Bell done in 8. Arrow done in", "2", "1", {"numeral": ((13, 14),)})


@pytest.fixture(scope="module")
def tokenizer(lexicon):
    """The models' own tokenizer."""
    return word_level_tokenizer(vocabulary(lexicon))


@pytest.fixture(scope="module")
def masking(lexicon):
    """The tokenizer of masked models."""
    return word_level_tokenizer(vocabulary(lexicon), masked=True)


@pytest.fixture(scope="module")
def bytes_level():
    """A tokenizer like GPT-2's that knows a few words whole, and keeps spaces apart from digits."""
    return byte_level_tokenizer(["Bell done in. Arrow done in Arrow Bell", "Arrow in"] * 9, 290)


def test_roles_become_token_positions(lexicon, tokenizer):
    """In `W done in n.` five tokens make a clause: numerals stand at 3, 8, 13, 18 and the prediction at 22."""
    (record,) = encode_prompts(TASKS["numerals"].prompts(lexicon, 1, random.Random(0)), Reader(tokenizer, "ours"))
    assert len(record["ids"]) == 23
    assert record["positions"]["numerals"] == [3, 8, 13, 18]
    assert record["positions"]["last_numeral"] == [18]
    assert record["positions"]["last"] == [22]
    assert record["positions"]["subject"] == [20]


def test_an_answer_of_two_tokens_names_prompt_and_tokenizer(tokenizer):
    """The error says which prompt, which answer and which tokenizer, and what the answer became."""
    prompt = Prompt("When Adam and Alice", "When Anna and Ben", "Adam Alice", "Ben", {})
    with pytest.raises(UserError, match=r"'Adam Alice' of the prompt 'When Adam and Alice' is not one token of ours"):
        encode_prompts([prompt], Reader(tokenizer, "ours"))


def test_an_unknown_answer_is_refused(tokenizer):
    """A word that the vocabulary lacks is one token, but says nothing."""
    with pytest.raises(UserError, match="not one token"):
        encode_prompts([Prompt("When Adam", "When Ben", "Zebulon", "Ben", {})], Reader(tokenizer, "ours"))


def test_prompts_of_unequal_length_are_refused(tokenizer):
    """Means by position need one length; both prompts and their lengths are named."""
    prompts = [Prompt("When Adam", "When Ben", "Adam", "Ben", {}), Prompt("Adam", "Ben", "Adam", "Ben", {})]
    with pytest.raises(UserError, match=r"'When Adam' has 2 tokens of ours, 'Adam' has 1"):
        encode_prompts(prompts, Reader(tokenizer, "ours"))


def test_a_masked_model_answers_at_a_mask_between_special_tokens(masking):
    """The text stands behind [CLS], the mask before [SEP]: the role `last` is the mask, read second to last."""
    (record,) = encode_prompts([IN_1], Reader(masking, "ours", masked=True))
    assert record["tokens"] == ["[CLS]", "Bell", "done", "in", "1", ".", "Arrow", "done", "in", "[MASK]", "[SEP]"]
    assert record["read_at"] == -2
    assert record["positions"] == {"last": [9], "numeral": [4]}
    assert masking.convert_ids_to_tokens(record["answer_id"]) == "2"
    (record,) = encode_prompts([IN_1], Reader(masking, "ours", masked=True, after_mask="."))
    assert record["tokens"][-3:] == ["[MASK]", ".", "[SEP]"]
    assert record["read_at"] == -3


def test_a_mask_in_the_text_is_refused(masking):
    """Which of two masks is read would be anybody's guess."""
    prompt = Prompt("Bell [MASK] in", "Bell done in", "2", "1", {})
    with pytest.raises(UserError, match="a mask of its own"):
        encode_prompts([prompt], Reader(masking, "ours", masked=True))


def test_a_beginning_moves_all_positions_by_one(bytes_level):
    """Llama's prompts begin with a token of their own."""
    (plain,) = encode_prompts([IN_1], Reader(bytes_level, "ours"))
    (begun,) = encode_prompts([IN_1], Reader(bytes_level, "ours", begins=True))
    assert begun["ids"] == [bytes_level.bos_token_id, *plain["ids"]]
    assert begun["tokens"][0] == "<|endoftext|>"
    assert begun["positions"] == {role: [n + 1 for n in where] for role, where in plain["positions"].items()}
    assert begun["read_at"] == plain["read_at"] == -1


def test_a_beginning_that_is_also_the_unknown_token_is_no_unknown_word(bytes_level):
    """GPT-2 has one token for the beginning, the end and what it does not know."""
    bytes_level.unk_token = bytes_level.bos_token
    (begun,) = encode_prompts([IN_1], Reader(bytes_level, "ours", begins=True))
    bytes_level.unk_token = None
    assert begun["ids"][0] == bytes_level.bos_token_id


def test_a_space_that_stands_alone_before_every_answer_belongs_to_the_prompt(bytes_level):
    """Where a tokenizer keeps the space apart from a digit, the digit is the answer and the space its last token."""
    assert len(bytes_level(" 2")["input_ids"]) == 2
    (record,) = encode_prompts([IN_1], Reader(bytes_level, "ours"))
    assert bytes_level.decode(record["ids"]) == IN_1.clean + " "
    assert bytes_level.decode(record["corrupted_ids"]) == IN_1.corrupted + " "
    assert bytes_level.decode(record["answer_id"]) == "2"
    assert record["positions"]["last"] == [len(record["ids"]) - 1]


def test_the_first_token_counts_where_it_is_said(bytes_level):
    """Of long answers; two that begin alike cannot be told apart."""
    prompt = Prompt("Bell done", "Bell in", "Arrow Bell", "Bell Arrow", {})
    reader = Reader(bytes_level, "ours")
    with pytest.raises(UserError, match="not one token"):
        encode_prompts([prompt], reader)
    (record,) = encode_prompts([prompt], reader, AnswerForm(first_token=True))
    assert bytes_level.decode([record["answer_id"], record["distractor_id"]]) == " Arrow Bell"
    alike = Prompt("Bell done", "Arrow done", "Arrow Bell", "Arrow Arrow", {}, source="a.jsonl:3")
    with pytest.raises(
        UserError, match=r"^a.jsonl:3: answer 'Arrow Bell' and distractor 'Arrow Arrow' begin with the same"
    ):
        encode_prompts([alike], reader, AnswerForm(first_token=True))


def test_an_answer_may_stand_without_a_space(bytes_level):
    """The released code reads answers to questions so: another token of the same word."""
    prompt = Prompt("Bell done", "Bell in", "Arrow", "Bell", {})
    reader = Reader(bytes_level, "ours")
    with_space, without = (
        encode_prompts([prompt], reader, AnswerForm(space=space))[0]["answer_id"] for space in (True, False)
    )
    assert bytes_level.decode([with_space]) == " Arrow"
    assert bytes_level.decode([without]) == "Arrow"


def test_unknown_words_and_too_long_prompts_name_the_line(tokenizer):
    """The model would read a stand-in for the word, and has no position for the token."""
    unknown = Prompt(
        "Bell done in 1. Zebulon done in", "Bell done in 8. Bell done in", "2", "1", {}, source="a.jsonl:7"
    )
    with pytest.raises(UserError, match=r"^a.jsonl:7: ours does not know 'Zebulon' of"):
        encode_prompts([unknown], Reader(tokenizer, "ours"))
    with pytest.raises(UserError, match="has 8 tokens of ours, but the model reads at most 7: shorten it"):
        encode_prompts([IN_1], Reader(tokenizer, "ours", longest=7))


def test_prompts_that_all_read_alike_are_kept_and_the_others_counted(tokenizer, masking):
    """The most frequent length wins; each reason has its number; order stays; both readers have the same prompts."""

    def say(clean: str, corrupted: str, answer: str = "2") -> Prompt:
        return Prompt(clean, corrupted, answer, "1", {})

    good = [say(f"{word} done in", "Bench done in") for word in ("Bell", "Arrow", "Bridge")]
    prompts = [
        good[0], say("Bell done in 3", "Arrow done in 4"), say("Bell done in", "Arrow in"), good[1],
        say("Zebulon done in", "Arrow done in"), say("Bell done in", "Arrow done in", "Adam Ben"), good[2],
    ]  # fmt: skip
    readers = [Reader(tokenizer, "ours"), Reader(masking, "theirs", masked=True)]
    (first, second), left_out = encode_alike(prompts, readers, 2)
    assert [record["clean"] for record in first] == [record["clean"] for record in second]
    assert [record["clean"] for record in first] == ["Bell done in", "Arrow done in"]
    assert left_out["not of the most frequent length"] == 1
    assert left_out["clean and corrupted prompt differ in length"] == 1
    assert left_out["words that are unknown, or an answer that is not one token of its own"] == 2
    assert encode_alike([], readers, 2) == ([[], []], {})


def test_files_and_makers_agree_on_one_length(tokenizer, lexicon):
    """Prompts that are made are all kept, whatever reads them."""
    made = TASKS["ioi"].prompts(lexicon, 20, random.Random(1))
    (records,), left_out = encode_alike(made, [Reader(tokenizer, "ours")], 20)
    assert left_out == {}
    assert records == encode_prompts(made, Reader(tokenizer, "ours"))
