"""Reads and writes a file of a judge's confusion matrices: attribute → K rows of K counts, rows are the truth.

The calibration judge has one, with its groups in the ``answers`` of the ``config.json`` in the same directory. A file
from hand labels contains its ``answers``, so it can be moved. Groups are matched by name, never by position.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from audit.calibration.bundle import bundle_of
from audit.config.sections import JudgeConfig, ModelConfig
from audit.measure.shares.classifier_error import ConfusionMatrix
from audit.perception.judges.answers import left_out
from audit.perception.judges.registry import answers_of
from audit.storage.local_files import write_atomically
from audit.storage.outside.json_object import read_json_object

CONFUSIONS = "confusion.json"
"""Name of the file in the directory of the bundled judge."""

MAX_BYTES = 1_000_000
"""Size limit of the file; a matrix of ten groups needs a few hundred bytes."""

ANSWERS = "answers"
"""Key of the groups in their order, attribute → names; no attribute can have this name."""


def write_confusions(path: Path, matrices: Mapping[str, ConfusionMatrix]) -> None:
    """Write matrices with the names of their groups; an existing file is replaced.

    Raises:
        ValueError: There is no matrix, or an attribute has the name of a key.
    """
    if not matrices or ANSWERS in matrices:
        raise ValueError(f"expected at least one attribute, and none called {ANSWERS!r}; found {list(matrices)}")
    data = {
        ANSWERS: {attribute: list(matrix.groups) for attribute, matrix in matrices.items()},
        **{attribute: [list(row) for row in matrix.counts] for attribute, matrix in matrices.items()},
    }
    write_atomically(path, (json.dumps(data) + "\n").encode())


def read_confusions(path: Path, attributes: Mapping[str, Sequence[str]]) -> dict[str, ConfusionMatrix]:
    """Read the matrices of some attributes, each in the order of the given groups.

    Args:
        path: The file.
        attributes: Attribute → groups, as in the config. An attribute without a matrix in the file is skipped.

    Raises:
        ValueError: The file has another format, or its groups are not those of ``attributes``.
    """
    data = _read_object(path)
    answers = data.get(ANSWERS) or _answers_beside(path)
    wanted = {attribute: groups for attribute, groups in attributes.items() if attribute in data}
    try:
        return {
            attribute: ConfusionMatrix.of(answers[attribute], data[attribute]).reordered(groups)
            for attribute, groups in wanted.items()
        }
    except (KeyError, TypeError, ValueError) as error:
        found = f"no groups of {error}" if isinstance(error, KeyError) else str(error)
        raise ValueError(f"{path}: expected confusion matrices of {', '.join(wanted)}; {found}") from error


def judge_confusions(
    judge: JudgeConfig, model: ModelConfig, attributes: Mapping[str, Sequence[str]]
) -> dict[str, ConfusionMatrix]:
    """Read a judge's confusion matrices from the file in the config, or from the bundled judge.

    There is no matrix for an attribute if the judge knows groups that the config does not audit. A matrix describes how
    often the judge confuses groups, but the number of images that show groups outside the audit is not known.

    Raises:
        ValueError: The file has another format, or its groups are not those of ``attributes``.
    """
    answers = answers_of(judge, model, attributes) or {}
    whole = {name: groups for name, groups in attributes.items() if not left_out(answers, name, groups)}
    bundle = bundle_of(model) if judge.source == "bundled" else None
    shipped = bundle.judge / CONFUSIONS if bundle else None
    path = Path(judge.confusion) if judge.confusion else shipped
    return read_confusions(path, whole) if path is not None and (judge.confusion or path.is_file()) else {}


def _answers_beside(path: Path) -> dict[str, Any]:
    """Return the groups in the judge's ``config.json``."""
    config = path.with_name("config.json")
    found = _read_object(config).get(ANSWERS) if config.is_file() else None
    if not isinstance(found, dict):
        raise ValueError(
            f"{path}: expected the names of the groups under {ANSWERS!r} here or in config.json, found none"
        )
    return found


def _read_object(path: Path) -> dict[str, Any]:
    return read_json_object(path, "confusion matrices as a JSON object", MAX_BYTES)
