"""Findings of an open set: attributes without a name that images of a prompt show at another rate than the others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Strip:
    """Images that show a state, and images that do not, as keys of pictures.

    Attributes:
        strongest: Images with the highest scores in the state, the first of them the highest.
        weakest: Images with the lowest scores.
    """

    strongest: tuple[str, ...]
    weakest: tuple[str, ...]


@dataclass(frozen=True)
class Finding:
    """A state that images of a prompt show at another rate than those of the other prompts, on held-out seeds.

    Attributes:
        attribute: Number of the unnamed attribute; findings of one attribute share it.
        prompt: Id of the prompt.
        rate: Share of the prompt's held-out images in the state.
        others: Share of the other prompts' held-out images.
        difference: Difference of the rates at equal composition of the named groups.
        low: Lower end of its 95 % interval.
        high: Upper end.
        p: p-value on held-out seeds, adjusted by Holm over all candidates.
        found: Difference on the seeds that chose the candidate.
        found_p: p-value on these seeds, adjusted by Benjamini and Hochberg over all tests.
        separation: Distance of the two states in their spreads.
        words: Words of the vocabulary whose scores go with the state, the closest first.
        strip: Pictures of the prompt.
    """

    attribute: int
    prompt: str
    rate: float
    others: float
    difference: float
    low: float
    high: float
    p: float
    found: float
    found_p: float
    separation: float
    words: tuple[str, ...]
    strip: Strip


@dataclass(frozen=True)
class Rare:
    """A rare feature of a prompt's images, for a person to judge; it is not tested.

    Attributes:
        prompt: Id of the prompt.
        score: Rarity times distance: (1 − rate) × distance.
        rate: Share of the prompt's images that fire, on the discovery seeds.
        held_out: The same on the held-out seeds.
        distance: Distance of these images from the prompt's centre, relative to that of its average image.
        pictures: Keys of images that fire, the strongest first.
    """

    prompt: str
    score: float
    rate: float
    held_out: float
    distance: float
    pictures: tuple[str, ...]


@dataclass(frozen=True)
class WordFinding:
    """A word whose score is higher in images of a prompt than in those of the other prompts.

    Attributes:
        word: The word.
        source: List that has it.
        prompt: Id of the prompt.
        effect: Difference of the means on held-out seeds, in standard deviations within prompts.
        low: Lower end of its 95 % interval.
        high: Upper end.
        p: p-value on held-out seeds, adjusted by Holm over all candidates.
        area: Probability that an image of the word scores higher than one of the neutral prompt.
        area_low: Lower end of its 95 % interval.
        strip: Pictures of the prompt.
    """

    word: str
    source: str
    prompt: str
    effect: float
    low: float
    high: float
    p: float
    area: float
    area_low: float
    strip: Strip


@dataclass(frozen=True)
class OpenSet:
    """The result.

    Attributes:
        images: Images of each prompt, half of them held out.
        embedder: Network that embeds images: ``features`` or ``clip``.
        rate: Rate of false discoveries.
        margin: Difference of rates that is too small to matter.
        attributes: Attributes with two states that were tested.
        tests: Tests on the discovery seeds.
        candidates: Tests that are found on them, and were tested again on held-out seeds.
        findings: The candidates that are confirmed, the largest difference first.
        rare: Rare features.
        words: Words that were scored; 0 without a CLIP model.
        cut_words: Words that were left out, because the model or CLIP would cut their texts.
        word_candidates: Pairs of word and prompt that are found on the discovery seeds.
        unknown_words: Words of confirmed candidates whose own images do not score higher, or were not sampled; no
            finding is reported of them.
        word_findings: The findings of words.
        pictures: Key → picture as WebP, in base64.
    """

    images: int
    embedder: str
    rate: float
    margin: float
    attributes: int
    tests: int
    candidates: int
    findings: tuple[Finding, ...]
    rare: tuple[Rare, ...]
    words: int
    cut_words: int
    word_candidates: int
    unknown_words: tuple[str, ...]
    word_findings: tuple[WordFinding, ...]
    pictures: Mapping[str, str]

    @property
    def shown(self) -> tuple[str, ...]:
        """Keys of all pictures that are shown, each once."""
        strips = [one.strip for one in self.findings] + [one.strip for one in self.word_findings]
        keys = [key for strip in strips for key in (*strip.strongest, *strip.weakest)]
        return tuple(dict.fromkeys([*keys, *(key for one in self.rare for key in one.pictures)]))

    def as_data(self) -> dict[str, Any]:
        """Return it as plain data."""
        return asdict(self)

    @classmethod
    def of_data(cls, data: Mapping[str, Any]) -> OpenSet:
        """Read plain data back.

        Raises:
            KeyError: A field is missing.
            TypeError: A field has another form.
        """
        plain = dict(data)
        findings, rare, words = (plain.pop(name) for name in ("findings", "rare", "word_findings"))
        return cls(
            findings=tuple(
                Finding(**{**one, "words": tuple(one["words"]), "strip": _strip(one["strip"])}) for one in findings
            ),
            rare=tuple(Rare(**{**one, "pictures": tuple(one["pictures"])}) for one in rare),
            word_findings=tuple(WordFinding(**{**one, "strip": _strip(one["strip"])}) for one in words),
            unknown_words=tuple(plain.pop("unknown_words")),
            **plain,
        )


def _strip(data: Mapping[str, Any]) -> Strip:
    return Strip(tuple(data["strongest"]), tuple(data["weakest"]))
