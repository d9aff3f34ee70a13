"""Counts what ``compose``, ``concepts`` and ``explore`` sample beside an audit, before they do."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from audit.config.fields import CLOSED, WITHOUT_NETWORK
from audit.config.optional.concepts import StagesConfig
from audit.config.optional.exploration import ExploreConfig
from audit.config.slices import CommandsRequest
from audit.perception.segmenters.registry import segmenter_parts
from audit.planning.compositions import alone_prompts, pair_prompts
from audit.planning.plan import prompts_of_model

# What follows is equal to constants of the analyses, which import torch; a test compares them.

WINDOWS = 3
"""Windows of steps in which concepts are edited: early, middle and final."""

NOISES = 8
"""Images of each text from which a concept of the whole picture is made."""

LEAST_STRESS = 4
"""Least images of a prompt under a condition, in two halves."""

Bound = Literal["", "at most", "at least"]
_EXACT: Final[Bound] = ""
_AT_MOST: Final[Bound] = "at most"
_AT_LEAST: Final[Bound] = "at least"


@dataclass(frozen=True)
class CommandWork:
    """What a command samples.

    Calls without an image are not counted: those with which ``explore`` reads directions of texts and of pictures, and
    names of features.

    Attributes:
        command: Its name.
        images: Images.
        bound: ``at most`` or ``at least`` in front of the images if their number is not known exactly; empty if it is.
        unet_calls: Images that pass the denoiser, over all steps and halves of the guidance, at most: edited images
            share steps with unedited ones. 0 for a model without a network.
    """

    command: str
    images: int
    bound: Bound
    unet_calls: int

    @property
    def summary(self) -> str:
        """One line: ``difflens-audit compose samples 672 images more (33,600 denoiser calls)``."""
        calls = f" ({self.unet_calls:,} denoiser calls)" if self.unet_calls else ""
        images = f"{self.images:,} image{'s' * (self.images != 1)}"
        return f"difflens-audit {self.command} samples {f'{self.bound} {images}'.strip()} more{calls}"


@dataclass(frozen=True)
class _Count:
    """Images of a command.

    Attributes:
        images: All of them.
        bound: As that of :class:`CommandWork`.
        guided: Guidance scale → those of the images that are sampled with it instead of the audit's.
    """

    images: int = 0
    bound: Bound = ""
    guided: Mapping[float, int] = field(default_factory=dict)


def command_works(request: CommandsRequest) -> tuple[CommandWork, ...]:
    """Count the work of each command that samples for its section of the config; an audit does none of it.

    ``locate`` has no section: its options say what it samples. Without a model that can be sampled here there is none.
    """
    if request.model.source in CLOSED:
        return ()
    counted = ((name, count(request)) for name, count in _COUNTS.items())
    return tuple(CommandWork(name, one.images, one.bound, _calls(request, one)) for name, one in counted if one.images)


def _calls(request: CommandsRequest, count: _Count) -> int:
    """Return how often images pass the denoiser."""
    if request.model.source in WITHOUT_NETWORK:
        return 0
    from audit.models.families.registry import rows_here, steps_here

    model, sampling = request.model, request.sampling
    rows = (count.images - sum(count.guided.values())) * rows_here(model, sampling) + sum(
        images * rows_here(model, sampling.model_copy(update={"guidance": scale}))
        for scale, images in count.guided.items()
    )
    return steps_here(model, sampling) * rows


def _composed(request: CommandsRequest) -> _Count:
    section = request.compositions
    return _Count(section.images * (len(pair_prompts(section)) + len(alone_prompts(section))))


def _of_concepts(request: CommandsRequest) -> _Count:
    """Count recorded and edited images; at least these, without edits of parts, if the segmenter is not here."""
    section = request.concepts
    if "concepts" not in request.written or request.model.source in WITHOUT_NETWORK:
        return _Count()
    prompts = len(prompts_of_model(request.model, request.prompts))
    recorded = section.images * min(prompts, section.prompts)
    if section.stages is None:
        return _Count(recorded)
    try:
        parts, bound = segmenter_parts(section.segmenter, request.model), _EXACT
    except ValueError:  # which concepts itself reports
        parts, bound = (), _AT_LEAST
    return _Count(recorded + _edited(request, section.stages, prompts, parts), bound)


def _edited(request: CommandsRequest, stages: StagesConfig, prompts: int, parts: Sequence[str]) -> int:
    """Count the images of edits by stage: unedited ones, edited ones, and those whose prompt asks for the same.

    The concepts of groups and styles are made from images too, of a text for each and one that names no style. They are
    counted once, for one worker; each further worker samples them again.
    """
    groups = [
        group
        for attribute, names in request.attributes.items()
        if stages.attributes is None or attribute in stages.attributes
        for group in names
    ]
    whole = len(groups) + len(stages.styles)
    edits = WINDOWS * (len(parts) + whole)
    tried = stages.calibration_images * (1 + len(stages.strengths) * edits)
    made = NOISES * (whole + bool(stages.styles))
    return made + min(prompts, stages.prompts) * (tried + stages.images * (1 + edits + whole))


def _explored(request: CommandsRequest) -> _Count:
    section = request.explore
    if "explore" not in request.written or request.model.source in WITHOUT_NETWORK:
        return _Count()
    prompts = len(prompts_of_model(request.model, request.prompts))
    words = (
        section.open_set
        if section.open_set.images and (section.open_set.lists or section.open_set.vocabulary)
        else None
    )
    of_words = 0 if words is None else words.word_images * (words.checked_words + 1)
    ends = 2 * (len(request.attributes) + len(section.axes)) + 1
    pictures = section.pictures.images * ends if section.pictures.folder else 0
    each, conditions = _stressed(section)
    images = (
        section.check_images * min(section.check_prompts, prompts),
        section.open_set.images * prompts,
        of_words,
        each * conditions * prompts,
        pictures,
    )
    guided = {scale: each * prompts for scale in section.stress.guidance if each}
    return _Count(sum(images), _AT_MOST if of_words or pictures else _EXACT, guided)


def _stressed(section: ExploreConfig) -> tuple[int, int]:
    """Return the images of a prompt under each condition, and the number of conditions."""
    stress = section.stress
    each = max(LEAST_STRESS, stress.images) if stress.images else 0
    return each, 1 + sum(map(len, (section.modifiers, stress.phrasings, stress.guidance)))


_COUNTS: Mapping[str, Callable[[CommandsRequest], _Count]] = {
    "compose": _composed,
    "concepts": _of_concepts,
    "explore": _explored,
}
"""Command → count of its images."""
