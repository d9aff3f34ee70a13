"""Prompts about two people on drawings, where the truth is known: are matches right, shares planted, findings true?

    python -m benchmarks.compositions matching
    python -m benchmarks.compositions tests --seeds 20

``matching`` draws two persons with uniform groups, and matches them with occupations that the bundled CLIP model has
learned, and with four that it has not, by texts that name no group and by balanced ones. ``tests`` draws the pairs of
``audit/calibration/worlds/pairs.yaml`` and counts planted shares inside their intervals, and findings.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from itertools import combinations

import numpy as np
import torch
from numpy.typing import NDArray

from audit.analyses.composed.persons import Crops, looked_at
from audit.calibration.labels import ATTRIBUTES, OCCUPATIONS, Labels, face_noise
from audit.calibration.pairs import draw_pairs
from audit.calibration.renderer import render
from audit.calibration.world import World, draw_labels, uniform_labels
from audit.config.judges import FacesConfig
from audit.config.optional.compositions import CompositionsConfig
from audit.config.sections import JudgeConfig, ModelConfig, QualityConfig
from audit.perception.embedders.clip import load_clip
from audit.perception.judges.registry import load_judge
from audit.perception.persons.finder import load_finder
from audit.planning.compositions import alone_prompts, matching_texts, pair_prompts
from audit.planning.plan import prompt_text
from audit.records.inside.compositions import Compositions
from audit.records.work import Prompt, derive_seed
from audit.results.compositions.matching import balanced_text, match_persons
from audit.results.compositions.summary import SeenPersons, Setting, compositions_of

MODEL = ModelConfig(source="rendered")
GROUPS = {"gender": ATTRIBUTES["gender"], "age": ATTRIBUTES["age"]}
WORLD = World.load(World.bundled_path().with_name("pairs.yaml"))
PAIRS = [["doctor", "nurse"], ["chef", "cashier"], ["teacher", "librarian"]]
LEARNED, UNKNOWN = OCCUPATIONS[:16], OCCUPATIONS[16:]
CERTAINTY = CompositionsConfig().certainty


class Instruments:
    """The bundled judge, finder of persons and CLIP model."""

    def __init__(self) -> None:
        self.judge = load_judge(JudgeConfig(), MODEL, GROUPS)
        self.finder = load_finder(FacesConfig(), MODEL)
        clip = load_clip(QualityConfig(), MODEL)
        assert clip is not None
        self.clip = clip

    def text(self, occupation: str, *, balanced: bool = True) -> NDArray[np.floating]:
        """Embed an occupation."""
        section = CompositionsConfig()
        plain = (prompt_text(section.alone, occupation),)
        texts = matching_texts(section, occupation, GROUPS) if balanced else plain
        return balanced_text(np.stack([self.clip.text(text) for text in texts]))

    def seen(self, images: torch.Tensor, prompt: Prompt) -> SeenPersons:
        """Find, judge and embed the persons of the images of a prompt, as the audit does."""
        found = self.finder.find(images)
        vectors, codes = looked_at(Crops.of(found, prompt), self.judge, self.clip, GROUPS)
        return SeenPersons(np.array([len(own) for own in found]), vectors, codes, ())


def matching(instruments: Instruments, images: int) -> None:
    """Print how many matches are right, by kind of text and by what CLIP has learned."""
    drawn = {name: _uniform(instruments, name, images) for name in OCCUPATIONS}
    sets = {"learned by CLIP": LEARNED, "unknown to CLIP": UNKNOWN}
    for title, names in sets.items():
        for balanced in (False, True):
            texts = {name: instruments.text(name, balanced=balanced) for name in names}
            _print_matching(f"{title}, {'balanced' if balanced else 'plain'} texts", names, drawn, texts, instruments)


def _uniform(instruments: Instruments, name: str, images: int) -> tuple[NDArray[np.floating], Labels]:
    noise = face_noise([derive_seed("match", name, number) for number in range(images)])
    labels = uniform_labels(noise, [name])
    return instruments.clip.images(render(labels, noise).images), labels


def _print_matching(title, names: Sequence[str], drawn, texts, instruments: Instruments) -> None:
    rows = []
    for first, second in combinations(names, 2):
        vectors = np.stack([drawn[first][0], drawn[second][0]], axis=1)
        found = match_persons(vectors, np.stack([texts[first], texts[second]]), instruments.clip.logit_scale, CERTAINTY)
        genders = drawn[first][1].gender * 2 + drawn[second][1].gender
        rows.append(np.stack([found.apart, found.apart & (found.first == 0), genders]))
    apart, right, genders = np.concatenate(rows, axis=1)
    line = f"{title}: {len(rows)} pairs, told apart {apart.mean():.3f}, of these right {right.sum() / apart.sum():.3f}"
    groups = ("both female", "female male", "male female", "both male")
    shares = [f"{group} {right[genders == code].sum() / apart[genders == code].sum():.3f}"
              for code, group in enumerate(groups)]  # fmt: skip
    print(f"{line}; by groups of both: {', '.join(shares)}", flush=True)


def tests(instruments: Instruments, seeds: int, images: int) -> None:
    """Print planted shares inside their intervals, and the findings of every test, over seeds."""
    section = CompositionsConfig(pairs=PAIRS)
    setting = Setting(
        "benchmark", "", {}, GROUPS, CERTAINTY, section.false_discovery_rate, instruments.clip.logit_scale,
        {one.occupation: instruments.text(one.occupation) for one in alone_prompts(section)},
    )  # fmt: skip
    runs = [_run(instruments, section, setting, seed, images) for seed in range(seeds)]
    print(f"{seeds} seeds, {images} images of each prompt")
    inside = [cell for run in runs for cell in _inside(run)]
    print(f"planted joint shares inside their 95 % interval: {sum(inside)} of {len(inside)}")
    for title, rows in (("who is which", "reversals"), ("company", "company"), ("dependence", "alike")):
        for pair in pair_prompts(section):
            for attribute in GROUPS:
                own = [[one.found for one in getattr(run, rows) if (one.pair, one.attribute) == (pair.id, attribute)]
                       for run in runs]  # fmt: skip
                print(f"{title}, {pair.id}, {attribute}: seeds with a finding {sum(map(any, own))} of {seeds}")


def _run(
    instruments: Instruments, section: CompositionsConfig, setting: Setting, seed: int, images: int
) -> Compositions:
    pairs = {}
    for pair in pair_prompts(section):
        numbers = [derive_seed("compose", seed, pair.id, number) for number in range(images)]
        pairs[pair] = instruments.seen(draw_pairs(WORLD, pair.first, pair.second, numbers).images, pair)
    alone = {}
    for prompt in alone_prompts(section):
        noise = face_noise([derive_seed("compose", seed, prompt.id, number) for number in range(images)])
        drawn = render(draw_labels(WORLD, prompt.occupation, noise), noise).images
        alone[prompt] = instruments.seen(drawn, prompt)
    return compositions_of(pairs, alone, setting)


def _inside(run: Compositions) -> list[bool]:
    """Return for each planted combination whether its share is inside the interval."""
    found = []
    for pair in run.pairs:
        for attribute, table in WORLD.pair(pair.first, pair.second).joint.items():
            cells = [one for one in run.cells if (one.pair, one.attribute) == (pair.pair, attribute)]
            found += [one.share.low <= share <= one.share.high for one, share in zip(cells, table.ravel(), strict=True)]
    return found


def main() -> None:
    """Print one of the studies."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", choices=("matching", "tests"))
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--images", type=int, default=96, help="of each prompt")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    if asked.study == "matching":
        matching(Instruments(), asked.images)
    else:
        tests(Instruments(), asked.seeds, asked.images)


if __name__ == "__main__":
    main()
