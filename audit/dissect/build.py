"""Builds a lens: trajectories → sparse autoencoder → group heads → attribution → bias features.

The model is sampled only once, and its maps are written to disk in half precision. Everything is computed from there,
block by block, so that memory does not grow with the trajectories.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from audit.dissect.features.attribution import (
    StreamingAttribution,
    code_change,
    integrated_gradients,
    latent_effects,
    rank_features,
)
from audit.dissect.features.contrast import contrast_weights
from audit.dissect.group_heads import UNLABELLED, GroupHeads, fit_group_heads
from audit.dissect.lens import BiasFeature, Lens
from audit.dissect.recording.recording import Recording
from audit.dissect.recording.trajectories import Groups
from audit.dissect.sae import SparseAutoencoder, SparseCodes
from audit.dissect.sae_training import SaeCheckpoint, SaeQuality, SaeTraining, train_sae, training_of
from audit.dissect.settings import Dissection, rows_per_block
from audit.models.device import device_here

# S steps, n trajectories, d = C·H·W, P positions, N latents, G groups

LOG = logging.getLogger(__name__)

LOG_SECONDS = 30.0


def build_lens(
    recording: Recording,
    groups: Groups,
    settings: Dissection,
    name_settings: Mapping[str, Any],
    fingerprint: str,
    checkpoint: Path,
) -> Lens:
    """Train and fit all parts of a lens except the strengths.

    Args:
        recording: What it is made from.
        groups: Groups by attribute.
        settings: Settings of the lens.
        name_settings: Settings that determine the name of the lens; they are stored in it.
        fingerprint: Fingerprint of the model.
        checkpoint: Local file for the state of the autoencoder's training, from which an interrupted build continues.
    """
    sae, sae_quality = _train(recording, settings, SaeCheckpoint(checkpoint))
    LOG.info("fitting the group heads")
    fitted, accuracy = fit_group_heads(recording.maps, recording.labels, groups)
    heads = fitted.to(sae.decoder.device)
    LOG.info("attributing each group's probability to latents")
    scores = {attribute: attribute_latents(sae, heads, recording, attribute, settings) for attribute in groups}
    chosen = {
        attribute: rank_features(s.mean(), settings.features_per_group, shared=settings.shared_features)
        for attribute, s in scores.items()
    }
    firing = {
        attribute: {
            name: _firing(sae, recording, attribute, row, chosen[attribute][row]) for row, name in enumerate(names)
        }
        for attribute, names in groups.items()
    }
    lens = Lens(
        sae=sae,
        heads=heads,
        features={a: _features(names, chosen[a], scores[a].mean(), firing[a]) for a, names in groups.items()},
        firing=firing,
        strengths={},
        settings=dict(name_settings),
        quality=_quality(sae_quality, accuracy.per_step, max(s.gap for s in scores.values())),
        model_fingerprint=fingerprint,
        hookpoint=settings.hookpoint,
        steps=recording.steps,
        groups=dict(groups),
    )
    contrast = {attribute: _contrast(lens, recording, attribute) for attribute in groups}
    return replace(lens, contrast=contrast).to("cpu")


def _train(
    recording: Recording, settings: Dissection, checkpoint: SaeCheckpoint
) -> tuple[SparseAutoencoder, SaeQuality]:
    training = training_of(settings)
    LOG.info("training the autoencoder for %d steps", training.steps)
    draws = torch.Generator().manual_seed(settings.seed)
    return train_sae(
        recording.activations(settings), training, draws, _Pace(training), device_here(), checkpoint=checkpoint
    )


class _Pace:
    """Logs the progress of the training and its speed from time to time."""

    def __init__(self, training: SaeTraining) -> None:
        self._training = training
        self._logged, self._step = time.monotonic(), 0

    def __call__(self, step: int, loss: float) -> None:
        now = time.monotonic()
        if self._step == 0:  # the first step of this process, which may resume
            self._logged, self._step = now, step
        elif now - self._logged >= LOG_SECONDS or step == self._training.steps:
            pace = (step - self._step) * self._training.batch / max(now - self._logged, 1e-9)
            LOG.info(
                "autoencoder: step %d of %d, loss %.4g, %.3g tokens per second", step, self._training.steps, loss, pace
            )
            self._logged, self._step = now, step


def attribute_latents(
    sae: SparseAutoencoder, heads: GroupHeads, recording: Recording, attribute: str, settings: Dissection
) -> StreamingAttribution:
    """Sum the effect of raising each latent over steps and samples; each sample counts for the group that it shows.

    Raises:
        ValueError: No sample shows one of the groups.
    """
    labels = recording.labels[attribute]
    wanted = labels != UNLABELLED
    if settings.baseline == "counterfactual":
        wanted &= recording.partners >= 0
    total: StreamingAttribution | None = None
    for step in range(recording.steps):
        effects: Tensor | None = None
        for rows in _blocks_of(sae, recording, wanted.nonzero().flatten(), len(heads.groups[attribute])):
            maps = recording.at(step, rows).to(sae.decoder.device)
            codes = sae.codes_of_map(maps)
            baseline = _counterfactual(sae, recording, step, rows) if settings.baseline == "counterfactual" else None
            if effects is None:
                effects = latent_effects(sae, heads.weights[attribute][step], codes.values.shape[1])
            logits = heads.logits(attribute, step, maps)
            found = integrated_gradients(code_change(codes, baseline), effects, logits, settings.temperature)
            members = torch.nn.functional.one_hot(labels[rows], len(heads.groups[attribute])).float()
            part = StreamingAttribution.of(found.when_raised(), members)
            total = part if total is None else total + part
    if total is None:
        raise ValueError(
            f"expected images that show a group of {attribute}, found none; raise lens.trajectories, or try the judge "
            "with `difflens-audit judge`"
        )
    return total


def _counterfactual(sae: SparseAutoencoder, recording: Recording, step: int, rows: Tensor) -> SparseCodes:
    return sae.codes_of_map(recording.at(step, recording.partners[rows]).to(sae.decoder.device))


def _blocks_of(sae: SparseAutoencoder, recording: Recording, rows: Tensor, groups: int) -> Sequence[Tensor]:
    """Split rows so that maps, and codes with an entry for each group, fit in a block of memory."""
    if not len(rows):
        return ()
    numbers = recording.layout.numbers
    codes = numbers // sae.shape.d_in * sae.shape.width * groups
    return torch.split(rows, rows_per_block(8 * (numbers + 2 * codes)))


def _firing(sae: SparseAutoencoder, recording: Recording, attribute: str, group: int, latents: Sequence[int]) -> Tensor:
    """Return the mean ``(S, P, F)`` of the latents over the samples that show ``group``, including inactive ones."""
    rows = (recording.labels[attribute] == group).nonzero().flatten()
    means = []
    for step in range(recording.steps):
        sums = torch.stack([of.sum(0) for of in latent_values(sae, recording, step, rows, latents)])
        means.append(sums.sum(0) / len(rows))
    return torch.stack(means)


def _contrast(lens: Lens, recording: Recording, attribute: str) -> dict[str, Tensor]:
    """Return each group's contrast ``(S, P, F)`` in the bias features of an attribute.

    It is taken over prompts that name groups, which vary every attribute at random; over all images of a model that
    reads no text.
    """
    named = (recording.partners >= 0).nonzero().flatten()
    rows = named if len(named) else torch.arange(recording.layout.recorded)
    labels = {name: own[rows] for name, own in recording.labels.items()}
    weights = contrast_weights(labels, lens.groups, attribute).float().to(lens.device)
    latents, by_step = lens.latents(attribute), []
    for step in range(recording.steps):
        blocks = latent_values(lens.sae, recording, step, rows, latents)
        values = torch.cat(list(blocks))  # (n, P, F)
        by_step.append(torch.einsum("gn,npf->gpf", weights, values))
    return dict(zip(lens.groups[attribute], torch.stack(by_step, 1), strict=True))


def latent_values(
    sae: SparseAutoencoder, recording: Recording, step: int, rows: Tensor, latents: Sequence[int]
) -> Iterator[Tensor]:
    """Yield the values ``(B, P, F)`` of some latents at one step, block by block of the rows."""
    positions = recording.layout.numbers // sae.shape.d_in
    for block in torch.split(rows, rows_per_block(4 * (recording.layout.numbers + positions * sae.shape.n_latents))):
        maps = recording.at(step, block).to(sae.decoder.device)
        yield sae.latents_of_map(maps)[..., list(latents)]


def _features(
    names: Sequence[str], chosen: Mapping[int, Sequence[int]], scores: Tensor, firing: Mapping[str, Tensor]
) -> dict[str, tuple[BiasFeature, ...]]:
    features = {}
    for row, name in enumerate(names):
        per_step = firing[name].mean(1)  # (S, F)
        features[name] = tuple(
            BiasFeature(latent, float(scores[row, latent]), tuple(round(v, 6) for v in per_step[:, column].tolist()))
            for column, latent in enumerate(chosen[row])
        )
    return features


def _quality(sae: SaeQuality, accuracy: Mapping[str, Sequence[float]], gap: float) -> dict[str, Any]:
    return {
        "unexplained_variance": list(sae.unexplained_variance),
        "dead_latents": sae.dead_latents,
        "latents": sae.latents,
        "held_out": sae.held_out,
        "decoder_cosine_mean": sae.decoder_cosine_mean,
        "decoder_cosine_max": sae.decoder_cosine_max,
        "head_accuracy": {attribute: list(values) for attribute, values in accuracy.items()},
        "completeness_gap": gap,
    }
