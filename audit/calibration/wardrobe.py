"""The outfits that identify occupations: colour of the dress, details on it, an emblem on the chest, and headgear.

Outfits do not depend on a group, and headgear does not cover the hair at the sides.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from audit.calibration.canvas import Colour, Window, both, box, circle, either, ellipse, ring, segment

# Coordinates: the body's y runs from 47 (shoulders) to 64 (lower edge); the head's y from −13 (top) to 13 (chin), with
# the brim of a hat at −8.5.
Painter = Callable[[Window], None]
EMBLEM = (9.0, 57.5)
"""Middle of the emblem on the chest."""


@dataclass(frozen=True)
class Outfit:
    """An occupation's clothes.

    Attributes:
        colour: Main colour of the dress.
        dress: Paints the details of the dress, over the neck and below the chin.
        headgear: Paints the headgear.
    """

    colour: str
    dress: Painter
    headgear: Painter


def _nothing(w: Window) -> None:
    """Paint no headgear."""


def _wear(w: Window, distance: Tensor, colour: Colour) -> None:
    w.paint(distance, colour, "headgear")


def _sew(w: Window, distance: Tensor, colour: Colour, opacity: float = 1.0) -> None:
    w.paint(both(distance, w.torso), colour, "dress", opacity)


def _emblem(w: Window) -> tuple[Tensor, Tensor]:
    return w.body_x - EMBLEM[0], w.body_y - EMBLEM[1]


def _neckline(w: Window, depth: float, slope: float = 0.55) -> Tensor:
    """Return the distance to a V from the neck's sides down to ``depth``."""
    v = (w.body_x.abs() - (depth - w.body_y) * slope) / (1 + slope * slope) ** 0.5
    return both(v, 49.8 + 0.06 * w.body_x**2 - w.body_y)


def _suit(w: Window, shirt: str, lapel: str, depth: float = 63.0) -> None:
    """Paint an open jacket over a shirt, with lapels and a collar."""
    _sew(w, _neckline(w, depth) - 1.6, lapel)
    _sew(w, _neckline(w, depth), shirt)
    _sew(w, segment(w.body_x.abs(), w.body_y, (1.6, 53.0), (5.0, 49.4), 1.1), shirt)


def _tie(w: Window, colour: str) -> None:
    _sew(w, box(w.body_x, w.body_y - 52.6, 1.6, 1.4, 0.8), colour)
    _sew(w, segment(w.body_x, w.body_y, (0.0, 54.0), (0.0, 60.0), 1.3), colour)


def _cross(x: Tensor, y: Tensor, arm: float) -> Tensor:
    return either(box(x, y, arm, arm / 2.6), box(x, y, arm / 2.6, arm))


def _bib(w: Window, colour: str) -> None:
    """Paint an apron or overalls: a bib and two straps."""
    _sew(w, box(w.body_x, w.body_y - 65, 10.5, 11.0, 2.0), colour)
    _sew(w, segment(w.body_x.abs(), w.body_y, (9.0, 48.0), (8.6, 56.0), 1.5), colour)


def _dome(w: Window, colour: str, width: float = 14.2, height: float = 11.0) -> None:
    """Paint the crown of a hat or helmet."""
    _wear(w, both(ellipse(w.x, w.y + 8.5, width, height), w.y + 8.2), colour)


def _brim(w: Window, colour: str, width: float, thickness: float) -> None:
    _wear(w, ellipse(w.x, w.y + 8.6, width, thickness), colour)


def _band(w: Window, colour: str, y: float = -10.6, width: float = 13.9, thickness: float = 1.3) -> None:
    _wear(w, box(w.x, w.y - y, width, thickness, 0.8), colour)


def _doctor_dress(w: Window) -> None:
    _suit(w, "#8dbbe8", "#cfd9e2")
    tube = either(
        segment(w.body_x.abs(), w.body_y, (5.6, 49.2), (6.8, 55.0), 0.85),
        segment(w.body_x, w.body_y, (6.8, 55.0), (7.8, 59.0), 0.85),
    )
    _sew(w, tube, "#33404f")
    _sew(w, circle(w.body_x - 8.0, w.body_y - 60.2, 2.7), "#33404f")
    _sew(w, circle(w.body_x - 8.0, w.body_y - 60.2, 1.4), "#c3ced8")
    _sew(w, circle(w.body_x + 6.9, w.body_y - 56.4, 1.5), "#33404f")


