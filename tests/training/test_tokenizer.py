"""Tests the tokenizer of the calibration model's captions."""

from pathlib import Path

from audit.training.captions import vocabulary
from audit.training.tokenizer import train_tokenizer

CAPTIONS = [f"a face photo of {word}" for word in vocabulary()]


def test_every_word_of_the_captions_is_one_token(tmp_path: Path) -> None:
    tokenizer = train_tokenizer(CAPTIONS, tmp_path)
    assert {word: len(tokenizer.tokenize(word)) for word in vocabulary()} == dict.fromkeys(vocabulary(), 1)


def test_a_resumed_training_keeps_the_ids_that_its_weights_were_trained_with(tmp_path: Path) -> None:
    first = train_tokenizer(CAPTIONS, tmp_path).get_vocab()
    assert train_tokenizer([*CAPTIONS, "other words come first now"] * 2, tmp_path).get_vocab() == first
