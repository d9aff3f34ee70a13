"""The lens: what dissecting a model leaves behind, as one directory that knows what it fits and how good it is.

``sae.safetensors`` + ``sae.json``, ``heads.safetensors`` + ``heads.json``, ``firing.safetensors``, ``card.md``, and
``lens.json``, which is written last: a directory without it is unfinished.
"""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from audit.dissect.card import card
from audit.dissect.group_heads import GroupHeads
from audit.dissect.prediction import Prediction, prediction_of_data
from audit.dissect.sae import SparseAutoencoder
from audit.dissect.settings import CARD_FILE, LENS_FILE, LENS_FORMAT, lens_name
from audit.dissect.strengths import Strengths, strengths_as_data, strengths_of_data
from audit.storage.outside.json_object import read_json_object

FIRING_FILE = "firing.safetensors"


class LensMismatch(ValueError):
    """A lens that does not belong to the model or the config."""


@dataclass(frozen=True)
class BiasFeature:
    """A latent that attribution chose for one group.

    Attributes:
        latent: Index in the autoencoder.
        score: Attribution to the group's probability, mean over samples and steps.
        mean_firing_per_step: Mean value for each sampler step, over all positions of the samples that show the group,
            silent ones included.
    """

    latent: int
    score: float
    mean_firing_per_step: tuple[float, ...]


