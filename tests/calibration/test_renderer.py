"""A drawing shows its labels and depends only on its labels and noise, and its masks are a partition of it."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from audit.calibration.renderer import PARTS, SIZE, render
from audit.calibration.world import ATTRIBUTES, OCCUPATIONS, Labels, World, draw_labels, face_noise, uniform_labels

SEEDS = range(100, 160)


@pytest.fixture(scope="module")
def noise():
    return face_noise(SEEDS)


@pytest.fixture(scope="module")
def labels(noise):
    return uniform_labels(noise, OCCUPATIONS)


@pytest.fixture(scope="module")
def drawing(labels, noise):
    return render(labels, noise)


def with_all(labels: Labels, **values: int) -> Labels:
    """The same faces with some labels set to one value."""
    return replace(labels, **{name: np.full(len(labels), value) for name, value in values.items()})


def face_luminance(labels, noise):
    """Median Rec. 709 luma of the pixels that show skin, by picture."""
    drawing = render(labels, noise)
    luma = (drawing.images.float() * torch.tensor([0.2126, 0.7152, 0.0722])[:, None, None]).sum(dim=1)
    masks = drawing.masks[:, PARTS.index("face")]
    return torch.stack([picture[mask].median() for picture, mask in zip(luma, masks, strict=True)])


def difference(first: Labels, second: Labels, noise):
    """Share of pixels that differ visibly, by picture."""
    images = [render(labels, noise).images.int() for labels in (first, second)]
    return ((images[0] - images[1]).abs().amax(dim=1) > 24).float().mean(dim=(1, 2))


def test_pictures_and_masks_have_the_documented_shape_and_type(drawing):
    n = len(SEEDS)
    assert drawing.images.shape == (n, 3, SIZE, SIZE)
    assert drawing.images.dtype == torch.uint8
    assert drawing.masks.shape == (n, len(PARTS), SIZE, SIZE)
    assert drawing.masks.dtype == torch.bool


def test_masks_partition_every_picture(drawing):
    assert (drawing.masks.sum(dim=1) == 1).all()


def test_every_part_except_headgear_is_visible_in_every_picture(drawing):
    share = drawing.masks.float().mean(dim=(2, 3))
    for part in ("hair", "face", "dress", "background"):
        assert (share[:, PARTS.index(part)] > 0.01).all(), part


def test_the_background_mask_is_one_flat_colour(drawing):
    for picture, mask in zip(drawing.images[:8], drawing.masks[:8, PARTS.index("background")], strict=True):
        flat = picture[:, mask].float()
        assert (flat - flat.median(dim=1, keepdim=True).values).abs().lt(2).all(dim=0).float().mean() > 0.9


def test_drawing_is_deterministic(labels, noise, drawing):
    again = render(labels, noise)
    assert torch.equal(again.images, drawing.images)
    assert torch.equal(again.masks, drawing.masks)


def test_a_picture_does_not_depend_on_the_others(labels, noise, drawing):
    rows = np.array([41, 3, 17])
    few = render(labels[rows], noise[rows])
    assert (few.images.int() - drawing.images[rows].int()).abs().max() <= 1
    assert (few.masks != drawing.masks[rows]).float().mean() < 1e-3


def test_skin_tones_are_ordered_and_distinct(labels, noise):
    tones = range(len(ATTRIBUTES["skin_tone"]))
    luminance = torch.stack([face_luminance(with_all(labels, skin_tone=tone), noise) for tone in tones])
    assert (luminance[:-1] - luminance[1:]).min() > 20


def test_every_group_is_visible_with_every_outfit(labels, noise):
    """Even under headgear, the least visible change of a group changes 1 % of the picture."""
    for attribute, groups in ATTRIBUTES.items():
        for group in range(1, len(groups)):
            grey = {"hair_colour": 4} if attribute == "age" and group == 2 else {}
            before = with_all(labels, **{attribute: group - 1}, beard=0, hair_colour=1)
            after = with_all(before, **{attribute: group}, **grey)
            assert difference(before, after, noise).min() > 0.01, (attribute, groups[group])


def test_occupations_differ_in_dress_and_in_other_parts(labels, noise):
    one = labels[:1]
    pictures = [
        render(with_all(one, occupation=index), noise[:1]).images[0].float() for index in range(len(OCCUPATIONS))
    ]
    for index, first in enumerate(pictures):
        for second in pictures[:index]:
            visible = (first - second).abs().amax(dim=0) > 24
            assert visible[46:].float().mean() > 0.15


def test_features_are_visible_on_every_skin_tone(labels, noise):
    """A smile changes a face about as much on dark skin as on light skin."""
    shown = []
    for tone in range(len(ATTRIBUTES["skin_tone"])):
        neutral = with_all(labels, skin_tone=tone, beard=0, smile=0)
        shown.append(difference(neutral, with_all(neutral, smile=1), noise).mean())
    assert min(shown) > 0.6 * max(shown)


def test_the_rendered_world_shows_its_planted_skin_tones(noise):
    drawn = draw_labels(World.bundled(), "judge", noise)
    by_tone = face_luminance(drawn, noise)
    assert np.corrcoef(by_tone.numpy(), drawn.skin_tone)[0, 1] < -0.95


def test_noise_of_other_faces_is_refused(labels, noise):
    with pytest.raises(ValueError, match=r"expected at least one face and noise of shape \(2, \d+\)"):
        render(labels[:2], noise)
    with pytest.raises(ValueError, match="at least one face"):
        render(labels[:0], noise[:0])
