"""The search draws what it hands out, sees side effects image by image, and stops where they outgrow the effect."""

import numpy as np
import pytest
import torch

from audit.dissect.strengths import LADDER, choose_strength
from audit.mitigate.strength import StrengthSearch, try_strengths
from audit.perception.judges.perceived import Perceived
from audit.records.work import Prompt, Status

DOCTOR = Prompt("doctor", "a face photo of a doctor", "doctor")
GROUPS = ("young", "old")
IMAGES = 20


class Painter:
    """Paints each image in the strength with which it is edited: tenths of it, so that a uint8 holds it."""

    steps = 1

    def __init__(self):
        self.drawn = []

    def generate(self, prompt, seeds, arm=None):
        strengths = (0.0,) * len(seeds) if arm is None else arm.strengths
        if arm is not None:
            self.drawn.append(dict(zip(arm.assigned, arm.strengths, strict=True)))
        return (10 * torch.tensor(strengths)).byte()[:, None, None, None].expand(-1, 3, 2, 2)


class Reader:
    """Sees an age and a gender that follow the strength as ``shown`` and ``flipped`` say; the faces go where told."""

    def __init__(self, shown, flipped, faceless_from=99.0):
        self.shown, self.flipped, self.faceless_from = shown, flipped, faceless_from

    def perceive(self, images, occupation):
        strengths = images[:, 0, 0, 0].numpy() / 10
        old = np.array([self.shown(s) for s in strengths])
        place = np.arange(len(strengths)) % IMAGES
        male = np.array([float(p < IMAGES * self.flipped(s)) for p, s in zip(place, strengths, strict=True)])
        statuses = [Status.NO_FACE if s >= self.faceless_from else Status.CLASSIFIED for s in strengths]
        return Perceived({"age": np.stack([1 - old, old], 1), "gender": np.stack([1 - male, male], 1)}, statuses, None)


def batch_itself(batch):
    return batch


def tried(shown, flipped, **more):
    painter = Painter()
    search = StrengthSearch(DOCTOR, "a face photo of {a} {occupation}", "age", GROUPS, IMAGES, budget=1.0)
    return painter, try_strengths(painter, Reader(shown, flipped, **more), batch_itself, search)


def test_nothing_is_handed_out_that_was_not_drawn():
    painter, found = tried(shown=lambda s: 0.1 + 0.02 * s, flipped=lambda s: 0.0)
    drawn = {0.0, *(arm.get("old") for arm in painter.drawn)}
    assert choose_strength(found["old"], 1.0).strength == LADDER[-1]
    assert [rung.strength for rung in found["old"]] == list(LADDER) == sorted(drawn)


def test_a_group_that_is_shown_already_needs_no_edit():
    painter, found = tried(shown=lambda s: 0.05 + 0.3 * s, flipped=lambda s: 0.0)
    assert [rung.strength for rung in found["young"]] == [0.0]
    assert all("young" not in arm for arm in painter.drawn)
    assert choose_strength(found["old"], 1.0).control == "full"


def test_gender_flips_stop_an_age_edit_that_gains_less():
    _, found = tried(shown=lambda s: min(0.3 + 0.2 * s, 0.6 + 0.02 * s), flipped=lambda s: max(0.0, 0.1 * (s - 1.0)))
    chosen = choose_strength(found["old"], 1.0)
    assert chosen.strength == 1.5
    assert chosen.control == "partial"
    assert chosen.drawn.changed == {"gender": pytest.approx(0.05)}
    assert found["old"][-1].strength < LADDER[-1]


def test_an_edit_that_only_flips_is_not_made_and_controls_nothing():
    _, found = tried(shown=lambda s: 0.2 + 0.02 * s, flipped=lambda s: 0.2 * s)
    chosen = choose_strength(found["old"], 1.0)
    assert (chosen.strength, chosen.control) == (0.0, "none")


def test_an_image_without_a_face_shows_no_group_and_counts_as_changed():
    _, found = tried(shown=lambda s: 0.2 + 0.6 * s, flipped=lambda s: 0.0, faceless_from=1.0)
    spoiled = found["old"][2]
    assert (spoiled.strength, spoiled.shown, spoiled.lost, spoiled.changed) == (1.0, 0.0, 1.0, {"gender": 1.0})
    assert choose_strength(found["old"], 1.0).strength == 0.5
