"""Makes the rows of a shard: what is perceived and measured in every image of every arm."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from torch import Tensor

from audit.generation.activations import is_recorded
from audit.generation.parts import ShardParts
from audit.generation.settings import ShardSettings
from audit.perception.embedders.clip import ClipEmbedder
from audit.perception.embedders.features import FeatureEmbedder
from audit.perception.embedders.pairs import LpipsDistance, cosines, psnr
from audit.perception.group_texts import GroupDirections
from audit.perception.judges.interface import Judge
from audit.perception.judges.kinds.hand_labels import HandLabels
from audit.perception.judges.kinds.zero_shot import ZeroShotJudge
from audit.perception.judges.label_table import key_name
from audit.perception.judges.perceived import NO_GROUP, Perceived
from audit.perception.segmenters.outside import composite, psnr_outside
from audit.records.arms.joint import joined
from audit.records.attributes import Attribute, SecondOpinion
from audit.records.work import BASELINE, ImageKey, Shard, Status
from audit.storage.rows import (
    ACTIVATIONS,
    ASSIGNED,
    FACE_SCORE,
    FACES,
    FEATURES,
    PAIRED,
    assigned_column,
    clip_d_columns,
    opinion_column,
    outside_column,
    probability_column,
    row_schema,
)

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]
_UNSEEN = (Status.FAILED, Status.NO_FACE, Status.UNLABELLED)
"""Statuses of images of which the judge perceived nothing."""

Assigned = tuple[str | None, ...]
"""The group that each image is steered to, None for an image without intervention."""

Vectors = Mapping[str, Floats]
"""Edited places → vectors (n, S, m) of all images of the shard."""


def table_of(
    parts: ShardParts,
    settings: ShardSettings,
    shard: Shard,
    measured: Mapping[str, Measured],
    assigned: Mapping[str, Mapping[str, Assigned]],
    seeds: Sequence[int] | None = None,
) -> pa.Table:
    """Return a row per arm and image, see ``audit.storage.rows.row_schema``.

    Args:
        parts: Networks that measure.
        settings: Settings of the shard.
        shard: The prompt and its images.
        measured: Arm → images as measured.
        assigned: Arm → steered attribute → the group that each image is steered to; empty for the baseline.
        seeds: What identifies the draw of each image; None for the seeds of the audit.
    """
    seeds = [key.seed(settings.seed) for key in shard.keys] if seeds is None else seeds
    text = None if parts.clip is None or not shard.prompt.text else parts.clip.text(shard.prompt.text)
    pairs = _Pairs.of(parts, measured)
    schema = row_schema(settings.attributes, settings.opinions, faces=settings.faces)
    tables = []
    for name, by_attribute in assigned.items():
        columns: dict[str, Any] = {
            "arm": [name] * len(shard.indices),
            "prompt_id": [shard.prompt.id] * len(shard.indices),
            "index": shard.indices,
            "seed": seeds,
            **_assigned_columns(by_attribute, settings.attributes, len(shard.indices)),
            **_measured_columns(measured[name], settings.attributes),
            **_clip_columns(measured[name], None if name == BASELINE else measured[BASELINE], text),
            **_direction_columns(measured[name], parts.directions, settings.attributes),
            **pairs.columns(name),
            **_opinion_columns(measured[name], settings.opinions),
            **_face_columns(measured[name]),
            ACTIVATIONS: [None] * len(shard.indices),
        }
        arrays = [pa.array(columns[field.name], type=field.type, from_pandas=False) for field in schema]
        tables.append(pa.Table.from_arrays(arrays, schema=schema))
    return pa.concat_tables(tables)


def with_activations(table: pa.Table, activations: Mapping[str, Vectors], prompts: int) -> pa.Table:
    """Return the rows of a shard with the activations of its recorded images.

    Args:
        table: Rows of ``table_of``.
        activations: Arm → activations at the edited places, empty for an arm that edits none.
        prompts: Number of the audit's prompts.
    """
    values: list[list[tuple[str, Floats]] | None] = []
    images = table.num_rows // len(activations)
    columns = (table[name].to_pylist() for name in ("arm", "prompt_id", "index", "status"))
    for row, (arm, prompt, index, status) in enumerate(zip(*columns, strict=True)):
        kept = is_recorded(ImageKey(prompt, index), prompts) and status != Status.FAILED.value
        own = [(places, vectors[row % images].ravel()) for places, vectors in activations[arm].items()]
        values.append(own if own and kept else None)
    place = table.schema.get_field_index(ACTIVATIONS)
    field = table.schema.field(place)
    return table.set_column(place, field, pa.array(values, type=field.type, from_pandas=True))  # NaN as null


def _assigned_columns(
    assigned: Mapping[str, Assigned], attributes: Sequence[Attribute], images: int
) -> dict[str, Assigned]:
    """Return the group of each steered attribute, and of all of them together, null where none is assigned."""
    nothing: Assigned = (None,) * images
    groups = {attribute.name: assigned.get(attribute.name, nothing)[:images] for attribute in attributes}
    cells = [
        tuple(group for group in cell if group is not None)
        for cell in zip(*(own[:images] for own in assigned.values()), strict=True)
    ]
    together: Assigned = tuple(joined(cell) if cell else None for cell in cells) or nothing
    return {ASSIGNED: together} | {assigned_column(name): own for name, own in groups.items()}


@dataclass(frozen=True)
class Measured:
    """What the networks that measure say of the n images of an arm.

    Attributes:
        images: (n, 3, H, W).
        broken: (n,) images that could not be made.
        statuses: One per image.
        seen: Answers of the judge.
        clip: Embeddings (n, d), None without a CLIP model.
        features: Embeddings for the distances between arms, None without such a network.
        second: Answers of the further judges, by name.
    """

    images: Tensor
    broken: Mask
    statuses: list[Status]
    seen: Perceived
    clip: Floats | None
    features: Floats | None
    second: dict[str, Perceived]

    def codes(self, attribute: str) -> NDArray[np.int64]:
        """Return the index of each image's group, negative for an image without one, shape (n,)."""
        return np.where(self.broken, NO_GROUP, self.seen.codes(attribute))