def _nurse_dress(w: Window) -> None:
    _sew(w, ring(_neckline(w, 58.0, 0.7), 0.9), "#3d9a98")
    x, y = _emblem(w)
    _sew(w, box(x, y, 3.6, 3.6, 1.0), "#ffffff")
    _sew(w, _cross(x, y, 2.6), "#d8342f")


def _nurse_cap(w: Window) -> None:
    _wear(w, box(w.x, w.y + 13.6, 8.0 - 0.15 * w.y - 2.0, 3.7, 1.2), "#ffffff")
    _wear(w, _cross(w.x, w.y + 13.6, 2.5), "#d8342f")


def _firefighter_dress(w: Window) -> None:
    _sew(w, box(w.body_x, w.body_y - 59.5, 30.0, 1.7), "#f6d743")
    _sew(w, box(w.body_x, w.body_y - 60, 1.2, 8.5), "#5d1c14")
    _sew(w, segment(w.body_x.abs(), w.body_y, (1.5, 52.6), (5.8, 49.2), 1.4), "#7f2418")


def _firefighter_helmet(w: Window) -> None:
    _dome(w, "#b6261b", 14.2, 12.0)
    _wear(w, box(w.x, w.y + 15, 1.2, 5.0, 1.0), "#8c1a13")
    _brim(w, "#8c1a13", 17.0, 2.2)
    _wear(w, box(w.x, w.y + 12.4, 3.0, 3.0, 1.6), "#f6d743")


def _receptionist_dress(w: Window) -> None:
    _suit(w, "#ffffff", "#a63c72")
    x, y = _emblem(w)
    _sew(w, box(x, y, 4.2, 2.4, 0.8), "#ffffff")
    _sew(w, box(x, y + 0.2, 2.8, 0.8), "#6b7687")


def _headset(w: Window) -> None:
    band = both(ring(ellipse(w.x, w.y + 0.6, 13.6, 15.6), 1.0), w.y - 1.0)
    boom = segment(w.x, w.y, (12.8, 3.0), (7.6, 9.6), 0.8)
    _wear(w, either(band, boom), "#3a3f4c")
    _wear(w, box(w.x.abs() - 13.0, w.y - 1.0, 2.4, 3.6, 2.0), "#e4e8f2")
    _wear(w, box(w.x.abs() - 13.0, w.y - 1.0, 1.2, 2.4, 1.0), "#3a3f4c")
    _wear(w, circle(w.x - 7.4, w.y - 9.8, 1.4), "#e4e8f2")


def _chef_dress(w: Window) -> None:
    _sew(w, box(w.body_x - 1.2, w.body_y - 60, 0.5, 7.0), "#d3cec4")
    for y in (57.0, 61.6):
        _sew(w, circle(w.body_x.abs() - 5.0, w.body_y - y, 1.2), "#55504b")
    _sew(w, segment(w.body_x.abs(), w.body_y, (0.0, 52.2), (5.6, 49.6), 1.8), "#d6392f")
    _sew(w, segment(w.body_x.abs(), w.body_y, (0.4, 53.0), (2.2, 56.0), 1.2), "#d6392f")


def _toque(w: Window) -> None:
    puff = either(circle(w.x, w.y + 18.6, 6.6), circle(w.x.abs() - 7.4, w.y + 16.8, 5.6))
    _wear(w, either(puff, box(w.x, w.y + 13.0, 10.4, 4.0)), "#fdfcf8")
    _wear(w, box(w.x, w.y + 10.2, 11.6, 2.2, 0.8), "#e2ddd2")


def _teacher_dress(w: Window) -> None:
    _suit(w, "#fdfbf5", "#a97a22")
    _tie(w, "#2f6b4f")
    x, y = _emblem(w)
    _sew(w, either(circle(x.abs() - 1.2, y - 0.6, 2.2), circle(x, y - 1.2, 2.0)), "#d5322e")
    _sew(w, segment(x, y, (0.2, -2.0), (1.4, -3.6), 0.8), "#3f7d3a")


def _builder_dress(w: Window) -> None:
    _sew(w, box(w.body_x.abs() - 10.0, w.body_y - 56, 1.9, 12.0), "#e9f25b")
    _sew(w, box(w.body_x, w.body_y - 61.0, 30.0, 1.7), "#e9f25b")
    _sew(w, _neckline(w, 57.0, 0.7), "#f7f7f2")


