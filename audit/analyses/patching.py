"""Activation patching: one hookpoint takes its values from the run of another prompt with the same noise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from audit.models.generator import DiffusionGenerator
from audit.models.intervention import Edit, Intervention

# B images, C H W the map at the hookpoint


class MapRecorder:
    """Records the maps of one hookpoint at every step, on the CPU: all steps of a large model need gigabytes."""

    def __init__(self) -> None:
        self.maps: dict[int, Tensor] = {}

    def __call__(self, step: int, h: Tensor) -> None:
        """Record the maps ``(B, C, H, W)`` of the conditional half."""
        self.maps[step] = h.to("cpu", copy=True)

    def patch(self) -> Edit:
        """Return the edit that replaces the maps of another run by the recorded ones, at the same steps."""

        def replace(step: int, h: Tensor) -> Tensor:
            return self.maps[step].to(h.device, h.dtype)

        return replace


def swapped_images(
    generator: DiffusionGenerator, texts: tuple[str, str], seeds: Sequence[int], hookpoint: str
) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Sample two prompts from the same noise, unpatched and with one hookpoint taken from the other prompt's run.

    Args:
        generator: The model.
        texts: The two prompts.
        seeds: One seed for each of the B images.
        hookpoint: Module whose output is exchanged at all steps, in the conditional half.

    Returns:
        The unpatched images of both prompts, and their patched images, each uint8 (B, 3, H, W).
    """
    first, second = MapRecorder(), MapRecorder()
    plain = (
        generator.sample([texts[0]] * len(seeds), seeds, observers={hookpoint: first}),
        generator.sample([texts[1]] * len(seeds), seeds, observers={hookpoint: second}),
    )
    patched = (
        _patched(generator, texts[0], seeds, {hookpoint: second.patch()}),
        _patched(generator, texts[1], seeds, {hookpoint: first.patch()}),
    )
    return plain, patched


def _patched(generator: DiffusionGenerator, text: str, seeds: Sequence[int], edits: Mapping[str, Edit]) -> Tensor:
    intervention = Intervention((None,) * len(seeds), range(generator.steps), edits=edits)
    return generator.sample([text] * len(seeds), seeds, intervention)