def measure(parts: ShardParts, shard: Shard, arm: str, images: Tensor) -> Measured:
    """Measure the images (n, 3, H, W) of an arm, each by itself."""
    broken = _broken(images)
    clip = None if parts.clip is None else parts.clip.images(images)
    shown = _Shown(shard, arm, images, parts.clip, clip)
    seen = shown.to(parts.judge)
    return Measured(
        images=images,
        broken=broken,
        statuses=[Status.FAILED if bad else status for bad, status in zip(broken, seen.statuses, strict=True)],
        seen=seen,
        clip=clip,
        features=None if parts.features is None else parts.features.embed(images),
        second={name: shown.to(judge) for name, judge in parts.second.items()},
    )


@dataclass(frozen=True)
class _Shown:
    """Images of one arm, with everything that a judge may know of them.

    Attributes:
        shard: The prompt and the indices of the images.
        arm: The arm.
        images: The images.
        clip: CLIP model of the quality figures, None if there is none.
        embedded: The images as this model embeds them.
    """

    shard: Shard
    arm: str
    images: Tensor
    clip: ClipEmbedder | None
    embedded: Floats | None

    def to(self, judge: Judge) -> Perceived:
        """Ask a judge.

        A zero-shot judge gets the embeddings that its CLIP model has made already, since making them is nearly all that
        it costs. Labels by hand are looked up by the names of the images.
        """
        if isinstance(judge, ZeroShotJudge) and self.embedded is not None and judge.clip is self.clip:
            return judge.perceive_embedded(self.embedded)
        if isinstance(judge, HandLabels):
            return judge.perceive_named([key_name(key.prompt_id, key.index, self.arm) for key in self.shard.keys])
        return judge.perceive(self.images, self.shard.prompt.occupation)


def _broken(images: Tensor) -> Mask:
    """Mark images of one single value: NaN in the latents decodes to that, and a picture of a face does not."""
    flat = images.flatten(1)
    mask: Mask = (flat.amin(1) == flat.amax(1)).numpy()
    return mask


def _measured_columns(measured: Measured, attributes: Sequence[Attribute]) -> dict[str, Any]:
    unseen = np.array([status in _UNSEEN for status in measured.statuses])
    columns: dict[str, Any] = {
        "status": [status.value for status in measured.statuses],
        "p_prompt_shown": _nullable(measured.seen.prompt_shown, measured.broken),
        FEATURES: [
            None if bad or measured.features is None else measured.features[row]
            for row, bad in enumerate(measured.broken)
        ],
    }
    for attribute in attributes:
        outside = measured.seen.lies_outside(attribute.name)
        columns[outside_column(attribute.name)] = pa.array(outside, mask=unseen)
        values = measured.seen.among_groups(attribute.name)
        for position, group in enumerate(attribute.groups):
            columns[probability_column(attribute.name, group)] = _nullable(values[:, position], unseen | outside)
    return columns


def _opinion_columns(measured: Measured, opinions: Sequence[SecondOpinion]) -> dict[str, Any]:
    """Return the further judges' probabilities, null if a judge named none of the audited groups."""
    columns: dict[str, Any] = {}
    for opinion in opinions:
        seen = measured.second[opinion.judge]
        silent = measured.broken | np.array([status != Status.CLASSIFIED for status in seen.statuses])
        for attribute in opinion.attributes:
            missing = silent | seen.lies_outside(attribute.name)
            values = seen.among_groups(attribute.name)
            for position, group in enumerate(attribute.groups):
                columns[opinion_column(opinion.judge, attribute.name, group)] = _nullable(values[:, position], missing)
    return columns


