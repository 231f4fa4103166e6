"""The word-level tokenizer of the models that train themselves."""

from __future__ import annotations

from collections.abc import Sequence

from tokenizers import Tokenizer, pre_tokenizers, processors
from tokenizers.models import WordLevel
from transformers import PreTrainedTokenizerFast

PAD, UNKNOWN, END = "[PAD]", "[UNK]", "[END]"
CLASS, SEPARATOR, MASK = "[CLS]", "[SEP]", "[MASK]"


def word_level_tokenizer(vocabulary: Sequence[str], *, masked: bool = False) -> PreTrainedTokenizerFast:
    """Return a tokenizer with one token for each word or punctuation mark of `vocabulary`, in that order.

    That of a `masked` model has a mask, and puts a text between `[CLS]` and `[SEP]` as BERT's does.
    """
    special = [PAD, UNKNOWN, END, *([CLASS, SEPARATOR, MASK] if masked else [])]
    ids = {word: index for index, word in enumerate([*special, *vocabulary])}
    tokenizer = Tokenizer(WordLevel(ids, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    names = {"pad_token": PAD, "unk_token": UNKNOWN, "eos_token": END}
    if masked:
        tokenizer.post_processor = processors.BertProcessing((SEPARATOR, ids[SEPARATOR]), (CLASS, ids[CLASS]))
        names |= {"cls_token": CLASS, "sep_token": SEPARATOR, "mask_token": MASK}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, padding_side="right", **names)
