"""The concepts that are edited, in the dictionary of each window: parts by masks, others by what prompts change."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from torch import Tensor

from audit.analyses.concepts.naming import FEWEST_IMAGES
from audit.analyses.concepts.recorded import CONDITIONAL, loaded_segmenter, seed_of
from audit.analyses.concepts.stored_recording import STAGES, arrays_of, stage_window
from audit.analyses.stages.edits import ConceptVector, global_edit, quadrant_mask, spatial_edit
from audit.analyses.stages.request import Arm, TrialsRequest, neutral_prompt
from audit.dissect.sae import SaeShape, SparseAutoencoder
from audit.models.device import device_here
from audit.models.files.untrusted_model import UnfitModelError
from audit.models.generator import DiffusionGenerator, WatchedInside
from audit.models.intervention import Edit
from audit.storage.place import place_of

NOISES = 8
"""Noise seeds of the texts that name a concept, the same for each text."""

# N latents, P parts, G groups


@dataclass(frozen=True)
class Dictionary:
    """The dictionary of one window.

    Attributes:
        sae: The autoencoder.
        iou: (N, P) intersection over union of each latent and part; 0 for a latent that is rarely active.
    """

    sae: SparseAutoencoder
    iou: Tensor


@dataclass(frozen=True)
class StageConcepts:
    """Concepts by window.

    Attributes:
        dictionaries: Window → dictionary.
        vectors: (concept, window) → its vector.
        size: (H, W) of the map.
    """

    dictionaries: Mapping[str, Dictionary]
    vectors: Mapping[tuple[str, str], ConceptVector]
    size: tuple[int, int]

    def edit(self, arm: Arm, quadrants: Sequence[int]) -> Edit:
        """Return the edit of an arm.

        Args:
            arm: The arm.
            quadrants: Quadrant of each image.
        """
        sae, vector = self.dictionaries[arm.stage].sae, self.vectors[arm.concept, arm.stage]
        if arm.kind != "spatial":
            return global_edit(sae, vector, arm.strength)
        masks = torch.stack([quadrant_mask(quadrant, *self.size) for quadrant in quadrants])
        return spatial_edit(sae, vector, arm.strength, masks)


def stage_concepts(generator: DiffusionGenerator, request: TrialsRequest) -> StageConcepts:
    """Return the concepts of a request, made once on each worker."""
    texts = (request.template, request.neutral, tuple(request.asked.items()))
    key = (request.dictionaries, request.dictionaries_name, request.block, request.features, request.seed, texts)
    if _made.get("key") != key:
        _made.clear()
        _made.update(key=key, concepts=_concepts(generator, request))
    found: StageConcepts = _made["concepts"]
    return found


_made: dict[str, Any] = {}


def _concepts(generator: DiffusionGenerator, request: TrialsRequest) -> StageConcepts:
    dictionaries = {stage: load_dictionary(request.dictionaries, request.block[0], stage) for stage in STAGES}
    parts = loaded_segmenter(request.segmenter, request.model).parts
    vectors = {
        (part, stage): _vector(repr(part), stage, of, of.iou[:, number], request.features)
        for number, part in enumerate(parts)
        for stage, of in dictionaries.items()
    }
    texts = _texts_of_concepts(request)
    codes, size = _codes_of_texts(generator, request, chain.from_iterable(texts.values()), dictionaries)
    for concept, (named, *others) in texts.items():
        for stage, of in dictionaries.items():
            rest = torch.stack([codes[text, stage] for text in others]).mean(0)
            weights = codes[named, stage] - rest
            vectors[concept, stage] = _vector(repr(concept), stage, of, weights, request.features)
    return StageConcepts(dictionaries, vectors, size)


def _texts_of_concepts(request: TrialsRequest) -> dict[str, tuple[str, ...]]:
    """Return by concept a text that names it, and those that it is compared with.

    A group is compared with the other groups of its attribute, a style with the text that names none.
    """
    neutral = neutral_prompt(request.template, request.neutral)
    found: dict[str, tuple[str, ...]] = {
        concept: (style.text("", neutral), neutral.text) for concept, style in request.styles.items()
    }
    for concept, asked in request.groups.items():
        others = (one for name, one in request.groups.items() if one.attribute == asked.attribute and name != concept)
        found[concept] = tuple(one.text(request.template, neutral) for one in (asked, *others))
    return found


def _vector(concept: str, stage: str, of: Dictionary, weights: Tensor, features: int) -> ConceptVector:
    """Return the vector of a concept in a window.

    Raises:
        UnfitModelError: The dictionary has no latent for it.
    """
    try:
        return ConceptVector.of(of.sae, weights, features)
    except ValueError as error:
        raise UnfitModelError(
            f"concepts.stages: expected a latent of the {stage} window for {concept}, found none; leave it out of "
            "concepts.segmenter.parts or of concepts.stages, or raise concepts.images and concepts.sae_steps"
        ) from error


def load_dictionary(directory: str, block: int, stage: str) -> Dictionary:
    """Load the dictionary of a block, in the conditional half, from the parts of the dictionaries."""
    names = ("decoder", "encoder", "encoder_bias", "pre_bias", "input_scale", "iou", "active", "k")
    file = f"block{block}.{CONDITIONAL}.{stage}.safetensors"
    arrays = {name: torch.from_numpy(array) for name, array in arrays_of(place_of(directory), file, names).items()}
    latents, channels = arrays["decoder"].shape
    sae = SparseAutoencoder(SaeShape(channels, latents, int(arrays["k"])))
    # Files of parts have no arrays without an axis.
    sae.load_state_dict({name: arrays[name].reshape(own.shape) for name, own in sae.state_dict().items()})
    known = (arrays["active"] >= FEWEST_IMAGES)[:, None]
    return Dictionary(sae.eval().requires_grad_(False).to(device_here()), torch.where(known, arrays["iou"], 0.0))


def _codes_of_texts(
    generator: DiffusionGenerator, request: TrialsRequest, texts: Iterable[str], dictionaries: Mapping[str, Dictionary]
) -> tuple[dict[tuple[str, str], Tensor], tuple[int, int]]:
    """Return the mean codes (N,) of the edited block's update, by text and window, and (H, W)."""
    seeds = [seed_of(request.seed, "stage concepts", index) for index in range(NOISES)]
    windows = {stage: stage_window(stage, generator.steps) for stage in STAGES}
    found: dict[tuple[str, str], Tensor] = {}
    size = [0, 0]

    for text in dict.fromkeys(texts):

        def look(step: int, update: Tensor, text: str = text) -> None:
            size[:] = update.shape[-2:]
            for stage, window in windows.items():
                if step in window:
                    codes = dictionaries[stage].sae.latents_of_map(update.float()).mean((0, 1)) / len(window)
                    found[text, stage] = found.get((text, stage), torch.zeros_like(codes)) + codes

        generator.watch([text] * NOISES, seeds, WatchedInside({f"update:{request.block[1]}": look}))
    return found, (size[0], size[1])
