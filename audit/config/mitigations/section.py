"""Keys that the sections of several methods share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from audit.config.fields import FileName, Section, Text, UniformOrShares, Window


class MitigationSection(Section):
    """Keys that every intervention has; its name is the name of an arm."""

    uses_lens: ClassVar[bool] = False
    """Whether the method edits the model through its lens."""

    names_groups: ClassVar[bool] = False
    """Whether the method uses prompts that name a group."""

    trains_through_unet: ClassVar[bool] = False
    """Whether the training asks a U-Net for gradients, at noise levels of diffusion."""

    trained_with: ClassVar[tuple[str, ...]] = ()
    """Networks beside the model that the training uses: ``clip``."""

    name: FileName
    """Name of the arm, used in file names."""
    attribute: Text
    """The attribute to balance."""
    target: UniformOrShares = "uniform"
    """Shares of the groups that images are steered to. ``targets`` sets the shares that results are compared with."""

    def word_of(self, group: str) -> str | None:
        """Return the word that the config sets for a group in prompts, None for the default word."""
        return None

    @property
    def searches_strength(self) -> bool:
        """Whether the strength of each prompt's edit is found with the lens."""
        return False

    @property
    def edited_modules(self) -> tuple[str, ...]:
        """Modules of the network that the config names for editing; empty if it names none."""
        return ()

    @property
    def fitted_by(self) -> Mapping[str, Any] | None:
        """Settings that determine the fit, apart from model, prompts and sampling; None if nothing is fitted."""
        return None

    @property
    def fitted_images(self) -> int:
        """Images per prompt and group that the fit uses; 0 if nothing is fitted."""
        return 0

    def training_steps(self, denoising_steps: int) -> int:
        """Return the optimiser steps of the training; 0 if the fit takes none."""
        return 0


class EditSection(MitigationSection):
    """Keys of an intervention that edits the feature maps of the network during sampling."""

    window: Window = (0.0, 1.0)
    """Part of the denoising steps that is edited, as fractions from first to last."""
    reverse_step: Literal["symmetric", "asymmetric"] = "symmetric"
    """Whether the edit acts on both terms of the DDIM step or on the predicted image alone (Asyrp)."""
