"""The location map of a model: which places carry an attribute, and the cheapest of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from audit.records.estimates import Estimate
from audit.records.located.places import ALL_STEPS, Place

LOCATION_FORMAT = 1
"""Version of a stored map."""

Stage = Literal["screened", "counted"]


@dataclass(frozen=True)
class PlaceShare:
    """How often images follow one place, for one pair of groups.

    Attributes:
        attribute: The attribute.
        groups: The two groups that were exchanged.
        place: The place in its written form, with its window of steps.
        stage: ``screened`` with few images, or ``counted`` with all.
        share: Share of the counted images that show the group of the other prompt; None if no image was counted.
        directions: The same from the first group to the second, and back.
        counted: Images whose two unpatched runs show the groups that their prompts name.
        sampled: All images of the place, over both directions.
        other_prompt: Share of images whose group changes although the values come from another occupation that names
            the same group: what changes by itself. None if it was not sampled.
        bytes_per_image: Bytes that are kept of one image to patch this place.
        calls_per_image: Denoiser calls of an image that takes this place from another run, with those of that run.
    """

    attribute: str
    groups: tuple[str, str]
    place: str
    stage: Stage
    share: Estimate | None
    directions: tuple[Estimate | None, Estimate | None]
    counted: int
    sampled: int
    other_prompt: Estimate | None
    bytes_per_image: int
    calls_per_image: int

    @property
    def at(self) -> Place:
        """The place."""
        return Place.parse(self.place)

    @property
    def is_at_all_steps(self) -> bool:
        """Whether the place has no window."""
        return self.at.window == ALL_STEPS


@dataclass(frozen=True)
class Decision:
    """Where an attribute is decided.

    Attributes:
        attribute: The attribute.
        carriers: Places at all steps that carry it, the cheapest first; empty if no single place does.
        window: A third of the steps in which the cheapest place carries it alone, None if none does.
    """

    attribute: str
    carriers: tuple[str, ...]
    window: tuple[float, float] | None

    @property
    def place(self) -> str | None:
        """The cheapest place that carries the attribute."""
        return self.carriers[0] if self.carriers else None


@dataclass(frozen=True)
class LocationMap:
    """The location map of a model.

    Attributes:
        model_fingerprint: Of the model.
        places: Shares by attribute, pair and place.
        decisions: One for each attribute.
        carries: Least share of a place that carries an attribute.
        prompts: Prompts of the counted places, and of the screened ones.
        images: Seeds per prompt of the counted places, and of the screened ones.
        pairs: Exchanged groups of each attribute: ``ends`` for the first and the last, ``all`` for every pair.
        same_run: Images that changed in any pixel with values of their own run, and all images of this control.
        steps: Denoising steps.
    """

    model_fingerprint: str
    places: tuple[PlaceShare, ...]
    decisions: tuple[Decision, ...]
    carries: float
    prompts: tuple[int, int]
    images: tuple[int, int]
    pairs: Literal["ends", "all"]
    same_run: tuple[int, int]
    steps: int

    def decision(self, attribute: str) -> Decision | None:
        """Return where an attribute is decided, None if the map does not have it."""
        return next((one for one in self.decisions if one.attribute == attribute), None)

    def share_at(self, attribute: str, place: Place) -> PlaceShare | None:
        """Return the lowest share of an attribute at a place over its pairs of groups, None if it was not counted."""
        found = [one for one in self.places if one.attribute == attribute and one.at == place and one.share is not None]
        return min(found, key=lambda one: 0.0 if one.share is None else one.share.value, default=None)

    def as_data(self) -> dict[str, Any]:
        """Return the map as plain data."""
        return {"format_version": LOCATION_FORMAT, **asdict(self)}

    @classmethod
    def of_data(cls, data: Mapping[str, Any]) -> LocationMap:
        """Read plain data back.

        Raises:
            ValueError: It is of another version.
            KeyError: A part is missing.
        """
        if data.get("format_version") != LOCATION_FORMAT:
            raise ValueError(
                f"expected a location map of format {LOCATION_FORMAT}, found {data.get('format_version')!r}; run "
                "difflens-audit locate again"
            )
        fields = {name: value for name, value in data.items() if name != "format_version"}
        pairs = {name: tuple(data[name]) for name in ("prompts", "images", "same_run")}
        places = tuple(_place_share(row) for row in data["places"])
        decisions = tuple(
            Decision(row["attribute"], tuple(row["carriers"]), row["window"] and tuple(row["window"]))
            for row in data["decisions"]
        )
        return cls(**fields | pairs | {"places": places, "decisions": decisions})


def _place_share(row: Mapping[str, Any]) -> PlaceShare:
    first, second = map(_estimate, row["directions"])
    return PlaceShare(
        **{
            **row,
            "groups": tuple(row["groups"]),
            "share": _estimate(row["share"]),
            "directions": (first, second),
            "other_prompt": _estimate(row["other_prompt"]),
        }
    )


def _estimate(row: Mapping[str, Any] | None) -> Estimate | None:
    return None if row is None else Estimate(**row)
