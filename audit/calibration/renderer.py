"""Draws many faces at once: pictures and part masks from labels and noise.

Every group is shown by several cues, so that it stays visible if one is hidden. Gender is shown by the outline of the
hair, jaw, lips, lashes and brows. Age is shown by grey hair, lines and lids, or by round cheeks, blush and large eyes.
Skin tone is shown by lightness and hue. Occupations are shown by dress, headgear and emblem (``wardrobe``). No cue is a
caricature of a group.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from audit.calibration.canvas import (
    PARTS,
    SIZE,
    Window,
    blank,
    blend,
    both,
    box,
    circle,
    either,
    ellipse,
    rgb,
    ring,
    segment,
)
from audit.calibration.labels import ATTRIBUTES, HAIR_STYLES, OCCUPATIONS, Column, Floats, Labels
from audit.calibration.wardrobe import BARE_HEADED, OUTFITS, Outfit

__all__ = ["PARTS", "SIZE", "Drawing", "render"]

HEAD_Y = 28.5
"""Middle of the head in pixels from the upper edge."""

SKIN = ("#f4d4ba", "#dca48d", "#b07f4a", "#68463a")
"""Light, medium (rosy), tan (golden), dark (cool): CIE L*a*b* (87, 7, 17), (72, 18, 20), (57, 13, 36), (33, 13, 13).

Each has a different hue, because guidance pushes a picture away from the mean tone. If all tones were on one line from
light to dark, guidance would push the middle tones past their neighbours.
"""

LIPS = ("#cf6470", "#bd525c", "#a8404a", "#b4545a")
"""Lip colour for each skin tone, bright enough to be visible on it."""

BLUSH = ("#ee9a95", "#de8279", "#d17650", "#984e44")
"""Colour of young cheeks for each skin tone."""

SHADE = ("#d9a98c", "#b57b64", "#885c30", "#49312a")
"""Colour of lines and shadows for each skin tone."""

HAIR = ("#241d1c", "#472b1d", "#94482a", "#cfa25a", "#e6e6ea")
BACKGROUND = ("#b4c4ac", "#adc6da", "#dccdae", "#c6bbd8", "#a3aab4", "#dcb8b0")


_CHUNK = 64
"""Pictures painted at once: few enough for the processor's cache, and enough to reduce the overhead of each call."""


@dataclass(frozen=True)
class Drawing:
    """Finished pictures.

    Attributes:
        images: uint8, (n, 3, 64, 64), sRGB.
        masks: bool, (n, 5, 64, 64), in the order of ``PARTS``; exactly one part is true for each pixel.
    """

    images: Tensor
    masks: Tensor


@dataclass(frozen=True)
class Looks:
    """Labels as numbers for drawing: (n, 1, 1), or (n, 3) for colours, in 0..1."""

    female: Tensor
    young: Tensor
    old: Tensor
    glasses: Tensor
    smile: Tensor
    beard: Tensor
    style: Tensor
    covered: Tensor
    width: Tensor
    height: Tensor
    eye_y: Tensor
    mouth_y: Tensor
    skin: Tensor
    shade: Tensor
    lips: Tensor
    blush: Tensor
    hair: Tensor
    brow: Tensor


def render(labels: Labels, noise: Floats) -> Drawing:
    """Draw ``labels`` (n faces) with pose and small colour changes from ``noise``, uniforms of shape (n, D).

    Raises:
        ValueError: There are no faces, or the shapes of labels and noise do not match.
    """
    if len(labels) == 0 or noise.shape != (len(labels), len(Column)):
        raise ValueError(
            f"expected at least one face and noise of shape ({len(labels)}, {len(Column)}), found noise of shape "
            f"{noise.shape}; create it with face_noise, one seed per face"
        )
    order = np.argsort(labels.occupation, kind="stable")  # an outfit is painted on consecutive pictures
    back = torch.as_tensor(np.argsort(order, kind="stable"))
    chunks = [order[start : start + _CHUNK] for start in range(0, len(order), _CHUNK)]
    drawn = [_finish(_paint(labels[rows], torch.as_tensor(noise[rows], dtype=torch.float32))) for rows in chunks]
    return Drawing(
        images=torch.cat([drawing.images for drawing in drawn])[back],
        masks=torch.cat([drawing.masks for drawing in drawn])[back],
    )


