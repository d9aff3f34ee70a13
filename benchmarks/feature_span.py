"""Can few features be more precise than a shift of everything? The share of the mean difference that they span.

``python -m benchmarks.feature_span configs/occupations.yaml``. For each attribute of the config's lens: the mean
difference d(s, p) ∈ R^C of the feature map, at each step s and position p, between prompts that name a group and
prompts that name the others; and the share of its energy Σ‖d‖² in the span of the decoder rows of all groups' features,
beside that of as many random rows. Where random rows span nearly all, an edit with few
features is not restricted to anything.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from audit.config.file import read_config
from audit.config.slices import DissectionRequest
from audit.dissect.lens import Lens
from audit.dissect.settings import dissected_prompts
from audit.models.generator import DiffusionGenerator, load_generator
from audit.planning.plan import group_phrase, named_text
from audit.records.work import Prompt, derive_seed
from ray_jobs.run.prepare.lens import find_lens


class MapSum:
    """Sums the maps (C, H, W) of every step over images."""

    def __init__(self, steps: int) -> None:
        self.by_step: list[Tensor] = [torch.zeros(()) for _ in range(steps)]

    def __call__(self, step: int, h: Tensor) -> None:
        """Add the maps (B, C, H, W) of one step."""
        self.by_step[step] = self.by_step[step] + h.double().sum(0)


def named(template: str, phrase: str, prompts: Sequence[Prompt]) -> dict[str, str]:
    """Return the text of each prompt, by its id, with a group's phrase."""
    return {prompt.id: named_text(template, prompt.occupation, phrase) for prompt in prompts}


def mean_maps(generator: DiffusionGenerator, hookpoint: str, texts: Mapping[str, str], images: int) -> Tensor:
    """Return the mean map (S, C, H, W) of some prompts; all groups have the same noise."""
    total = MapSum(generator.steps)
    for prompt_id, text in texts.items():
        seeds = [derive_seed("feature_span", prompt_id, number) for number in range(images)]
        generator.sample([text] * images, seeds, observers={hookpoint: total})
    return torch.stack(total.by_step) / (len(texts) * images)


def vectors_of(means: Mapping[str, Tensor]) -> Tensor:
    """Return the mean differences of all groups as rows (N, C): a group's mean map minus that of the others."""
    rows = []
    for group, own in means.items():
        others = torch.stack([of for name, of in means.items() if name != group]).mean(0)
        rows.append((own - others).movedim(1, -1).flatten(0, -2))
    return torch.cat(rows)


def spanned(vectors: Tensor, rows: Tensor) -> float:
    """Return the share of the energy of vectors (N, C) in the span of rows (F, C)."""
    basis = torch.linalg.qr(rows.double().T).Q
    return float((vectors @ basis).square().sum() / vectors.square().sum())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path)
    parser.add_argument("--images", type=int, default=8, help="of each prompt and group")
    parser.add_argument("--draws", type=int, default=20, help="of random rows")
    arguments = parser.parse_args()
    config = read_config(arguments.config)
    request = DissectionRequest.of(config)
    place = find_lens(request, config.output)
    if not isinstance(place, Path):
        parser.error("expected a lens on this machine; make one with difflens-audit dissect CONFIG")
    generator = load_generator(config.model, config.sampling, config.lens.hookpoint)
    if not isinstance(generator, DiffusionGenerator):
        parser.error("expected a diffusion model")
    lens, prompts = Lens.load(place), dissected_prompts(request)
    decoder = lens.sae.decoder.detach().float()
    print(f"{lens.name} at {lens.hookpoint}, {decoder.shape[1]} channels; {len(prompts)} prompts × {arguments.images}")
    print("| attribute | features | share of the mean difference | as many random rows, mean [least, most] |")
    print("| --- | --- | --- | --- |")
    for attribute, groups in lens.groups.items():
        texts = {group: named(config.prompts.template, group_phrase(attribute, group), prompts) for group in groups}
        means = {group: mean_maps(generator, lens.hookpoint, texts[group], arguments.images) for group in groups}
        vectors, chosen = vectors_of(means), list(lens.latents(attribute))
        draws = torch.Generator().manual_seed(0)
        picks = [torch.randperm(len(decoder), generator=draws)[: len(chosen)] for _ in range(arguments.draws)]
        random = [spanned(vectors, decoder[pick]) for pick in picks]
        own = spanned(vectors, decoder[chosen])
        of_random = f"{statistics.mean(random):.3f} [{min(random):.3f}, {max(random):.3f}]"
        print(f"| {attribute} | {len(chosen)} | {own:.3f} | {of_random} |", flush=True)


if __name__ == "__main__":
    main()
