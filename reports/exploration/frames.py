"""Explorations as pandas frames, for notebooks and scripts.

>>> from reports.exploration.frames import exploration_frames, read_exploration
>>> found = read_exploration("runs/explorations/occupations-3f9a12")
>>> exploration_frames(found)["scores"].pivot(index="prompt", columns="axis", values="value")
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, fields
from typing import Any

import pandas as pd

from audit.records.inside.exploration import Exploration
from audit.records.inside.open_set import Finding, Rare, WordFinding
from audit.records.inside.read_pictures import PictureAxis, PictureScore
from audit.records.inside.stress import Shift
from audit.storage.place import place_of
from audit.storage.stored_result import read_result
from reports.exploration.files import RESULT


def read_exploration(directory: str) -> Exploration:
    """Read an exploration from its directory, or from its address in an object store.

    Raises:
        FileNotFoundError: There is none.
        ValueError: The file is damaged, or of another format.
    """
    return read_result(place_of(directory), RESULT, Exploration.of_data, "an exploration", "difflens-audit explore")


def exploration_frames(found: Exploration) -> dict[str, pd.DataFrame]:
    """Return one frame for each kind of row; a figure that does not exist is NaN.

    Returns:
        ``scores`` (prompt, axis, value, low, high, change, p, differs, text_score, text), ``neutral`` (the same for the
        neutral prompt), ``moves`` (prompt, modifier, axis, change, low, high, p, differs), ``similarities`` (prompts ×
        descriptors, cosines), ``clusters`` (prompt, cluster, x, y), ``names`` (attribute,
        group, latent, word, area), ``checked`` (axis, prompt, perceived), ``findings`` (what no attribute names),
        ``words`` (of a vocabulary), ``rare``, ``stress`` (shifts under other conditions), ``pictures`` (picture, axis,
        value, low, high), ``picture_axes`` (name, area, low, high) and ``near_prompts`` (picture, prompt, cosine).
    """
    scores = pd.DataFrame([asdict(score) for score in found.scores])
    if len(scores):
        scores["text"] = scores["prompt"].map(dict(found.texts))
    neutral = pd.DataFrame([asdict(score) for score in found.neutral_scores])
    return {
        "scores": scores,
        "neutral": neutral.drop(columns="prompt", errors="ignore"),
        "moves": pd.DataFrame([asdict(move) for move in found.moves]),
        "similarities": _similarities(found),
        "clusters": _clusters(found),
        "names": pd.DataFrame([asdict(name) for name in found.names]),
        "checked": pd.DataFrame(
            [
                {"axis": one.axis, "prompt": prompt, "perceived": place}
                for one in found.checked
                for prompt, place in one.perceived.items()
            ],
            columns=["axis", "prompt", "perceived"],
        ),
        **_open_set(found),
        "stress": _rows(Shift, found.stress.shifts if found.stress else ()),
        **_pictures(found),
    }


def _open_set(found: Exploration) -> dict[str, pd.DataFrame]:
    given = found.open_set
    return {
        "findings": _rows(Finding, given.findings if given else ()),
        "words": _rows(WordFinding, given.word_findings if given else ()),
        "rare": _rows(Rare, given.rare if given else ()),
    }


def _pictures(found: Exploration) -> dict[str, pd.DataFrame]:
    given = found.pictures
    near = given.prompts if given else {}
    return {
        "pictures": _rows(PictureScore, given.scores if given else ()),
        "picture_axes": _rows(PictureAxis, given.axes if given else ()),
        "near_prompts": pd.DataFrame(
            [
                {"picture": picture, "prompt": one.name, "cosine": one.cosine}
                for picture, of in near.items()
                for one in of
            ],
            columns=["picture", "prompt", "cosine"],
        ),
    }


def _rows(kind: type[Any], given: Sequence[Any]) -> pd.DataFrame:
    """Return a row for each record; without records, the columns alone."""
    return pd.DataFrame([asdict(one) for one in given], columns=[field.name for field in fields(kind)])


def _similarities(found: Exploration) -> pd.DataFrame:
    given = found.similarities
    if given is None:
        return pd.DataFrame()
    return pd.DataFrame.from_dict(dict(given.cosines), orient="index", columns=list(given.descriptors))


def _clusters(found: Exploration) -> pd.DataFrame:
    clusters = found.clusters
    rows = (
        [] if clusters is None else [(name, clusters.members[name], *clusters.places[name]) for name in clusters.order]
    )
    return pd.DataFrame(rows, columns=["prompt", "cluster", "x", "y"])
