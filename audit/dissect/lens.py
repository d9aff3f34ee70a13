"""The lens of a model: autoencoder, group heads, bias features and strengths, stored in one directory.

The files are ``sae.safetensors`` + ``sae.json``, ``heads.safetensors`` + ``heads.json``, ``firing.safetensors``,
``contrast.safetensors``, ``honesty.json``, ``card.md`` and ``lens.json``, which is written last: a directory without it
is incomplete. ``lens.json`` has the fingerprint of the model and measures of quality.
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

from audit.dissect.card import card, with_honesty
from audit.dissect.group_heads import GroupHeads
from audit.dissect.prediction import Prediction, prediction_of_data
from audit.dissect.sae import SparseAutoencoder
from audit.dissect.settings import CARD_FILE, HONESTY_FILE, LENS_FILE, LENS_FORMAT, lens_name
from audit.dissect.strengths import Strengths, strengths_as_data, strengths_of_data
from audit.records.inside.honesty import LensHonesty
from audit.storage.outside.json_object import read_json_object

FIRING_FILE = "firing.safetensors"
CONTRAST_FILE = "contrast.safetensors"
"""Lenses of older releases have none."""


class LensMismatch(ValueError):
    """The lens does not fit the model or the config."""


@dataclass(frozen=True)
class BiasFeature:
    """A latent that attribution selected for one group.

    Attributes:
        latent: Index in the autoencoder.
        score: Attribution to the group's probability, mean over samples and steps.
        mean_firing_per_step: Mean activation for each sampler step, over all positions of the samples that show the
            group, including inactive ones.
    """

    latent: int
    score: float
    mean_firing_per_step: tuple[float, ...]


@dataclass(frozen=True)
class Lens:
    """The lens of a model.

    Attributes:
        sae: The autoencoder.
        heads: The group heads.
        features: Bias features by attribute and group, best first.
        firing: Mean activation (S, P, F) of each group's features, by attribute and group, over the samples that show
            the group, including inactive ones, at each sampler step and position; features in the order of
            ``features``.
        strengths: Edit strength by attribute, prompt id and group, with the results of its trials.
        settings: Settings of the lens as plain data; part of its name.
        quality: ``unexplained_variance`` (per step), ``dead_latents``, ``latents``, ``decoder_cosine_mean``,
            ``decoder_cosine_max``, ``head_accuracy`` (by attribute, per step), ``completeness_gap``.
        model_fingerprint: Fingerprint of the model.
        hookpoint: Path of the module whose output it reads and edits.
        steps: Sampler steps.
        groups: Group names by attribute, in the order of the heads.
        prediction: Lines that predict the strengths of other prompts, by attribute and group, with their errors.
        contrast: What distinguishes each group from the others in the bias features, by attribute and group:
            (S, P, F) differences of mean activations, of all features of the attribute in the order of ``latents``.
            Empty for a lens of an older release.
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
    contrast: dict[str, dict[str, Tensor]] = field(default_factory=dict)

    @property
    def device(self) -> torch.device:
        """The device of all its tensors."""
        return self.sae.decoder.device

    @property
    def name(self) -> str:
        """Name by content."""
        return lens_name(self.model_fingerprint, self.settings)

    def latents(self, attribute: str) -> tuple[int, ...]:
        """Return the latents of all bias features of an attribute, each once, in the order of groups and features."""
        features = (feature for rows in self.features[attribute].values() for feature in rows)
        return tuple(dict.fromkeys(feature.latent for feature in features))

    def save(self, directory: Path, dtype: torch.dtype = torch.float16) -> None:
        """Write the lens into ``directory``, the autoencoder's weights in ``dtype``.

        16 bits round the weights. Measure and edit with a loaded lens, so that every run uses the same weights. Figures
        of the features that the directory has already (``honesty.json``) are summarised in the card.
        """
        directory.mkdir(parents=True, exist_ok=True)
        (directory / LENS_FILE).unlink(missing_ok=True)
        self.sae.save(directory, dtype)
        self.heads.save(directory)
        save_file(_as_tensors(self.firing), directory / FIRING_FILE)
        save_file(_as_tensors(self.contrast), directory / CONTRAST_FILE)
        honesty = honesty_in(directory)
        plain = self._plain() if honesty is None else with_honesty(self._plain(), honesty)
        (directory / CARD_FILE).write_text(card(self.name, plain, asdict(self.sae.shape)))
        partial = directory / f"{LENS_FILE}.partial"
        partial.write_text(json.dumps(plain, indent=1) + "\n")
        os.replace(partial, directory / LENS_FILE)

    @classmethod
    def load(cls, directory: Path) -> Lens:
        """Load a lens.

        Raises:
            FileNotFoundError: ``directory`` contains no complete lens.
            ValueError: Its files do not match or have another format version.
        """
        path = directory / LENS_FILE
        if not path.is_file():
            raise FileNotFoundError(
                f"expected a lens in {directory}, found no {LENS_FILE}; build one with `difflens-audit dissect CONFIG`"
            )
        plain = read_json_object(path, "the card of a lens")
        version = plain.pop("format_version", None)
        if version != LENS_FORMAT:
            raise ValueError(f"{path}: expected format {LENS_FORMAT}, found {version}; build the lens again")
        firing = load_file(directory / FIRING_FILE)
        contrast = load_file(directory / CONTRAST_FILE) if (directory / CONTRAST_FILE).is_file() else {}
        return cls(
            sae=SparseAutoencoder.load(directory),
            heads=GroupHeads.load(directory),
            firing={
                attribute: {group: firing[f"{attribute}.{group}"].float() for group in by_group}
                for attribute, by_group in plain["features"].items()
            },
            contrast={
                attribute: {group: contrast[f"{attribute}.{group}"].float() for group in by_group}
                for attribute, by_group in plain["features"].items()
                if contrast
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
        """Return a copy of the lens on a device; this lens does not change."""
        return replace(
            self,
            sae=copy.deepcopy(self.sae).to(device),  # a module moves in place, which would affect its other users
            heads=self.heads.to(device),
            firing=_on(device, self.firing),
            contrast=_on(device, self.contrast),
        )

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


def honesty_in(directory: Path) -> LensHonesty | None:
    """Return how far the features of the lens in a directory can be trusted, None for a lens of an older release.

    Raises:
        ValueError: The file has another format.
    """
    path = directory / HONESTY_FILE
    if not path.is_file():
        return None
    return LensHonesty.of_data(read_json_object(path, "figures of the features of a lens"))


def _as_tensors(by_attribute: Mapping[str, Mapping[str, Tensor]]) -> dict[str, Tensor]:
    return {
        f"{attribute}.{group}": values.half().cpu().contiguous()
        for attribute, by_group in by_attribute.items()
        for group, values in by_group.items()
    }


def _on(device: torch.device | str, by_attribute: Mapping[str, Mapping[str, Tensor]]) -> dict[str, dict[str, Tensor]]:
    return {
        attribute: {group: values.to(device) for group, values in by_group.items()}
        for attribute, by_group in by_attribute.items()
    }


_SAMPLED = {
    "scheduler": "DDIMScheduler", "true_guidance": None, "negative_prompt": None, "height": None, "width": None,
}  # fmt: skip
"""Key of the sampling that changes the maps → what a lens without this key was made with."""


def check_fits(
    lens: Lens,
    model_fingerprint: str,
    steps: int,
    attributes: Mapping[str, Sequence[str]],
    sampling: Mapping[str, Any] | None = None,
) -> None:
    """Refuse a lens of another model, step count, sampling or set of groups.

    Args:
        lens: The lens.
        model_fingerprint: Fingerprint of the model to audit.
        steps: Sampler steps of the audit.
        attributes: Groups, in order, of all attributes for which the lens is needed.
        sampling: How the audit samples, as it is recorded; None is not compared.

    Raises:
        LensMismatch: The lens does not fit; the message lists all differences.
    """
    problems = []
    if lens.model_fingerprint != model_fingerprint:
        problems.append(f"model: expected {model_fingerprint}, found {lens.model_fingerprint}")
    if lens.steps != steps:
        problems.append(f"sampler steps: expected {steps}, found {lens.steps}")
    for key, usual in _SAMPLED.items() if sampling is not None else ():
        expected, made = (settings.get(key, usual) for settings in (sampling or {}, lens.settings))
        if expected != made:
            problems.append(f"sampling.{key}: expected {expected}, found {made}")
    for attribute, groups in attributes.items():
        found = lens.groups.get(attribute)
        if found != tuple(groups):
            problems.append(f"groups of {attribute}: expected {list(groups)}, found {list(found) if found else 'none'}")
    if problems:
        raise LensMismatch(
            f"{lens.name} does not fit this audit: {'; '.join(problems)}. "
            "Build one that fits with `difflens-audit dissect CONFIG`, or remove lens.path."
        )


def _feature(row: dict[str, Any]) -> BiasFeature:
    return BiasFeature(row["latent"], row["score"], tuple(row["mean_firing_per_step"]))
