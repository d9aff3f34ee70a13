"""Reads the configs and tensor headers of a diffusers directory; no weights are read."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from audit.models.files.untrusted_model import INDEX, UnfitModelError
from audit.storage.outside.json_object import read_json_object

NETWORK_CONFIG, SCHEDULER_CONFIG, TOKENIZER_CONFIG = "config.json", "scheduler_config.json", "tokenizer_config.json"

TOKENIZER_FILES = (("tokenizer.json",), ("vocab.json", "merges.txt"), ("spiece.model",))
"""Either of these is a whole tokenizer; without one, transformers makes an empty vocabulary without an error."""

FLOATS = ("F64", "F32", "F16", "BF16")
"""Number formats of weights; anything else is quantised."""

_TRANSFORMERS = "text_encoder"
"""Beginning of the names of parts that transformers loads; the others are of diffusers."""

_DENOISERS = ("unet", "transformer", "vae")
"""Beginnings of the names of parts that diffusers loads."""

_CONFIG_BYTES = 1_000_000
_INDEX_BYTES = 64 * 1024**2


@dataclass(frozen=True)
class PipelineConfigs:
    """Configs of a pipeline.

    Attributes:
        index: ``model_index.json``: part → library and class.
        parts: Part → its config; a tokenizer without one has an empty config.
    """

    index: Mapping[str, Any]
    parts: Mapping[str, Mapping[str, Any]]

    @classmethod
    def read(cls, directory: Path, files: Mapping[str, str]) -> PipelineConfigs:
        """Read all configs of a diffusers directory.

        Args:
            directory: Of the pipeline.
            files: Part → file with its config.

        Raises:
            UnfitModelError: One is missing or is no JSON object; the message names every such file.
        """
        found: dict[str, Mapping[str, Any]] = {}
        problems: list[str] = []
        for part, name in files.items():
            path = part_directory(directory, part) / name
            if part.startswith("tokenizer") and not path.exists():
                found[part] = {}
                continue
            try:
                found[part] = _json(path, f"the config of the {part}", _CONFIG_BYTES)
            except UnfitModelError as error:
                problems.append(str(error))
        if problems:
            raise UnfitModelError("; ".join(problems))
        return cls(read_index(directory), found)


def read_index(directory: Path) -> dict[str, Any]:
    """Read ``model_index.json``.

    Raises:
        UnfitModelError: It is missing or is no JSON object.
    """
    return _json(directory / INDEX, "the config of the pipeline", _CONFIG_BYTES)


def part_directory(directory: Path, part: str) -> Path:
    """Return the directory of a part's files: one with its name, or else the pipeline's directory.

    Early DDPM repositories keep all files in one directory, and diffusers still reads them so.
    """
    own = directory / part
    is_flat = not own.is_dir() and (directory / NETWORK_CONFIG).is_file()
    return directory if is_flat else own


@dataclass(frozen=True)
class Weights:
    """The files that one part of a pipeline is loaded from.

    Attributes:
        part: Its name in ``model_index.json``.
        variant: Variant of the files, None for the plain ones.
        files: One file, or the shards.
        indexed: Names of the tensors that the index of the shards promises; None for one file.
    """

    part: str
    variant: str | None
    files: tuple[Path, ...]
    indexed: frozenset[str] | None = None

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shape of every tensor, from the headers of the files.

        Raises:
            UnfitModelError: A file is missing or cut, or holds quantised numbers; the message names it.
        """
        shapes: dict[str, tuple[int, ...]] = {}
        for file in self.files:
            shapes.update(header_of(file))
        absent = sorted((self.indexed or frozenset()) - shapes.keys())
        if absent:
            raise UnfitModelError(
                f"{self.files[0].parent}: expected the tensors that the index of its shards names, found no "
                f"{some(absent)}; download the model again"
            )
        return shapes


def find_weights(directory: Path, part: str, variant: str | None) -> Weights:
    """Return the files that diffusers and transformers load a part from; plain files if it has no such variant.

    Raises:
        UnfitModelError: There are none.
    """
    for kind in dict.fromkeys((variant, None)):
        found = _weights_of(part_directory(directory, part), part, kind)
        if found is not None:
            return found
    stem = _stem(part_directory(directory, part), part)
    configs = (NETWORK_CONFIG, SCHEDULER_CONFIG, TOKENIZER_CONFIG, INDEX)
    files = (path for path in part_directory(directory, part).glob("*") if path.is_file())
    here = sorted(path.name for path in files if path.name not in configs)
    raise UnfitModelError(
        f"expected {part}/{stem}.safetensors, found {some(here) if here else 'no file of weights'}; save the pipeline "
        "again as safetensors, or download it again"
    )


