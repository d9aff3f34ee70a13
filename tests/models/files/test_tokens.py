"""A T5 tokenizer that has spiece.model alone needs a package, which is named with its command if it is missing."""

import pytest
from transformers import T5Config

from audit.models.files import tokens
from audit.models.files.untrusted_model import UnfitModelError

ENCODER = T5Config(vocab_size=200)


def test_a_missing_sentencepiece_is_named_with_the_command_that_installs_it(tmp_path, monkeypatch):
    directory = tmp_path / "tokenizer_2"
    directory.mkdir()
    (directory / "spiece.model").write_bytes(b"\n\x0e")
    monkeypatch.setattr(tokens, "find_spec", lambda _name: None)
    with pytest.raises(UnfitModelError, match=r'tokenizer_2: .*sentencepiece.*pip install "difflens-audit\[t5\]"'):
        tokens.load_tokenizer(directory, ENCODER, "T5Tokenizer", 256)


def test_spiece_model_alone_is_read_with_the_package(tmp_path):
    sentencepiece = pytest.importorskip("sentencepiece")
    text = tmp_path / "texts.txt"
    text.write_text("a face photo of a doctor\na face photo of a nurse\n" * 50)
    sentencepiece.SentencePieceTrainer.train(
        input=str(text), model_prefix=str(tmp_path / "spiece"), vocab_size=18, pad_id=0, eos_id=1, unk_id=2, bos_id=-1
    )
    tokenizer = tokens.load_tokenizer(tmp_path, ENCODER, "T5Tokenizer", 256)
    assert tokenizer.decode(tokenizer("a nurse").input_ids, skip_special_tokens=True) == "a nurse"