def _finish(window: Window) -> Drawing:
    images = window.colour.mul_(255).round_().to(torch.uint8)
    return Drawing(images=images, masks=torch.stack([window.part == part for part in range(len(PARTS))], dim=1))


def _paint(labels: Labels, noise: Tensor) -> Window:
    """Paint faces sorted by occupation, from the background to the front."""
    window, looks = _pose(labels, noise), _looks(labels, noise)
    window.colour.copy_(_background(labels, noise)[:, :, None, None])
    outfits = _runs(labels)
    brightness = _jitter(noise, Column.DRESS_SHADE, 0.05)
    for outfit, first, end in outfits:
        w = window.pictures(first, end).rows(42, SIZE)
        w.paint(w.torso, (rgb(outfit.colour) * brightness[first:end]).clamp(0, 1), "dress")
    _back_hair(window, looks)
    _neck(window, looks)
    for outfit, first, end in outfits:
        outfit.dress(window.pictures(first, end).rows(40, SIZE))
    _head(window, looks)
    _eyes(window.rows(18, 40).columns(16, 48), looks)
    _mouth(window.rows(28, 46).columns(16, 48), looks)
    _beard(window.rows(22, 48).columns(12, 52), looks)
    _front_hair(window.rows(6, 48).columns(8, 56), looks)
    _glasses(window.rows(20, 38).columns(12, 52), looks)
    for outfit, first, end in outfits:
        outfit.headgear(window.pictures(first, end).rows(0, 48))
    return window


def _runs(labels: Labels) -> list[tuple[Outfit, int, int]]:
    """Return each outfit with the first and the end index of its pictures."""
    present, first = np.unique(labels.occupation, return_index=True)
    ends = [*first[1:], len(labels)]
    return [(OUTFITS[OCCUPATIONS[o]], int(a), int(b)) for o, a, b in zip(present, first, ends, strict=True)]


def _figure(values: Tensor) -> Tensor:
    return values.to(torch.float32)[:, None, None]


def _is(labels: Labels, attribute: str, group: str) -> Tensor:
    """Return numbers (n, 1, 1): 1 if the group is drawn, otherwise 0."""
    return _figure(torch.as_tensor(getattr(labels, attribute) == ATTRIBUTES[attribute].index(group)))


def _uniform(noise: Tensor, column: Column, half_width: float) -> Tensor:
    """Return numbers (n, 1, 1) between minus and plus ``half_width``."""
    return ((noise[:, column] * 2 - 1) * half_width)[:, None, None]


def _jitter(noise: Tensor, column: Column, half_width: float) -> Tensor:
    """Return factors (n, 1) around 1 for a colour's brightness."""
    return 1 + _uniform(noise, column, half_width)[:, 0]


def _pose(labels: Labels, noise: Tensor) -> Window:
    """Return blank pictures with the coordinates of the head and the body."""
    across = torch.arange(SIZE, dtype=torch.float32) + 0.5
    x, y = across[None, None, :] - SIZE / 2, across[None, :, None]
    scale = 1 / (1 + _uniform(noise, Column.SCALE, 0.04))
    x = (x - _uniform(noise, Column.SHIFT_X, 1.5)) * scale
    y = (y - SIZE - _uniform(noise, Column.SHIFT_Y, 1.0)) * scale + SIZE
    tilt = _uniform(noise, Column.TILT, 0.07)
    neck_y = y - 44.0  # the head rotates around the neck
    head_x, head_y = x * tilt.cos() + neck_y * tilt.sin(), neck_y * tilt.cos() - x * tilt.sin()
    shape = (len(labels), SIZE, SIZE)
    x, y = x.expand(shape), y.expand(shape)
    female = _is(labels, "gender", "female")
    torso = box(x, y - 66, 22.5 - 3.0 * female, 18.5 - 0.5 * female, 13.0)
    return Window(*blank(len(labels)), head_x, head_y + 44.0 - HEAD_Y, x, y, torso)


