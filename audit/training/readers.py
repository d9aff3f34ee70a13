"""Trains the judge of perceived groups, and the feature network for FID and KID."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from audit.calibration.networks import DrawingNetwork, to_unit_range
from audit.calibration.world import ATTRIBUTES, OCCUPATIONS
from audit.models.device import device_here
from audit.training.loop import Schedule, seeded, train

FACE = ("absent", "present")
FACELESS_SHARE = 0.15
"""Share of each batch whose faces are destroyed, so that the judge learns to report a missing face."""

JUDGE_ANSWERS: dict[str, tuple[str, ...]] = {"face": FACE, **ATTRIBUTES, "occupation": OCCUPATIONS}


def train_network(
    answers: dict[str, tuple[str, ...]],
    images: Tensor,
    labels: dict[str, Tensor],
    schedule: Schedule,
    checkpoint: Path,
) -> tuple[DrawingNetwork, list[float]]:
    """Train a network on uint8 ``images`` (n, 3, 64, 64) and ``labels`` (question → (n,) int64).

    A batch contains shifted, noisy and blurred pictures, since generated pictures are less clean than drawings. If the
    labels include ``face``, the faces of some pictures are destroyed, and these train only that question.
    """
    with seeded(len(answers)):
        network = DrawingNetwork(answers)
    questions = [name for name in answers if name != "face"]

    def loss_of(step: int, generator: torch.Generator) -> Tensor:
        chosen = torch.randint(len(images), (schedule.batch,), generator=generator)
        x = _degrade(to_unit_range(images[chosen]), generator)
        faceless = torch.zeros(schedule.batch, dtype=torch.bool)
        if "face" in answers:
            faceless = torch.rand(schedule.batch, generator=generator) < FACELESS_SHARE
            x = torch.where(faceless.view(-1, 1, 1, 1), destroy_faces(x, generator), x)
        logits = network(x.to(device_here()))
        truth = {q: labels[q][chosen][~faceless].to(device_here()) for q in questions}
        faced = (~faceless).to(device_here())
        loss = torch.stack([functional.cross_entropy(logits[q][faced], truth[q]) for q in questions]).sum()
        if "face" in answers:
            loss = loss + functional.cross_entropy(logits["face"], faced.long())
        return loss

    return network, train(network, loss_of, schedule, checkpoint)


def destroy_faces(x: Tensor, generator: torch.Generator) -> Tensor:
    """Remove the face from pictures (n, 3, 64, 64) in [-1, 1]: shuffle patches, blank out, or replace by noise."""
    n = len(x)
    patches = x.unfold(2, 16, 16).unfold(3, 16, 16).reshape(n, 3, 16, 16, 16)
    order = torch.rand(n, 16, generator=generator).argsort(1).view(n, 1, 16, 1, 1).expand_as(patches)
    shuffled = patches.gather(2, order).view(n, 3, 4, 4, 16, 16).permute(0, 1, 2, 4, 3, 5).reshape(n, 3, 64, 64)
    colour = torch.rand(n, 3, 1, 1, generator=generator) * 2 - 1
    blank = x.clone()
    blank[:, :, 8:48, 12:52] = colour.expand(n, 3, 40, 40)
    noise = torch.randn(x.shape, generator=generator).clamp(-1, 1)
    kind = torch.randint(3, (n, 1, 1, 1), generator=generator)
    return torch.where(kind == 0, shuffled, torch.where(kind == 1, blank, noise))


def _degrade(x: Tensor, generator: torch.Generator) -> Tensor:
    shift = torch.randint(-2, 3, (2,), generator=generator).tolist()
    x = torch.roll(x, shift, (2, 3))
    if torch.rand((), generator=generator) < 0.5:
        x = functional.avg_pool2d(functional.pad(x, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    strength = 0.15 * torch.rand(len(x), 1, 1, 1, generator=generator)
    return x + strength * torch.randn(x.shape, generator=generator)


@torch.inference_mode()
def confusion(network: DrawingNetwork, images: Tensor, labels: dict[str, Tensor]) -> dict[str, list[list[int]]]:
    """Count (true, perceived) answers per question on held-out pictures; rows are the true groups."""
    parts = [network(to_unit_range(part)) for part in torch.split(images, 250)]
    matrices = {}
    for question in (q for q in network.answers if q in labels):
        perceived = torch.cat([part[question].argmax(1) for part in parts])
        size = len(network.answers[question])
        counts = torch.bincount(labels[question] * size + perceived, minlength=size * size)
        matrices[question] = counts.view(size, size).tolist()
    return matrices


def accuracy(matrix: list[list[int]]) -> float:
    """Return the share of a confusion matrix's diagonal."""
    return sum(row[i] for i, row in enumerate(matrix)) / sum(map(sum, matrix))
