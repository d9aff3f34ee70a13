"""Reads which tensors a LoRA file holds; no weights are read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open

from audit.models.files.pipeline_files import FLOATS, some
from audit.models.files.untrusted_model import UnfitModelError

_DOWN_AND_UP = ((".lora_A.", ".lora_B."), (".lora_down.", ".lora_up."), (".lora.down.", ".lora.up."))
"""Names of the two factors of a LoRA, in peft, in the format of kohya, and in old releases of diffusers."""


@dataclass(frozen=True)
class AdapterFile:
    """A LoRA as it is stored.

    Attributes:
        path: The file.
        factors: Tensors that are one of the two factors of a LoRA; scales (``alpha``) are not.
    """

    path: Path
    factors: tuple[str, ...]

    @classmethod
    def read(cls, path: Path) -> AdapterFile:
        """Read the header of a LoRA.

        Raises:
            UnfitModelError: It is no safetensors file, holds no LoRA, a factor lacks its other half, or it holds
                quantised numbers.
        """
        try:
            with safe_open(path, framework="np") as opened:
                names = sorted(opened.keys())
                kinds = {name: opened.get_slice(name).get_dtype() for name in names}
        except (OSError, SafetensorError) as error:
            raise UnfitModelError(
                f"{path}: expected a LoRA as a whole safetensors file, found one that cannot be read ({error}); "
                "download it again"
            ) from error
        odd = [name for name, kind in kinds.items() if kind not in FLOATS]
        if odd:
            raise UnfitModelError(f"{path}: expected weights in {', '.join(FLOATS)}, found {kinds[odd[0]]} in {odd[0]}")
        factors = tuple(filter(is_lora_name, names))
        if not factors:
            raise UnfitModelError(f"{path}: expected the tensors of a LoRA, found {some(names)}; give a LoRA's file")
        alone = sorted(name for name in factors if _twin(name) not in kinds)
        if alone:
            missing = some([_twin(name) for name in alone])
            raise UnfitModelError(f"{path}: expected both factors of each LoRA, found no {missing}; download it again")
        return cls(path, factors)


def is_lora_name(name: str) -> bool:
    """Return whether a tensor is one of the two factors of a LoRA, by its name."""
    return any(mark in name for pair in _DOWN_AND_UP for mark in pair)


def _twin(name: str) -> str:
    """Return the name of the other factor."""
    for down, up in _DOWN_AND_UP:
        if down in name:
            return name.replace(down, up)
        if up in name:
            return name.replace(up, down)
    raise ValueError(f"expected a factor of a LoRA, found {name!r}")