def _looks(labels: Labels, noise: Tensor) -> Looks:
    female = _is(labels, "gender", "female")
    young, old = _is(labels, "age", "young"), _is(labels, "age", "old")
    bare = torch.tensor([name in BARE_HEADED for name in OCCUPATIONS])[torch.as_tensor(labels.occupation)]
    skin_shade = _jitter(noise, Column.SKIN_SHADE, 0.025)
    hair = _palette(HAIR, labels.hair_colour) * _jitter(noise, Column.HAIR_SHADE, 0.08)
    grey = old[:, 0]
    return Looks(
        female=female,
        young=young,
        old=old,
        glasses=_figure(torch.as_tensor(labels.glasses)),
        smile=_figure(torch.as_tensor(labels.smile)),
        beard=_figure(torch.as_tensor(labels.beard)),
        style=_figure(torch.as_tensor(labels.hair_style)),
        covered=_figure(~bare),
        width=11.0 + 0.9 * young - 0.2 * old + 0.3 * (1 - female) + _uniform(noise, Column.FACE_WIDTH, 0.4),
        height=13.4 - 1.2 * young + 0.5 * old,
        eye_y=0.2 + 0.7 * young + _uniform(noise, Column.EYE_HEIGHT, 0.4),
        mouth_y=7.6 - 0.4 * young + _uniform(noise, Column.MOUTH_HEIGHT, 0.4),
        skin=(_palette(SKIN, labels.skin_tone) * skin_shade).clamp(0, 1),
        shade=_palette(SHADE, labels.skin_tone) * skin_shade,
        lips=_palette(LIPS, labels.skin_tone),
        blush=_palette(BLUSH, labels.skin_tone),
        hair=hair.clamp(0, 1),
        brow=hair * (0.62 + 0.2 * grey),
    )


def _palette(colours: tuple[str, ...], index: np.ndarray) -> Tensor:
    return torch.cat([rgb(colour) for colour in colours])[torch.as_tensor(index)]


def _background(labels: Labels, noise: Tensor) -> Tensor:
    warmth = _uniform(noise, Column.BACKGROUND_WARMTH, 0.012)[:, 0]
    tint = torch.cat([warmth, torch.zeros_like(warmth), -warmth], dim=1)
    return (_palette(BACKGROUND, labels.background) * _jitter(noise, Column.BACKGROUND_SHADE, 0.04) + tint).clamp(0, 1)


def _neck(window: Window, looks: Looks) -> None:
    low = window.rows(34, 58).columns(20, 44)
    shape = either(
        box(low.body_x, low.body_y - 42, 4.9 - 1.0 * looks.female, 8.5),
        ellipse(low.body_x, low.body_y - 49.5, 5.6 - 0.8 * looks.female, 3.4),
    )
    low.paint(shape, looks.skin, "face")
    shadow = both(shape, ellipse(low.x, low.y - 3.5, looks.width, looks.height - 0.6))
    low.paint(shadow, looks.shade, opacity=0.55)


def _back_hair(window: Window, looks: Looks) -> None:
    """Paint the outline of female hair: long, chin-length or curly."""
    w = window.rows(4, 56).columns(4, 60)
    long = box(w.x, w.y - 3.5, looks.width + 3.6, 18.5, 12.5)
    bob = box(w.x, w.y + 1.5, looks.width + 4.0 + 0.08 * w.y, 15.5, 11.5)
    outline = torch.where(looks.style == HAIR_STYLES.index("plain"), long, bob)
    outline = torch.where(looks.style == HAIR_STYLES.index("curly"), _curls(w, looks, 5.2, 4), outline)
    w.paint(both(outline, _under_headgear(w, looks)), looks.hair, "hair", looks.female)


