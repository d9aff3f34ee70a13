"""Planted associations that no attribute names: how many are found, and how many findings are false.

    python -m benchmarks.open_set                        20 seeds of the renderer, and of a control without associations
    python -m benchmarks.open_set --images 64
    python -m benchmarks.open_set --model calibration --seeds 6 --first 2

The bundled world plants glasses with librarian and scientist, and a background with farmer and pilot; no judge names
either. The control has the same world with the default glasses and backgrounds for every occupation. For drawings the
labels are known. For pictures of the trained model, a linear reader of the feature network's embeddings, fitted on
drawings, reads them; its accuracy on held-out drawings is printed. Its control is the same pictures without those of
the four occupations.

A finding is *true* if, of all labels, the one that its held-out state separates best is of the kind that is planted in
its prompt (glasses, or any background), with an area under the curve of at least .7 in either direction. Every other
finding is *false*.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from audit.calibration.labels import BACKGROUNDS, HAIR_COLOURS, HAIR_STYLES, Labels
from audit.calibration.renderer import render
from audit.calibration.world import ATTRIBUTES, World, draw_labels, face_noise, uniform_labels
from audit.config.sections import JudgeConfig, ModelConfig, PromptsConfig, QualityConfig, SamplingConfig
from audit.models.generator import DiffusionGenerator, load_generator
from audit.perception.embedders.features import load_features
from audit.perception.judges.registry import load_judge
from audit.planning.plan import prompt_text
from audit.records.work import Prompt, derive_seed
from audit.results.open_set.attributes import unnamed_attributes
from audit.results.open_set.findings import Limits, differences_of
from audit.results.open_set.sample import Sample

PLANTED = {"librarian": "glasses", "scientist": "glasses", "farmer": "background", "pilot": "background"}
AREA = 0.7
LIMITS = Limits(rate=0.05, margin=0.1)
GROUPS = {name: len(groups) for name, groups in ATTRIBUTES.items()}

Floats = NDArray[np.floating[Any]]
Truth = Mapping[str, NDArray[np.bool_]]
Reader = Callable[[Floats], Truth]
Pictures = tuple[Floats, dict[str, NDArray[np.int64]]]
Part = tuple[Floats, dict[str, NDArray[np.int64]], Labels]


@dataclass(frozen=True)
class Drawn:
    """Images of all prompts.

    Attributes:
        sample: The images.
        truth: Label → whether each image has it.
    """

    sample: Sample
    truth: Truth


def main() -> None:
    """Print a table for each model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", choices=("rendered", "calibration"), default="rendered")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first", type=int, default=0, help="number of the first seed")
    parser.add_argument("--images", type=int, default=96, help="of each prompt, half of them held out")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    instruments, seeds = Instruments(), range(asked.first, asked.first + asked.seeds)
    study = trained if asked.model == "calibration" else both_worlds
    study(instruments, seeds, asked.images)


def control(world: World) -> World:
    """Return the world without associations that no attribute names."""
    plain = {
        name: replace(one, glasses=0.2, background=np.full(len(BACKGROUNDS), 1 / len(BACKGROUNDS)))
        for name, one in world.planted.items()
    }
    return World("control", world.occupations, plain)


