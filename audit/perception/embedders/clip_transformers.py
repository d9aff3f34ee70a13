"""CLIP directories in the layout of transformers, opened as an OpenCLIP model.

Both libraries hold the same network under other names. OpenCLIP keeps query, key and value in one tensor, and its
projections are transposed; renaming is exact. OpenCLIP's own tokenizer is used, so the vocabulary must be OpenAI's.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from audit.models.files.state_file import Shapes, read_shapes, read_state, shapes_of, unlike
from audit.models.files.untrusted_model import UnfitModelError
from audit.storage.outside.json_object import read_json_object

T = TypeVar("T")

CONFIG, WEIGHTS, VOCABULARY, PREPARATION = (
    "config.json", "model.safetensors", "vocab.json", "preprocessor_config.json",
)  # fmt: skip

_ACTIVATIONS = {"quick_gelu": True, "gelu": False}
"""Activation function of transformers → OpenCLIP's ``quick_gelu``."""

_BICUBIC = 3
"""Pillow's number of the filter, as preprocessor_config.json names it."""

_RENAMED = (
    (r"^text_model\.embeddings\.token_embedding\.weight$", "token_embedding.weight"),
    (r"^text_model\.embeddings\.position_embedding\.weight$", "positional_embedding"),
    (r"^text_model\.final_layer_norm\.", "ln_final."),
    (r"^text_projection\.weight$", "text_projection"),
    (r"^text_model\.encoder\.layers\.", "transformer.resblocks."),
    (r"^vision_model\.embeddings\.class_embedding$", "visual.class_embedding"),
    (r"^vision_model\.embeddings\.patch_embedding\.", "visual.conv1."),
    (r"^vision_model\.embeddings\.position_embedding\.weight$", "visual.positional_embedding"),
    (r"^vision_model\.pre_layrnorm\.", "visual.ln_pre."),
    (r"^vision_model\.post_layernorm\.", "visual.ln_post."),
    (r"^visual_projection\.weight$", "visual.proj"),
    (r"^vision_model\.encoder\.layers\.", "visual.transformer.resblocks."),
    (r"\.layer_norm([12])\.", r".ln_\1."),
    (r"\.mlp\.fc1\.", ".mlp.c_fc."),
    (r"\.mlp\.fc2\.", ".mlp.c_proj."),
    (r"\.self_attn\.out_proj\.", ".attn.out_proj."),
    (r"\.self_attn\.([qkv])_proj\.", r".attn.\1_"),
)
"""Names of transformers (``pre_layrnorm`` is spelt so) → names of OpenCLIP."""

_TRANSPOSED = ("text_projection", "visual.proj")
_COUNTER = ".position_ids"
"""Positions 0, 1, 2, … that old files store."""


def is_transformers_clip(directory: Path) -> bool:
    """Return whether a directory holds a CLIP model in the layout of transformers, and none in OpenCLIP's."""
    if not directory.is_dir() or (directory / "open_clip_config.json").is_file():
        return False
    try:
        return read_json_object(directory / CONFIG, "a config").get("model_type") == "clip"
    except ValueError:
        return False


def transformers_clip_problem(directory: Path) -> str | None:
    """Return why a directory cannot be opened, from its configs and the header of its weights; None if it can."""
    try:
        with torch.device("meta"):
            network = _network(directory)
        transformers_clip_tokenizer(directory)
        _preparation(directory, network)
        _refuse_unlike(directory, shapes_of(network), _renamed(read_shapes(_weights(directory)), _joined, _turned))
    except ValueError as error:  # of files; UnfitModelError is one
        return str(error)
    return None


def load_transformers_clip(directory: Path) -> tuple[Any, Callable[[Any], Tensor], Any]:
    """Return OpenCLIP's model with the directory's weights, the preparation of a Pillow image, and the tokenizer.

    Raises:
        UnfitModelError: The directory holds something else.
    """
    from open_clip.model import set_model_preprocess_cfg
    from open_clip.transform import image_transform_v2

    network = _network(directory)
    state = _renamed(read_state(_weights(directory)), lambda parts: torch.cat(list(parts)), lambda tensor: tensor.T)
    _refuse_unlike(directory, shapes_of(network), {name: tuple(tensor.shape) for name, tensor in state.items()})
    network.load_state_dict(state)
    preparation = _preparation(directory, network)
    set_model_preprocess_cfg(network, asdict(preparation))
    return network, image_transform_v2(preparation, is_train=False), transformers_clip_tokenizer(directory)


def _config(directory: Path) -> Any:  # noqa: ANN401 - transformers has no types
    """Return the config with the defaults of transformers for values that the file omits."""
    from transformers import CLIPConfig

    named = read_json_object(directory / CONFIG, "the config of a CLIP model")
    try:
        return CLIPConfig.from_dict(named)
    except Exception as error:  # a user's config can cause any exception in the library
        raise _unfit(directory / CONFIG, "a config that transformers can read", _reason(error)) from error


