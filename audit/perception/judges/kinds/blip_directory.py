"""The directory of a BLIP model for visual question answering: checked before anything is loaded from it.

transformers initialises a tensor that a file lacks with random numbers and only logs a warning, and a tokenizer without
a vocabulary reads every word as unknown. Both are refused here.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from audit.config.judges import VqaConfig
from audit.models.files.untrusted_model import UnfitModelError, check_directory, reason_in_short
from audit.storage.outside.json_object import read_json_object

_FILES = ("*.json", "*.txt", "*.safetensors")
"""Files that are downloaded from the hub; no code, and no pickled weights."""

_HARMLESS = "position_ids"
"""Counts positions; old releases stored it, newer ones count for themselves."""


def blip_directory(source: str, revision: str | None) -> Path:
    """Return a local directory, or download one from the hub unless it is in the cache.

    Args:
        source: A directory, or a hub id.
        revision: Branch, tag or commit of a hub id.

    Raises:
        FileNotFoundError: The model cannot be downloaded.
    """
    if Path(source).is_dir():
        return Path(source)
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(source, revision=revision, allow_patterns=list(_FILES)))


def check_blip(directory: Path) -> None:
    """Compare the names and shapes of the stored tensors with those of the model; no weights are read.

    Raises:
        UnfitModelError: The directory holds another model, or some of its tensors are missing.
        UntrustedModelError: It holds code, or pickled weights alone.
    """
    from audit.models.files.state_file import read_shapes, unlike

    check_directory(directory)
    try:
        config = read_json_object(directory / "config.json", "the config of a BLIP model", any_number=True)
    except ValueError as error:
        raise UnfitModelError(str(error)) from error
    kinds = config.get("architectures")
    if config.get("model_type") != "blip" or kinds not in (None, ["BlipForQuestionAnswering"]):
        found = ", ".join(map(str, kinds)) if isinstance(kinds, list) else config.get("model_type")
        raise UnfitModelError(
            f"{directory}: expected a BLIP model for visual question answering (BlipForQuestionAnswering), found "
            f"{found}; give another directory"
        )
    files = sorted(directory.glob("model*.safetensors"))
    if not files:
        raise UnfitModelError(f"{directory}: expected model.safetensors next to config.json, found none; add it")
    found_shapes = {name: shape for file in files for name, shape in read_shapes(file).items()}
    _refuse_more_layers(directory, config, len(found_shapes))
    expected, tied = _expected_shapes(directory)
    stored = {name: shape for name, shape in found_shapes.items() if not name.endswith(_HARMLESS)}
    missing_copies = {name: expected[name] for name in tied if name in expected and name not in stored}
    obstacle = unlike(expected, stored | missing_copies)
    if obstacle is not None:
        raise UnfitModelError(f"{directory}: expected the weights of the model in config.json, found {obstacle}")


def _refuse_more_layers(directory: Path, config: Mapping[str, Any], tensors: int) -> None:
    """Refuse a config with more layers than there are tensors, before building it fills memory."""
    for part in ("text_config", "vision_config"):
        section = config.get(part)
        layers = section.get("num_hidden_layers", 0) if isinstance(section, dict) else 0
        if not isinstance(layers, int) or layers > tensors:
            raise UnfitModelError(
                f"{directory / 'config.json'}: expected {part}.num_hidden_layers of at most {tensors} stored tensors, "
                f"found {str(layers)[:20]}; download the model again"
            )


def _expected_shapes(directory: Path) -> tuple[dict[str, tuple[int, ...]], tuple[str, ...]]:
    """Return the shapes of all tensors, and the names of those that are copies of others and need not be stored."""
    import torch
    from transformers import BlipConfig, BlipForQuestionAnswering

    from audit.models.files.state_file import shapes_of

    try:
        with torch.device("meta"):
            network = BlipForQuestionAnswering(BlipConfig.from_pretrained(directory, local_files_only=True))
    except Exception as error:
        raise UnfitModelError(
            f"{directory / 'config.json'}: expected a config that BLIP can be built from, found one that fails "
            f"({reason_in_short(error)}); download it again"
        ) from error
    tied: Mapping[str, str] = network._tied_weights_keys or {}
    return dict(shapes_of(network)), tuple(tied)


def load_blip(directory: Path) -> Any:  # noqa: ANN401 - transformers has no types
    """Load the model of a directory that ``check_blip`` accepts, without the progress bar of transformers."""
    from transformers import BlipForQuestionAnswering
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        return BlipForQuestionAnswering.from_pretrained(directory, local_files_only=True, use_safetensors=True)
    finally:
        if shown:
            logging.enable_progress_bar()


def load_processor(directory: Path) -> Any:  # noqa: ANN401 - transformers builds processors dynamically
    """Load the image processor and the tokenizer of a directory.

    Raises:
        UnfitModelError: They are missing or cannot be read.
    """
    from transformers import BlipProcessor

    try:
        return BlipProcessor.from_pretrained(directory, local_files_only=True)
    except Exception as error:
        raise UnfitModelError(
            f"{directory}: expected the image processor and the tokenizer of BLIP, found none that can be read "
            f"({reason_in_short(error)}); download the model again"
        ) from error


def answer_tokens(tokenizer: Any, attribute: str, settings: VqaConfig) -> dict[str, list[int]]:  # noqa: ANN401
    """Return the tokens of each answer to the question of an attribute, with the mark of the end.

    Args:
        tokenizer: Tokenizer of the model.
        attribute: The attribute.
        settings: Questions, answers and how answers are scored.

    Raises:
        UnfitModelError: A text has words that the tokenizer does not know, two answers are the same to the model, or
            their numbers of tokens differ although their sums are compared.
    """
    asked = settings.questions[attribute]
    for text in (asked.question, *asked.answers.values()):
        if tokenizer.unk_token_id in tokenizer(text).input_ids:
            raise UnfitModelError(
                f"expected words that the question answering model knows, found an unknown one in {text!r} "
                f"({attribute}); write it in other words, or give the model with its complete tokenizer"
            )
    tokens = {group: list(tokenizer(text).input_ids[1:]) for group, text in asked.answers.items()}
    if len({tuple(ids) for ids in tokens.values()}) < len(tokens):
        raise UnfitModelError(
            f"expected different answers for the groups of {attribute}, found two with the same tokens; rename one"
        )
    lengths = {group: len(ids) - 1 for group, ids in tokens.items()}
    if settings.score == "sum" and len(set(lengths.values())) > 1:
        found = ", ".join(f"{asked.answers[group]!r} has {count}" for group, count in lengths.items())
        raise UnfitModelError(
            f"expected answers of the same number of tokens for {attribute}, because a sum of log-probabilities "
            f"prefers short ones; {found}. Choose other words, or set score: mean"
        )
    return tokens
