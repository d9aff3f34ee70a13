"""Counts what ``compose``, ``concepts`` and ``explore`` sample beside an audit, before they do."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from audit.config.fields import CLOSED, WITHOUT_NETWORK
from audit.config.optional.concepts import StagesConfig
from audit.config.optional.exploration import ExploreConfig
from audit.config.slices import CommandsRequest
from audit.models.files.untrusted_model import UnfitModelError
from audit.perception.segmenters.registry import segmenter_parts
from audit.planning.compositions import alone_prompts, pair_prompts
from audit.planning.plan import prompts_of_model

WINDOWS = 3
"""Windows of steps in which concepts are edited: early, middle and final."""

LEAST_STRESS = 4
"""Least images of a prompt under a condition, in two halves."""


@dataclass(frozen=True)
class CommandWork:
    """What a command samples.

    Attributes:
        command: Its name.
        images: Images, the most if it is not known how many.
        at_most: Whether there may be fewer.
        unet_calls: Images that pass the U-Net, over all steps and halves of the guidance, at most: edited images share
            steps with unedited ones. 0 for a model without a network.
    """

    command: str
    images: int
    at_most: bool
    unet_calls: int

    @property
    def summary(self) -> str:
        """One line: ``difflens-audit compose samples 672 images more (33,600 U-Net calls)``."""
        most, calls = (
            "at most " if self.at_most else "",
            f" ({self.unet_calls:,} U-Net calls)" if self.unet_calls else "",
        )
        return (
            f"difflens-audit {self.command} samples {most}{self.images:,} image{'s' * (self.images != 1)} more{calls}"
        )


def command_works(request: CommandsRequest) -> tuple[CommandWork, ...]:
    """Count the work of each command whose section the config has; an audit does none of it.

    ``locate`` has no section: its options say what it samples. Without a model that can be sampled here there is none.
    """
    if request.model.source in CLOSED:
        return ()
    counted = ((name, count(request)) for name, count in _COUNTS.items())
    return tuple(
        CommandWork(name, images, at_most, images * _calls(request)) for name, (images, at_most) in counted if images
    )


def _calls(request: CommandsRequest) -> int:
    """Return how often an image passes the U-Net."""
    if request.model.source in WITHOUT_NETWORK:
        return 0
    from audit.models.families.registry import rows_here, steps_here

    return steps_here(request.model, request.sampling) * rows_here(request.model, request.sampling)


def _composed(request: CommandsRequest) -> tuple[int, bool]:
    section = request.compositions
    return section.images * (len(pair_prompts(section)) + len(alone_prompts(section))), False


def _of_concepts(request: CommandsRequest) -> tuple[int, bool]:
    section = request.concepts
    if "concepts" not in request.written or request.model.source in WITHOUT_NETWORK:
        return 0, False
    prompts = len(prompts_of_model(request.model, request.prompts))
    recorded = section.images * min(prompts, section.prompts)
    try:
        return recorded + (0 if section.stages is None else _edited(request, section.stages, prompts)), False
    except (UnfitModelError, ValueError):  # the segmenter is not here, which concepts itself reports
        return 0, False


def _edited(request: CommandsRequest, stages: StagesConfig, prompts: int) -> int:
    """Count the images of edits by stage: unedited ones, edited ones, and those whose prompt asks for the same."""
    asked = [
        group
        for attribute, groups in request.attributes.items()
        if stages.attributes is None or attribute in stages.attributes
        for group in groups
    ]
    whole = len(asked) + len(dict.fromkeys(stages.styles))
    edits = WINDOWS * (len(segmenter_parts(request.concepts.segmenter, request.model)) + whole)
    tried = stages.calibration_images * (1 + len(stages.strengths) * edits)
    return min(prompts, stages.prompts) * (tried + stages.images * (1 + edits + whole))


def _explored(request: CommandsRequest) -> tuple[int, bool]:
    section = request.explore
    if "explore" not in request.written or request.model.source in WITHOUT_NETWORK:
        return 0, False
    prompts = len(prompts_of_model(request.model, request.prompts))
    words = (
        section.open_set
        if section.open_set.images and (section.open_set.lists or section.open_set.vocabulary)
        else None
    )
    of_words = 0 if words is None else words.word_images * (words.checked_words + 1)
    ends = 2 * (len(request.attributes) + len(section.axes)) + 1
    images = (
        section.check_images * min(section.check_prompts, prompts),
        section.open_set.images * prompts,
        of_words,
        prompts * sum(_stressed(section)),
        section.pictures.images * ends if section.pictures.folder else 0,
    )
    return sum(images), bool(of_words or images[-1])


def _stressed(section: ExploreConfig) -> Iterator[int]:
    """Yield the images of a prompt under each condition, the plain one first."""
    stress = section.stress
    if stress.images:
        conditions = (*("plain",), *section.modifiers, *stress.phrasings, *stress.guidance)
        yield from (max(LEAST_STRESS, stress.images) for _ in dict.fromkeys(conditions))


_COUNTS: Mapping[str, Callable[[CommandsRequest], tuple[int, bool]]] = {
    "compose": _composed,
    "concepts": _of_concepts,
    "explore": _explored,
}
"""Command → images, and whether these are the most."""
