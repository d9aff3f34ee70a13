"""Checks of pipeline configs that all families share: the classes of the parts, and the size of what is denoised."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from audit.config.problems import listing
from audit.models.files.untrusted_model import NOT_LOADED
from audit.records.located.places import Place

Classes = Mapping[str, Sequence[str]]
"""Part → classes that it may have; any scheduler is checked elsewhere."""

LONGEST_SIDE = 4096
MOST_LEVELS = 10
MOST_BLOCKS = 1000
"""Blocks of a transformer; published ones have 57 at most."""

DIFFUSION = (
    "DDIMScheduler",
    "DDIMParallelScheduler",
    "DDPMScheduler",
    "DDPMParallelScheduler",
    "DEISMultistepScheduler",
    "DPMSolverMultistepScheduler",
    "DPMSolverSDEScheduler",
    "DPMSolverSinglestepScheduler",
    "EulerAncestralDiscreteScheduler",
    "EulerDiscreteScheduler",
    "HeunDiscreteScheduler",
    "KDPM2AncestralDiscreteScheduler",
    "KDPM2DiscreteScheduler",
    "LCMScheduler",
    "LMSDiscreteScheduler",
    "PNDMScheduler",
    "SASolverScheduler",
    "TCDScheduler",
    "UniPCMultistepScheduler",
)
"""Schedulers that solve the diffusion process that the betas fix (KarrasDiffusionSchedulers of diffusers without EDM),
and those of models distilled from it for few steps."""

CLIP_TOKENIZERS = ("CLIPTokenizer", "CLIPTokenizerFast")
T5_TOKENIZERS = ("T5Tokenizer", "T5TokenizerFast")

UNET_BLOCKS = ("conv_in", "down_blocks", "mid_block", "up_blocks", "conv_norm_out", "conv_out")
"""Top-level modules of the U-Nets of diffusers that return maps."""


def cell_of(vae: Mapping[str, Any], key: str) -> int:
    """Return the pixels that one cell of a VAE's latents stands for, in each direction.

    Args:
        vae: Its config.
        key: The key with one number of channels for each halving and one for the picture itself.

    Raises:
        ValueError: The config has something else there.
    """
    channels = vae.get(key, [64])
    if not isinstance(channels, list) or not 1 <= len(channels) <= MOST_LEVELS:
        raise ValueError(f"vae/config.json: expected {key}, a list of numbers, found {channels!r}; download it again")
    return int(2 ** (len(channels) - 1))


def unet_blocks(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the addresses of the blocks of a U-Net, from the first to the last; empty if its config names none."""
    channels = config.get("block_out_channels")
    count = range(len(channels)) if isinstance(channels, list) else range(0)
    middle = ("mid_block",) if count else ()
    return (*(f"down_blocks.{i}" for i in count), *middle, *(f"up_blocks.{i}" for i in count))


