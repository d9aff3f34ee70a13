"""The calibration model's card: figures of the trained weights, measured on generated pictures.

``python -m audit.training.card DIRECTORY`` measures again and rewrites ``card.json``, ``card.md``, ``samples.png``.
"""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from audit.calibration.bundle import Bundle, bundle_of
from audit.calibration.labels import DETAILS
from audit.calibration.networks import DrawingNetwork, to_unit_range
from audit.calibration.renderer import render
from audit.calibration.world import ATTRIBUTES, World, draw_labels, face_noise
from audit.config.fields import WIDE
from audit.config.sections import ModelConfig, SamplingConfig
from audit.models.generator import DiffusionGenerator, load_generator
from audit.records.estimates import percent
from audit.records.work import Prompt, derive_seed
from audit.training.captions import caption
from audit.training.readers import accuracy

LOG = logging.getLogger(__name__)
SWEEP = (2.0, 3.0, 5.0)
REGENERATION_STRENGTH = 0.3
"""Share of the noise schedule to which held-out drawings are noised before they are denoised again."""
BATCH = 32

_WORDS = {
    "calibration": ("Calibration model", "audit/training/make.py"),
    WIDE: ("Wide calibration model", "audit/training/wide.py"),
}
"""Model source → what it is called, and the file of its recipe."""


@dataclass(frozen=True)
class Effort:
    """Number of pictures behind the figures.

    Attributes:
        planted: Per occupation at guidance 1.
        sweep: Per occupation at each higher guidance.
        group_prompts: For prompts that name all groups.
        regenerated: Held-out drawings that the model regenerates.
    """

    planted: int = 256
    sweep: int = 96
    group_prompts: int = 240
    regenerated: int = 480


QUICK = Effort(planted=128, sweep=32, group_prompts=240, regenerated=192)


@dataclass(frozen=True)
class Card:
    """Figures of a trained calibration model.

    Attributes:
        occupation_shown: Occupation → share of pictures that show it at guidance 1, according to the judge.
        share_gap: Attribute → occupation → distance of generated from planted shares at guidance 1: for two groups the
            difference of the first share, for more the total variation.
        amplification: Guidance → mean over occupations of |share − .5| over the planted one, for gender.
        judge_accuracy: Attribute, or other question of the judge → accuracy on held-out drawings.
        judge_accuracy_generated: The same on regenerated drawings (held-out drawings, noised by
            ``REGENERATION_STRENGTH`` of the schedule, then denoised by this model): their labels are known.
        group_prompts: Attribute → share of pictures that show the group named in a prompt with all groups.
        losses: Mean loss in the last tenth of each part's training.
        effort: Number of pictures behind each figure.
    """

    occupation_shown: dict[str, float]
    share_gap: dict[str, dict[str, float]]
    amplification: dict[str, float]
    judge_accuracy: dict[str, float]
    judge_accuracy_generated: dict[str, float]
    group_prompts: dict[str, float]
    losses: dict[str, float]
    effort: Effort


def write(directory: Path, effort: Effort) -> None:
    """Measure the model in ``directory`` and write its card there."""
    model = _model(directory)
    bundle = _bundle(model)
    world, judge = World.load(bundle.table), DrawingNetwork.load(bundle.judge)
    perceived = {g: _perceive(model, judge, world, g, n) for g, n in _sweep(effort)}
    at_one = perceived[1.0]
    figures = Card(
        occupation_shown={o: float(np.mean(seen["occupation"] == _index(judge, o))) for o, seen in at_one.items()},
        share_gap={a: {o: _gap(world, o, a, seen[a]) for o, seen in at_one.items()} for a in ATTRIBUTES},
        amplification={str(g): _amplification(world, seen) for g, seen in perceived.items()},
        judge_accuracy={a: accuracy(m) for a, m in json.loads((bundle.judge / "confusion.json").read_text()).items()},
        judge_accuracy_generated=_regeneration_accuracy(model, judge, world, effort.regenerated),
        group_prompts=_group_prompt_accuracy(model, judge, world, effort.group_prompts),
        effort=effort,
        losses={part: values[-1] for part, values in json.loads((directory / "losses.json").read_text()).items()},
    )
    (directory / "card.json").write_text(json.dumps(asdict(figures), indent=2) + "\n")
    (directory / "card.md").write_text(_markdown(figures, world, *_WORDS[model.source]))
    _sample_grid(model, world).save(directory / "samples.png")


