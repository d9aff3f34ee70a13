"""A zero-shot judge: CLIP selects the group whose captions fit an image best.

It knows only the given captions. A person who fits none of them is still assigned to one of the groups that have
captions, so captions of groups that are not audited are the only way to an answer outside the audited groups.

It works with any open_clip model and any attribute that captions can name. It repeats the stereotypes of the captions
that the model was trained on. Report its agreement with another judge, and its confusion matrix if there are labels.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from audit.calibration.bundle import bundle_of, missing_weights
from audit.config.fields import GENERATED_HERE, ZERO_SHOT
from audit.config.judges import JudgeKeys, ZeroShotConfig
from audit.config.problems import MODEL_KEYS, Problem
from audit.config.sections import ModelConfig
from audit.models.files.untrusted_model import UnfitModelError
from audit.perception.judges.answers import Answers, audited_columns
from audit.perception.judges.captions import captions_of
from audit.perception.judges.interface import Asked, Audited, Judge
from audit.perception.judges.perceived import FloatArray, Perceived, perceived
from audit.storage.provenance import short_fingerprint

if TYPE_CHECKING:
    from torch import Tensor

    from audit.perception.embedders.clip import ClipEmbedder

Floats = NDArray[np.float32]

PUBLISHED: Mapping[str, tuple[float, float]] = {"gender": (95.9, 97.2), "race": (58.3, 91.3), "age": (57.1, 54.3)}
"""Accuracy in percent on FairFace, for faces labelled White and for all others (Radford et al. 2021, tables 3 and 4).

The higher values of the model card, 93 % for race and 63 % for age, are those of a linear probe, not of captions."""


class ZeroShotJudge:
    """CLIP as a judge (Radford et al. 2021, section 3.1): softmax of scaled cosines over the groups of an attribute.

    The embeddings of a group's captions are averaged, as in open_clip's ``build_zero_shot_classifier``. It does not
    detect faces: every image is classified, and only low confidence is reported.

    Args:
        clip: The CLIP model.
        attributes: Attribute → audited groups, in the config's order.
        min_confidence: An image has low confidence if the probability of its most probable group is below this.
        settings: Captions and temperature; by default one caption for each group, and the model's own temperature.
    """

    def __init__(
        self, clip: ClipEmbedder, attributes: Audited, min_confidence: float, settings: ZeroShotConfig | None = None
    ) -> None:
        settings = settings or ZeroShotConfig()
        captions = {name: captions_of(name, groups, settings) for name, groups in attributes.items()}
        answers = {name: tuple(groups) for name, groups in captions.items()}
        self._audited = audited_columns(ZeroShot.name, answers, attributes)
        self._texts = {
            name: np.stack([clip.mean_text(texts) for texts in groups.values()]) for name, groups in captions.items()
        }
        self._min_confidence = min_confidence
        self.clip = clip
        self.temperature = settings.temperature or 1 / clip.logit_scale
        own = f"|captions:{_digest(captions)}" if settings.captions else ""
        own += f"|temperature:{settings.temperature:g}" if settings.temperature is not None else ""
        self.signature = f"judge:zero-shot|{clip.signature}{own}|min_confidence:{min_confidence}"

    def perceive(self, images: Tensor, occupation: str) -> Perceived:
        """Judge uint8 images ``(n, 3, H, W)``; the occupation is not used."""
        return self.perceive_embedded(self.clip.images(images))

    def perceive_embedded(self, embeddings: Floats) -> Perceived:
        """Judge images by their embeddings from the same CLIP model, unit rows ``(n, d)``."""
        shares = {name: self._probabilities(embeddings, texts) for name, texts in self._texts.items()}
        return perceived(shares, self._audited, self._min_confidence)

    def with_gradients(self, pictures: Tensor, attribute: str) -> Tensor:
        """Return log-probabilities of the audited groups, see ``GradientJudge``."""
        import torch

        embedded = self.clip.with_gradients(pictures)
        texts = torch.from_numpy(self._texts[attribute]).to(embedded)
        return (embedded @ texts.T / self.temperature).log_softmax(1)[:, self._audited[attribute]]

    def _probabilities(self, embeddings: Floats, texts: Floats) -> FloatArray:
        """Return the softmax over the groups' captions ``(groups, d)``, shape ``(n, groups)``."""
        from scipy.special import softmax

        shares: FloatArray = softmax(embeddings @ texts.T / self.temperature, axis=1).astype(np.float32)
        return shares


