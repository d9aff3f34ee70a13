"""The tokenizer of a pipeline, with the limit that it has in fact."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from audit.models.files.pipeline_files import NETWORK_CONFIG, PipelineConfigs, tokenizer_problem
from audit.models.files.text_reader import TEXT_ENCODER, TextReader
from audit.models.files.untrusted_model import UnfitModelError, reason_in_short

_ADDED_BY_HAND = 5
_FEWEST_TOKENS = 3
"""The marks of beginning and end, and one word."""


def load_tokenizer(directory: Path, positions: int, vocabulary: int) -> Any:  # noqa: ANN401 - a CLIPTokenizer
    """Load the tokenizer of a pipeline; its limit is never beyond what the text encoder has positions for.

    Args:
        directory: Of the pipeline.
        positions: ``max_position_embeddings`` of the text encoder. Many published tokenizers name 10^30 or nothing.
        vocabulary: ``vocab_size`` of the text encoder.

    Raises:
        UnfitModelError: It cannot be loaded, is cut, or knows tokens that the text encoder does not.
    """
    from transformers import CLIPTokenizer

    try:
        tokenizer = CLIPTokenizer.from_pretrained(directory / "tokenizer", local_files_only=True)
        tokenizer.model_max_length = max(0, min(int(tokenizer.model_max_length), positions))
        # As sampling calls it; without a token to pad with, for one, it fails.
        tokenizer(["a"], padding="max_length", max_length=tokenizer.model_max_length, truncation=True)
        known = tokenizer.get_vocab()
    except Exception as error:
        raise UnfitModelError(
            f"tokenizer: expected a CLIP tokenizer, found one that cannot be used ({reason_in_short(error)}); download "
            "it again"
        ) from error
    if tokenizer.model_max_length < _FEWEST_TOKENS:
        raise UnfitModelError(
            f"tokenizer: expected room for at least {_FEWEST_TOKENS} tokens, found model_max_length "
            f"{tokenizer.model_max_length}; download it again"
        )
    highest = max(known.values(), default=-1)
    if highest >= vocabulary:
        raise UnfitModelError(
            f"tokenizer: expected the {vocabulary} tokens of the text encoder, found token number {highest}; take "
            "tokenizer and text encoder from one model"
        )
    _refuse_lost_merges(tokenizer)
    return tokenizer


def pipeline_reader(tokenizer: Any) -> TextReader:  # noqa: ANN401 - a CLIPTokenizer
    """Return the reader of a tokenizer from :func:`load_tokenizer`."""
    return TextReader(
        TEXT_ENCODER,
        tokenizer.model_max_length,
        lambda text: len(tokenizer(text, truncation=False, verbose=False).input_ids),
    )


def reader_of_directory(directory: Path) -> TextReader:
    """Return the reader of a pipeline's prompts.

    Raises:
        UnfitModelError: Its tokenizer or its text encoder's config cannot be used.
    """
    text = PipelineConfigs.read(directory, {"text_encoder": NETWORK_CONFIG}).parts["text_encoder"]
    positions, vocabulary = text.get("max_position_embeddings", 77), text.get("vocab_size", 49408)
    if tokenizer_problem(directory) or not isinstance(positions, int) or not isinstance(vocabulary, int):
        raise UnfitModelError(f"{directory}: expected a tokenizer and a text encoder that fit each other")
    return pipeline_reader(load_tokenizer(directory, positions, vocabulary))


def _refuse_lost_merges(tokenizer: Any) -> None:  # noqa: ANN401 - a CLIPTokenizer
    """Refuse byte-pair merges that were cut: words would be read in other pieces than the model was trained with.

    Every token of more than one sign is made by a merge, but for a few that were added by hand.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return
    model = json.loads(backend.to_str())["model"]
    made = {"".join(pair.split(" ") if isinstance(pair, str) else pair) for pair in model.get("merges", [])}
    special = set(tokenizer.all_special_tokens) | set(tokenizer.get_added_vocab())
    long = [token for token in model["vocab"] if len(token.removesuffix("</w>")) > 1 and token not in special]
    unmade = sum(token not in made for token in long)
    if unmade > max(_ADDED_BY_HAND, len(long) // 100):
        raise UnfitModelError(
            f"tokenizer: expected a merge for each of {len(long)} tokens, found none for {unmade}; the merges are "
            "incomplete: download the model again"
        )