def _sweep(effort: Effort) -> list[tuple[float, int]]:
    return [(1.0, effort.planted), *((g, effort.sweep) for g in SWEEP)]


def _model(directory: Path) -> ModelConfig:
    wide = (Bundle.at(directory).pipeline / "transformer").is_dir()
    return ModelConfig(source=WIDE if wide else "calibration", world=str(directory))


def _bundle(model: ModelConfig) -> Bundle:
    bundle = bundle_of(model)
    if bundle is None:
        raise TypeError(f"{model.source} is not a calibration model")
    return bundle


def _generator(model: ModelConfig, guidance: float) -> DiffusionGenerator:
    generator = load_generator(model, SamplingConfig(guidance=guidance))
    if not isinstance(generator, DiffusionGenerator):
        raise TypeError(f"{model.world} is not a diffusion model")
    return generator


def _draw(generator: DiffusionGenerator, text: str, seeds: Sequence[int]) -> Tensor:
    prompt = Prompt("card", text, "")
    return torch.cat([generator.generate(prompt, seeds[i : i + BATCH]) for i in range(0, len(seeds), BATCH)])


def answers_of(judge: DrawingNetwork, images: Tensor) -> dict[str, NDArray[np.int64]]:
    """Return the most probable answer to each question for uint8 images (n, 3, H, W), each of shape (n,)."""
    with torch.inference_mode():
        return {question: logits.argmax(1).numpy() for question, logits in judge(to_unit_range(images)).items()}


def _perceive(
    model: ModelConfig, judge: DrawingNetwork, world: World, guidance: float, n: int
) -> dict[str, dict[str, NDArray[np.int64]]]:
    LOG.info("card: %d pictures per occupation at guidance %g", n, guidance)
    generator = _generator(model, guidance)
    return {
        occupation: answers_of(judge, _draw(generator, caption(occupation), _seeds(occupation, n)))
        for occupation in world.occupations
    }


def _seeds(name: str, n: int) -> list[int]:
    return [derive_seed("card", name, i) for i in range(n)]


def _index(judge: DrawingNetwork, occupation: str) -> int:
    return judge.answers["occupation"].index(occupation)


def _shares(perceived: NDArray[np.int64], attribute: str) -> NDArray[np.float64]:
    return np.bincount(perceived, minlength=len(ATTRIBUTES[attribute])) / len(perceived)


def _planted(world: World, occupation: str, attribute: str) -> NDArray[np.float64]:
    shares = world.share(occupation, attribute)
    return np.array([shares[group] for group in ATTRIBUTES[attribute]])


def _gap(world: World, occupation: str, attribute: str, perceived: NDArray[np.int64]) -> float:
    """Return the total variation, which for two groups is the difference of either share."""
    return float(np.abs(_shares(perceived, attribute) - _planted(world, occupation, attribute)).sum() / 2)


def _amplification(world: World, perceived: dict[str, dict[str, NDArray[np.int64]]]) -> float:
    generated = [abs(_shares(seen["gender"], "gender")[0] - 0.5) for seen in perceived.values()]
    planted = [abs(_planted(world, occupation, "gender")[0] - 0.5) for occupation in perceived]
    return float(np.mean(generated) / np.mean(planted))


