"""Interfaces of the judges: what a loaded judge does, and what each kind of judge can say before it is loaded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from audit.config.judges import JudgeKeys
from audit.config.problems import Location, Problem
from audit.config.sections import ModelConfig
from audit.perception.judges.answers import Answers

if TYPE_CHECKING:
    from torch import Tensor

    from audit.perception.embedders.clip import ClipEmbedder
    from audit.perception.judges.perceived import Perceived

Audited = Mapping[str, Sequence[str]]
"""Attribute → the groups that a config names, in its order."""


class Judge(Protocol):
    """Classifies images into perceived groups."""

    @property
    def signature(self) -> str:
        """Name and fingerprint of the classifier, and how pictures are prepared for it."""
        ...

    def perceive(self, images: Tensor, occupation: str) -> Perceived:
        """Judge uint8 images ``(n, 3, H, W)`` of a prompt that names ``occupation``."""
        ...


@runtime_checkable
class GradientJudge(Judge, Protocol):
    """A judge that a training can follow: its probabilities are differentiable functions of the pictures."""

    def with_gradients(self, pictures: Tensor, attribute: str) -> Tensor:
        """Return log-probabilities of the audited groups among all answers, with gradients to the pictures.

        Pictures are resized on float channels with an anti-aliasing filter, where ``perceive`` may round to 8 bits.

        Args:
            pictures: ``(n, 3, H, W)`` in [0, 1].
            attribute: An audited attribute.

        Returns:
            ``(n, groups)`` in the config's order.
        """
        ...


@dataclass(frozen=True)
class Asked:
    """One judge of a config and what it is asked.

    Attributes:
        judge: Its section of the config.
        at: The place of the section.
        name: Its name in a message: ``the judge``.
        model: Model whose images are judged.
        attributes: Attributes that it judges, with their audited groups.
    """

    judge: JudgeKeys
    at: Location
    name: str
    model: ModelConfig
    attributes: Audited


class JudgeKind(Protocol):
    """A kind of judge; the registry is ``audit.perception.judges.registry``.

    Importing a kind loads no library that takes seconds; ``load`` does.
    """

    @property
    def name(self) -> str:
        """Name in messages: ``FairFace``."""
        ...

    @property
    def word(self) -> str | None:
        """The value of ``source`` that selects this kind, None if a file or directory does."""
        ...

    @property
    def has_gradients(self) -> bool:
        """Whether its judges are a :class:`GradientJudge` when they see whole pictures."""
        ...

    def is_named_by(self, judge: JudgeKeys) -> bool:
        """Return whether a section of the config names a judge of this kind."""
        ...

    def answers(self, asked: Asked) -> Answers | None:
        """Return the attributes and groups that the judge can name, without reading weights; None if not known.

        Raises:
            ValueError: A file that names them cannot be read.
        """
        ...

    def problems(self, asked: Asked) -> Iterator[Problem]:
        """Find what would stop the judge from loading on this machine; only headers of weight files are read.

        Attributes and groups that ``answers`` lacks are found elsewhere.
        """
        ...

    def fingerprint(self, judge: JudgeKeys, model: ModelConfig) -> str:
        """Return a name that changes with the weights and with everything else that may change a label."""
        ...

    def notes(self, judge: JudgeKeys, attributes: Audited) -> Iterator[str]:
        """Yield sentences for the method section of a report: what the answers rest on, and known accuracies."""
        ...

    def load(self, judge: JudgeKeys, model: ModelConfig, attributes: Audited, clip: ClipEmbedder | None) -> Judge:
        """Load the judge onto this process's device.

        Args:
            judge: Its section of the config.
            model: The audited model, whose bundle may include a judge.
            attributes: Attribute → audited groups.
            clip: The CLIP model of the quality figures, if it is loaded.

        Raises:
            UnfitModelError: The judge does not know an attribute or a group, or its files hold something else.
        """
        ...