def _curls(w: Window, looks: Looks, radius: float, pairs: int) -> Tensor:
    """Return the distance to a ring of curls around the head, from the top to ``pairs`` curls down on each side."""
    shape = circle(w.x, w.y + looks.height - 3.0, radius + 2.0)
    ax = w.x.abs()
    for step in range(1, pairs + 1):
        angle = torch.tensor(step * 0.52)
        cx, cy = (looks.width + 0.6) * angle.sin(), -(looks.height - 3.0) * angle.cos()
        shape = either(shape, circle(ax - cx, w.y - cy, radius))
    return shape


def _under_headgear(w: Window, looks: Looks) -> Tensor:
    """Return the distance to the part not covered by headgear, which is everything without headgear."""
    return (-9.5 - w.y) * looks.covered - 99.0 * (1 - looks.covered)


def _head(window: Window, looks: Looks) -> None:
    w = window.rows(10, 48).columns(12, 52)
    ears = ellipse(w.x.abs() - looks.width, w.y - 1.0, 1.9, 2.7)
    w.paint(ears, blend(looks.skin, looks.shade, 0.3), "face", 1 - looks.female)
    w.paint(_face_outline(w, looks), looks.skin, "face")
    low_forehead = _face_outline(w, looks)
    for height in (-7.6, -5.6):
        line = both(low_forehead + 2.5, (w.y - height - 0.02 * w.x**2).abs() - 0.55)
        w.paint(both(line, w.x.abs() - 6.0), looks.shade, opacity=0.85 * looks.old)
    fold = segment(w.x.abs(), w.y, (2.8, 4.0), (5.6, 7.6), 0.55)
    w.paint(fold, looks.shade, opacity=0.95 * looks.old)
    w.glow(w.x.abs() - 6.6, w.y - 5.0, 4.4, looks.blush, 0.95 * looks.young)
    w.paint(ellipse(w.x, w.y - 3.6, 1.7, 1.25), looks.shade, opacity=0.75)


def _face_outline(w: Window, looks: Looks) -> Tensor:
    """Return the distance to an egg shape; its lower half is narrower, more so for a female face."""
    lower = (w.y / looks.height).clamp(0, 1) ** 2
    taper = 0.16 * looks.female - 0.06 * (1 - looks.female) - 0.06 * looks.young * looks.female
    return ellipse(w.x / (1 - taper * lower), w.y, looks.width, looks.height)


def _eyes(w: Window, looks: Looks) -> None:
    x, y = w.x.abs() - 4.7, w.y - looks.eye_y
    tall = 1.9 + 0.75 * looks.young - 0.25 * looks.old + 0.15 * looks.female
    wide = 2.5 + 0.35 * looks.young
    eye = ellipse(x, y, wide, tall)
    lid = both(ellipse(x, y + 0.2, wide + 0.9, tall + 0.9), y + 0.2)
    w.paint(ellipse(x, y - 1.2, wide + 0.4, tall + 0.6), looks.shade, opacity=0.7 * looks.old)
    w.paint(lid, "#201a1c", opacity=0.55 + 0.4 * looks.female)
    w.paint(segment(x, y, (2.2, -0.7), (3.9, -1.5), 0.6), "#201a1c", opacity=0.95 * looks.female)
    w.paint(eye, "#fbf8f4")
    w.paint(both(circle(x + 0.15, y, 1.5 + 0.45 * looks.young), eye), "#2e211d")
    w.paint(circle(w.x - 4.3, y + 0.7, 0.65), "#ffffff", opacity=0.8)
    w.paint(circle(w.x + 5.1, y + 0.7, 0.65), "#ffffff", opacity=0.8)
    thick = 1.15 - 0.5 * looks.female
    rise = 4.4 + 0.5 * looks.young - 0.5 * looks.old
    start, end = (-2.3, -rise), (2.7, -rise + 0.6 + 0.4 * looks.old)
    w.paint(segment(x, y, start, end, thick), looks.brow, opacity=0.95)


