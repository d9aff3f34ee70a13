"""The result of ``concepts``: dictionaries over time, composition before it is visible, and edits by stage."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from audit.records.estimates import Estimate

CONCEPTS_FORMAT = 1


@dataclass(frozen=True)
class DictionaryFigures:
    """Measures of one dictionary, on images that did not train it.

    Attributes:
        block: Address of the block whose update it decomposes.
        half: Guidance half: ``conditional`` or ``unconditional``.
        stage: Window of steps: ``early``, ``middle`` or ``final``.
        explained: Recorded step → share of the variance that it explains.
        latents: Size.
        dead: Latents that are never active on measured images.
        named: Part → latents that are named after it.
        cohesion: Mean over latents: cosine between the parts of two maps in which a latent is active. None if no latent
            is active often enough.
        separability: Mean cosine between the parts of two latents; less is better.
    """

    block: str
    half: str
    stage: str
    explained: Mapping[int, float]
    latents: int
    dead: int
    named: Mapping[str, int]
    cohesion: float | None
    separability: float | None


@dataclass(frozen=True)
class LayoutFigures:
    """How well the final layout is predicted at one recorded step: intersection over union, pooled over images.

    Attributes:
        reader: ``prior`` (mean mask), ``prompt`` (mean mask of the same prompt), ``forecast`` (the image that the step
            predicts), ``concepts``, ``placed`` (concepts and the prior) or ``probe`` (ridge regression).
        block: Address of the block; empty for readers that need none.
        half: Guidance half; empty for readers that need none.
        step: The step; -1 for readers that need none.
        mean: Mean over parts.
        parts: Part → value; None for a part that no image has.
        over_prior: Difference of the means to the prior, for the same images; None for the prior.
        parts_over_prior: Part → difference to the prior; empty for the prior.
        over_prompt: Difference of the means to the mean mask of the same prompt.
        over_forecast: Difference of the means to the image that the same step predicts; None for readers that do not
            read an update.
    """

    reader: str
    block: str
    half: str
    step: int
    mean: Estimate
    parts: Mapping[str, Estimate | None]
    over_prior: Estimate | None
    over_prompt: Estimate | None
    over_forecast: Estimate | None
    parts_over_prior: Mapping[str, Estimate | None] = field(default_factory=dict)


@dataclass(frozen=True)
class Followed:
    """The concept of one part, followed from window to window: the latent that fits the part best in each.

    Attributes:
        block: Address of the block.
        part: The part.
        latents: Window → number of the latent.
        iou: Window → its intersection over union with the part, over all training images.
        with_last: Recorded step → correlation of its map with that of the last recorded step, over places and images.
    """

    block: str
    part: str
    latents: Mapping[str, int]
    iou: Mapping[str, float]
    with_last: Mapping[int, float | None]


@dataclass(frozen=True)
class StageFigures:
    """What one edit does in one window of steps, at its chosen strength.

    Attributes:
        kind: ``spatial``: a part into a quadrant; ``global``: a group in the whole picture; ``style``: a style in the
            whole picture; ``group text`` and ``style text``: the prompt names it.
        concept: ``hair``, ``age: old``, or ``style: oil painting``.
        stage: Window of steps; ``all`` for a prompt.
        strength: The chosen strength; 1 for a prompt.
        success: Share of the edited images that show what was asked for.
        clip: Change of the CLIP similarity to the text that was asked for, mean; None without CLIP.
        similarity: CLIP-I to the unedited image, mean; None without CLIP.
        distance: Distance to the unedited image, mean; None if no network measures it.
    """

    kind: str
    concept: str
    stage: str
    strength: float
    success: Estimate
    clip: Estimate | None
    similarity: Estimate | None
    distance: Estimate | None


@dataclass(frozen=True)
class Stages:
    """Edits by stage.

    Attributes:
        block: Block whose update is edited.
        figures: Of each concept and window, and of all concepts of a kind together (``all``).
        distance: What measures the distance.
        images: Edited images of each concept and window.
        tried: Strengths that were tried.
        shown: Concepts that every picture showed before any edit, so that none can be counted.
    """

    block: str
    figures: tuple[StageFigures, ...]
    distance: str
    images: int
    tried: tuple[float, ...]
    shown: tuple[str, ...] = ()


@dataclass(frozen=True)
class Pictures:
    """Pictures of a few measured images, as PNG in base64.

    Attributes:
        block: Block whose concepts predict the layout.
        steps: The recorded steps.
        finished: Each image, finished.
        truth: Its layout.
        predicted: For each image, its layout as concepts predict it at each recorded step.
        forecast: For each image, the layout of the image that each recorded step predicts.
    """

    block: str
    steps: tuple[int, ...]
    finished: tuple[str, ...]
    truth: tuple[str, ...]
    predicted: tuple[tuple[str, ...], ...]
    forecast: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Concepts:
    """The result.

    Attributes:
        name: Name of the audit.
        model: Fingerprint of the model.
        segmenter: What labels the pixels.
        parts: Its parts.
        blocks: Blocks whose updates are read.
        steps: Recorded steps.
        total_steps: Steps of the sampler.
        prompts: How many prompts.
        images: Images, all prompts together.
        measured: Images that are measured.
        dictionaries: Measures of the dictionaries.
        layout: Predictions of the layout.
        followed: Concepts over time.
        pictures: Pictures of a few images.
        stages: Edits by stage; None if none were asked for.
        seed: Seed of the audit. Stored if it is not 0: older results have none.
    """

    name: str
    model: str
    segmenter: str
    parts: tuple[str, ...]
    blocks: tuple[str, ...]
    steps: tuple[int, ...]
    total_steps: int
    prompts: int
    images: int
    measured: int
    dictionaries: tuple[DictionaryFigures, ...]
    layout: tuple[LayoutFigures, ...]
    followed: tuple[Followed, ...]
    pictures: Pictures
    stages: Stages | None
    seed: int

    def curve(self, reader: str, block: str = "", half: str = "") -> tuple[LayoutFigures, ...]:
        """Return the predictions of one reader, in the order of the steps."""
        found = (one for one in self.layout if (one.reader, one.block, one.half) == (reader, block, half))
        return tuple(sorted(found, key=lambda one: one.step))

    def as_data(self) -> dict[str, Any]:
        """Return it as plain data."""
        plain = asdict(self)
        if not self.seed:
            del plain["seed"]
        return {"format_version": CONCEPTS_FORMAT, **plain}

    @classmethod
    def of_data(cls, data: Mapping[str, Any]) -> Concepts:
        """Read plain data back.

        Raises:
            ValueError: It is of another format.
            KeyError: A field is missing.
            TypeError: A field has another form.
        """
        version = data.get("format_version")
        if version != CONCEPTS_FORMAT:
            raise ValueError(f"expected format {CONCEPTS_FORMAT} of concepts, found {version}; run the command again")
        plain = {name: value for name, value in data.items() if name != "format_version"}
        stages = plain.pop("stages")
        return cls(
            dictionaries=tuple(
                DictionaryFigures(**one | {"explained": _by_step(one["explained"])})
                for one in plain.pop("dictionaries")
            ),
            layout=tuple(_layout(one) for one in plain.pop("layout")),
            followed=tuple(
                Followed(**one | {"with_last": _by_step(one["with_last"])}) for one in plain.pop("followed")
            ),
            pictures=Pictures(**{name: _tuples(value) for name, value in plain.pop("pictures").items()}),
            stages=None if stages is None else _stages(stages),
            seed=plain.pop("seed", 0),
            **{name: _tuples(value) for name, value in plain.items()},
        )


def _layout(data: Mapping[str, Any]) -> LayoutFigures:
    by_part = {
        name: {part: _estimate(value) for part, value in data.get(name, {}).items()}
        for name in ("parts", "parts_over_prior")
    }
    named = {name: _estimate(data[name]) for name in ("mean", "over_prior", "over_prompt", "over_forecast")}
    return LayoutFigures(**{**data, **by_part, **named})


def _stages(data: Mapping[str, Any]) -> Stages:
    figures = tuple(
        StageFigures(
            **{**one, **{name: _estimate(one[name]) for name in ("success", "clip", "similarity", "distance")}}
        )
        for one in data["figures"]
    )
    return Stages(**{**data, "figures": figures, "tried": tuple(data["tried"]), "shown": tuple(data.get("shown", ()))})


def _estimate(data: Mapping[str, Any] | None) -> Any:  # noqa: ANN401 - an estimate, or None where a field allows it
    return None if data is None else Estimate(**data)


def _by_step(data: Mapping[Any, Any]) -> dict[int, Any]:
    return {int(step): value for step, value in data.items()}


def _tuples(value: Any) -> Any:  # noqa: ANN401 - of any field
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