@dataclass(frozen=True)
class Lens:
    """A dissected model.

    Attributes:
        sae: The autoencoder.
        heads: The group heads.
        features: Bias features by attribute and group, best first.
        firing: Mean value (S, P, F) of each group's features, by attribute and group, over the samples that show the
            group: at each sampler step and position, silent samples included, features in the order of ``features``.
        strengths: Edit strength by attribute, prompt id and group, with what was seen when it was drawn.
        settings: How the lens was made, as plain data; part of its name.
        quality: ``unexplained_variance`` (per step), ``dead_latents``, ``latents``, ``decoder_cosine_mean``,
            ``decoder_cosine_max``, ``head_accuracy`` (by attribute, per step), ``completeness_gap``.
        model_fingerprint: Of the model it was made from.
        hookpoint: Module path whose output it reads and edits.
        steps: Sampler steps.
        groups: Group names by attribute, in the order of the heads.
        prediction: What predicts the strengths of other prompts, by attribute and group, with its error.
    """

    sae: SparseAutoencoder
    heads: GroupHeads
    features: dict[str, dict[str, tuple[BiasFeature, ...]]]
    firing: dict[str, dict[str, Tensor]]
    strengths: Strengths
    settings: dict[str, Any]
    quality: dict[str, Any]
    model_fingerprint: str
    hookpoint: str
    steps: int
    groups: dict[str, tuple[str, ...]]
    prediction: Prediction = field(default_factory=dict)

    @property
    def device(self) -> torch.device:
        """Where its tensors are, all of them on one device."""
        return self.sae.decoder.device

    @property
    def name(self) -> str:
        """Name by content."""
        return lens_name(self.model_fingerprint, self.settings)

    def save(self, directory: Path, dtype: torch.dtype = torch.float16) -> None:
        """Write the lens into ``directory``, the autoencoder's weights in ``dtype``.

        16 bits round the weights: measure and edit with what ``load`` returns, so that every run sees the same lens.
        """
        directory.mkdir(parents=True, exist_ok=True)
        (directory / LENS_FILE).unlink(missing_ok=True)
        self.sae.save(directory, dtype)
        self.heads.save(directory)
        save_file(self._firing_tensors(), directory / FIRING_FILE)
        (directory / CARD_FILE).write_text(card(self.name, self._plain(), asdict(self.sae.shape)))
        partial = directory / f"{LENS_FILE}.partial"
        partial.write_text(json.dumps(self._plain(), indent=1) + "\n")
        os.replace(partial, directory / LENS_FILE)

    @classmethod
    def load(cls, directory: Path) -> Lens:
        """Read a lens back.

        Raises:
            FileNotFoundError: Where ``directory`` holds no finished lens.
            ValueError: Where its files disagree or come from a later version.
        """
        path = directory / LENS_FILE
        if not path.is_file():
            raise FileNotFoundError(
                f"expected a lens in {directory}, found no {LENS_FILE}; make one with `difflens-audit dissect CONFIG`"
            )
        plain = read_json_object(path, "the card of a lens")
        version = plain.pop("format_version", None)
        if version != LENS_FORMAT:
            raise ValueError(f"{path}: expected format {LENS_FORMAT}, found {version}; dissect the model again")
        firing = load_file(directory / FIRING_FILE)
        return cls(
            sae=SparseAutoencoder.load(directory),
            heads=GroupHeads.load(directory),
            firing={
                attribute: {group: firing[f"{attribute}.{group}"].float() for group in by_group}
                for attribute, by_group in plain["features"].items()
            },
            features={
                attribute: {group: tuple(map(_feature, rows)) for group, rows in by_group.items()}
                for attribute, by_group in plain.pop("features").items()
            },
            groups={attribute: tuple(names) for attribute, names in plain.pop("groups").items()},
            strengths=strengths_of_data(plain.pop("strengths")),
            prediction=prediction_of_data(plain.pop("prediction")),
            **plain,
        )

    def to(self, device: torch.device | str) -> Lens:
        """Copy every tensor to where the model runs; this lens stays where it is."""
        return replace(
            self,
            sae=copy.deepcopy(self.sae).to(device),  # a module would move in place, under whoever else holds it
            heads=self.heads.to(device),
            firing={
                attribute: {group: values.to(device) for group, values in by_group.items()}
                for attribute, by_group in self.firing.items()
            },
        )

    def _firing_tensors(self) -> dict[str, Tensor]:
        return {
            f"{attribute}.{group}": values.half().cpu().contiguous()
            for attribute, by_group in self.firing.items()
            for group, values in by_group.items()
        }

    def _plain(self) -> dict[str, Any]:
        return {
            "format_version": LENS_FORMAT,
            "model_fingerprint": self.model_fingerprint,
            "hookpoint": self.hookpoint,
            "steps": self.steps,
            "groups": self.groups,
            "settings": self.settings,
            "quality": self.quality,
            "strengths": strengths_as_data(self.strengths),
            "prediction": {
                attribute: {group: line.as_data() for group, line in lines.items()}
                for attribute, lines in self.prediction.items()
            },
            "features": {
                attribute: {group: [asdict(feature) for feature in rows] for group, rows in by_group.items()}
                for attribute, by_group in self.features.items()
            },
        }


def check_fits(lens: Lens, model_fingerprint: str, steps: int, attributes: Mapping[str, Sequence[str]]) -> None:
    """Refuse a lens of another model, step count or set of groups.

    Args:
        lens: The lens.
        model_fingerprint: Of the model to audit.
        steps: Sampler steps of the audit.
        attributes: Groups, in order, of every attribute that the lens is needed for.

    Raises:
        LensMismatch: Naming every disagreement at once.
    """
    problems = []
    if lens.model_fingerprint != model_fingerprint:
        problems.append(f"model: expected {model_fingerprint}, found {lens.model_fingerprint}")
    if lens.steps != steps:
        problems.append(f"sampler steps: expected {steps}, found {lens.steps}")
    for attribute, groups in attributes.items():
        found = lens.groups.get(attribute)
        if found != tuple(groups):
            problems.append(f"groups of {attribute}: expected {list(groups)}, found {list(found) if found else 'none'}")
    if problems:
        raise LensMismatch(
            f"{lens.name} does not fit this audit: {'; '.join(problems)}. "
            "Make one that does with `difflens-audit dissect CONFIG`, or leave lens.path out."
        )


def _feature(row: dict[str, Any]) -> BiasFeature:
    return BiasFeature(row["latent"], row["score"], tuple(row["mean_firing_per_step"]))
