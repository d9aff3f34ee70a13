"""Reads and validates a table of planted shares (YAML)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
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


@dataclass(frozen=True)
class PlantedPair:
    """What is planted in pictures of two people; what is not named here is drawn as for each of them alone.

    Attributes:
        joint: Attribute → probability of each combination of groups, shape (K, K): the first person's, the second's.
        alone: Probability that a picture shows only one of the two.
    """

    joint: Mapping[str, Floats]
    alone: float

    @property
    def reversed(self) -> PlantedPair:
        """The same with the second person first."""
        return PlantedPair({name: table.T for name, table in self.joint.items()}, self.alone)


Pairs = Mapping[tuple[str, str], PlantedPair]


def read_table(path: Path | str) -> tuple[str, dict[str, Planted], Pairs]:
    """Return a table's name, its planted distributions by occupation in the order of the table, and those of pairs.

    Raises:
        ValueError: The table has an error.
    """
    name, planted, pairs = _table_of(_text_of(Path(path)), str(path))
    return name, dict(planted), dict(pairs)


def _text_of(path: Path) -> str:
    try:
        return read_text(path, "table of planted shares", _MAX_BYTES)
    except ConfigErrors as error:
        raise ValueError(f"{error}; correct it") from error


@lru_cache(maxsize=32)  # a config is checked in several steps that each ask for the table, and an audit asks again
def _table_of(text: str, where: str) -> tuple[str, dict[str, Planted], Pairs]:
    body = _mapping(_plain(text, where), where)
    _known_keys(body, ("name", "occupations", "pairs"), where)
    planted = {}
    for occupation, entry in _mapping(body.get("occupations"), f"{where}: occupations").items():
        position(str(occupation), OCCUPATIONS, "occupation", where)
        planted[str(occupation)] = _parse_occupation(entry, f"{where}: {occupation}")
    return str(body.get("name", Path(where).stem)), planted, _parse_pairs(body.get("pairs", []), planted, where)


def _plain(text: str, where: str) -> object:
    """Parse the YAML of a table, with limits so that a few lines of aliases cannot fill memory."""
    try:
        root, mistakes = parse(text, where)
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


def _parse_pairs(value: object, planted: Mapping[str, Planted], where: str) -> Pairs:
    """Read ``[{first: doctor, second: nurse, alone: 0.1, gender: {female: {male: 0.2, …}, …}}, …]``."""
    if not isinstance(value, list):
        raise ValueError(f"{where}: pairs: expected a list of pairs, found {value!r}; start each with a dash")
    pairs: dict[tuple[str, str], PlantedPair] = {}
    for number, entry in enumerate(value, start=1):
        at = f"{where}: pairs: {number}"
        body = _mapping(entry, at)
        _known_keys(body, ("first", "second", "alone", *ATTRIBUTES), at)
        names = str(body.get("first")), str(body.get("second"))
        for name in names:
            position(name, tuple(planted), "occupation", at)
        if names[0] == names[1] or names in pairs or names[::-1] in pairs:
            raise ValueError(f"{at}: expected two different occupations, each pair once, found {' and '.join(names)}")
        pairs[names] = _parse_pair(body, [planted[name] for name in names], at)
    return pairs


def _parse_pair(body: Mapping[object, object], planted: Sequence[Planted], at: str) -> PlantedPair:
    alone = _number(body.get("alone", 0.0), f"{at}: alone")
    if not 0 <= alone <= 1:
        raise ValueError(f"{at}: alone: expected a probability between 0 and 1, found {alone}; correct it")
    joint = {name: _parse_joint(body[name], name, f"{at}: {name}") for name in ATTRIBUTES if name in body}
    for place, one in enumerate(planted):
        if _impossible(one, joint, place):
            raise ValueError(
                f"{at}: expected groups that {'second' if place else 'first'} shows alone too, found one with a share "
                "of 0 there; give it a share above 0"
            )
    return PlantedPair(joint, alone)


def _impossible(one: Planted, joint: Mapping[str, Floats], place: int) -> bool:
    """Return whether a pair plants a combination of groups that the occupation alone never shows."""
    table = one.joint
    for axis, name in enumerate(ATTRIBUTES):
        if name not in joint:
            table = table.sum(axis=axis, keepdims=True)
        else:
            table = table[(slice(None),) * axis + (joint[name].sum(1 - place) > 0,)]
    return bool((table <= 0).any())


def _parse_joint(value: object, attribute: str, where: str) -> Floats:
    """Read ``{group of the first: {group of the second: share}}``; a missing combination has a share of 0."""
    groups = ATTRIBUTES[attribute]
    table = np.zeros((len(groups), len(groups)))
    for first, row in _mapping(value, where).items():
        place = position(str(first), groups, "group", where)
        for second, share in _mapping(row, f"{where}: {first}").items():
            column = position(str(second), groups, "group", f"{where}: {first}")
            table[place, column] = _number(share, f"{where}: {first}: {second}")
    if (table < 0).any() or abs(table.sum() - 1) > _SUM_TOLERANCE:
        raise ValueError(
            f"{where}: expected shares from 0 to 1 that add up to 1, found a sum of {table.sum():.4g}; correct them"
        )
    normalised: Floats = table / table.sum()
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
