"""Can few features be more precise than a shift of everything? The share of the mean difference that they span.

``python -m benchmarks.feature_span configs/occupations.yaml``. For each attribute of the config's lens: what the method
``mean_difference`` would add at the lens's hookpoint, a vector d(s, p) ∈ R^C at each step s and position p for each
group; and the share of its energy Σ‖d‖² in the span of the decoder rows of all groups' features, beside that of as many
random rows. Where random rows span nearly all, an edit with few features is not restricted to anything.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Iterable
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from audit.config.file import read_config
from audit.config.mitigations.edits import MeanDifferenceConfig
from audit.config.settings import AuditConfig
from audit.config.slices import DissectionRequest, MeasurementRequest
from audit.dissect.lens import Lens
from audit.dissect.settings import dissected_prompts
from audit.mitigate.tools import FitTools, fit_tools
from audit.models.generator import DiffusionGenerator, load_generator
from audit.planning.fits import TENSORS_FILE, FitRequest
from benchmarks.fits import fit_in_process
from ray_jobs.run.prepare.lens import find_lens


def mean_differences(config: AuditConfig, tools: FitTools, lens: Lens, attribute: str, images: int) -> Tensor:
    """Return what a mean difference adds, for all groups, steps and positions, ``(N, C)``."""
    section = MeanDifferenceConfig(
        name="span",
        method="mean_difference",
        attribute=attribute,
        hookpoints=(lens.hookpoint,),
        images_per_group=images,
    )
    request = FitRequest(section, lens.groups[attribute], config.prompts.template, config.sampling)
    with tempfile.TemporaryDirectory() as directory:
        fit_in_process(request, dissected_prompts(DissectionRequest.of(config)), tools, Path(directory))
        return vectors_of(load_file(Path(directory) / TENSORS_FILE).values())


def vectors_of(maps: Iterable[Tensor]) -> Tensor:
    """Return the vectors of maps ``(S, C, H, W)`` as rows, ``(N, C)``."""
    return torch.cat([one.movedim(1, -1).flatten(0, -2) for one in maps])


def spanned(vectors: Tensor, rows: Tensor) -> float:
    """Return the share of the energy of vectors (N, C) in the span of rows (F, C)."""
    basis = torch.linalg.qr(rows.double().T).Q
    return float((vectors.double() @ basis).square().sum() / vectors.double().square().sum())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path)
    parser.add_argument("--images", type=int, default=8, help="of each prompt and group")
    parser.add_argument("--draws", type=int, default=20, help="of random rows")
    arguments = parser.parse_args()
    config = read_config(arguments.config)
    place = find_lens(DissectionRequest.of(config), config.output)
    if not isinstance(place, Path):
        parser.error("expected a lens on this machine; make one with difflens-audit dissect CONFIG")
    generator = load_generator(config.model, config.sampling, config.lens.hookpoint)
    if not isinstance(generator, DiffusionGenerator):
        parser.error("expected a diffusion model")
    lens, tools = Lens.load(place), fit_tools(generator, MeasurementRequest.of(config), config.attributes, place)
    decoder = lens.sae.decoder.detach().float()
    print(f"{lens.name} at {lens.hookpoint}, {decoder.shape[1]} channels; {arguments.images} images a prompt and group")
    print("| attribute | features | share of the mean difference | as many random rows, mean [least, most] |")
    print("| --- | --- | --- | --- |")
    for attribute in lens.groups:
        vectors, chosen = mean_differences(config, tools, lens, attribute, arguments.images), lens.latents(attribute)
        draws = torch.Generator().manual_seed(0)
        picks = [torch.randperm(len(decoder), generator=draws)[: len(chosen)] for _ in range(arguments.draws)]
        random = [spanned(vectors, decoder[pick]) for pick in picks]
        own = spanned(vectors, decoder[list(chosen)])
        of_random = f"{statistics.mean(random):.3f} [{min(random):.3f}, {max(random):.3f}]"
        print(f"| {attribute} | {len(chosen)} | {own:.3f} | {of_random} |", flush=True)


if __name__ == "__main__":
    main()
