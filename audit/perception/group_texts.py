"""Texts of groups for CLIP-D, and how near an image is to each of them.

CLIP-D is the cosine of two normalised embeddings of one CLIP model: the image, and the text of a group. It follows what
the text of DiffLens says of its Eq. 17 (appendix E.3); the formula itself was not available. It is not the *directional
similarity* of image editing (StyleGAN-NADA, Gal et al. 2021), the cosine of two differences: between an image and its
edit, and between two texts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from audit.config.judges import JudgeKeys
from audit.perception.judges.captions import captions_of
from audit.storage.rows import clip_d_column

if TYPE_CHECKING:
    from audit.perception.embedders.clip import ClipEmbedder

Floats = NDArray[np.float32]

GroupTexts = Mapping[str, Mapping[str, tuple[str, ...]]]
"""Attribute → audited group → its texts, whose embeddings are averaged."""


def group_texts(attributes: Mapping[str, Sequence[str]], judges: Iterable[JudgeKeys]) -> GroupTexts:
    """Return the texts of the audited groups: the captions of a zero-shot judge.

    They are the default captions (``a face photo of a male person``), or those that the config has for the first judge
    with captions for the attribute.

    Args:
        attributes: Attribute → audited groups.
        judges: Judges of the audit, the one that decides first.
    """
    own = [judge.zero_shot for judge in judges if judge.zero_shot is not None]
    found = {}
    for name, groups in attributes.items():
        texts = captions_of(name, groups, next((one for one in own if name in one.captions), None))
        found[name] = {group: texts[group] for group in groups}
    return found


@dataclass(frozen=True)
class GroupDirections:
    """Embeddings of the texts of groups.

    Attributes:
        columns: Column of the rows → unit vector (d,); None if the CLIP model does not read the texts to their end.
    """

    columns: Mapping[str, Floats | None]

    @classmethod
    def of(cls, clip: ClipEmbedder, texts: GroupTexts) -> GroupDirections:
        """Embed every text once."""
        return cls(
            {
                clip_d_column(attribute, group): clip.mean_text(own) if all(map(clip.reads, own)) else None
                for attribute, groups in texts.items()
                for group, own in groups.items()
            }
        )

    def cosines(self, embedded: Floats) -> dict[str, Floats | None]:
        """Return the cosines of images, unit rows (n, d), to each group's text, shape (n,), by column."""
        return {name: None if text is None else embedded @ text for name, text in self.columns.items()}
