"""A judge that only looks up labels that people gave by hand; an image without them is not classified."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from audit.config.judges import JudgeKeys
from audit.config.problems import Problem
from audit.config.sections import ModelConfig
from audit.models.files.untrusted_model import UnfitModelError
from audit.perception.judges.answers import Answers, audited_columns
from audit.perception.judges.interface import Asked, Audited, Judge
from audit.perception.judges.label_rows import LabelErrors
from audit.perception.judges.label_table import LabelTable, read_label_table
from audit.perception.judges.perceived import FloatArray, Perceived
from audit.records.work import Status
from audit.storage.provenance import short_fingerprint

if TYPE_CHECKING:
    from torch import Tensor

    from audit.perception.embedders.clip import ClipEmbedder

_SUFFIX = ".csv"

_MOST_ERRORS = 5


class HandLabels:
    """Labels by hand as a judge; it knows images by name and never looks at them.

    An image is classified only if every attribute has a label. All others have the status *unlabelled*: which group
    they show is unknown, and they are dealt to no group.

    Args:
        path: The table of labels.
        attributes: Attribute → audited groups.
    """

    def __init__(self, path: Path, attributes: Audited) -> None:
        table = _read(path)
        self._answers = _with_audited(table.answers, attributes)
        self._audited = audited_columns(Labels.name, self._answers, attributes)
        self._labels = table.labels
        self.signature = f"judge:hand-labels:{path.name}:{short_fingerprint(path)}"

    def perceive(self, images: Tensor, occupation: str) -> Perceived:
        """Refuse: pixels have no label.

        Raises:
            UnfitModelError: Always.
        """
        raise UnfitModelError(
            "labels by hand are known only for the named images of an audit, and not for images that are sampled to "
            "build a lens, to search strengths or to locate an attribute; set judge.source to another judge"
        )

    def perceive_named(self, names: Sequence[str]) -> Perceived:
        """Look up images by name, see ``audit.perception.judges.label_table``."""
        found = [self._labels.get(name, {}) for name in names]
        complete = [all(attribute in labels for attribute in self._audited) for labels in found]
        statuses = [Status.CLASSIFIED if done else Status.UNLABELLED for done in complete]
        shown = {name: self._one_hot(found, name) for name in self._audited}
        audited = {name: values[:, self._audited[name]] for name, values in shown.items()}
        some_left_out = {name for name, values in shown.items() if values.shape[1] > audited[name].shape[1]}
        outside = {name: (shown[name].sum(axis=1) > audited[name].sum(axis=1)) for name in some_left_out}
        return Perceived(audited, statuses, None, outside)

    def _one_hot(self, found: Sequence[Mapping[str, str]], attribute: str) -> FloatArray:
        """Return 1 at the labelled group among all answers ``(n, answers)``; a row of zeros without a label."""
        labels = np.array([[labels.get(attribute)] for labels in found])
        hot: FloatArray = (labels == np.array([self._answers[attribute]])).astype(np.float32)
        return hot


def _read(path: Path) -> LabelTable:
    """Read a table.

    Raises:
        UnfitModelError: It has errors.
    """
    try:
        return read_label_table(path)
    except LabelErrors as error:
        raise UnfitModelError(str(error)) from error


def _all_errors(error: LabelErrors) -> str:
    """Return the errors of a table in one message; those of a long list are counted."""
    shown, rest = error.errors[:_MOST_ERRORS], len(error.errors) - _MOST_ERRORS
    more = f"; {rest} more" if rest > 0 else ""
    return f"expected a table of labels without errors, found {'; '.join(map(str, shown))}{more}"


def _with_audited(answers: Answers, attributes: Audited) -> dict[str, tuple[str, ...]]:
    """Return the groups of the labels and the audited ones, since a group may occur in no image."""
    return {name: tuple(dict.fromkeys((*attributes.get(name, ()), *groups))) for name, groups in answers.items()}


class Labels:
    """A CSV file of labels by hand."""

    name = "the table of labels"
    word = None
    has_gradients = False

    def is_named_by(self, judge: JudgeKeys) -> bool:
        """Return whether the source is a CSV file."""
        return judge.source.lower().endswith(_SUFFIX)

    def answers(self, asked: Asked) -> Answers | None:
        """Return the attributes of the file, with its groups and the audited ones.

        Raises:
            UnfitModelError: The file has errors.
        """
        return _with_audited(_read(Path(asked.judge.source)).answers, asked.attributes)

    def problems(self, asked: Asked) -> Iterator[Problem]:
        """Find a file that is missing or has errors, and groups without any label."""
        at = (*asked.at, "source")
        try:
            table = read_label_table(asked.judge.source)
        except LabelErrors as error:
            yield Problem(at, _all_errors(error))
            return
        for attribute, groups in asked.attributes.items():
            labelled = table.answers.get(attribute, ())
            if labelled and not set(labelled) & set(groups):
                message = (
                    f"expected labels of {attribute} ({', '.join(groups)}), found only {', '.join(labelled)}; "
                    "correct the table or attributes"
                )
                yield Problem(at, message, reads=(("attributes", attribute),))

    def fingerprint(self, judge: JudgeKeys, model: ModelConfig) -> str:
        """Return the file and its checksum."""
        source = Path(judge.source)
        return f"{source.name}:{short_fingerprint(source)}"

    def notes(self, judge: JudgeKeys, attributes: Audited) -> Iterator[str]:
        """State that people gave the labels, and what happens without one."""
        yield (
            "Groups are labels given by hand, taken as they are. An image that lacks a label of an audited attribute "
            "is unlabelled and in no group."
        )

    def load(self, judge: JudgeKeys, model: ModelConfig, attributes: Audited, clip: ClipEmbedder | None) -> Judge:
        """Read the table."""
        return HandLabels(Path(judge.source), attributes)
