"""The images that a dissection samples, and those of them whose maps are recorded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from audit.dissect.settings import Dissection
from audit.planning.plan import name_groups
from audit.records.work import Prompt, derive_seed

Groups = Mapping[str, tuple[str, ...]]


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


def recorded_trajectories(trajectories: Sequence[Trajectory], settings: Dissection) -> list[int]:
    """Return the trajectories whose maps are recorded, ascending: all of them, or a random sample of whole pairs.

    A sample has the same share of pairs as all trajectories. A counterfactual is never recorded without its partner.
    """
    if settings.recorded >= len(trajectories):
        return list(range(len(trajectories)))
    rng = np.random.default_rng(derive_seed(settings.seed, "recorded"))
    plain = [i for i, trajectory in enumerate(trajectories) if trajectory.partner is None]
    first = [
        i for i, trajectory in enumerate(trajectories) if trajectory.partner is not None and trajectory.partner > i
    ]
    pairs = rng.permutation(first)[: settings.recorded // 4].tolist()
    chosen = rng.permutation(plain)[: settings.recorded - 2 * len(pairs)].tolist()
    partners = [partner for i in pairs if (partner := trajectories[i].partner) is not None]
    return sorted(chosen + pairs + partners)
