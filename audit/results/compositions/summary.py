"""Summarises sampled pictures of pairs and of occupations alone.

Legend: n images, d numbers of an embedding.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audit.measure.inference.intervals import share_estimate
from audit.records.inside.compositions import AloneImages, Compositions, Matching, PairImages, PairPicture
from audit.records.work import PairPrompt, Prompt
from audit.results.compositions.joint_tables import PairCodes, alike_of, company_of, joint_cells, reversals_of
from audit.results.compositions.matching import Floats, Ints, Matched, match_persons

SHOWN = 8
"""Pictures of each pair on the page."""

_CHANCE = 0.5
"""Share of right matches of who guesses."""

_FOUND = ("no person found", "one person found", "persons not told apart", "more than two persons found")


@dataclass(frozen=True)
class SeenPersons:
    """The persons in the images of one prompt.

    Attributes:
        people: (n,) persons found in each image.
        vectors: (n, 2, d) embedding of each person, NaN for none.
        codes: Attribute → (n, 2) group of each person, −1 for none.
        webp: The pictures.
    """

    people: Ints
    vectors: Floats
    codes: Mapping[str, Ints]
    webp: Sequence[bytes]


@dataclass(frozen=True)
class Setting:
    """What the figures are made with.

    Attributes:
        name: Name of the audit.
        model: Fingerprint of the model.
        instruments: Names of the instruments, by kind.
        attributes: Attribute → its groups.
        certainty: Least certainty of a match.
        rate: Rate of false findings.
        scale: Factor of cosines before a softmax.
        texts: Occupation → unit embedding (d,) of its text.
    """

    name: str
    model: str
    instruments: Mapping[str, str]
    attributes: Mapping[str, tuple[str, ...]]
    certainty: float
    rate: float
    scale: float
    texts: Mapping[str, Floats]

    def match(self, vectors: Floats, pair: PairPrompt) -> Matched:
        """Match persons (n, 2, d) with the occupations of a pair."""
        texts = np.stack([self.texts[pair.first], self.texts[pair.second]])
        return match_persons(vectors, texts, self.scale, self.certainty)


def compositions_of(
    pairs: Mapping[PairPrompt, SeenPersons], alone: Mapping[Prompt, SeenPersons], setting: Setting
) -> Compositions:
    """Summarise the images of all prompts.

    Args:
        pairs: Each pair's images.
        alone: The images of each occupation alone.
        setting: What they are summarised with.
    """
    single = {prompt.occupation: seen for prompt, seen in alone.items()}
    matchings = {pair: tuple(_matchings(pair, single, setting)) for pair in pairs}
    matched = {
        pair: _trusted(setting.match(seen.vectors, pair), by_chance(matchings[pair][0])) for pair, seen in pairs.items()
    }
    codes = [
        PairCodes(
            pair=pair.id,
            occupations=(pair.first, pair.second),
            attribute=attribute,
            groups=groups,
            codes=matched[pair].of_first_and_second(seen.codes[attribute]),
            alone=(single[pair.first].codes[attribute][:, 0], single[pair.second].codes[attribute][:, 0]),
        )
        for pair, seen in pairs.items()
        for attribute, groups in setting.attributes.items()
    ]
    return Compositions(
        name=setting.name,
        model=setting.model,
        instruments=setting.instruments,
        attributes=setting.attributes,
        certainty=setting.certainty,
        rate=setting.rate,
        pairs=tuple(_pair_images(pair, seen, matched[pair]) for pair, seen in pairs.items()),
        alone=tuple(_alone_images(prompt, seen) for prompt, seen in alone.items()),
        matchings=tuple(one for own in matchings.values() for one in own),
        cells=tuple(cell for one in codes for cell in joint_cells(one)),
        company=company_of(codes, setting.rate),
        reversals=reversals_of(codes, setting.rate),
        alike=alike_of(codes, setting.rate),
        pictures={pair.id: _pictures(pair, seen, matched[pair], setting) for pair, seen in pairs.items()},
    )


def by_chance(matching: Matching) -> bool:
    """Return whether matches with known truth may be right by chance alone: then no image of the pair is matched."""
    return matching.right is not None and matching.right.low <= _CHANCE


def _trusted(matched: Matched, guessed: bool) -> Matched:
    return replace(matched, apart=np.zeros_like(matched.apart)) if guessed else matched


def _people(seen: SeenPersons) -> tuple[int, int, int, int]:
    none, one, two, more = np.bincount(np.minimum(seen.people, 3), minlength=4).tolist()
    return none, one, two, more


def _pair_images(pair: PairPrompt, seen: SeenPersons, matched: Matched) -> PairImages:
    classified = {
        name: int((matched.of_first_and_second(codes) >= 0).all(axis=1).sum()) for name, codes in seen.codes.items()
    }
    return PairImages(
        pair.id, pair.text, pair.first, pair.second, len(seen.people), _people(seen), int(matched.apart.sum()),
        classified,
    )  # fmt: skip


def _alone_images(prompt: Prompt, seen: SeenPersons) -> AloneImages:
    classified = {name: int((codes[:, 0] >= 0).sum()) for name, codes in seen.codes.items()}
    return AloneImages(prompt.occupation, prompt.text, len(seen.people), _people(seen), classified)


def _matchings(pair: PairPrompt, single: Mapping[str, SeenPersons], setting: Setting) -> Iterator[Matching]:
    """Match the persons of two images of one person each, whose occupations are known: image i of both occupations."""
    first, second = single[pair.first], single[pair.second]
    n = min(len(first.people), len(second.people))
    matched = setting.match(np.stack([first.vectors[:n, 0], second.vectors[:n, 0]], axis=1), pair)
    known = np.isfinite(matched.certainty)
    yield _matching(pair.id, ("", "", ""), known, matched)
    for attribute, groups in setting.attributes.items():
        one, other = (seen.codes[attribute][:n, 0] for seen in (first, second))
        for i, j in product(range(len(groups)), repeat=2):
            chosen = known & (one == i) & (other == j)
            yield _matching(pair.id, (attribute, groups[i], groups[j]), chosen, matched)


def _matching(pair: str, of: tuple[str, str, str], chosen: NDArray[np.bool_], matched: Matched) -> Matching:
    apart = chosen & matched.apart
    right, n = int((matched.first[apart] == 0).sum()), int(apart.sum())
    return Matching(pair, *of, int(chosen.sum()), n, share_estimate(right, n) if n else None)


def _pictures(pair: PairPrompt, seen: SeenPersons, matched: Matched, setting: Setting) -> tuple[PairPicture, ...]:
    ordered = {name: matched.of_first_and_second(codes) for name, codes in seen.codes.items()}
    return tuple(
        PairPicture(base64.b64encode(seen.webp[row]).decode(), _caption(pair, seen, matched, ordered, setting, row))
        for row in range(min(SHOWN, len(seen.webp)))
    )


def _caption(
    pair: PairPrompt, seen: SeenPersons, matched: Matched, ordered: Mapping[str, Any], setting: Setting, row: int
) -> str:  # fmt: skip
    if not matched.apart[row]:
        return _FOUND[min(int(seen.people[row]), 3)]
    sides = ("left", "right") if matched.first[row] == 0 else ("right", "left")
    return "; ".join(
        f"{occupation} ({sides[place]}): {', '.join(_groups(ordered, setting, row, place))}"
        for place, occupation in enumerate((pair.first, pair.second))
    )


def _groups(ordered: Mapping[str, Any], setting: Setting, row: int, place: int) -> Iterator[str]:
    for name, groups in setting.attributes.items():
        code = int(ordered[name][row, place])
        yield groups[code] if code >= 0 else f"{name} not classified"
