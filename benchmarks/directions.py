"""Ranks the calibration model's occupations by directions, by hookpoint, step and seeds, against the planted shares.

    python -m benchmarks.directions
    python -m benchmarks.directions --world audit/calibration/weights/altered

It prints Spearman's correlation for each attribute, that of the text encoder alone, and the texts per second that one
process reads. Occupations are those of the world: nothing was trained on them or chosen with them, except the default
hookpoint, which was chosen with the bundled world. ``--world`` reads another one with the same default.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace

from scipy import stats

from audit.analyses.analysis import Instruments
from audit.analyses.directions import Directions, DirectionsAnalysis, DirectionsRequest
from audit.calibration.bundle import world_table
from audit.calibration.world import World
from audit.config.sections import ModelConfig
from audit.config.settings import AuditConfig
from audit.config.slices import DissectionRequest
from audit.models.generator import load_generator
from audit.planning.plan import prompts_of_model
from ray_jobs.run.inside.explore import ExploreRequest

HOOKPOINTS = ("mid_block", "up_blocks.0.attentions.1.transformer_blocks.0.attn2", "up_blocks.0", "up_blocks.1")
STEPS, SEEDS = (0, 3, 6, 12), (1, 4, 16)
ANALYSIS = DirectionsAnalysis()


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--world", help="directory of a trained calibration world; default: the bundled one")
    config = AuditConfig(name="directions", model=ModelConfig(world=parser.parse_args().world))
    prompts = prompts_of_model(config.model, config.prompts)
    request = ExploreRequest("directions", config.explore, DissectionRequest.of(config), prompts, 0)
    instruments = Instruments(load_generator(config.model, config.sampling), None)  # type: ignore[arg-type] - judges nothing
    print(f"{'hookpoint':>55} step seeds  {'  '.join(f'{name:>9}' for name in request.attributes)}  texts/s")
    for hookpoint in HOOKPOINTS:
        for step in STEPS:
            asked = replace(request.directions, hookpoint=hookpoint, step=step, seeds=max(SEEDS))
            _print(request, asked, *_read(instruments, asked))
    for seeds in SEEDS:
        asked = replace(request.directions, seeds=seeds)
        _print(request, asked, *_read(instruments, asked))
    found, _ = _read(instruments, request.directions)
    texts = "  ".join(f"{rho:>9.2f}" for rho in _correlations(request, found, of_texts=True))
    print(f"{'text encoder alone':>55}             {texts}")


def _read(instruments: Instruments, asked: DirectionsRequest) -> tuple[Directions, float]:
    started = time.perf_counter()
    parts = [ANALYSIS.part(instruments, asked, task) for task in ANALYSIS.tasks(asked)]
    found = ANALYSIS.combine(asked, parts)
    return found, len(found.texts) / (time.perf_counter() - started)


def _print(request: ExploreRequest, asked: DirectionsRequest, found: Directions, pace: float) -> None:
    rhos = "  ".join(f"{rho:>9.2f}" for rho in _correlations(request, found))
    print(f"{asked.hookpoint:>55} {asked.step:>4} {asked.seeds:>5}  {rhos}  {pace:>7.1f}", flush=True)


def _correlations(request: ExploreRequest, found: Directions, *, of_texts: bool = False) -> list[float]:
    world = World.load(world_table(request.dissection.model))
    rows = found.rows([prompt.text for prompt in request.prompts])
    values = found.text_scores[rows] if of_texts else found.scores[rows].mean(2)
    rhos = []
    for column, (attribute, groups) in enumerate(request.attributes.items()):
        shares = [world.share(prompt.occupation, attribute) for prompt in request.prompts]
        places = [sum(share[group] * place for place, group in enumerate(groups)) for share in shares]
        rhos.append(float(stats.spearmanr(values[:, column], places).statistic))
    return rhos


if __name__ == "__main__":
    main()