def _builder_helmet(w: Window) -> None:
    _dome(w, "#f8cb1e", 14.0, 11.4)
    _wear(w, box(w.x, w.y + 14.5, 1.6, 5.0, 1.2), "#fbe27a")
    _wear(w, box(w.x, w.y + 8.6, 15.4, 1.3, 1.2), "#d9a70f")


def _farmer_dress(w: Window) -> None:
    for x in (13.0, 17.0):
        _sew(w, (w.body_x.abs() - x).abs() - 0.6, "#b6564a", 0.55)
    _bib(w, "#3f669f")
    _sew(w, circle(w.body_x.abs() - 8.6, w.body_y - 56.2, 1.5), "#f0c64c")
    _sew(w, box(w.body_x, w.body_y - 61.5, 4.6, 2.8, 0.8), "#2e4f80")


def _straw_hat(w: Window) -> None:
    _dome(w, "#e3bf6a", 11.6, 10.4)
    _band(w, "#8a5a2c", -10.8, 11.6, 1.6)
    _brim(w, "#e9c979", 21.0, 2.7)


def _judge_dress(w: Window) -> None:
    _sew(w, segment(w.body_x.abs(), w.body_y, (8.2, 48.6), (7.4, 66.0), 2.3), "#a3202d")
    _sew(w, segment(w.body_x.abs(), w.body_y, (0.6, 52.4), (5.0, 49.6), 1.5), "#ffffff")
    _sew(w, segment(w.body_x.abs(), w.body_y, (1.3, 53.5), (2.2, 60.0), 1.6), "#ffffff")


def _pilot_dress(w: Window) -> None:
    _suit(w, "#ffffff", "#162545")
    _tie(w, "#15171f")
    x, y = _emblem(w)
    _sew(w, both(ellipse(x, y + 0.6, 5.2, 2.0), -y - 1.6), "#f0c64c")
    _sew(w, circle(x, y, 1.6), "#fbe6a0")


def _peaked_cap(w: Window) -> None:
    _wear(w, ellipse(w.x, w.y + 14.4, 15.6, 5.0), "#24365f")
    _wear(w, box(w.x, w.y + 11.0, 12.2, 3.2, 1.0), "#24365f")
    _wear(w, box(w.x, w.y + 9.6, 12.4, 1.1, 0.8), "#f0c64c")
    _wear(w, both(ellipse(w.x, w.y + 9.0, 11.4, 2.8), -8.8 - w.y), "#15171f")
    _wear(w, circle(w.x, w.y + 13.4, 2.2), "#f0c64c")


def _mechanic_dress(w: Window) -> None:
    _sew(w, box(w.body_x, w.body_y - 60, 0.8, 10.0), "#525d69")
    _sew(w, segment(w.body_x.abs(), w.body_y, (1.4, 53.0), (5.6, 49.4), 1.5), "#525d69")
    x, y = _emblem(w)
    jaw = both(circle(x - 2.0, y + 2.0, 2.3), -segment(x, y, (2.4, -2.4), (5.0, -5.0), 0.9))
    _sew(w, either(segment(x, y, (-2.8, 3.4), (1.6, -1.6), 1.1), jaw), "#f4f6f8")


def _visor_cap(w: Window, colour: str, visor: str) -> None:
    _dome(w, colour, 13.4, 9.8)
    _wear(w, both(ellipse(w.x, w.y + 8.6, 12.0, 2.4), -9.2 - w.y), visor)


def _mechanic_cap(w: Window) -> None:
    _visor_cap(w, "#c4473a", "#8e2c23")
    _wear(w, circle(w.x, w.y + 13.4, 2.2), "#f4f6f8")


def _librarian_dress(w: Window) -> None:
    _suit(w, "#f2e6c9", "#561f2b")
    x, y = _emblem(w)
    page = box(x.abs() - 2.3, y - 0.25 * x.abs() + 0.6, 2.3, 2.7, 0.4)
    _sew(w, page, "#fffaf0")
    _sew(w, box(x, y, 0.5, 2.6), "#8a6a4a")


def _gardener_dress(w: Window) -> None:
    _bib(w, "#3c8a4c")
    x, y = w.body_x, w.body_y - 60.0
    for dx, dy in ((0.0, -2.3), (0.0, 2.3), (2.3, 0.0), (-2.3, 0.0)):
        _sew(w, circle(x - dx, y - dy, 1.6), "#ffffff")
    _sew(w, circle(x, y, 1.4), "#f4c430")


