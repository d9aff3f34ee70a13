"""The calibration model's tokenizer: byte-pair encoding over its captions, in CLIP's format."""

from __future__ import annotations

import json
import string
from pathlib import Path

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import CLIPTokenizer

START, END = "<|startoftext|>", "<|endoftext|>"
CONTEXT_LENGTH = 20


def train_tokenizer(captions: list[str], directory: Path) -> CLIPTokenizer:
    """Learn merges until every word of the captions is one token, and save as a ``CLIPTokenizer`` directory.

    The alphabet covers printable ASCII, so that any prompt can be tokenised, at worst letter by letter. The end token
    has the highest id, because CLIP pools the text there. An existing directory is kept: the ids of equally frequent
    tokens differ between calls, and trained weights depend on the ids.
    """
    if (directory / "tokenizer_config.json").exists():
        return CLIPTokenizer.from_pretrained(directory)
    learner = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    learner.normalizer = normalizers.Lowercase()
    learner.pre_tokenizer = pre_tokenizers.Whitespace()
    alphabet = [c for c in string.printable if c.isprintable() and not c.isspace() and not c.isupper()]
    trainer = trainers.BpeTrainer(
        vocab_size=2000, end_of_word_suffix="</w>", initial_alphabet=alphabet, show_progress=False
    )
    learner.train_from_iterator(captions, trainer)
    model = json.loads(learner.to_str())["model"]
    vocabulary = dict(model["vocab"])
    for token in (*(f"{c}</w>" for c in alphabet), START, END):
        vocabulary.setdefault(token, len(vocabulary))
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "vocab.json").write_text(json.dumps(vocabulary))
    (directory / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{' '.join(m)}\n" for m in model["merges"]))
    tokenizer = CLIPTokenizer.from_pretrained(directory, model_max_length=CONTEXT_LENGTH)
    tokenizer.save_pretrained(directory)
    return tokenizer
