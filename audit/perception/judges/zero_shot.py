"""A second judge that needs no training: CLIP, asked which group's caption fits an image best.

It knows only the captions that it is given: a person who fits none of them is still given to one of the audited groups,
and no image lies outside them. A group that a config leaves out is no answer that it can give.

It goes with any open_clip model, so that every audit can have a second opinion on its judge. It is no better than the
captions that the model was trained on, and repeats their stereotypes: report its agreement with the judge, and its own
confusion matrix where there are labels, before its answers are used for anything else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax
from torch import Tensor

from audit.perception.embedders.clip import ClipEmbedder
from audit.perception.judges.answers import group_captions
from audit.perception.judges.perceived import FloatArray, Perceived, perceived


class ZeroShotJudge:
    """CLIP as a judge (Radford et al. 2021, section 3.1): softmax of scaled cosines over an attribute's own groups.

    It detects no faces: every image is judged, and only a low confidence is reported.

    Args:
        clip: The CLIP model.
        attributes: Attribute → groups, in the config's order.
        min_confidence: Images whose most probable group is less probable than this are of low confidence.
    """

    def __init__(self, clip: ClipEmbedder, attributes: Mapping[str, Sequence[str]], min_confidence: float) -> None:
        self._clip = clip
        self._captions = {
            attribute: np.stack([clip.text(text) for text in group_captions(attribute, groups)])
            for attribute, groups in attributes.items()
        }
        self._min_confidence = min_confidence
        self.signature = f"judge:zero-shot|{clip.signature}|min_confidence:{min_confidence}"

    def perceive(self, images: Tensor, occupation: str) -> Perceived:
        """Judge uint8 images ``(n, 3, H, W)``; whether they show the occupation is not asked."""
        return self.perceive_embedded(self._clip.images(images))

    def perceive_embedded(self, embeddings: NDArray[np.float32]) -> Perceived:
        """Judge images that the same CLIP model has embedded already: unit rows ``(n, d)``."""
        shares = {name: self._probabilities(embeddings, texts) for name, texts in self._captions.items()}
        audited = {name: range(len(texts)) for name, texts in self._captions.items()}
        return perceived(shares, audited, self._min_confidence)

    def _probabilities(self, embeddings: NDArray[np.float32], texts: NDArray[np.float32]) -> FloatArray:
        """Return the softmax over the captions ``(groups, d)``, shape ``(n, groups)``."""
        shares: FloatArray = softmax(self._clip.logit_scale * embeddings @ texts.T, axis=1).astype(np.float32)
        return shares