def _gardener_hat(w: Window) -> None:
    _dome(w, "#57a05f", 12.6, 9.6)
    _band(w, "#f1e3a8", -10.7, 12.6, 1.4)
    _wear(w, both(ellipse(w.x, w.y + 7.2, 17.0, 3.6), w.y + 7.6), "#3c8a4c")


def _painter_dress(w: Window) -> None:
    _sew(w, ring(_neckline(w, 56.0, 0.8), 1.0), "#ffffff")
    spots = {
        "#e0443a": (-10.0, 56.0, 2.5),
        "#f5c932": (9.5, 55.0, 2.6),
        "#57a845": (-4.6, 61.5, 2.3),
        "#8b4bb0": (5.0, 61.0, 2.4),
        "#f08a2c": (13.8, 60.8, 2.0),
    }
    for colour, (x, y, radius) in spots.items():
        _sew(w, circle(w.body_x - x, w.body_y - y, radius), colour)


def _beret(w: Window) -> None:
    x, y = w.x + 0.22 * w.y, w.y - 0.16 * w.x
    _wear(w, ellipse(x, y + 12.6, 15.6, 5.4), "#8a3f8f")
    _wear(w, segment(x, y, (1.0, -17.5), (1.8, -20.0), 1.0), "#6c2d72")


def _scientist_dress(w: Window) -> None:
    _suit(w, "#2f7468", "#a597d2")
    x, y = _emblem(w)
    flask = either(box(x, y + 2.4, 1.3, 2.4), (both(x.abs() - 0.9 - 0.75 * (y + 1.0), y - 3.2)) * 0.8)
    _sew(w, flask - 0.4, "#ffffff")
    _sew(w, both(flask + 0.4, 0.6 - y), "#35b26b")


def _goggles(w: Window) -> None:
    _wear(w, box(w.x, w.y + 10.0, 12.8, 1.4, 0.8), "#3b4252")
    lens = box(w.x.abs() - 4.9, w.y + 10.0, 4.6, 3.3, 2.6)
    _wear(w, lens, "#3b4252")
    _wear(w, lens + 1.3, "#8fe0ea")


def _cashier_dress(w: Window) -> None:
    _sew(w, segment(w.body_x.abs(), w.body_y, (1.6, 53.4), (5.8, 49.2), 1.6), "#f6d743")
    x, y = _emblem(w)
    _sew(w, box(x, y, 4.6, 3.0, 0.8), "#f6d743")
    for bar in (-2.6, 0.0, 2.6):
        _sew(w, box(x - bar, y, 0.65, 1.9), "#33263f")


def _open_visor(w: Window) -> None:
    _wear(w, box(w.x, w.y + 10.0, 12.9, 1.9, 1.2), "#5c2f8f")
    _wear(w, both(ellipse(w.x, w.y + 9.6, 13.2, 3.4), -9.2 - w.y), "#f6d743")


def _sailor_dress(w: Window) -> None:
    for y in (57.2, 61.6):
        _sew(w, box(w.body_x, w.body_y - y, 30.0, 1.1), "#2c4d8e")
    _sew(w, both(_neckline(w, 60.0, 1.1) - 1.0, -_neckline(w, 55.0, 0.8)), "#2c4d8e")
    _sew(w, segment(w.body_x.abs(), w.body_y, (0.4, 57.6), (1.8, 61.6), 1.3), "#d6392f")
    _sew(w, circle(w.body_x, w.body_y - 57.4, 1.6), "#d6392f")


def _sailor_hat(w: Window) -> None:
    _wear(w, ellipse(w.x, w.y + 14.0, 10.6, 5.2), "#eef2f8")
    _wear(w, box(w.x, w.y + 11.4, 12.2, 2.9, 1.4), "#ffffff")
    _wear(w, box(w.x, w.y + 9.4, 12.0, 0.9), "#2c4d8e")


def _soldier_dress(w: Window) -> None:
    for x, y, rx, ry in ((-12.0, 54.0, 5.0, 2.4), (3.0, 61.5, 5.2, 2.2)):
        _sew(w, ellipse(w.body_x - x, w.body_y - y, rx, ry), "#454d29")
    for x, y, rx, ry in ((11.0, 53.0, 4.6, 2.0), (-7.0, 60.5, 4.4, 2.0)):
        _sew(w, ellipse(w.body_x - x, w.body_y - y, rx, ry), "#8d9560")
    _sew(w, segment(w.body_x.abs(), w.body_y, (1.4, 53.2), (5.6, 49.4), 1.5), "#454d29")
    _sew(w, circle(w.body_x - 11.0, w.body_y - 59.0, 1.9), "#f0c64c")


