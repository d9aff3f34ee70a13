"""The tokenizer of a pipeline, with the limit that it has in fact."""

from __future__ import annotations

import json
import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from audit.models.files.pipeline_files import read_index
from audit.models.files.text_reader import TEXT_ENCODER, TextReader
from audit.models.files.untrusted_model import UnfitModelError, reason_in_short

_SENTENCEPIECE = "spiece.model"

_ADDED_BY_HAND = 5
_BYTE = re.compile(r"<0x[0-9A-F]{2}>")
"""A byte of a sign that is no token itself."""

_FEWEST_TOKENS = 3
"""The marks of beginning and end, and one word."""


def load_tokenizer(directory: Path, encoder: Any, named: str, longest: int) -> Any:  # noqa: ANN401
    """Load a tokenizer of a pipeline; its limit is never beyond what the text encoder has positions for.

    Args:
        directory: Of the tokenizer.
        encoder: Config of the text encoder. Many published tokenizers name a limit of 10^30 or none; T5 has no
            positions, so that the limit is the pipeline's.
        named: Class of transformers.
        longest: Tokens that pipelines of this family read at most.

    Returns:
        A tokenizer of transformers.

    Raises:
        UnfitModelError: It cannot be loaded, is cut, or knows tokens that the text encoder does not.
    """
    import transformers

    part, kind = directory.name, named.removesuffix("Fast").removesuffix("Tokenizer")
    if _needs_sentencepiece(directory) and find_spec("sentencepiece") is None:
        raise UnfitModelError(
            f"{part}: expected the package sentencepiece, which reads {_SENTENCEPIECE}, found it not installed; run: "
            'pip install "difflens-audit[t5]"'
        )
    positions, vocabulary = getattr(encoder, "max_position_embeddings", None), encoder.vocab_size
    try:
        tokenizer = getattr(transformers, named).from_pretrained(directory, local_files_only=True)
        limits = [int(tokenizer.model_max_length), *([] if positions is None else [positions])]
        tokenizer.model_max_length = max(0, min(*limits, longest))
        # As sampling calls it; without a token to pad with, for one, it fails.
        tokenizer(["a"], padding="max_length", max_length=tokenizer.model_max_length, truncation=True)
        known = tokenizer.get_vocab()
    except Exception as error:
        raise UnfitModelError(
            f"{part}: expected a {kind} tokenizer, found one that cannot be used ({reason_in_short(error)}); download "
            "it again"
        ) from error
    if tokenizer.model_max_length < _FEWEST_TOKENS:
        raise UnfitModelError(
            f"{part}: expected room for at least {_FEWEST_TOKENS} tokens, found model_max_length "
            f"{tokenizer.model_max_length}; download it again"
        )
    highest = max(known.values(), default=-1)
    if highest >= vocabulary:
        raise UnfitModelError(
            f"{part}: expected the {vocabulary} tokens of the text encoder, found token number {highest}; take "
            "tokenizer and text encoder from one model"
        )
    _refuse_lost_merges(part, tokenizer)
    return tokenizer


def _needs_sentencepiece(directory: Path) -> bool:
    """Return whether the words of a tokenizer are only in a file of sentencepiece, as early T5 tokenizers have them."""
    return (directory / _SENTENCEPIECE).is_file() and not (directory / "tokenizer.json").is_file()


def pipeline_reader(tokenizer: Any) -> TextReader:  # noqa: ANN401 - a CLIPTokenizer
    """Return the reader of a tokenizer from :func:`load_tokenizer`; Gemma's writes no mark of the end."""
    return TextReader(
        TEXT_ENCODER,
        tokenizer.model_max_length,
        lambda text: len(tokenizer(text, truncation=False, verbose=False).input_ids),
        int(tokenizer("a").input_ids[-1] == tokenizer.eos_token_id),
    )


def reader_of_directory(directory: Path, longest: int) -> TextReader:
    """Return the reader of a pipeline's prompts.

    Args:
        directory: Of the pipeline.
        longest: Tokens that pipelines of this family read at most.

    Raises:
        UnfitModelError: Its tokenizer or its text encoder's config cannot be used.
    """
    from transformers import AutoConfig

    found = []
    index = read_index(directory)
    for part in sorted(name for name in index if name.startswith("tokenizer") and index[name] != [None, None]):
        try:
            encoder = AutoConfig.from_pretrained(
                directory / part.replace("tokenizer", "text_encoder"), local_files_only=True
            )
        except Exception as error:
            raise UnfitModelError(
                f"{directory}: expected the config of a text encoder beside {part}, found one that cannot be read "
                f"({reason_in_short(error)})"
            ) from error
        found.append(load_tokenizer(directory / part, encoder, index[part][1], longest))
    if not found:
        raise UnfitModelError(f"{directory}: expected a tokenizer and a text encoder that fit each other")
    return pipeline_reader(min(found, key=lambda tokenizer: int(tokenizer.model_max_length)))


def _refuse_lost_merges(part: str, tokenizer: Any) -> None:  # noqa: ANN401 - of transformers
    """Refuse byte-pair merges that were cut: words would be read in other pieces than the model was trained with.

    Every token of more than one sign is made by a merge, but for a few that were added by hand.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return
    model = json.loads(backend.to_str())["model"]
    if model.get("type") != "BPE":
        return
    made = {"".join(pair.split(" ") if isinstance(pair, str) else pair) for pair in model.get("merges", [])}
    special = set(tokenizer.all_special_tokens) | set(tokenizer.get_added_vocab())
    long = [
        token
        for token in model["vocab"]
        if len(token.removesuffix("</w>")) > 1 and token not in special and not _BYTE.fullmatch(token)
    ]
    unmade = sum(token not in made for token in long)
    if unmade > max(_ADDED_BY_HAND, len(long) // 100):
        raise UnfitModelError(
            f"{part}: expected a merge for each of {len(long)} tokens, found none for {unmade}; the merges are "
            "incomplete: download the model again"
        )