def variants_of(directory: Path, part: str) -> tuple[str, ...]:
    """Return the variants that a part has weights of, sorted; the plain files do not count as one."""
    place = part_directory(directory, part)
    pattern = re.compile(rf"{_stem(place, part)}(?:\.safetensors\.index)?\.(\w+)\.(?:safetensors|json)")
    found = (pattern.fullmatch(path.name) for path in place.glob("*"))
    return tuple(sorted({match[1] for match in found if match and match[1] not in ("safetensors", "index")}))


def tokenizer_problem(directory: Path, part: str = "tokenizer") -> str | None:
    """Return which files of a tokenizer are missing, None if it is complete."""
    if any(all((directory / part / name).is_file() for name in names) for names in TOKENIZER_FILES):
        return None
    return (
        f"{part}: expected tokenizer.json, or vocab.json and merges.txt, found neither; without them every word is "
        "unknown: download the model again"
    )


def some(names: Sequence[str], most: int = 3) -> str:
    """Join the first names of a list: ``a, b, c and 12 more``."""
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest} more" if rest > 0 else "")


def _stem(directory: Path, part: str) -> str:
    """Return the name of a part's weight file without its suffix, by the library that loads the part."""
    known = part.startswith((*_DENOISERS, _TRANSFORMERS))
    of_transformers = part.startswith(_TRANSFORMERS) if known else any(directory.glob("model*.safetensors*"))
    return "model" if of_transformers else "diffusion_pytorch_model"


def _weights_of(directory: Path, part: str, variant: str | None) -> Weights | None:
    infix = f".{variant}" if variant else ""
    stem = _stem(directory, part)
    single = directory / f"{stem}{infix}.safetensors"
    index = directory / f"{stem}.safetensors.index{infix}.json"
    # Where both are there, diffusers reads the shards and transformers the single file.
    shards_first = stem != "model"
    if index.is_file() and (shards_first or not single.is_file()):
        return _sharded(index, part, variant)
    return Weights(part, variant, (single,)) if single.is_file() else None


def _sharded(index: Path, part: str, variant: str | None) -> Weights:
    named = _json(index, "the index of sharded weights", _INDEX_BYTES).get("weight_map")
    if not isinstance(named, dict) or not named or not all(isinstance(name, str) for name in named.values()):
        raise UnfitModelError(
            f"{index}: expected weight_map with a file for each tensor, found none; download it again"
        )
    names = sorted(set(named.values()))
    outside = [name for name in names if Path(name).name != name]
    missing = [name for name in names if not outside and not (index.parent / name).is_file()]
    if outside or missing:
        found = f"the path {outside[0]!r}" if outside else f"no {some(missing)}"
        raise UnfitModelError(
            f"{index}: expected shards in the same directory, found {found}; download the model again"
        )
    return Weights(part, variant, tuple(index.parent / name for name in names), frozenset(named))


def _json(path: Path, kind: str, max_bytes: int) -> dict[str, Any]:
    try:
        return read_json_object(path, kind, max_bytes, any_number=True)
    except ValueError as error:
        raise UnfitModelError(str(error)) from error


def header_of(file: Path) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Read name and shape of every tensor of a safetensors file.

    Raises:
        UnfitModelError: The file is cut or no such file, or holds quantised numbers.
    """
    try:
        with safe_open(file, framework="np") as opened:
            for name in opened.keys():  # noqa: SIM118 - the file is no mapping
                part = opened.get_slice(name)
                if part.get_dtype() not in FLOATS:
                    raise UnfitModelError(
                        f"{file}: expected weights in {', '.join(FLOATS)}, found {part.get_dtype()} in {name}; "
                        "quantised models are not audited: give the model in half or single precision"
                    )
                yield name, tuple(part.get_shape())
    except (OSError, SafetensorError) as error:
        raise UnfitModelError(
            f"{file}: expected a whole safetensors file, found one that cannot be read ({error}); download it again"
        ) from error
