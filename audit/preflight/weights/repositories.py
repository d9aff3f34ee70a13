"""Repositories on the hub: which of their files an audit reads.

Repositories also hold the same weights in other formats and precisions, often several times the size of what is needed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from audit.config.kinds.known_weights import known_weights
from audit.models.files.pipeline_files import some
from audit.models.files.untrusted_model import INDEX, NOT_LOADED, PICKLED, UnfitModelError
from audit.preflight.weights.needs import Need, Origin

_PLAIN = (".json", ".txt", ".model")
"""Suffixes of configs and tokenizers."""

_WEIGHTS = re.compile(
    r"(?:diffusion_pytorch_model|model)(?:\.(?P<variant>[A-Za-z]\w*))?(?:-\d+-of-\d+)?(?:\.(?P<older>[A-Za-z]\w*))?"
    r"\.safetensors"
)
"""Name of a weight file or of a shard of it; the variant is before the number of the shard, in older files after it."""

_SHARD_INDEX = re.compile(r"(?:diffusion_pytorch_model|model)\.safetensors\.index(?:\.(?P<variant>\w+))?\.json")
_OTHER_INDEX = re.compile(r".*\.index(?:\.\w+)?\.json")

CLIP_CONFIG = "open_clip_config.json"
CLIP_WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.safetensors")
"""Names of open_clip's safetensors file, the preferred one first."""


@dataclass(frozen=True)
class Repository:
    """A repository on the hub.

    Attributes:
        name: Hub id.
        revision: Branch, tag or commit; None for the default branch.
        quick_gelu: Whether open_clip's table says that a CLIP model needs QuickGELU.
    """

    name: str
    revision: str | None = None
    quick_gelu: bool = False


def repository_of(need: Need) -> Repository | None:
    """Return the repository that something is downloaded from; None if it is no model on the hub.

    Raises:
        UnfitModelError: open_clip does not know a CLIP model, or it is not on the hub.
    """
    if need.origin is Origin.CLIP:
        return _clip_repository(need)
    if need.origin is Origin.PATH:
        named = known_weights(need.source).repository
        return None if named is None else Repository(named)
    return Repository(need.source, need.revision)


def _clip_repository(need: Need) -> Repository:
    model, _, tag = need.source.partition(":")
    if model == "hf-hub":
        return Repository(tag)
    import open_clip  # takes seconds

    known = open_clip.get_pretrained_cfg(model, tag) or {}
    name = str(known.get("hf_hub", "")).rstrip("/")
    if name.count("/") != 1:
        raise UnfitModelError(
            f"{need.key}: expected a CLIP model that open_clip has on the hub, found {need.source!r}; see "
            "open_clip.list_pretrained()"
        )
    return Repository(name, quick_gelu=bool(known.get("quick_gelu")))


def files_of(need: Need, names: Sequence[str], index: Mapping[str, Any]) -> tuple[str, ...]:
    """Select the files of a repository that an audit reads.

    Args:
        need: What the repository is for.
        names: All files of the repository.
        index: ``model_index.json`` of a pipeline; empty for other repositories.

    Raises:
        UnfitModelError: Weights are missing, or exist only in a format that is not read.
    """
    if need.origin is Origin.PIPELINE:
        return tuple(sorted({INDEX, *_pipeline_files(need, names, index)}))
    at_top = [name for name in names if "/" not in name]
    plain = [name for name in at_top if name.endswith(_PLAIN) and not _OTHER_INDEX.fullmatch(name)]
    if need.origin is Origin.CLIP:
        weights = [name for name in CLIP_WEIGHTS if name in names][:1]
        wanted = CLIP_WEIGHTS[0]
    elif need.origin is Origin.BLIP:
        weights, wanted = _chosen(at_top, None), "model.safetensors"
    else:
        wanted = "model.safetensors"
        plain, weights = [name for name in known_weights(need.source).files if name in names], [wanted]
    if not weights or not set(weights) <= set(names):
        raise _no_weights(need, wanted, at_top)
    return tuple(sorted({*plain, *weights}))


def _pipeline_files(need: Need, names: Sequence[str], index: Mapping[str, Any]) -> Iterator[str]:
    parts = [name for name, kind in index.items() if isinstance(kind, list) and kind != [None, None]]
    for part in parts:
        if part in NOT_LOADED:
            continue
        own = [name.removeprefix(f"{part}/") for name in names if name.startswith(f"{part}/")]
        place = f"{part}/" if own else ""  # early repositories keep all files in one directory
        here = [name for name in own or names if "/" not in name]
        weights = _chosen(here, need.variant)
        if not weights and any(_is_pickled(name) for name in here):
            raise _no_weights(need, f"{place}*.safetensors", here)
        plain = [name for name in here if name.endswith(_PLAIN) and not _OTHER_INDEX.fullmatch(name)]
        yield from (f"{place}{name}" for name in (*plain, *weights))


def _chosen(names: Sequence[str], variant: str | None) -> list[str]:
    """Return the weight files and the index of one part: those of the variant, or else the plain ones."""
    found: dict[str | None, list[str]] = {}
    for name in names:
        weights, shards = _WEIGHTS.fullmatch(name), _SHARD_INDEX.fullmatch(name)
        if weights is not None:
            found.setdefault(weights["variant"] or weights["older"], []).append(name)
        elif shards is not None:
            found.setdefault(shards["variant"], []).append(name)
    return found.get(variant) or found.get(None) or []


def _is_pickled(name: str) -> bool:
    return any(name.endswith(suffix) for suffix in PICKLED)


def _no_weights(need: Need, wanted: str, names: Sequence[str]) -> UnfitModelError:
    pickled = sorted(filter(_is_pickled, names))
    found = f"pickled weights alone ({some(pickled)})" if pickled else "none"
    return UnfitModelError(
        f"{need.key}: expected {wanted} in {need.source!r}, found {found}; give a revision or a copy with safetensors"
    )
