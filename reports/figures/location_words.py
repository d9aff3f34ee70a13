"""Words about a location map: shares of a place, decisions, and what the figures are of."""

from __future__ import annotations

from collections.abc import Iterator

from audit.planning.plan import window_of
from audit.records.estimates import Estimate, percent
from audit.records.located.location import Decision, LocationMap, PlaceShare
from audit.records.located.places import Place

SCREENED = "*"
"""Mark of a share that was only screened."""

HALF = 0.5
"""Share of images that follow from which a place controls an attribute in part."""

_UNITS = ("B", "kB", "MB", "GB")


def share_text(row: PlaceShare) -> str:
    """Return a share with its interval; a mark shows that it was only screened."""
    return f"{estimate_text(row.share)}{SCREENED if row.stage == 'screened' else ''}"


def estimate_text(share: Estimate | None) -> str:
    """Return a share with its interval, or that there is none."""
    if share is None:
        return "none counted"
    return f"{percent(share.value)} ({percent(share.low)} to {percent(share.high)})"


def bytes_text(count: float) -> str:
    """Return a number of bytes in a readable unit: ``1.6 MB``."""
    unit = 0
    while count >= 1000 and unit < len(_UNITS) - 1:
        count, unit = count / 1000, unit + 1
    return f"{count:.3g} {_UNITS[unit]}"


def window_text(found: LocationMap, place: str) -> str:
    """Return a place; the steps of its window are named as numbers from 1."""
    at = Place.parse(place)
    steps = window_of(at.window, found.steps)
    whole = len(steps) == found.steps
    return place if whole else f"{at.at_all_steps}, steps {steps.start + 1} to {steps.stop}"


def decision_text(found: LocationMap, decision: Decision) -> str:
    """Return where an attribute is decided, as a sentence."""
    name = decision.attribute.replace("_", " ")
    if decision.place is None:
        return f"{name}: not decided at one place (no share of {percent(found.carries)} or more)."
    others = f" Also carried by {', '.join(decision.carriers[1:])}." if len(decision.carriers) > 1 else ""
    when = ""
    if decision.window is not None:
        steps = window_of(decision.window, found.steps)
        when = f" Steps {steps.start + 1} to {steps.stop} of {found.steps} suffice there."
    return f"{name}: the cheapest place that carries it is {decision.place}.{when}{others}"


def not_controllable(found: LocationMap, attribute: str, hookpoint: str) -> str | None:
    """Return a sentence if a map shows that an attribute is not decided at a hookpoint.

    Args:
        found: The map.
        attribute: The attribute.
        hookpoint: A place, in its written form.

    Returns:
        None if the interval of its share there reaches the least share of a place that carries, or the map has none.
    """
    row = found.share_at(attribute, Place.parse(hookpoint))
    decision = found.decision(attribute)
    if row is None or row.share is None or decision is None or row.share.high >= found.carries:
        return None
    degree = "only partly" if row.share.value >= HALF else "not"
    elsewhere = f"it is decided at {decision.place}" if decision.place else "it is not decided at one place"
    name = attribute.replace("_", " ")
    return f"{name} is {degree} controllable at {hookpoint} (share {percent(row.share.value)}); {elsewhere}."


def population_text(found: LocationMap) -> Iterator[str]:
    """Yield what the figures are of: prompts, images, groups and controls."""
    yield (
        f"Counted places: {_images(found.prompts[0], found.images[0])}, both directions. "
        f"{SCREENED} only screened: {_images(found.prompts[1], found.images[1])}; even the upper end of the "
        f"interval is below {percent(found.carries)}."
    )
    exchanged: dict[str, list[tuple[str, str]]] = {}
    for row in found.places:
        pairs = exchanged.setdefault(row.attribute, [])
        if row.groups not in pairs:
            pairs.append(row.groups)
    for attribute, pairs in exchanged.items():
        own = [row for row in found.places if row.attribute == attribute and row.stage == "counted"]
        counted, sampled = sum(row.counted for row in own), sum(row.sampled for row in own)
        words = "; ".join(f"{first} and {last}" for first, last in pairs)
        yield (
            f"{attribute.replace('_', ' ')}: {words}; {counted} of {sampled} images counted, those whose unpatched "
            "runs show the groups that their prompts name."
        )
    changed, images = found.same_run
    verdict = "as it must be" if changed == 0 else "it must be 0, so other figures cannot be trusted"
    yield f"Control, values of the same run: {changed} of {images} images changed ({verdict})."
    yield from _other_prompt(found)


def _images(prompts: int, seeds: int) -> str:
    return f"{prompts} prompt{'s' * (prompts != 1)}, {seeds} seed{'s' * (seeds != 1)}"


def _other_prompt(found: LocationMap) -> Iterator[str]:
    """Yield how often the attribute changes by itself at the place where it is decided."""
    for decision in found.decisions:
        rows = [row for row in found.places if (row.attribute, row.place) == (decision.attribute, decision.place)]
        shares = [row.other_prompt for row in rows if row.other_prompt is not None]
        if shares:
            worst = max(shares, key=lambda share: share.value)
            yield (
                f"Control, another occupation of the same group at {decision.place}: "
                f"{decision.attribute.replace('_', ' ')} changes in {percent(worst.value)} of images "
                f"({percent(worst.low)} to {percent(worst.high)})."
            )
