"""Builds a lens: trajectories → sparse autoencoder → group heads → attribution → bias features.

The model is sampled only once. The activations of each batch are added to the autoencoder's buffer and kept in half
precision in memory for the heads and the attribution.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from audit.dissect.attribution import (
    StreamingAttribution,
    code_change,
    integrated_gradients,
    latent_effects,
    rank_features,
)
from audit.dissect.group_heads import UNLABELLED, GroupHeads, fit_group_heads
from audit.dissect.lens import BiasFeature, Lens
from audit.dissect.sae import SparseAutoencoder, SparseCodes
from audit.dissect.sae_training import ActivationBatch, SaeQuality, SaeTraining, train_sae
from audit.dissect.settings import Dissection, name_groups
from audit.models.device import device_here
from audit.models.generator import DiffusionGenerator
from audit.models.intervention import Observer
from audit.perception.judges.interface import Judge
from audit.perception.judges.perceived import NO_GROUP
from audit.records.work import Prompt, derive_seed

# S steps, n trajectories, d = C·H·W, P positions, N latents, G groups

LOG = logging.getLogger(__name__)

Groups = Mapping[str, tuple[str, ...]]
THUMBNAIL = 128
"""Width in pixels, enough to recognise what activates a feature."""


@dataclass(frozen=True)
class Trajectory:
    """One image to sample.

    Attributes:
        prompt: The prompt, with or without named groups.
        seed: Seed of its noise.
        partner: Trajectory with the same noise and occupation but other named groups, None if no group is named.
    """

    prompt: Prompt
    seed: int
    partner: int | None


@dataclass(frozen=True)
class Recording:
    """The activations at the hookpoint and the perceived groups of sampled trajectories.

    Attributes:
        maps: ``(S, n, d)`` float16, conditional half.
        shape: (C, H, W) of one map.
        labels: Attribute → (n,) perceived group, ``UNLABELLED`` if the judge assigned none of the groups.
        partners: (n,) index of the counterfactual, or −1.
        thumbnails: (n, 3, h, w) uint8, at most ``THUMBNAIL`` pixels wide.
    """

    maps: Tensor
    shape: tuple[int, int, int]
    labels: dict[str, Tensor]
    partners: Tensor
    thumbnails: Tensor

    def at(self, step: int, rows: Tensor) -> Tensor:
        """Return maps ``(len(rows), C, H, W)`` of one step in float32."""
        return self.maps[step, rows].float().view(-1, *self.shape)


def plan_trajectories(
    prompts: Sequence[Prompt], groups: Groups, template: str, settings: Dissection
) -> list[Trajectory]:
    """Return trajectories, half of plain occupation prompts and half of counterfactual pairs with named groups.

    A model that reads no text has plain trajectories only.

    Args:
        prompts: The audit's prompts.
        groups: Groups by attribute.
        template: Template of the prompts; groups are named before the occupation.
        settings: Number of trajectories, and the seed.
    """
    rng = np.random.default_rng(settings.seed)
    count = settings.trajectories // 4 if any(prompt.text for prompt in prompts) else 0
    plain = [
        Trajectory(prompts[i % len(prompts)], derive_seed(settings.seed, "trajectory", i), None)
        for i in range(2 * count or settings.trajectories)
    ]
    pairs: list[Trajectory] = []
    for i in range(count):
        prompt, seed = prompts[i % len(prompts)], derive_seed(settings.seed, "pair", i)
        first = {attribute: int(rng.integers(len(names))) for attribute, names in groups.items()}
        shift = {attribute: 1 + int(rng.integers(len(names) - 1)) for attribute, names in groups.items()}
        for side in (0, 1):
            words = {a: names[(first[a] + side * shift[a]) % len(names)] for a, names in groups.items()}
            text = replace(prompt, text=name_groups(template, prompt, words))
            pairs.append(Trajectory(text, seed, len(plain) + 2 * i + 1 - side))
    return plain + pairs


class Recorder:
    """Samples trajectories and records the activations; iteration yields batches for the autoencoder."""

    def __init__(
        self,
        generator: DiffusionGenerator,
        judge: Judge,
        groups: Groups,
        trajectories: Sequence[Trajectory],
        settings: Dissection,
    ) -> None:
        self._generator, self._judge, self._groups = generator, judge, groups
        self._trajectories, self._settings = trajectories, settings
        self._maps: list[Tensor] = []
        self._labels: dict[str, list[Tensor]] = {attribute: [] for attribute in groups}
        self._thumbnails: list[Tensor] = []
        self._shape: tuple[int, int, int] = (0, 0, 0)

    def __iter__(self) -> Iterator[ActivationBatch]:
        """Sample batch after batch."""
        for start in range(0, len(self._trajectories), self._settings.batch):
            batch = self._trajectories[start : start + self._settings.batch]
            steps: list[Tensor] = []
            observers = {self._settings.hookpoint: _keep_halves(steps)}
            texts, seeds = [t.prompt.text for t in batch], [t.seed for t in batch]
            images = self._generator.sample(texts, seeds, observers=observers)
            channels, height, width = steps[0].shape[1:]
            self._shape = (channels, height, width)
            self._maps.append(torch.stack(steps).flatten(2))
            self._thumbnails.append(_thumbnails(images))
            self._label(images)
            yield self._vectors(self._maps[-1], start)

    def recording(self) -> Recording:
        """Return the complete recording.

        Raises:
            ValueError: No trajectory was sampled.
        """
        if not self._maps:
            raise ValueError("expected trajectories to be sampled, found none; iterate over the recorder first")
        partners = torch.tensor([-1 if t.partner is None else t.partner for t in self._trajectories])
        labels = {attribute: torch.cat(parts) for attribute, parts in self._labels.items()}
        return Recording(torch.cat(self._maps, 1), self._shape, labels, partners, torch.cat(self._thumbnails))

    def _label(self, images: Tensor) -> None:
        seen = self._judge.perceive(images, "")
        for attribute, parts in self._labels.items():
            codes = torch.from_numpy(seen.codes(attribute))
            parts.append(torch.where(codes == NO_GROUP, UNLABELLED, codes))

    def _vectors(self, maps: Tensor, first: int) -> ActivationBatch:
        steps, n, _ = maps.shape
        flat = maps.float().view(steps, n, *self._shape)
        whole = self._settings.whole_map
        vectors = flat.flatten(2).unsqueeze(2) if whole else flat.flatten(3).transpose(2, 3)
        positions = vectors.shape[2]
        grid = torch.arange(steps)[:, None, None].expand(steps, n, positions)
        owner = torch.arange(first, first + n)[None, :, None].expand(steps, n, positions)
        return ActivationBatch(vectors.flatten(0, 2), grid.flatten(), owner.flatten())


def _keep_halves(steps: list[Tensor]) -> Observer:
    """Return an observer that appends every step's maps in half precision."""

    def keep(_step: int, h: Tensor) -> None:
        steps.append(h.cpu().half())

    return keep