def _mouth(w: Window, looks: Looks) -> None:
    """Paint an open smile with teeth, or a closed, friendly mouth; full lips on a female face."""
    x, y = w.x, w.y - looks.mouth_y
    line = blend(looks.lips, "#3a1418", 0.45)
    open_mouth = both(ellipse(x, y + 0.8, 4.3, 3.6), -y - 0.8)
    lip_colour = looks.female[:, 0] * looks.lips + (1 - looks.female[:, 0]) * line
    w.paint(open_mouth - 0.75, lip_colour, opacity=looks.smile)
    w.paint(both(open_mouth + 0.25, y - 1.2), "#fdfaf6", opacity=looks.smile)
    closed = 1 - looks.smile
    curve = y - 0.9 + 0.09 * x * x
    full = ellipse(x, y - 0.3 + 0.05 * x * x, 3.6, 1.7)
    w.paint(full, looks.lips, opacity=closed * looks.female)
    w.paint(both(curve.abs() - 0.6, x.abs() - 3.6), line, opacity=closed * (1 - 0.5 * looks.female))


def _beard(w: Window, looks: Looks) -> None:
    outline = both(_face_outline(w, looks) - 0.9, 2.6 - w.y - 0.05 * w.x**2)
    gap = ellipse(w.x, w.y - looks.mouth_y - 0.2, 4.9, 2.6)
    cheeks = ellipse(w.x, w.y + 0.5, looks.width - 1.6, 6.2)
    w.paint(both(both(outline, -gap), -cheeks), looks.hair, "hair", looks.beard)


def _front_hair(w: Window, looks: Looks) -> None:
    cap = ellipse(w.x, w.y + 1.4, looks.width + 1.7, looks.height + 1.6)
    free = _under_headgear(w, looks)
    female = both(both(cap, w.y - 5.0), -_female_opening(w, looks))
    w.paint(both(female, free), looks.hair, "hair", looks.female)
    w.paint(both(_male_hair(w, looks, cap), free), looks.hair, "hair", 1 - looks.female)


def _female_opening(w: Window, looks: Looks) -> Tensor:
    """Return the distance to the hairless part of a female face: a parting, a straight fringe or a round hairline."""
    parted = ellipse(w.x.abs() + 2.5, w.y - 3.0, looks.width + 1.4, looks.height - 0.6)
    round_line = ellipse(w.x, w.y - 3.0, looks.width - 1.1, looks.height - 1.6)
    fringe = both(ellipse(w.x, w.y - 3.0, looks.width - 0.9, looks.height + 2.0), -6.0 - w.y)
    opening = torch.where(looks.style == HAIR_STYLES.index("fringe"), fringe, round_line)
    return torch.where(looks.style == HAIR_STYLES.index("plain"), parted, opening)


def _male_hair(w: Window, looks: Looks, cap: Tensor) -> Tensor:
    """Return the distance to short hair: cropped, swept to one side or curly; an old man's hairline is higher."""
    hairline = w.y + 0.58 * looks.height - 0.012 * w.x**2 + 0.8 * looks.old
    swept = hairline + 0.16 * w.x
    line = torch.where(looks.style == HAIR_STYLES.index("fringe"), swept, hairline)
    top = torch.where(looks.style == HAIR_STYLES.index("curly"), either(cap, _curls(w, looks, 3.4, 2)), cap)
    sides = both(both(cap, looks.width - 1.7 - w.x.abs()), w.y + 0.2)
    return either(both(top, line), sides)


def _glasses(w: Window, looks: Looks) -> None:
    x, y = w.x.abs() - 4.8, w.y - looks.eye_y
    lens = box(x, y, 4.0, 3.7, 3.2)
    w.paint(lens, "#ffffff", opacity=0.14 * looks.glasses)
    frame = either(ring(lens, 0.7), both(both(y.abs() - 0.7, w.x.abs() - 1.0), -lens))
    temples = both(both((y + 0.6).abs() - 0.6, 8.6 - w.x.abs()), w.x.abs() - looks.width)
    w.paint(either(frame, temples), "#26242c", opacity=looks.glasses)