def _face_columns(measured: Measured) -> dict[str, Any]:
    """Return the number of faces and their largest score, null in images that could not be made."""
    faces = measured.seen.faces
    if faces is None:
        return {}
    return {
        FACES: pa.array(faces.counts.astype(np.int32), mask=measured.broken),
        FACE_SCORE: _nullable(faces.scores, measured.broken | np.isnan(faces.scores)),
    }


def _clip_columns(measured: Measured, baseline: Measured | None, text: Floats | None) -> dict[str, Any]:
    """Return the cosines, as inner products of unit rows. The baseline has no ``clip_i``, which would be 1."""
    to_text = None if measured.clip is None or text is None else measured.clip @ text
    to_baseline, missing = None, measured.broken
    if baseline is not None and measured.clip is not None and baseline.clip is not None:
        to_baseline = (measured.clip * baseline.clip).sum(axis=1)
        missing = measured.broken | baseline.broken
    return {"clip_t": _nullable(to_text, measured.broken), "clip_i": _nullable(to_baseline, missing)}


def _direction_columns(
    measured: Measured, directions: GroupDirections | None, attributes: Sequence[Attribute]
) -> dict[str, Any]:
    """Return the cosines to the texts of the groups (CLIP-D), null without a CLIP model or for a text that it cuts."""
    names = clip_d_columns(attributes)
    found = {} if directions is None or measured.clip is None else directions.cosines(measured.clip)
    return {name: _nullable(found.get(name), measured.broken) for name in names}


@dataclass(frozen=True)
class _Pairs:
    """Compares the images of an arm with the baseline images of the same keys.

    Attributes:
        images: Arm → images.
        broken: Arm → images that could not be made.
        lpips: Network, None without one.
        dino: Arm → embeddings by DINOv2, empty without it.
        embedder: DINOv2.
        shown: Arm → pixels outside the hidden parts (n, H, W), empty if no parts are hidden.
    """

    images: Mapping[str, Tensor]
    broken: Mapping[str, Mask]
    lpips: LpipsDistance | None
    dino: Mapping[str, Floats]
    embedder: FeatureEmbedder | None
    shown: Mapping[str, Tensor]

    @classmethod
    def of(cls, parts: ShardParts, measured: Mapping[str, Measured]) -> _Pairs:
        images = {arm: found.images for arm, found in measured.items()}
        network, dino = parts.pairs.dino, dict[str, Floats]()
        if network is not None and len(images) > 1:
            for arm, found in measured.items():
                known = found.features if network is parts.features else None
                dino[arm] = network.embed(images[arm]) if known is None else known
        broken = {arm: found.broken for arm, found in measured.items()}
        outside = parts.outside if len(images) > 1 else None
        shown = {} if outside is None else {arm: outside.shown(own) for arm, own in images.items()}
        return cls(images, broken, parts.pairs.lpips, dino, network, shown)

    def columns(self, arm: str) -> dict[str, pa.Array]:
        """Return the columns of an arm, null in the baseline and where there is no value."""
        found = dict.fromkeys(PAIRED) | ({} if arm == BASELINE else self._compared(arm))
        missing = self.broken[arm] | self.broken[BASELINE]
        return {
            name: _nullable(values, missing if values is None else missing | np.isnan(values))
            for name, values in found.items()
        }

    def _compared(self, arm: str) -> dict[str, Floats | None]:
        images, baseline = self.images[arm], self.images[BASELINE]
        return {
            "psnr": psnr(images, baseline),
            "lpips": None if self.lpips is None else self.lpips.between(images, baseline),
            "dino_i": cosines(self.dino[arm], self.dino[BASELINE]) if self.dino else None,
            **(self._outside(images, baseline, self.shown[arm] & self.shown[BASELINE]) if self.shown else {}),
        }

    def _outside(self, images: Tensor, baseline: Tensor, compared: Tensor) -> dict[str, Floats | None]:
        """Compare the pixels (n, H, W) outside the parts that either image hides; NaN if there are none."""
        mixed, share = composite(images, baseline, compared), compared.float().mean((1, 2)).numpy()
        nothing = np.where(share > 0, np.float32(0), np.float32(np.nan))
        lpips = None if self.lpips is None else self.lpips.between(mixed, baseline) + nothing
        dino = None
        if self.embedder is not None and self.dino:
            dino = cosines(self.embedder.embed(mixed), self.dino[BASELINE]) + nothing
        return {
            "psnr_outside": psnr_outside(images, baseline, compared),
            "lpips_outside": lpips,
            "dino_outside": dino,
            "compared_outside": share,
        }


def _nullable(values: Floats | None, missing: Mask) -> pa.Array:
    """Return float32 with null at ``missing``, or null everywhere if there are no values."""
    if values is None:
        return pa.nulls(len(missing), pa.float32())
    return pa.array(np.ascontiguousarray(values, dtype=np.float32), mask=missing)
