"""Summarises sampled pictures of pairs and of occupations alone.

Legend: n images, d numbers of an embedding.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from audit.records.inside.compositions import AloneImages, Compositions, Matching, PairImages, PairPicture
from audit.records.work import PairPrompt, Prompt
from audit.results.compositions.checks import Known, Verdict, check_matches, followed, overall, verdict
from audit.results.compositions.joint_tables import PairCodes, alike_of, company_of, joint_cells, reversals_of
from audit.results.compositions.matching import Floats, Ints, Matched, leaning, match_persons

SHOWN = 8
"""Pictures of each pair on the page."""

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
        return match_persons(vectors, self._texts(pair), self.scale, self.certainty)

    def leaning(self, vectors: Floats, pair: PairPrompt) -> Floats:
        """Return how much more persons (n, d) resemble the first occupation of a pair than the second."""
        return leaning(vectors, self._texts(pair), self.scale)

    def _texts(self, pair: PairPrompt) -> Floats:
        return np.stack([self.texts[pair.first], self.texts[pair.second]])


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
    matchings = tuple(one for pair in pairs for one in _checks(pair, single, setting))
    read = [_read(pair, seen, matchings, setting) for pair, seen in pairs.items()]
    codes = [_codes(one, single, name, groups) for one in read for name, groups in setting.attributes.items()]
    return Compositions(
        name=setting.name,
        model=setting.model,
        instruments=setting.instruments,
        attributes=setting.attributes,
        certainty=setting.certainty,
        rate=setting.rate,
        pairs=tuple(map(_pair_images, read)),
        alone=tuple(_alone_images(prompt, seen) for prompt, seen in alone.items()),
        matchings=matchings,
        cells=tuple(cell for one in codes for cell in joint_cells(one)),
        company=company_of(codes, setting.rate),
        reversals=reversals_of(codes, setting.rate),
        alike=alike_of(codes, setting.rate),
        pictures={one.pair.id: _pictures(one, setting) for one in read},
    )


def _checks(pair: PairPrompt, single: Mapping[str, SeenPersons], setting: Setting) -> Iterator[Matching]:
    """Match the persons of images of each occupation alone."""
    first, second = single[pair.first], single[pair.second]
    leanings = (setting.leaning(first.vectors[:, 0], pair), setting.leaning(second.vectors[:, 0], pair))
    codes = {name: (first.codes[name][:, 0], second.codes[name][:, 0]) for name in setting.attributes}
    return check_matches(Known(pair.id, leanings, codes), setting.attributes, setting.certainty)


@dataclass(frozen=True)
class _Read:
    """The images of a pair, and who is who in them.

    Attributes:
        pair: The pair.
        seen: Its images.
        matched: Which person has which occupation; none are told apart if matches are not known to beat chance, or may
            follow the groups of an attribute.
        ordered: Attribute → (n, 2) groups in the order of the occupations, −1 for none.
    """

    pair: PairPrompt
    seen: SeenPersons
    matched: Matched
    ordered: Mapping[str, Ints]


def _read(pair: PairPrompt, seen: SeenPersons, matchings: Sequence[Matching], setting: Setting) -> _Read:
    matched = setting.match(seen.vectors, pair)
    by_groups = any(followed(matchings, pair.id, name) for name in setting.attributes)
    if by_groups or verdict(overall(matchings, pair.id)) is not Verdict.RIGHT:
        matched = replace(matched, apart=np.zeros_like(matched.apart))
    ordered = {name: matched.of_first_and_second(seen.codes[name]) for name in setting.attributes}
    return _Read(pair, seen, matched, ordered)


def _codes(read: _Read, single: Mapping[str, SeenPersons], attribute: str, groups: tuple[str, ...]) -> PairCodes:
    pair = read.pair
    return PairCodes(
        pair=pair.id,
        occupations=(pair.first, pair.second),
        attribute=attribute,
        groups=groups,
        codes=read.ordered[attribute],
        alone=(single[pair.first].codes[attribute][:, 0], single[pair.second].codes[attribute][:, 0]),
    )


def _people(seen: SeenPersons) -> tuple[int, int, int, int]:
    none, one, two, more = np.bincount(np.minimum(seen.people, 3), minlength=4).tolist()
    return none, one, two, more


def _pair_images(read: _Read) -> PairImages:
    pair, seen = read.pair, read.seen
    classified = {name: int((codes >= 0).all(axis=1).sum()) for name, codes in read.ordered.items()}
    return PairImages(
        pair.id, pair.text, pair.first, pair.second, len(seen.people), _people(seen), int(read.matched.apart.sum()),
        classified,
    )  # fmt: skip


def _alone_images(prompt: Prompt, seen: SeenPersons) -> AloneImages:
    classified = {name: int((codes[:, 0] >= 0).sum()) for name, codes in seen.codes.items()}
    return AloneImages(prompt.occupation, prompt.text, len(seen.people), _people(seen), classified)


def _pictures(read: _Read, setting: Setting) -> tuple[PairPicture, ...]:
    webp = read.seen.webp
    return tuple(
        PairPicture(base64.b64encode(webp[row]).decode(), _caption(read, setting, row))
        for row in range(min(SHOWN, len(webp)))
    )


def _caption(read: _Read, setting: Setting, row: int) -> str:
    if not read.matched.apart[row]:
        return _FOUND[min(int(read.seen.people[row]), 3)]
    sides = ("left", "right") if read.matched.first[row] == 0 else ("right", "left")
    return "; ".join(
        f"{occupation} ({sides[place]}): {', '.join(_groups(read, setting, row, place))}"
        for place, occupation in enumerate((read.pair.first, read.pair.second))
    )


def _groups(read: _Read, setting: Setting, row: int, place: int) -> Iterator[str]:
    for name, groups in setting.attributes.items():
        code = int(read.ordered[name][row, place])
        yield groups[code] if code >= 0 else f"{name} not classified"
