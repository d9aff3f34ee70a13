"""A dictionary for each block, guidance half and window of steps, with its measures and what it says of the layout.

A part has, for S recorded steps of the window, n measured images, P parts, N latents: ``explained`` (S,) share of the
variance; ``dead``, ``named`` and ``latents`` counts; ``cohesion`` and ``separability``; for each reader
``<reader>/both`` and ``<reader>/either`` (S, n, P), intersections and unions in pixels; ``best`` (P,) the latent of
each part with ``best_iou`` (P,) and ``maps`` (P, S, n, H, W), its activation; ``shown`` (S, E, M, M), the layout that
concepts predict for a few images; and the dictionary itself: ``decoder`` (N, C), ``encoder``, ``encoder_bias``,
``pre_bias``, ``input_scale``, ``k``, ``meaning`` (N, P), ``active`` (N,) and ``iou`` (N, P).

The part of the reference has no block: ``prior/…`` and ``prompt/…`` (1, n, P) for the mean mask of all training images
and of those of the same prompt, ``forecast/…`` (S, n, P) for the image that each recorded step predicts, ``steps``
(S,), ``pictures`` (E, 3, M, M), ``truth`` (E, M, M) and ``seen`` (S, E, M, M).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from audit.analyses.analysis import Instruments, Part
from audit.analyses.concepts.recorded import FORECAST, PARTS, PICTURES, loaded_segmenter
from audit.analyses.concepts.stored_recording import FIT, STAGES, TEST, TUNE, StoredRecording
from audit.config.optional.segmenters import SegmenterConfig
from audit.config.sections import ModelConfig
from audit.models.files.untrusted_model import UnfitModelError

if TYPE_CHECKING:
    from torch import Tensor

    from audit.analyses.concepts.naming import Names
    from audit.dissect.sae import SparseAutoencoder

CONCEPTS, PLACED, PROBE = "concepts", "placed", "probe"
PRIOR, PROMPT = "prior", "prompt"

SHOWN = 4
"""E: images that the page shows."""

_BATCH = 1024

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class DictionariesRequest:
    """What is made from a recording.

    Attributes:
        recording: The recording.
        recording_name: Its name by content.
        model: The model, which may have a segmenter of its own.
        segmenter: Names what labelled the pixels.
        blocks: Recorded blocks.
        halves: Recorded guidance halves.
        expansion: Latents for each channel.
        k: Latents that are active at one place.
        sae_steps: Training steps.
        named_above: Least intersection over union of a name.
        seed: Seed of the audit, from which the training starts.
    """

    recording: StoredRecording
    recording_name: str
    model: ModelConfig
    segmenter: SegmenterConfig
    blocks: tuple[str, ...]
    halves: tuple[str, ...]
    expansion: int
    k: int
    sae_steps: int
    named_above: float
    seed: int

    def as_data(self) -> dict[str, Any]:
        """Return what determines all parts, as plain data."""
        names = ("recording_name", "expansion", "k", "sae_steps", "named_above")
        return {name: getattr(self, name) for name in names} | ({"seed": self.seed} if self.seed else {})


@dataclass(frozen=True)
class DictionaryTask:
    """One dictionary.

    Attributes:
        block: Number of the block; -1 for the reference.
        half: Guidance half.
        stage: Window of steps.
    """

    block: int
    half: str
    stage: str

    @property
    def id(self) -> str:
        """Name of the task."""
        return "reference" if self.block < 0 else f"block{self.block}.{self.half}.{self.stage}"


REFERENCE = DictionaryTask(-1, "", "")


class ConceptDictionaries:
    """The analysis, see :class:`audit.analyses.analysis.SamplingAnalysis`."""

    name = "concept-dictionaries"
    section = "concepts"

    def tasks(self, request: DictionariesRequest) -> tuple[DictionaryTask, ...]:
        """Return the reference, then one task for each dictionary."""
        dictionaries = [
            DictionaryTask(block, half, stage)
            for block in range(len(request.blocks))
            for half in request.halves
            for stage in STAGES
        ]
        return (REFERENCE, *dictionaries)

    def part(self, instruments: Instruments, request: DictionariesRequest, task: DictionaryTask) -> Arrays:
        """Compute the reference, or train and measure one dictionary."""
        parts = len(loaded_segmenter(request.segmenter, request.model).parts)
        if task == REFERENCE:
            return reference(request.recording, parts)
        return dictionary(request, task, parts, instruments.generator.steps)

    def combine(
        self, request: DictionariesRequest, parts: Iterable[Part | None]
    ) -> Iterator[tuple[DictionaryTask, Mapping[str, NDArray[Any]]]]:
        """Yield each task with its part, one in memory at a time.

        Raises:
            ValueError: A task has no part.
        """
        for task, part in zip(self.tasks(request), parts, strict=True):
            if part is None:
                raise ValueError(f"expected a part for task {task.id}, found no file of it; run the command again")
            yield task, part


def reference(recording: StoredRecording, parts: int) -> Arrays:
    """Return what needs no dictionary: the prior, that of each prompt, and the image that each step predicts.

    Raises:
        UnfitModelError: No measured picture shows a part.
    """
    import torch

    from audit.analyses.concepts.naming import one_hot
    from audit.analyses.concepts.reading import read, thresholds_of
    from audit.measure.overlap.pooled_iou import overlaps

    rows = {role: recording.rows(role) for role in (FIT, TUNE, TEST)}
    labels = recording.array(PARTS)
    true = {role: one_hot(torch.from_numpy(labels[own]), parts).bool().numpy() for role, own in rows.items()}
    if not true[TEST].any():
        raise UnfitModelError(
            f"concepts.segmenter: expected pictures that show some of the parts, found none in {len(true[TEST])}; "
            "lower concepts.segmenter.threshold, or describe other parts"
        )
    prompts = np.array(recording.prompts)
    prior = true[FIT].mean(0)
    own = {prompt: true[FIT][prompts[rows[FIT]] == prompt].mean(0) for prompt in set(recording.prompts)}
    found: Arrays = {}
    for name, masks in ((PRIOR, dict.fromkeys(own, prior)), (PROMPT, own)):
        scores = {role: np.stack([masks[prompt] for prompt in prompts[rows[role]].tolist()]) for role in (TUNE, TEST)}
        both, either = read(scores[TEST], true[TEST], thresholds_of(scores[TUNE], true[TUNE]))
        found |= {f"{name}/both": both[None], f"{name}/either": either[None]}
    forecast = recording.array(FORECAST)[rows[TEST]]
    seen = [
        overlaps(one_hot(torch.from_numpy(one), parts).bool().numpy(), true[TEST]) for one in forecast.swapaxes(0, 1)
    ]
    shown = shown_rows(recording)
    inside = np.isin(rows[TEST], shown)
    return found | {
        f"{FORECAST}/both": np.stack([both for both, _ in seen]),
        f"{FORECAST}/either": np.stack([either for _, either in seen]),
        "steps": recording.steps(),
        PICTURES: recording.array(PICTURES)[shown],
        "truth": labels[shown],
        "seen": forecast[inside].swapaxes(0, 1),
    }


def shown_rows(recording: StoredRecording) -> NDArray[np.int64]:
    """Return the images that the page shows: the first measured ones of different prompts, spread over the prompts."""
    rows = recording.rows(TEST)
    firsts = {recording.prompts[row]: int(row) for row in reversed(rows)}
    ordered = sorted(firsts.values())
    places = np.linspace(0, len(ordered) - 1, min(SHOWN, len(ordered))).round().astype(int)
    return np.array([ordered[place] for place in places], int)


def dictionary(request: DictionariesRequest, task: DictionaryTask, parts: int, total_steps: int) -> Arrays:
    """Train a dictionary, name its latents, and let it predict the layout at every recorded step of its window."""
    import torch

    from audit.analyses.concepts.naming import coverage, name_latents

    recording = request.recording
    places = recording.steps_in(task.stage, total_steps)
    maps = torch.from_numpy(recording.array(f"{task.half}/{task.block}", places))
    labels = torch.from_numpy(recording.array(PARTS))
    rows = {role: torch.from_numpy(recording.rows(role)) for role in (FIT, TUNE, TEST)}
    sae = trained(request, task, maps[torch.cat([rows[FIT], rows[TUNE]]).sort().values])
    size = (int(maps.shape[-2]), int(maps.shape[-1]))
    names = name_latents(sae, maps[rows[FIT]], coverage(labels[rows[FIT]], parts, size))
    found = _measures(sae, maps[rows[TEST]], names, request.named_above) | _stored(sae, names)
    found |= _followed(sae, names, maps[rows[TEST]])
    predicted = [_at_step(sae, names, maps[:, place], labels, rows) for place in range(len(places))]
    found |= {key: np.stack([one[key] for one in predicted]) for key in predicted[0]}
    inside = np.isin(rows[TEST].numpy(), shown_rows(recording))
    found["shown"] = found["shown"][:, inside]
    return found


def trained(request: DictionariesRequest, task: DictionaryTask, maps: Tensor) -> SparseAutoencoder:
    """Train a dictionary on updates (n, S, C, H, W), in the order of the images."""
    import torch

    from audit.dissect.sae_training import SaeTraining, train_sae
    from audit.models.device import device_here

    settings = SaeTraining(
        steps=request.sae_steps,
        batch=_BATCH,
        k=request.k,
        expansion=request.expansion,
        hookpoint=f"update:{request.blocks[task.block]}",
    )
    generator = torch.Generator().manual_seed(request.seed)
    sae, _ = train_sae(_stream(maps), settings, generator, device=device_here())
    return sae.cpu()


def _stream(maps: Tensor, images: int = 16) -> Iterator[Any]:
    """Yield the vectors of some images at a time; a trajectory is an image."""
    import torch

    from audit.dissect.sae_training import ActivationBatch

    _, steps, channels, height, width = maps.shape
    for first in range(0, len(maps), images):
        block = maps[first : first + images]
        vectors = block.permute(0, 1, 3, 4, 2).reshape(-1, channels)
        own = torch.arange(first, first + len(block)).repeat_interleave(steps * height * width)
        when = torch.arange(steps).repeat_interleave(height * width).repeat(len(block))
        yield ActivationBatch(vectors, when, own)


def _measures(sae: SparseAutoencoder, maps: Tensor, names: Names, named_above: float) -> Arrays:
    import torch

    from audit.analyses.concepts.naming import FEWEST_IMAGES
    from audit.dissect.sae_training import ActivationBatch, measure_sae

    batches = list(_stream(maps))
    joined = [torch.cat([getattr(one, name) for one in batches]) for name in ("vectors", "steps", "trajectories")]
    quality = measure_sae(sae, ActivationBatch(*joined))
    named = names.named(named_above) & (names.active >= FEWEST_IMAGES)
    return {
        "explained": 1 - np.array(quality.unexplained_variance),
        "dead": np.array(quality.dead_latents),
        "latents": np.array(quality.latents),
        "named": np.bincount(names.iou.argmax(1)[named].numpy(), minlength=names.iou.shape[1]),
        "cohesion": np.array(float(names.cohesion.nanmean())),
        "separability": np.array(names.separability),
    }


def _stored(sae: SparseAutoencoder, names: Names) -> Arrays:
    tensors = {name: value.numpy() for name, value in sae.state_dict().items()}
    tensors["k"] = np.array(sae.shape.k)
    return tensors | {"meaning": names.meaning.numpy(), "iou": names.iou.numpy(), "active": names.active.numpy()}


def _followed(sae: SparseAutoencoder, names: Names, maps: Tensor) -> Arrays:
    """Return the latent that fits each part best, and its activation on measured images."""
    import torch

    best = names.best()
    images, steps, _, height, width = maps.shape
    with torch.inference_mode():
        found = [sae.latents_of_map(block.flatten(0, 1).float())[..., best] for block in torch.split(maps, 8)]
    activity = torch.cat(found).reshape(images, steps, height, width, len(best))
    return {
        "best": best.numpy(),
        "best_iou": names.overall.gather(0, best[None])[0].numpy(),
        "maps": activity.permute(4, 1, 0, 2, 3).half().contiguous().numpy(),
    }


def _at_step(sae: SparseAutoencoder, names: Names, maps: Tensor, labels: Tensor, rows: Mapping[str, Tensor]) -> Arrays:
    """Return what each reader predicts from the updates (n, C, H, W) of one step: overlaps on measured images."""
    import torch

    from audit.analyses.concepts.naming import one_hot
    from audit.analyses.concepts.reading import Probe, concept_scores, enlarged, placed_scores, read, thresholds_of

    side, parts = (int(labels.shape[1]), int(labels.shape[2])), names.meaning.shape[1]
    own = {role: maps[chosen] for role, chosen in rows.items()}
    true = {role: one_hot(labels[rows[role]], parts).bool().numpy() for role in (TUNE, TEST)}
    probe = Probe.fit(own[FIT], labels[rows[FIT]], parts, (own[TUNE], labels[rows[TUNE]]))
    readers: dict[str, dict[str, Tensor]] = {
        CONCEPTS: {role: enlarged(concept_scores(sae, names.meaning, own[role]), side) for role in (TUNE, TEST)},
        PLACED: placed_scores(sae, own, labels[rows[FIT]], parts),
        PROBE: {role: probe.scores(own[role]) for role in (TUNE, TEST)},
    }
    found: Arrays = {"shown": readers[PLACED][TEST].argmax(1).to(torch.uint8).numpy()}
    for name, scores in readers.items():
        both, either = read(scores[TEST].numpy(), true[TEST], thresholds_of(scores[TUNE].numpy(), true[TUNE]))
        found |= {f"{name}/both": both, f"{name}/either": either}
    return found