def transformer_blocks(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the addresses of the blocks of a transformer, from the first to the last."""
    kinds = {"transformer_blocks": "num_layers", "single_transformer_blocks": "num_single_layers"}
    counts = {kind: config.get(key) for kind, key in kinds.items()}
    return tuple(f"{kind}.{i}" for kind, count in counts.items() for i in range(_count(count)))


def unet_places(config: Mapping[str, Any]) -> tuple[Place, ...]:
    """Return the places of a U-Net that together carry all that its blocks hand over and read, in the order of calls.

    Down blocks hand over their output and skip connections; blocks with cross-attention also read the text.
    """
    kinds = {"down_blocks": config.get("down_block_types"), "up_blocks": config.get("up_block_types")}
    # The pooled embedding of SDXL is added to that of the time.
    found = [Place("add_embedding")] if config.get("addition_embed_type") == "text_time" else []
    for path in unet_blocks(config):
        part, _, number = path.partition(".")
        listed = kinds.get(part)
        kind = config.get("mid_block_type", "CrossAttn") if part == "mid_block" else _item(listed, int(number or 0))
        if "CrossAttn" in str(kind):
            found.append(Place(path, "text"))
        found += [Place(path, "output"), Place(path, "skips")] if part == "down_blocks" else [Place(path)]
    return tuple(found)


def transformer_places(config: Mapping[str, Any], *, streams: bool) -> tuple[Place, ...]:
    """Return the places of a transformer: its blocks, and the text that each reads, or the text tokens that it returns.

    Args:
        config: Of the transformer.
        streams: Whether its blocks return tokens of the text beside those of the image.
    """
    paths = transformer_blocks(config)
    if not streams:
        return tuple(place for path in paths for place in (Place(path, "text"), Place(path)))
    # The pooled embedding goes in with the time, and nothing reads the text tokens of the last block.
    texts = {path: (Place(path, "text-stream"),) for path in paths[:-1]}
    entries = (Place("time_text_embed"), Place("context_embedder")) if paths else ()
    return (*entries, *(place for path in paths for place in (*texts.get(path, ()), Place(path))))


def _item(values: object, number: int) -> object:
    return values[number] if isinstance(values, list) and number < len(values) else None


def _count(number: object) -> int:
    return number if isinstance(number, int) and number <= MOST_BLOCKS else 0


def unfit_index(index: Mapping[str, Any], family: str, classes: Classes) -> Iterator[str]:
    """Find parts in ``model_index.json`` that are of another family, or missing.

    Args:
        index: ``model_index.json``.
        family: Its name, for messages.
        classes: Of its parts.

    Yields:
        Messages.
    """
    found = [
        f"{part} of class {named[-1]}"
        for part, named in index.items()
        if isinstance(named, list) and named != [None, None] and part not in (*NOT_LOADED, "scheduler")
        if named[-1] not in classes.get(part, ())
    ]
    if found:
        yield f"expected the parts of {family}, found {listing(found)}; this pipeline is of another kind"
        return
    missing = [part for part in (*classes, "scheduler") if not _is_named(index.get(part))]
    if missing:
        named = index.get("_class_name")
        yield f"model_index.json: expected the parts of {named}, found no {listing(missing)}; download it again"


def unfit_class(part: str, config: Mapping[str, Any], classes: Classes) -> Iterator[str]:
    """Find a config that another class wrote; a part is built by the class that the index names.

    Yields:
        Messages.
    """
    named = config.get("_class_name")
    if named is None and part.startswith("text_encoder"):
        named = (config.get("architectures") or [None])[0] if isinstance(config.get("architectures"), list) else None
        kind = config.get("model_type")
        if kind is not None and not classes[part][0].lower().startswith(kind.partition("_")[0]):
            named = f"model_type {kind}"
    if named is not None and named not in classes[part]:
        yield f"{part}/config.json: expected the config of a {classes[part][0]}, found one of {named}"
    if config.get("quantization_config"):
        yield f"{part}/config.json: expected weights in half or single precision, found quantization_config"


def sample_size(part: str, config: Mapping[str, Any]) -> tuple[int, int]:
    """Return height and width of what a denoiser is published for.

    Args:
        part: ``unet`` or ``transformer``.
        config: Its config; ``sample_size`` is one number or two.

    Raises:
        ValueError: The config has no such key, or its value is not one or two positive whole numbers.
    """
    size = config.get("sample_size")
    sides = [int(side) for side in (size if isinstance(size, list | tuple) else (size, size)) if _is_length(side)]
    if len(sides) != 2 or (isinstance(size, list | tuple) and len(size) != 2):
        raise ValueError(
            f"{part}/config.json: expected sample_size, the height and width of what it denoises, found {size!r}; add "
            "it: 64 for a Stable Diffusion model of 512 pixels"
        )
    return sides[0], sides[1]


def _is_length(side: object) -> bool:
    return isinstance(side, int) and not isinstance(side, bool) and 0 < side <= LONGEST_SIDE


def _is_named(part: object) -> bool:
    """Whether ``model_index.json`` names a library and a class for a part."""
    return isinstance(part, list) and len(part) == 2 and all(isinstance(name, str) for name in part)