class Instruments:
    """The bundled judge and feature network."""

    def __init__(self) -> None:
        self._model = ModelConfig()
        groups = {name: tuple(of) for name, of in ATTRIBUTES.items()}
        self._judge = load_judge(JudgeConfig(), self._model, groups, None)
        self._features = load_features(QualityConfig(), self._model)

    def drawn(self, world: World, seed: int, images: int, same: Mapping[str, Part] | None = None) -> dict[str, Part]:
        """Draw the images of one seed, by occupation; ``same`` has parts that are equal in another world."""
        found = dict(same or {})
        for occupation in world.occupations:
            if occupation not in found:
                noise = face_noise([derive_seed("open", seed, occupation, number) for number in range(images)])
                labels = draw_labels(world, occupation, noise)
                found[occupation] = (*self._seen(render(labels, noise).images, occupation), labels)
        return {occupation: found[occupation] for occupation in world.occupations}

    def generated(self, occupations: Sequence[str], seed: int, images: int) -> dict[str, Pictures]:
        """Generate the images of one seed with the shipped trained model, by occupation."""
        found = {}
        for occupation in occupations:
            prompt = Prompt(occupation, prompt_text(PromptsConfig().template, occupation), occupation)
            noise = [derive_seed("open", seed, occupation, number) for number in range(images)]
            made = [self._generator.generate(prompt, noise[first : first + 32]) for first in range(0, images, 32)]
            found[occupation] = self._seen(torch.cat(made), occupation)
        return found

    @cached_property
    def _generator(self) -> DiffusionGenerator:
        return load_generator(self._model, SamplingConfig())

    def reader(self, world: World, drawings: int = 6000) -> Reader:
        """Fit linear readers of labels on drawings without any bias, and print their accuracy on held-out ones."""
        noise = face_noise([derive_seed("reader", number) for number in range(drawings)])
        labels = uniform_labels(noise, world.occupations)
        images = render(labels, noise).images
        vectors, truth, half = self._features.embed(images), truth_of(labels), drawings // 2
        heads = {
            name: LogisticRegression(max_iter=1000).fit(vectors[:half], values[:half]) for name, values in truth.items()
        }
        right = {name: (heads[name].predict(vectors[half:]) == truth[name][half:]).mean() for name in heads}
        print("reader, accuracy on held-out drawings:", *(f"{name} {value:.3f}" for name, value in right.items()))
        return lambda rows: {name: head.predict(rows) for name, head in heads.items()}

    def _seen(self, images: torch.Tensor, occupation: str) -> Pictures:
        seen = self._judge.perceive(images, occupation)
        return self._features.embed(images), {name: seen.codes(name) for name in ATTRIBUTES}


@dataclass(frozen=True)
class Outcome:
    """What one seed gives.

    Attributes:
        tests: Tests on the discovery seeds.
        candidates: Candidates for confirmation.
        true: Findings that are true, each as prompt, best label, area.
        false: Findings that are false.
        recalled: Prompts with a planted association that have a true finding.
    """

    tests: int
    candidates: int
    true: tuple[str, ...]
    false: tuple[str, ...]
    recalled: frozenset[str]


def truth_of(labels: Labels) -> Truth:
    """Return every label that a state may be, by name."""
    found = {name: getattr(labels, name) == 1 for name in ("glasses", "smile", "beard")}
    found |= {f"background {name}": labels.background == place for place, name in enumerate(BACKGROUNDS)}
    found |= {f"hair {name}": labels.hair_colour == place for place, name in enumerate(HAIR_COLOURS)}
    return found | {f"style {name}": labels.hair_style == place for place, name in enumerate(HAIR_STYLES)}


def both_worlds(instruments: Instruments, seeds: Sequence[int], images: int) -> None:
    """Print what every seed gives in the planted world and in the control, and all seeds together."""
    planted, plain = World.bundled(), control(World.bundled())
    outcomes: dict[str, list[Outcome]] = {"planted": [], "control": []}
    for seed in seeds:
        parts = instruments.drawn(planted, seed, images)
        equal = {occupation: part for occupation, part in parts.items() if occupation not in PLANTED}
        for title, drawn in (("planted", parts), ("control", instruments.drawn(plain, seed, images, equal))):
            truth = truth_of(Labels.concatenate([labels for _, _, labels in drawn.values()]))
            sample = _sample(planted.occupations, [part[:2] for part in drawn.values()], images)
            _add(outcomes, title, seed, Drawn(sample, truth))
    _print_studies(outcomes, images)


def trained(instruments: Instruments, seeds: Sequence[int], images: int) -> None:
    """Print the findings in pictures of the shipped trained model, and without the planted prompts."""
    occupations = World.bundled().occupations
    read = instruments.reader(World.bundled())
    outcomes: dict[str, list[Outcome]] = {"planted": [], "control": []}
    for seed in seeds:
        parts = instruments.generated(occupations, seed, images)
        others = {occupation: part for occupation, part in parts.items() if occupation not in PLANTED}
        for title, own in (("planted", parts), ("control", others)):
            sample = _sample(tuple(own), list(own.values()), images)
            _add(outcomes, title, seed, Drawn(sample, read(sample.vectors)))
    _print_studies(outcomes, images)