def _soldier_helmet(w: Window) -> None:
    _dome(w, "#66703f", 14.4, 11.4)
    _wear(w, ellipse(w.x + 6.0, w.y + 14.0, 3.6, 2.0), "#454d29")
    _wear(w, ellipse(w.x - 4.6, w.y + 15.4, 3.8, 1.9), "#8d9560")
    _wear(w, box(w.x, w.y + 9.0, 14.6, 1.4, 1.2), "#454d29")


def _courier_dress(w: Window) -> None:
    _sew(w, segment(w.body_x, w.body_y, (10.0, 47.0), (-13.0, 66.0), 1.9), "#3b2a1d")
    _sew(w, segment(w.body_x.abs(), w.body_y, (1.6, 53.2), (5.6, 49.4), 1.5), "#f5b942")
    x, y = w.body_x - 9.6, w.body_y - 59.0
    _sew(w, box(x, y, 4.0, 3.4, 0.6), "#e7c48d")
    _sew(w, box(x, y, 0.9, 3.4), "#b4783b")


def _courier_cap(w: Window) -> None:
    _visor_cap(w, "#8a5a2e", "#5f3b1b")
    _wear(w, box(w.x, w.y + 13.6, 4.6, 2.4, 1.6), "#f5b942")


def _athlete_dress(w: Window) -> None:
    _sew(w, box(w.body_x.abs() - 15.5, w.body_y - 58, 1.6, 14.0), "#ffffff")
    _sew(w, segment(w.body_x.abs(), w.body_y, (0.4, 58.0), (5.2, 49.6), 1.3), "#d6392f")
    _sew(w, circle(w.body_x, w.body_y - 59.6, 3.2), "#c98f1c")
    _sew(w, circle(w.body_x, w.body_y - 59.6, 2.2), "#f8d75a")


def _headband(w: Window) -> None:
    _wear(w, box(w.x, w.y + 8.8, 12.6, 2.0, 1.0), "#ffffff")
    _wear(w, box(w.x, w.y + 8.8, 12.6, 0.7), "#d6392f")


OUTFITS: dict[str, Outfit] = {
    "doctor": Outfit("#f3f6f8", _doctor_dress, _nothing),
    "nurse": Outfit("#74c6c1", _nurse_dress, _nurse_cap),
    "firefighter": Outfit("#c0391f", _firefighter_dress, _firefighter_helmet),
    "receptionist": Outfit("#cf5c93", _receptionist_dress, _headset),
    "chef": Outfit("#f8f5ee", _chef_dress, _toque),
    "teacher": Outfit("#d39d35", _teacher_dress, _nothing),
    "builder": Outfit("#f07f1e", _builder_dress, _builder_helmet),
    "farmer": Outfit("#ead9bd", _farmer_dress, _straw_hat),
    "judge": Outfit("#26232b", _judge_dress, _nothing),
    "pilot": Outfit("#24365f", _pilot_dress, _peaked_cap),
    "mechanic": Outfit("#7d8894", _mechanic_dress, _mechanic_cap),
    "librarian": Outfit("#7c2f40", _librarian_dress, _nothing),
    "gardener": Outfit("#cfe0a6", _gardener_dress, _gardener_hat),
    "painter": Outfit("#7cc2ee", _painter_dress, _beret),
    "scientist": Outfit("#cdc2ea", _scientist_dress, _goggles),
    "cashier": Outfit("#7641b0", _cashier_dress, _open_visor),
    "sailor": Outfit("#f5f7fb", _sailor_dress, _sailor_hat),
    "soldier": Outfit("#66703f", _soldier_dress, _soldier_helmet),
    "courier": Outfit("#8a5a2e", _courier_dress, _courier_cap),
    "athlete": Outfit("#a3cf3b", _athlete_dress, _headband),
}
"""Occupation → outfit."""

BARE_HEADED: frozenset[str] = frozenset(
    {"doctor", "nurse", "receptionist", "teacher", "judge", "librarian", "scientist", "cashier", "athlete"}
)
"""Occupations with visible hair on top of the head; the headgear of the others flattens it."""
