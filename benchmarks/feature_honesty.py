"""Checks the checks of a lens's features: against fresh images, and with permuted labels.

``python -m benchmarks.feature_honesty configs/occupations.yaml``. The trajectories of the config's lens are sampled
again, and as many with other seeds. The first table has the mean AUC of each group's features: on the images that chose
them, on the halves that did not (what the report shows), and on the fresh images. Then labels are permuted among the
images, and the features are chosen and measured again: no feature says anything about its group, so intervals should
cover 0.5.
"""

from __future__ import annotations

import argparse
import math
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from audit.config.file import read_config
from audit.config.slices import DissectionRequest
from audit.dissect.build import attribute_latents
from audit.dissect.features.attribution import rank_features
from audit.dissect.group_heads import UNLABELLED, fit_group_heads
from audit.dissect.honesty.activity import step_activity
from audit.dissect.honesty.auc import auc_of
from audit.dissect.honesty.measure import measure_honesty
from audit.dissect.lens import BiasFeature, Lens
from audit.dissect.recording.plan import RecordingPlan
from audit.dissect.recording.recorder import Recorder
from audit.dissect.recording.recording import Recording
from audit.dissect.settings import Dissection, dissected_groups, dissected_prompts, dissection_of
from audit.perception.judges.registry import load_judge
from ray_jobs.run.network import NetworkSettings
from ray_jobs.run.prepare.lens import find_lens

FRESH_SEED = 777
Z95 = 1.96


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path)
    parser.add_argument("--permutations", type=int, default=3)
    arguments = parser.parse_args()
    config = read_config(arguments.config)
    request = DissectionRequest.of(config)
    place, settings = find_lens(request, config.output), dissection_of(request)
    if not isinstance(place, Path):
        parser.error("expected a lens on this machine; make one with difflens-audit dissect CONFIG")
    lens = Lens.load(place)
    lens.sae.requires_grad_(False)
    with tempfile.TemporaryDirectory() as directory:
        own, fresh = recordings(request, settings, Path(directory))
        print("group: mean AUC on all images / on halves that did not choose / on fresh images; the last two agree in")
        for line in beside_fresh(lens, own, fresh, settings):
            print(line)
        for seed in range(arguments.permutations):
            print(f"permutation {seed}:", permuted(lens, own, settings, seed), flush=True)


def recordings(request: DissectionRequest, settings: Dissection, directory: Path) -> list[Recording]:
    """Sample the trajectories of the lens, and as many with other seeds."""
    groups, prompts = dissected_groups(request.lens, request.attributes), dissected_prompts(request)
    generator = NetworkSettings(request.model, request.sampling, request.lens.hookpoint).load()
    judge = load_judge(request.judge, request.model, groups)
    found = []
    for seed in (settings.seed, FRESH_SEED):
        seeded = replace(settings, seed=seed)
        plan = RecordingPlan.of(prompts, groups, request.prompts.template, [seeded])
        Recorder(generator, judge, groups, plan).record_all(directory / str(seed))
        found.append(Recording.open(directory / str(seed), plan, seeded))
    return found


def aucs(lens: Lens, recording: Recording, attribute: str, group: int, latents: list[int]) -> tuple[Any, Any]:
    """Return the AUCs (F,) of latents on all images, and their standard errors."""
    labelled = (recording.labels[attribute] != UNLABELLED).numpy()
    values = step_activity(lens, recording, latents).mean(0).double().numpy()[labelled]
    auc, influence = auc_of(values, (recording.labels[attribute] == group).numpy()[labelled])
    return auc, np.sqrt((influence**2).sum(0))


def beside_fresh(lens: Lens, own: Recording, fresh: Recording, settings: Dissection) -> list[str]:
    lines = []
    for group in measure_honesty(lens, own, settings).groups:
        tested = [(one.latent, one.auc) for one in group.features if one.auc is not None]
        number = lens.groups[group.attribute].index(group.group)
        named = (group.attribute, number, [latent for latent, _ in tested])
        (used, _), (new, errors) = aucs(lens, own, *named), aucs(lens, fresh, *named)
        agree = [
            abs(auc.value - value) <= math.hypot(auc.high - auc.low, 2 * Z95 * error) / 2
            for (_, auc), value, error in zip(tested, new, errors, strict=True)
        ]
        held_out = np.mean([auc.value for _, auc in tested])
        figures = f"{used.mean():.3f} / {held_out:.3f} / {new.mean():.3f}"
        lines.append(f"{group.attribute} {group.group}: {figures}, {sum(agree)} of {len(agree)} features")
    return lines


def permuted(lens: Lens, recording: Recording, settings: Dissection, seed: int) -> str:
    """Choose features for permuted labels, and count the intervals that cover 0.5."""
    order = torch.randperm(recording.layout.recorded, generator=torch.Generator().manual_seed(seed))
    null = replace(recording, labels={attribute: labels[order] for attribute, labels in recording.labels.items()})
    groups = measure_honesty(chosen_again(lens, null, settings), null, settings).groups
    found = [one.auc for group in groups for one in group.features if one.auc is not None]
    covered = sum(auc.low <= 0.5 <= auc.high for auc in found)
    total, failing = sum(len(group.features) for group in groups), sum(group.failing for group in groups)
    mean = np.mean([auc.value for auc in found])
    return f"mean AUC {mean:.3f}, {covered} of {len(found)} intervals cover 0.5, {failing} of {total} features fail"


def chosen_again(lens: Lens, recording: Recording, settings: Dissection) -> Lens:
    """Return the lens with heads and features for the labels of a recording."""
    heads, _ = fit_group_heads(recording.maps, recording.labels, lens.groups)
    positions = recording.layout.numbers // lens.sae.shape.d_in
    features: dict[str, dict[str, tuple[BiasFeature, ...]]] = {}
    for attribute, names in lens.groups.items():
        scores = attribute_latents(lens.sae, heads, recording, attribute, settings).mean()
        chosen = rank_features(scores, settings.features_per_group, shared=settings.shared_features)
        features[attribute] = {
            name: tuple(BiasFeature(latent, float(scores[row, latent]), ()) for latent in chosen[row])
            for row, name in enumerate(names)
        }
    firing = {
        attribute: {group: torch.zeros(lens.steps, positions, len(rows)) for group, rows in by_group.items()}
        for attribute, by_group in features.items()
    }
    return replace(lens, heads=heads, features=features, firing=firing)


if __name__ == "__main__":
    main()