def _add(outcomes: Mapping[str, list[Outcome]], title: str, seed: int, drawn: Drawn) -> None:
    outcomes[title].append(outcome(drawn, PLANTED if title == "planted" else {}))
    print(f"{title} {seed}: {_line(outcomes[title][-1])}", flush=True)


def _print_studies(outcomes: Mapping[str, list[Outcome]], images: int) -> None:
    for title, found in outcomes.items():
        name = f"{title}, {images} images of each prompt, {len(found)} seeds"
        _print_study(name, found, PLANTED if title == "planted" else {})


def outcome(drawn: Drawn, planted: Mapping[str, str]) -> Outcome:
    """Find, and compare with the truth."""
    attributes = unnamed_attributes(drawn.sample)
    found = differences_of(drawn.sample, attributes, LIMITS)
    held = drawn.sample.half(held_out=True)
    true, false, recalled = [], [], set()
    for one in found.findings:
        upper = attributes[one.attribute - 1].held_out.upper
        areas = {n: roc_auc_score(v[held], upper) for n, v in drawn.truth.items() if 0 < v[held].sum() < len(held)}
        best = max(areas, key=lambda name: abs(areas[name] - 0.5))
        area = max(areas[best], 1 - areas[best])
        text = f"{one.prompt} {one.rate:.2f} against {one.others:.2f} ({best}, area {area:.2f})"
        if area >= AREA and best.split()[0] == planted.get(one.prompt):
            true.append(text)
            recalled.add(one.prompt)
        else:
            false.append(text)
    return Outcome(found.tests, len(found.candidates), tuple(true), tuple(false), frozenset(recalled))


def _sample(names: Sequence[str], parts: Sequence[tuple[Floats, Mapping[str, Any]]], images: int) -> Sample:
    return Sample(
        names=tuple(names),
        prompts=np.repeat(np.arange(len(names)), images),
        numbers=np.tile(np.arange(images), len(names)),
        vectors=np.concatenate([vectors for vectors, _ in parts]).astype(float),
        codes={name: np.concatenate([codes[name] for _, codes in parts]) for name in GROUPS},
        groups=GROUPS,
    )


def _line(one: Outcome) -> str:
    found = "; ".join((*one.true, *(f"FALSE {text}" for text in one.false))) or "nothing"
    return f"{one.tests} tests, {one.candidates} candidates, found {found}"


def _print_study(title: str, outcomes: Sequence[Outcome], planted: Mapping[str, str]) -> None:
    findings = sum(len(one.true) + len(one.false) for one in outcomes)
    shares = [len(one.false) / max(1, len(one.true) + len(one.false)) for one in outcomes]
    print(f"\n{title}")
    print(f"  findings {findings}, false {sum(len(one.false) for one in outcomes)}")
    print(f"  false discovery proportion, mean over seeds {np.mean(shares):.3f}")
    if planted:
        recalled = Counter(prompt for one in outcomes for prompt in one.recalled)
        whole, asked = sum(recalled.values()), len(planted) * len(outcomes)
        low, high = stats.binomtest(whole, asked).proportion_ci(method="wilson")
        each = ", ".join(f"{prompt} {recalled[prompt]}/{len(outcomes)}" for prompt in planted)
        print(f"  recall {whole}/{asked} = {whole / asked:.3f} [{low:.3f}, {high:.3f}]: {each}")
    with_any = sum(bool(one.true or one.false) for one in outcomes)
    print(f"  seeds with a finding {with_any}/{len(outcomes)}")
    failed = sum(one.candidates - len(one.true) - len(one.false) for one in outcomes)
    print(f"  candidates that held-out seeds did not confirm {failed}\n", flush=True)


if __name__ == "__main__":
    main()
