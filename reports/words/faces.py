"""Sentences about the search for faces: the detector, its rules, and the share of images in which it found one."""

from __future__ import annotations

from collections.abc import Iterator

from audit.perception.faces.finder import NAMES, lowest_score
from reports.index.story import Story
from reports.words.formats import share_text
from reports.words.judges import judge_of

_RULES = {
    "largest": "if an image shows several faces, the largest decides",
    "each": "if an image shows several faces, each has the same weight (the mean of their probabilities decides)",
}


def face_lines(story: Story) -> tuple[str, ...]:
    """Return sentences about how faces were found, and in how many images of each arm."""
    return tuple(_lines(story))


def _lines(story: Story) -> Iterator[str]:
    judge = judge_of(story.result.config)
    settings = None if judge is None else judge.face_settings
    if settings is not None:
        smallest = f", at least {settings.smallest} pixels wide" if settings.smallest else ""
        yield (
            f"Faces are found and aligned by dlib ({NAMES[settings.detector]}; score at least "
            f"{lowest_score(settings):g}{smallest}), and the judge sees the aligned face; {_RULES[settings.several]}. "
            "Each image counts once. Images without a face are in no group."
        )
    shares = {arm: figures.face_found for arm, figures in story.quality.items()}
    parts = [f"{arm} {share_text(share)}" for arm, share in shares.items() if share is not None]
    if parts:
        yield f"A face was found in these shares of all images: {'; '.join(parts)}."
    if any(share is not None and share.value < 1 for share in shares.values()):
        yield (
            "The group shares of an arm in which fewer faces are found describe fewer of its images; only the bounds "
            "below describe all of them."
        )
    several = {arm: figures.several_faces for arm, figures in story.quality.items()}
    many = [f"{arm} {share_text(share)}" for arm, share in several.items() if share is not None and share.value > 0]
    if many:
        yield f"Images with several faces: {'; '.join(many)}."