def _thumbnails(images: Tensor) -> Tensor:
    if images.shape[-1] <= THUMBNAIL:
        return images
    size = (THUMBNAIL * images.shape[-2] // images.shape[-1], THUMBNAIL)
    shrunk = torch.nn.functional.interpolate(images.float(), size=size, mode="bicubic", antialias=True)
    return shrunk.round().clamp(0, 255).byte()


def build_lens(
    recorder: Recorder, groups: Groups, settings: Dissection, name_settings: Mapping[str, Any], fingerprint: str
) -> Lens:
    """Train and fit all parts of a lens except the strengths.

    Args:
        recorder: A recorder that was not iterated over yet.
        groups: Groups by attribute.
        settings: Settings of the lens.
        name_settings: Settings that determine the name of the lens; they are stored in it.
        fingerprint: Fingerprint of the model.
    """
    training = SaeTraining(
        steps=settings.sae_steps,
        k=settings.k,
        expansion=settings.expansion,
        whole_map=settings.whole_map,
        hookpoint=settings.hookpoint,
        buffer=1 << 20,
    )
    LOG.info("sampling %d trajectories, then %d steps of the autoencoder", settings.trajectories, settings.sae_steps)
    draws = torch.Generator().manual_seed(settings.seed)
    sae, sae_quality = train_sae(iter(recorder), training, draws, device=device_here())
    recording = recorder.recording()
    LOG.info("fitting the group heads")
    fitted, accuracy = fit_group_heads(recording.maps, recording.labels, groups)
    heads = fitted.to(sae.decoder.device)
    LOG.info("attributing each group's probability to latents")
    scores = {attribute: attribute_latents(sae, heads, recording, attribute, settings) for attribute in groups}
    chosen = {attribute: rank_features(s.mean(), settings.features_per_group) for attribute, s in scores.items()}
    firing = {
        attribute: {
            name: _firing(sae, recording, attribute, row, chosen[attribute][row]) for row, name in enumerate(names)
        }
        for attribute, names in groups.items()
    }
    return Lens(
        sae=sae,
        heads=heads,
        features={a: _features(names, chosen[a], scores[a].mean(), firing[a]) for a, names in groups.items()},
        firing=firing,
        strengths={},
        settings=dict(name_settings),
        quality=_quality(sae_quality, accuracy.per_step, max(s.gap for s in scores.values())),
        model_fingerprint=fingerprint,
        hookpoint=settings.hookpoint,
        steps=len(recording.maps),
        groups=dict(groups),
    ).to("cpu")


def attribute_latents(
    sae: SparseAutoencoder, heads: GroupHeads, recording: Recording, attribute: str, settings: Dissection
) -> StreamingAttribution:
    """Sum the effect of raising each latent over steps and samples; each sample counts for the group that it shows."""
    labels = recording.labels[attribute]
    wanted = labels != UNLABELLED
    if settings.baseline == "counterfactual":
        wanted &= recording.partners >= 0
    rows = wanted.nonzero().flatten()
    members = torch.nn.functional.one_hot(labels[rows], len(heads.groups[attribute])).float()
    total: StreamingAttribution | None = None
    for step in range(len(recording.maps)):
        maps = recording.at(step, rows).to(sae.decoder.device)
        codes = sae.codes_of_map(maps)
        baseline = _counterfactual(sae, recording, step, rows) if settings.baseline == "counterfactual" else None
        effects = latent_effects(sae, heads.weights[attribute][step], codes.values.shape[1])
        logits = heads.logits(attribute, step, maps)
        found = integrated_gradients(code_change(codes, baseline), effects, logits)
        part = StreamingAttribution.of(found.when_raised(), members)
        total = part if total is None else total + part
    if total is None:
        raise ValueError("expected at least one sampler step, found none")
    return total


def _counterfactual(sae: SparseAutoencoder, recording: Recording, step: int, rows: Tensor) -> SparseCodes:
    return sae.codes_of_map(recording.at(step, recording.partners[rows]).to(sae.decoder.device))


def _firing(sae: SparseAutoencoder, recording: Recording, attribute: str, group: int, latents: Sequence[int]) -> Tensor:
    """Return the mean ``(S, P, F)`` of the latents over the samples that show ``group``, including inactive ones."""
    rows = (recording.labels[attribute] == group).nonzero().flatten()
    maps = (recording.at(step, rows).to(sae.decoder.device) for step in range(len(recording.maps)))
    return torch.stack([sae.latents_of_map(of_step)[..., list(latents)].mean(0) for of_step in maps])


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
