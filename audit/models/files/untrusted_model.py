"""What a model's directory may hold: safetensors and plain configs of known libraries, and no code.

A diffusers directory names the classes of its parts in ``model_index.json``. A loader that trusts it imports every
class, also from a Python file of the directory. The names are therefore checked before any loader reads them. Pickled
weights run code when they are read. They are ignored if there are safetensors as well; a part that has only pickled
weights is refused. :mod:`audit.models.check` decides whether an audit can sample the model.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from audit.storage.outside.json_object import read_json_object

INDEX = "model_index.json"

LIBRARIES = ("diffusers", "transformers")
NOT_LOADED = ("safety_checker", "feature_extractor", "image_encoder")

PICKLED = frozenset({".bin", ".ckpt", ".pt", ".pth", ".pkl", ".pickle"})
CODE = frozenset({".py", ".pyc", ".so", ".dll", ".dylib"})

_INDEX_BYTES = 1_000_000
_REASON_LENGTH = 300
_REMOTE_CODE = ("auto_map", "custom_pipelines", "trust_remote_code")


class UntrustedModelError(ValueError):
    """A model's directory holds code, pickled weights or custom classes."""


class UnfitModelError(ValueError):
    """A network cannot be run as published: its family is not supported, it is incomplete, or it cannot do the task.

    This concerns the audited model, judges, and networks that measure.
    """


def reason_in_short(error: Exception) -> str:
    """Return a library's error message in one line of bounded length."""
    words = " ".join(str(error).split())
    return f"{type(error).__name__}: {words[:_REASON_LENGTH]}" if words else type(error).__name__


def check_pipeline(directory: Path) -> None:
    """Make sure that a diffusers directory can be loaded without running code from it.

    Raises:
        UntrustedModelError: It cannot; the message names every reason.
    """
    _refuse(directory, [*_code(directory), *_index(directory), *_weights(directory), *_remote_code(directory)])


def check_directory(directory: Path) -> None:
    """Make sure that the directory of one network can be loaded without running code from it.

    Raises:
        UntrustedModelError: It holds code, or only pickled weights.
    """
    found = [*_code(directory), *_remote_code(directory)]
    if _pickled(directory):
        found.append(f"pickled weights alone ({', '.join(_pickled(directory))})")
    _refuse(directory, found)


def _refuse(directory: Path, found: list[str]) -> None:
    if found:
        raise UntrustedModelError(
            f"{directory}: expected safetensors weights and plain configs, found {'; '.join(found)}. An audit "
            "runs no code that comes with a model: save it again as safetensors, without custom classes"
        )


def _code(directory: Path) -> Iterator[str]:
    files = sorted(path.relative_to(directory).as_posix() for path in directory.rglob("*") if path.suffix in CODE)
    if files:
        yield f"code ({', '.join(files[:5])})"


def _index(directory: Path) -> Iterator[str]:
    try:
        index = read_json_object(directory / INDEX, "the parts of a pipeline", _INDEX_BYTES, any_number=True)
    except ValueError as error:
        yield str(error)
        return
    if not _is_class(index.get("_class_name")):
        yield f"the pipeline class {index.get('_class_name')!r}"
    for part, named in index.items():
        if isinstance(named, list) and part not in NOT_LOADED and not _of_a_library(named):
            yield f"{part} of class {named!r}"


def _of_a_library(named: list[object]) -> bool:
    """Return whether a part is of a known library; ``[null, null]`` means an omitted part."""
    return named == [None, None] or (len(named) == 2 and named[0] in LIBRARIES and _is_class(named[1]))


def _is_class(name: object) -> bool:
    return isinstance(name, str) and name.isidentifier() and not name.startswith("_")


def _weights(directory: Path) -> Iterator[str]:
    folders = (path for path in directory.iterdir() if path.is_dir() and path.name not in NOT_LOADED)
    for part in sorted(path.name for path in folders):
        pickled = _pickled(directory / part)
        if pickled:
            yield f"pickled weights alone in {part} ({', '.join(pickled)})"


def _pickled(directory: Path) -> list[str]:
    """List pickled weights in a directory that has no safetensors."""
    names = sorted(path.name for path in directory.glob("*") if path.suffix in PICKLED)
    return [] if any(directory.glob("*.safetensors")) else names[:5]


def _remote_code(directory: Path) -> Iterator[str]:
    """Find configs that name custom code: the loaders of this project never run it, so it is refused."""
    for path in sorted(directory.rglob("*.json")):
        if not path.name.endswith(("config.json", INDEX)):
            continue
        try:
            data = read_json_object(path, "a plain config", _INDEX_BYTES, any_number=True)
        except ValueError as error:
            yield str(error)
            continue
        for key in _REMOTE_CODE:
            if data.get(key):
                yield f"{key} in {path.relative_to(directory).as_posix()}"
