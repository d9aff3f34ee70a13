"""Reads and validates a table of planted shares (YAML)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from audit.calibration.labels import ATTRIBUTES, BACKGROUNDS, OCCUPATIONS, Floats, position
from audit.config.document.text import read_text
from audit.config.document.tree import parse
from audit.config.errors import ConfigErrors

_MAX_BYTES = 200_000
_GLASSES = 0.2  # default if a table sets no value
_SUM_TOLERANCE = 1e-6
_FIT_TOLERANCE = 1e-13
_FIT_ROUNDS = 1_000


@dataclass(frozen=True)
class Planted:
    """The planted distributions of one occupation.

    Attributes:
        joint: Probability of every combination of groups, shape (2, 3, 4), sums to 1.
        glasses: Probability of glasses.
        background: Probability of each background family, shape (6,), sums to 1.
    """

    joint: Floats
    glasses: float
    background: Floats


def read_table(path: Path | str) -> tuple[str, dict[str, Planted]]:
    """Return a table's name and its planted distributions by occupation, in the order of the table.

    Raises:
        ValueError: The table has an error.
    """
    body = _mapping(_plain(Path(path)), str(path))
    _known_keys(body, ("name", "occupations"), str(path))
    planted = {}
    for occupation, entry in _mapping(body.get("occupations"), f"{path}: occupations").items():
        position(str(occupation), OCCUPATIONS, "occupation", str(path))
        planted[str(occupation)] = _parse_occupation(entry, f"{path}: {occupation}")
    return str(body.get("name", Path(path).stem)), planted


def _plain(path: Path) -> object:
    """Read the YAML of a table, with limits so that a few lines of aliases cannot fill memory."""
    try:
        root, mistakes = parse(read_text(path, "table of planted shares", _MAX_BYTES), str(path))
    except ConfigErrors as error:
        raise ValueError(f"{error}; correct it") from error
    if mistakes:
        raise ValueError(f"{ConfigErrors(mistakes)}; correct it")
    return None if root is None else root.plain()


def _parse_occupation(entry: object, where: str) -> Planted:
    body = _mapping(entry, where)
    _known_keys(body, (*ATTRIBUTES, "together", "glasses", "background"), where)
    marginals = [_parse_shares(body.get(name), groups, f"{where}: {name}") for name, groups in ATTRIBUTES.items()]
    favoured = _parse_together(body.get("together", []), f"{where}: together")
    background = np.full(len(BACKGROUNDS), 1 / len(BACKGROUNDS))
    if "background" in body:
        background = _parse_shares(body["background"], BACKGROUNDS, f"{where}: background")
    glasses = _number(body.get("glasses", _GLASSES), f"{where}: glasses")
    if not 0 <= glasses <= 1:
        raise ValueError(f"{where}: glasses: expected a probability between 0 and 1, found {glasses}; correct it")
    return Planted(joint=_fit_marginals(favoured, marginals), glasses=glasses, background=background)


def _parse_shares(value: object, names: tuple[str, ...], where: str) -> Floats:
    """Read ``{name: share}``; a missing name has a share of 0, and the shares add up to 1."""
    body = _mapping(value, where)
    shares = np.zeros(len(names))
    for name, share in body.items():
        shares[position(str(name), names, "group", where)] = _number(share, f"{where}: {name}")
    if (shares < 0).any() or abs(shares.sum() - 1) > _SUM_TOLERANCE:
        raise ValueError(
            f"{where}: expected shares from 0 to 1 that add up to 1, found {dict(body)}, which add up to "
            f"{shares.sum():.4g}; correct them"
        )
    normalised: Floats = shares / shares.sum()
    return normalised


def _parse_together(value: object, where: str) -> Floats:
    """Read ``[{gender: female, age: young, odds: 8}, …]`` into weights of shape (2, 3, 4)."""
    if not isinstance(value, list):
        raise ValueError(f"{where}: expected a list of combinations, found {value!r}; start each line with a dash")
    weights = np.ones([len(groups) for groups in ATTRIBUTES.values()])
    for number, combination in enumerate(value, start=1):
        cells, odds = _parse_combination(combination, f"{where}: {number}")
        weights[cells] *= odds
    return weights


def _parse_combination(value: object, where: str) -> tuple[tuple[int | slice, ...], float]:
    """Return the cells of the joint table for a combination of groups, and their odds."""
    body = _mapping(value, where)
    _known_keys(body, (*ATTRIBUTES, "odds"), where)
    odds = _number(body.get("odds"), f"{where}: odds")
    cells = tuple(
        position(str(body[attribute]), groups, "group", where) if attribute in body else slice(None)
        for attribute, groups in ATTRIBUTES.items()
    )
    if cells.count(slice(None)) > 1 or odds <= 0:
        raise ValueError(
            f"{where}: expected groups of two attributes and odds above 0, found {dict(body)}; "
            "for example {gender: female, age: young, odds: 8}"
        )
    return cells, odds


def _fit_marginals(weights: Floats, marginals: Sequence[Floats]) -> Floats:
    """Scale a table to the given marginals and keep its odds ratios.

    Iterative proportional fitting (Deming & Stephan 1940): planted dependence does not change the share of any single
    attribute. Without odds, the result is the product of the marginals.
    """
    joint = weights * np.einsum("i,j,k->ijk", *marginals)
    for _ in range(_FIT_ROUNDS):
        before = joint
        for axis, marginal in enumerate(marginals):
            others = tuple(other for other in range(joint.ndim) if other != axis)
            found = joint.sum(axis=others)
            factor = np.divide(marginal, found, out=np.zeros_like(marginal), where=found > 0)
            joint = joint * np.expand_dims(factor, others)
        if np.abs(joint - before).max() < _FIT_TOLERANCE:
            break
    fitted: Floats = joint / joint.sum()
    return fitted


def _mapping(value: object, where: str) -> Mapping[object, object]:
    if not isinstance(value, Mapping) or not value:
        raise ValueError(f"{where}: expected a table of names and values, found {value!r}; write `name: value` lines")
    return value


def _known_keys(body: Mapping[object, object], keys: tuple[str, ...], where: str) -> None:
    for key in body:
        position(str(key), keys, "key", where)


def _number(value: object, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{where}: expected a number, found {value!r}; write for example 0.5")
    return float(value)
