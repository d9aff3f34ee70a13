"""Makes a location map in three stages: screen all places, count those that may carry an attribute, then windows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

from audit.analyses.location import Control, Counts, LocationRequest, Question
from audit.config.slices import Attributes
from audit.measure.inference.intervals import share_estimate
from audit.records.estimates import Estimate
from audit.records.located.location import Decision, LocationMap, PlaceShare, Stage
from audit.records.located.places import THIRDS, Place
from audit.records.work import Prompt

Pairs = Literal["ends", "all"]


@dataclass(frozen=True)
class MapRequest:
    """What a location map is made for.

    Attributes:
        attributes: Attributes with their groups.
        prompts: Prompts of the counted places.
        template: Template of the prompts.
        places: Places that are screened.
        always: Places that are counted whatever the screening shows, for example that of the lens.
        images: Seeds of each prompt.
        batch: Most images in a batch.
        screened_prompts: Prompts of the screening, with one seed each.
        carries: Least share of a place that carries an attribute.
        pairs: Which groups are exchanged: the first and the last of each attribute, or every pair.
        windows: Windows of steps of the places that carry an attribute.
        windowed: Most places of an attribute that are counted by window, the cheapest first.
    """

    attributes: Attributes
    prompts: tuple[Prompt, ...]
    template: str
    places: tuple[Place, ...]
    always: tuple[Place, ...]
    images: int
    batch: int
    screened_prompts: int = 4
    carries: float = 0.9
    pairs: Pairs = "ends"
    windows: tuple[tuple[float, float], ...] = THIRDS
    windowed: int = 3

    @property
    def screening(self) -> LocationRequest:
        """The first stage: all places, few prompts, one seed; values of the same run must change nothing."""
        return self._stage(self._questions(self.places), self.prompts[: self.screened_prompts], 1, "same_run")

    def counting(self, screened: Sequence[Counts]) -> LocationRequest:
        """Return the second stage: the places that may carry an attribute, with the control by another occupation."""
        possible = tuple(one.question for one in screened if one.question.place in self.always or self._may_carry(one))
        return self._stage(possible, self.prompts, self.images, "other_prompt")

    def windowing(self, counted: Sequence[Counts]) -> LocationRequest:
        """Return the third stage: the cheapest places that carry an attribute, by window of steps."""
        carrying = self._carrying(counted)
        carriers = {
            (attribute, one.place)
            for attribute in self.attributes
            for one in [one for one in carrying if one.attribute == attribute][: self.windowed]
        }
        questions = tuple(
            Question(one.attribute, one.groups, one.exchanged, Place(one.place.module, one.place.kind, window))
            for one in (count.question for count in counted)
            if (one.attribute, one.place) in carriers
            for window in self.windows
        )
        return self._stage(questions, self.prompts, self.images, "none")

    def assemble(
        self, screened: Sequence[Counts], counted: Sequence[Counts], windows: Sequence[Counts], model: str, steps: int
    ) -> LocationMap:
        """Join the counts of the three stages.

        Args:
            screened: Of the first stage.
            counted: Of the second stage; they replace those of the first.
            windows: Of the third stage.
            model: Fingerprint of the model.
            steps: Denoising steps.
        """
        final = {one.question: one for one in counted}
        rows = [
            _share(final.get(one.question, one), "counted" if one.question in final else "screened", steps)
            for one in screened
        ]
        in_windows = [_share(one, "counted", steps) for one in windows]
        return LocationMap(
            model_fingerprint=model,
            places=(*rows, *in_windows),
            decisions=tuple(self._decision(attribute, counted, in_windows) for attribute in self.attributes),
            carries=self.carries,
            prompts=(len(self.prompts), len(self.screening.prompts)),
            images=(self.images, 1),
            pairs=self.pairs,
            same_run=(sum(sum(one.changed) for one in screened), sum(sum(one.controlled) for one in screened)),
            steps=steps,
        )

    def _stage(
        self, questions: tuple[Question, ...], prompts: tuple[Prompt, ...], images: int, control: Control
    ) -> LocationRequest:
        return LocationRequest(questions, prompts, self.template, images, self.batch, control)

    def _questions(self, places: Sequence[Place]) -> tuple[Question, ...]:
        return tuple(
            Question(attribute, tuple(groups), exchanged, place)
            for attribute, groups in self.attributes.items()
            for exchanged in exchanged_pairs(groups, self.pairs)
            for place in places
        )

    def _may_carry(self, one: Counts) -> bool:
        share = _estimate(sum(one.followed), sum(one.counted))
        return share is None or share.high >= self.carries

    def _carrying(self, counted: Sequence[Counts]) -> list[Question]:
        """Return a question for each attribute and place that carries it in every exchanged pair, the cheapest first.

        Text costs least, since it needs no second run; of other places that which keeps the fewest bytes.
        """
        kept: dict[tuple[str, Place], list[Counts]] = {}
        for one in counted:
            kept.setdefault((one.question.attribute, one.question.place), []).append(one)
        carrying = [
            ones
            for (attribute, _), ones in kept.items()
            if len(ones) == len(exchanged_pairs(self.attributes[attribute], self.pairs))
            and all(sum(one.counted) and sum(one.followed) >= self.carries * sum(one.counted) for one in ones)
        ]
        ranked = sorted(carrying, key=lambda ones: (not reads_text(ones[0].question.place), ones[0].bytes_per_image))
        return [ones[0].question for ones in ranked]

    def _decision(self, attribute: str, counted: Sequence[Counts], windows: Sequence[PlaceShare]) -> Decision:
        carriers = [one.place for one in self._carrying(counted) if one.attribute == attribute]
        alone = [
            window
            for window in self.windows
            for rows in [_of_window(windows, attribute, carriers, window)]
            if rows and all(row.share is not None and row.share.value >= self.carries for row in rows)
        ]
        return Decision(attribute, tuple(map(str, carriers)), alone[0] if alone else None)


def exchanged_pairs(groups: Sequence[str], pairs: Pairs) -> tuple[tuple[str, str], ...]:
    """Return the pairs of groups that are exchanged."""
    return ((groups[0], groups[-1]),) if pairs == "ends" else tuple(combinations(groups, 2))


def reads_text(place: Place) -> bool:
    """Whether the values of a place are text, which needs no run of the denoiser."""
    return place.kind == "text" or place.module == "context_embedder"


def _of_window(
    rows: Sequence[PlaceShare], attribute: str, carriers: Sequence[Place], window: tuple[float, float]
) -> list[PlaceShare]:
    if not carriers:
        return []
    place = Place(carriers[0].module, carriers[0].kind, window)
    return [row for row in rows if row.attribute == attribute and row.at == place]


def _share(one: Counts, stage: Stage, steps: int) -> PlaceShare:
    question = one.question
    first, second = (_estimate(*counts) for counts in zip(one.followed, one.counted, strict=True))
    # In the screening the control is that nothing changes, see LocationMap.same_run.
    other = _estimate(sum(one.changed), sum(one.controlled)) if stage == "counted" else None
    return PlaceShare(
        attribute=question.attribute,
        groups=question.exchanged,
        place=str(question.place),
        stage=stage,
        share=_estimate(sum(one.followed), sum(one.counted)),
        directions=(first, second),
        counted=sum(one.counted),
        sampled=sum(one.sampled),
        other_prompt=other,
        bytes_per_image=one.bytes_per_image,
        calls_per_image=steps if reads_text(question.place) else 2 * steps,
    )


def _estimate(successes: int, n: int) -> Estimate | None:
    return share_estimate(successes, n) if n else None
