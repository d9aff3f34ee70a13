"""A zero-shot judge: CLIP selects the group whose caption fits an image best.

It knows only the given captions. A person who fits none of them is still assigned to one of the audited groups, so no
image is outside them. It cannot answer with a group that the config does not name.

It works with any open_clip model, so every audit can have a second opinion on its judge. It repeats the stereotypes of
the captions that the model was trained on. Report its agreement with the judge, and its confusion matrix if there are
labels, before its answers are used for any other purpose.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from audit.config.fields import ZERO_SHOT
from audit.config.problems import Problem
from audit.config.sections import JudgeKeys, ModelConfig
from audit.models.files.untrusted_model import UnfitModelError
from audit.perception.judges.answers import Answers
from audit.perception.judges.captions import captions_of
from audit.perception.judges.interface import Asked, Audited, Judge
from audit.perception.judges.perceived import FloatArray, Perceived, perceived

if TYPE_CHECKING:
    from torch import Tensor

    from audit.perception.embedders.clip import ClipEmbedder


class ZeroShotJudge:
    """CLIP as a judge (Radford et al. 2021, section 3.1): softmax of scaled cosines over the groups of an attribute.

    It does not detect faces: every image is classified, and only low confidence is reported.

    Args:
        clip: The CLIP model.
        attributes: Attribute → groups, in the config's order.
        min_confidence: An image has low confidence if the probability of its most probable group is below this.
    """

    def __init__(self, clip: ClipEmbedder, attributes: Audited, min_confidence: float) -> None:
        self._clip = clip
        self._captions = {
            attribute: np.stack([_embedded(clip, texts) for texts in captions_of(attribute, groups).values()])
            for attribute, groups in attributes.items()
        }
        self._min_confidence = min_confidence
        self.signature = f"judge:zero-shot|{clip.signature}|min_confidence:{min_confidence}"

    def perceive(self, images: Tensor, occupation: str) -> Perceived:
        """Judge uint8 images ``(n, 3, H, W)``; the occupation is not used."""
        return self.perceive_embedded(self._clip.images(images))

    def perceive_embedded(self, embeddings: NDArray[np.float32]) -> Perceived:
        """Judge images by their embeddings from the same CLIP model, unit rows ``(n, d)``."""
        shares = {name: self._probabilities(embeddings, texts) for name, texts in self._captions.items()}
        audited = {name: range(len(texts)) for name, texts in self._captions.items()}
        return perceived(shares, audited, self._min_confidence)

    def _probabilities(self, embeddings: NDArray[np.float32], texts: NDArray[np.float32]) -> FloatArray:
        """Return the softmax over the captions ``(groups, d)``, shape ``(n, groups)``."""
        from scipy.special import softmax

        shares: FloatArray = softmax(self._clip.logit_scale * embeddings @ texts.T, axis=1).astype(np.float32)
        return shares


def _embedded(clip: ClipEmbedder, texts: Sequence[str]) -> NDArray[np.float32]:
    """Return the mean of the embeddings of a group's captions as a unit vector ``(d,)``.

    This is what open_clip's ``build_zero_shot_classifier`` does.
    """
    mean = np.mean([clip.text(text) for text in texts], axis=0)
    unit: NDArray[np.float32] = mean / np.linalg.norm(mean)
    return unit


class ZeroShot:
    """The CLIP model of the quality figures as a judge."""

    name = "zero-shot CLIP"
    word = ZERO_SHOT

    def is_named_by(self, judge: JudgeKeys) -> bool:
        """Return whether the source is ``zero-shot``."""
        return judge.source == ZERO_SHOT

    def answers(self, asked: Asked) -> Answers | None:
        """Return None: captions can name any group."""
        return None

    def problems(self, asked: Asked) -> Iterator[Problem]:
        """Find nothing: the check of ``quality.clip`` covers the model."""
        yield from ()

    def fingerprint(self, judge: JudgeKeys, model: ModelConfig) -> str:
        """Return the word; the CLIP model is not part of the section."""
        return judge.source

    def load(self, judge: JudgeKeys, model: ModelConfig, attributes: Audited, clip: ClipEmbedder | None) -> Judge:
        """Embed the captions with the CLIP model of the quality figures."""
        if clip is None:
            raise UnfitModelError("a zero-shot judge needs a CLIP model, found none; set quality.clip")
        return ZeroShotJudge(clip, attributes, judge.min_confidence)
