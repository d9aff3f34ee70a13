"""A zero-shot judge: CLIP selects the group whose caption fits an image best.

It knows only the given captions. A person who fits none of them is still assigned to one of the audited groups, so no
image is outside them. It cannot answer with a group that the config does not name.

It works with any open_clip model, so every audit can have a second opinion on its judge. It repeats the stereotypes of
the captions that the model was trained on. Report its agreement with the judge, and its confusion matrix if there are
labels, before its answers are used for any other purpose.
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
    """CLIP as a judge (Radford et al. 2021, section 3.1): softmax of scaled cosines over the groups of an attribute.

    It does not detect faces: every image is classified, and only low confidence is reported.

    Args:
        clip: The CLIP model.
        attributes: Attribute → groups, in the config's order.
        min_confidence: An image has low confidence if the probability of its most probable group is below this.
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
        """Judge uint8 images ``(n, 3, H, W)``; the occupation is not used."""
        return self.perceive_embedded(self._clip.images(images))

    def perceive_embedded(self, embeddings: NDArray[np.float32]) -> Perceived:
        """Judge images by their embeddings from the same CLIP model, unit rows ``(n, d)``."""
        shares = {name: self._probabilities(embeddings, texts) for name, texts in self._captions.items()}
        audited = {name: range(len(texts)) for name, texts in self._captions.items()}
        return perceived(shares, audited, self._min_confidence)

    def _probabilities(self, embeddings: NDArray[np.float32], texts: NDArray[np.float32]) -> FloatArray:
        """Return the softmax over the captions ``(groups, d)``, shape ``(n, groups)``."""
        shares: FloatArray = softmax(self._clip.logit_scale * embeddings @ texts.T, axis=1).astype(np.float32)
        return shares