def _network(directory: Path) -> Any:  # noqa: ANN401 - open_clip has no types
    """Return OpenCLIP's network of the size that the config says, with random weights."""
    from open_clip.model import CLIP

    config = _config(directory)
    text, vision = config.text_config, config.vision_config
    if text.hidden_act != vision.hidden_act or text.hidden_act not in _ACTIVATIONS:
        found = f"{text.hidden_act} and {vision.hidden_act}"
        raise _unfit(directory / CONFIG, "hidden_act quick_gelu or gelu for text and pictures", found)
    if {text.layer_norm_eps, vision.layer_norm_eps} != {1e-5}:
        found = f"{text.layer_norm_eps:g} and {vision.layer_norm_eps:g}"
        raise _unfit(directory / CONFIG, "layer_norm_eps 1e-05 for text and pictures", found)
    try:
        return CLIP(
            embed_dim=config.projection_dim,
            vision_cfg={
                "image_size": vision.image_size,
                "patch_size": vision.patch_size,
                "width": vision.hidden_size,
                "layers": vision.num_hidden_layers,
                "head_width": vision.hidden_size // vision.num_attention_heads,
                "mlp_ratio": vision.intermediate_size / vision.hidden_size,
            },
            text_cfg={
                "context_length": text.max_position_embeddings,
                "vocab_size": text.vocab_size,
                "width": text.hidden_size,
                "layers": text.num_hidden_layers,
                "heads": text.num_attention_heads,
                "mlp_ratio": text.intermediate_size / text.hidden_size,
            },
            quick_gelu=_ACTIVATIONS[text.hidden_act],
        ).eval()
    except Exception as error:  # of impossible sizes
        raise _unfit(directory / CONFIG, "a config from which OpenCLIP can build a model", _reason(error)) from error


def transformers_clip_tokenizer(directory: Path) -> Any:  # noqa: ANN401 - open_clip has no types
    """Return the tokenizer of a directory.

    Raises:
        UnfitModelError: The vocabulary is not OpenAI's.
    """
    from open_clip.tokenizer import SimpleTokenizer

    text = _config(directory).text_config
    tokenizer = SimpleTokenizer(context_length=text.max_position_embeddings)
    known = len(tokenizer.encoder)
    if text.vocab_size != known:
        raise _unfit(directory / CONFIG, f"OpenAI's vocabulary of {known} tokens", f"{text.vocab_size} tokens")
    if (directory / VOCABULARY).is_file():
        found = read_json_object(directory / VOCABULARY, "a vocabulary")
        if found != tokenizer.encoder:
            raise _unfit(directory / VOCABULARY, f"OpenAI's vocabulary of {known} tokens", f"{len(found)} other tokens")
    return tokenizer


def _preparation(directory: Path, network: Any) -> Any:  # noqa: ANN401 - open_clip has no types
    """Return how images are prepared: as the directory says, or as OpenAI's models if it says nothing."""
    from open_clip.transform import PreprocessCfg

    plain = PreprocessCfg(size=network.visual.image_size)
    path = directory / PREPARATION
    if not path.is_file():
        return plain
    named = read_json_object(path, "how images are prepared")
    if named.get("resample", _BICUBIC) != _BICUBIC or not named.get("do_center_crop", True):
        raise _unfit(path, f"resample {_BICUBIC} (bicubic) and a centre crop", "another preparation of images")
    mean, std = named.get("image_mean", plain.mean), named.get("image_std", plain.std)
    if not all(isinstance(values, list | tuple) and len(values) == 3 for values in (mean, std)):
        raise _unfit(path, "image_mean and image_std of three channels", f"{mean} and {std}")
    return PreprocessCfg(size=network.visual.image_size, mean=tuple(mean), std=tuple(std))


def _weights(directory: Path) -> Path:
    if not (directory / WEIGHTS).is_file():
        raise _unfit(directory, f"{WEIGHTS} next to {CONFIG}", "none")
    return directory / WEIGHTS


def _renamed(named: Mapping[str, T], join: Callable[[Sequence[T]], T], turn: Callable[[T], T]) -> dict[str, T]:
    """Rename tensors, or their shapes, to OpenCLIP's names."""
    found: dict[str, T] = {}
    for name, value in named.items():
        renamed = name
        for pattern, replacement in _RENAMED:
            renamed = re.sub(pattern, replacement, renamed)
        if not renamed.endswith(_COUNTER):
            found[renamed] = turn(value) if renamed in _TRANSPOSED else value
    for query in [name for name in found if ".attn.q_" in name]:
        parts = [query.replace(".attn.q_", f".attn.{part}_") for part in "qkv"]
        if all(part in found for part in parts):
            found[query.replace(".attn.q_", ".attn.in_proj_")] = join([found.pop(part) for part in parts])
    return found


def _joined(shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    return (sum(shape[0] for shape in shapes), *shapes[0][1:])


def _turned(shape: tuple[int, ...]) -> tuple[int, ...]:
    return shape[::-1]


def _refuse_unlike(directory: Path, expected: Shapes, found: Shapes) -> None:
    obstacle = unlike(expected, found)
    if obstacle is not None:
        raise _unfit(
            directory / WEIGHTS, f"the weights of the CLIP model in {CONFIG}", f"{obstacle} (OpenCLIP's names)"
        )


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error)[:200]}"


def _unfit(path: Path, expected: str, found: str) -> UnfitModelError:
    return UnfitModelError(f"{path}: expected {expected}, found {found}; give another CLIP directory")