def _group_prompt_accuracy(model: ModelConfig, judge: DrawingNetwork, world: World, n: int) -> dict[str, float]:
    """Measure prompts that name all groups, with all combinations and occupations in turn."""
    generator, rng = _generator(model, 3.0), np.random.default_rng(0)
    hits: dict[str, list[bool]] = {attribute: [] for attribute in ATTRIBUTES}
    for number in range(n // 8):
        named = {a: int(rng.integers(len(groups))) for a, groups in ATTRIBUTES.items()}
        occupation = world.occupations[number % len(world.occupations)]
        text = caption(occupation, **{a: ATTRIBUTES[a][i] for a, i in named.items()})
        seen = answers_of(judge, _draw(generator, text, _seeds(text, 8)))
        for attribute, index in named.items():
            hits[attribute] += (seen[attribute] == index).tolist()
    return {attribute: float(np.mean(hit)) for attribute, hit in hits.items()}


@torch.inference_mode()
def _regeneration_accuracy(model: ModelConfig, judge: DrawingNetwork, world: World, n: int) -> dict[str, float]:
    """Return the accuracy on regenerated drawings, whose labels are known (SDEdit, Meng et al. 2022)."""
    generator = _generator(model, 1.0)
    step = round(generator.steps * (1 - REGENERATION_STRENGTH))
    hits: dict[str, list[bool]] = {attribute: [] for attribute in ATTRIBUTES}
    for number in range(n // BATCH):
        occupation = world.occupations[number % len(world.occupations)]
        noise = face_noise(_seeds(f"regenerate-{number}", BATCH))
        labels = draw_labels(world, occupation, noise)
        pictures = render(labels, noise).images
        texts = [caption(occupation)] * BATCH
        again = generator.resample(texts, _seeds(occupation, BATCH), step, generator.encode(pictures))
        seen = answers_of(judge, again)
        for attribute, hit in hits.items():
            hit += (seen[attribute] == getattr(labels, attribute)).tolist()
    return {attribute: float(np.mean(hit)) for attribute, hit in hits.items()}


def _sample_grid(model: ModelConfig, world: World, columns: int = 12) -> Image.Image:
    """Draw one row per occupation, at guidance 3."""
    generator = _generator(model, 3.0)
    rows = [torch.cat(list(_draw(generator, caption(o), _seeds(o, columns))), 2) for o in world.occupations]
    return Image.fromarray(torch.cat(rows, 1).permute(1, 2, 0).numpy())


def _markdown(card: Card, world: World, name: str, recipe: str) -> str:
    gaps = {a: float(np.mean(list(by_occupation.values()))) for a, by_occupation in card.share_gap.items()}
    rows = [
        f"| {o} | {card.occupation_shown[o]:.3f} | "
        + " | ".join(f"{card.share_gap[a][o]:.3f}" for a in ATTRIBUTES)
        + " |"
        for o in card.occupation_shown
    ]
    attributes = " | ".join(ATTRIBUTES)
    summary = [
        ("share gap at guidance 1, mean over occupations", gaps),
        ("judge accuracy, held-out drawings", {a: card.judge_accuracy[a] for a in ATTRIBUTES}),
        ("judge accuracy, regenerated drawings", card.judge_accuracy_generated),
        ("named group shown (group prompts, guidance 3)", card.group_prompts),
    ]
    lines = [
        f"# {name}: {world.name}",
        "",
        "Drawn faces with planted shares; its numbers say nothing about any published model.",
        "Skin tone is a scale of lightness, not a race.",
        f"Trained by `{recipe}`; measured by `python -m audit.training.card`.",
        "",
        f"| figure | {attributes} |",
        "| --- |" + " --- |" * len(ATTRIBUTES),
        *(f"| {name} | " + " | ".join(f"{values[a]:.3f}" for a in ATTRIBUTES) + " |" for name, values in summary),
        "",
        "Share gap: total variation between generated and planted shares, for gender the difference of the male share"
        f" (n = {card.effort.planted} for each occupation).",
        f"Regenerated drawings: held-out drawings, noised by {percent(REGENERATION_STRENGTH)} of the schedule, "
        f"denoised by this model, so that their labels are known (n = {card.effort.regenerated}).",
        f"Named groups: n = {card.effort.group_prompts} pictures of fully named prompts.",
        *_details(card),
        "",
        "Gender skew over the planted one, by guidance: "
        + ", ".join(f"{g}: {value:.2f}×" for g, value in card.amplification.items())
        + f" (n = {card.effort.sweep} for each occupation above 1).",
        "",
        f"| occupation | shown | gap: {attributes.replace(' | ', ' | gap: ')} |",
        "| --- | --- |" + " --- |" * len(ATTRIBUTES),
        *rows,
        "",
        "Last losses: " + ", ".join(f"{part} {value:.4f}" for part, value in card.losses.items()) + ".",
        "",
    ]
    return "\n".join(lines)


def _details(card: Card) -> list[str]:
    known = [f"{detail} {card.judge_accuracy[detail]:.3f}" for detail in DETAILS if detail in card.judge_accuracy]
    return ["", f"Judge accuracy on details of held-out drawings: {', '.join(known)}."] if known else []


def run_card(description: str | None, measure: Callable[[Path, bool], None]) -> None:
    """Run the command line of a card.

    Args:
        description: Shown by ``--help``.
        measure: Measures the model in a directory, with fewer pictures if the second argument is true.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--quick", action="store_true", help="fewer pictures, wider spread")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    arguments = parser.parse_args()
    measure(arguments.directory, arguments.quick)


if __name__ == "__main__":
    run_card(__doc__, lambda directory, quick: write(directory, QUICK if quick else Effort()))