def _digest(captions: Mapping[str, Mapping[str, Sequence[str]]]) -> str:
    return hashlib.sha256(json.dumps(captions).encode()).hexdigest()[:12]


class ZeroShot:
    """CLIP as a judge: by default the model of the quality figures."""

    name = "zero-shot CLIP"
    word = ZERO_SHOT
    has_gradients = True

    def is_named_by(self, judge: JudgeKeys) -> bool:
        """Return whether the source is ``zero-shot``."""
        return judge.source == ZERO_SHOT

    def answers(self, asked: Asked) -> Answers | None:
        """Return the audited groups and the further ones that have captions."""
        settings = asked.judge.zero_shot
        return {name: tuple(captions_of(name, groups, settings)) for name, groups in asked.attributes.items()}

    def problems(self, asked: Asked) -> Iterator[Problem]:
        """Find a CLIP model that cannot be used; that of ``quality.clip`` is checked with the other networks."""
        source = asked.judge.zero_shot.clip if asked.judge.zero_shot is not None else None
        if source is None:
            return
        at, reads = (*asked.at, "zero_shot", "clip"), (("quality", "clip"), *MODEL_KEYS)
        if source == "bundled":
            obstacle = missing_weights(asked.model, "clip")
            if asked.model.source not in GENERATED_HERE and not asked.model.drawings:
                obstacle = f"expected another CLIP model for {asked.model.source!r}, found 'bundled', made for drawings"
        else:
            from audit.perception.embedders.clip_directory import clip_source_problem

            obstacle = clip_source_problem(source)
        if obstacle is not None:
            yield Problem(at, obstacle, reads)

    def fingerprint(self, judge: JudgeKeys, model: ModelConfig) -> str:
        """Return the CLIP model, the fingerprint of its weights if they are on this machine, and of the captions."""
        settings = judge.zero_shot or ZeroShotConfig()
        bundle, source = bundle_of(model), settings.clip or ""
        directory = bundle.clip if bundle is not None and source == "bundled" else Path(source)
        weights = short_fingerprint(directory) if source and directory.is_dir() else "named"
        own = _digest(settings.model_dump(mode="json", exclude={"clip"}))
        return f"{judge.source}:{source}:{weights}:{own}"

    def notes(self, judge: JudgeKeys, attributes: Audited) -> Iterator[str]:
        """State the published accuracies, the captions and the temperature."""
        settings = judge.zero_shot or ZeroShotConfig()
        clip = settings.clip or "not recorded"
        yield f"It is zero-shot CLIP ({clip}): each image gets the group whose captions fit best."
        published = {name: PUBLISHED[name] for name in attributes if name in PUBLISHED}
        if published:
            parts = (f"{name} {white} % and {other} %" for name, (white, other) in published.items())
            yield (
                "Its published accuracy on FairFace, for faces labelled White and for all others (Radford et al. 2021, "
                f"tables 3 and 4): {'; '.join(parts)}. Other weights, captions and pictures have other accuracies."
            )
        unknown = [name.replace("_", " ") for name in attributes if name not in PUBLISHED]
        if unknown:
            yield f"No accuracy of zero-shot CLIP is known for {', '.join(unknown)}."
        for name, groups in attributes.items():
            captions = captions_of(name, groups, settings)
            texts = "; ".join(f"{group}: {', '.join(f'“{t}”' for t in own)}" for group, own in captions.items())
            yield f"Captions for {name.replace('_', ' ')}: {texts}."
        if settings.temperature is not None:
            yield f"Its temperature is set to {settings.temperature:g}."
        else:
            yield "Its temperature is the model's own, at which its probabilities are too sure."

    def load(self, judge: JudgeKeys, model: ModelConfig, attributes: Audited, clip: ClipEmbedder | None) -> Judge:
        """Embed the captions; the CLIP model of the quality figures is shared if it is the same."""
        from audit.models.device import device_here
        from audit.perception.embedders.clip import ClipEmbedder, clip_weights

        source = judge.zero_shot.clip if judge.zero_shot is not None else None
        if source is not None:
            weights = clip_weights(source, model)
            clip = clip if clip is not None and clip.weights == weights else ClipEmbedder(weights, device_here())
        if clip is None:
            raise UnfitModelError("a zero-shot judge needs a CLIP model, found none; set quality.clip")
        return ZeroShotJudge(clip, attributes, judge.min_confidence, judge.zero_shot)
