"""Tokenizers with their limits: which words of a text a model does not read."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from audit.models.files.untrusted_model import UnfitModelError
from audit.storage.outside.json_object import read_json_object

TEXT_ENCODER = "the model's text encoder"
CLIP = "the CLIP model"

_MARKS = 2
"""Tokens for the beginning and the end of a text."""


@dataclass(frozen=True)
class TextReader:
    """A tokenizer and its limit.

    Attributes:
        who: What reads the texts, for messages: ``the model's text encoder``.
        limit: Tokens that are read, the marks of beginning and end included.
        count: Tokens of a text, those marks included.
        end_marks: Marks of the end behind the last token of a text, 1 or 0.
    """

    who: str
    limit: int
    count: Callable[[str], int]
    end_marks: int = 1

    def cut(self, text: str) -> str:
        """Return the words of a text that are not read completely; empty if all are."""
        if self.count(text) <= self.limit:
            return ""
        words = text.split()
        # The longest beginning that fits, by bisection: tokens do not become fewer with a further word.
        fits, fails = 0, len(words)
        while fails - fits > 1:
            middle = (fits + fails) // 2
            if self.count(" ".join(words[:middle])) <= self.limit:
                fits = middle
            else:
                fails = middle
        return " ".join(words[fits:])

    def refusal(self, text: str) -> str | None:
        """Return a message with the words that are cut off, None if the whole text is read."""
        cut = self.cut(text)
        if not cut:
            return None
        return (
            f"expected at most {self.limit} tokens, which is all that {self.who} reads, found {self.count(text)} in "
            f"{shortened(text)!r}: {shortened(cut)!r} would be cut; shorten it"
        )

    def check(self, texts: Iterable[str]) -> None:
        """Refuse texts that are not read to their end.

        Raises:
            UnfitModelError: A text is too long; the message contains the words that would be cut off.
        """
        for text in texts:
            refusal = self.refusal(text)
            if refusal is not None:
                raise UnfitModelError(refusal)


def shortened(text: str, most: int = 120) -> str:
    """Return a text for a message: of a long one its beginning and its end."""
    half = most // 2
    return text if len(text) <= most else f"{text[:half]} … {text[-half:]}"


def bundled_reader(directory: Path, who: str = TEXT_ENCODER) -> TextReader:
    """Return the reader of a calibration model's tokenizer, without the libraries that take seconds to import.

    Args:
        directory: With ``tokenizer.json`` and ``tokenizer_config.json``.
        who: For messages.

    Raises:
        UnfitModelError: These are missing or are none.
    """
    from tokenizers import Tokenizer

    try:
        limit = read_json_object(directory / "tokenizer_config.json", "the config of a tokenizer")["model_max_length"]
        tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
    except Exception as error:
        raise UnfitModelError(f"{directory}: expected a tokenizer, found none that can be read ({error})") from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return TextReader(who, int(limit), lambda text: len(tokenizer.encode(text)))


def clip_reader(tokenizer: Any) -> TextReader:  # noqa: ANN401 - open_clip has several kinds, of no common class
    """Return the reader of a tokenizer from ``open_clip.get_tokenizer``."""
    inner = getattr(tokenizer, "tokenizer", None)  # one of transformers, inside
    if inner is None:
        return TextReader(CLIP, tokenizer.context_length, lambda text: len(tokenizer.encode(text)) + _MARKS)
    return TextReader(CLIP, tokenizer.context_length, lambda text: len(inner(text, verbose=False)["input_ids"]))
