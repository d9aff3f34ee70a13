"""The science of one shard: every arm from the same noise, what is perceived in it, and the rows that say so.

All arms are made in one visit, so that the pictures of a key are paired and the baseline's embeddings are at hand. No
path, process or cluster in here.

Legend: B images of a batch (fixed by the plan), n ≤ B images of the shard, d width of an embedding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray
from torch import Tensor

from audit.config.sections import MitigationConfig
from audit.config.settings import AuditConfig
from audit.dissect.lens import Lens, check_fits
from audit.dissect.observer import AttributionObserver, EffectTable
from audit.dissect.strengths import Strengths
from audit.mitigate import build_arm
from audit.models.arm import Arm, Observer
from audit.models.device import device_here
from audit.models.generator import Generator, load_generator
from audit.perception.embedders.clip import ClipEmbedder, load_clip
from audit.perception.embedders.features import FeatureEmbedder, load_features
from audit.perception.judges.classifiers import Judge, load_judge
from audit.perception.judges.perceived import Perceived
from audit.perception.judges.second_judges import load_second_judges
from audit.perception.judges.zero_shot import ZeroShotJudge
from audit.planning.occupations import known_occupations
from audit.planning.plan import opinions_of, prompts_of
from audit.preflight.prompt_lengths import clip_texts
from audit.records.attributes import Attribute, SecondOpinion
from audit.records.work import BASELINE, ImageKey, Shard, Status
from audit.storage.rows import FEATURES, opinion_column, outside_column, probability_column, row_schema

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class ShardParts:
    """What a worker loads once and uses for every shard.

    Attributes:
        generator: Makes the images.
        judge: Perceives groups in them.
        clip: Embeds images and prompts, None where the config names no CLIP model.
        features: Embeds images for the distances between arms, None where the config names no network.
        lens: Of the model, None where there is nothing to edit and nothing to attribute.
        effects: What the lens's latents do to its heads: made step by step, then kept for all shards.
        second: Further judges by name; they decide nothing.
    """

    generator: Generator
    judge: Judge
    clip: ClipEmbedder | None
    features: FeatureEmbedder | None
    lens: Lens | None
    effects: EffectTable | None
    second: Mapping[str, Judge] = field(default_factory=dict)

    @property
    def signatures(self) -> dict[str, str]:
        """What measures, by role; empty where nothing does."""
        return {
            "judge": self.judge.signature,
            "clip": "" if self.clip is None else self.clip.signature,
            "features": "" if self.features is None else self.features.signature,
            **{f"second_opinion {name}": judge.signature for name, judge in self.second.items()},
        }


@dataclass(frozen=True)
class ShardSettings:
    """The part of the config that fixes what happens to a shard.

    Attributes:
        seed: The audit's seed.
        batch: B, the shape of every batch; a shorter shard is padded to it.
        attributes: Attributes in the config's order.
        mitigations: The arms beside the baseline.
        attribution: Whether the baseline is observed through the lens.
        opinions: What each further judge is asked about.
    """

    seed: int
    batch: int
    attributes: tuple[Attribute, ...]
    mitigations: tuple[MitigationConfig, ...]
    attribution: bool
    opinions: tuple[SecondOpinion, ...] = ()

    @classmethod
    def of(cls, config: AuditConfig) -> ShardSettings:
        """Take the slice out of a config."""
        return cls(
            seed=config.seed,
            batch=config.sampling.batch,
            attributes=tuple(Attribute(name, tuple(groups)) for name, groups in config.attributes.items()),
            mitigations=tuple(config.mitigations),
            attribution=config.prompts.attribution is not False,
            opinions=opinions_of(config),
        )


@dataclass(frozen=True)
class ShardYield:
    """What a shard gave.

    Attributes:
        table: One row per arm and image, see ``audit.storage.rows.row_schema``.
        attribution: Sums over the baseline images as ``AttributionObserver`` gives them, None without a lens.
        images: Arm → uint8 (n, 3, H, W).
    """

    table: pa.Table
    attribution: dict[str, NDArray[Any]] | None
    images: dict[str, Tensor]


def load_parts(config: AuditConfig, lens_path: Path | None, strengths: Strengths | None = None) -> ShardParts:
    """Load everything that shards of this audit need.

    Args:
        config: The audit.
        lens_path: Directory of its lens.
        strengths: Those of the audit's own prompts, in place of those of the lens's prompts; None keeps these.

    Raises:
        ValueError: If a mitigation is asked for without a lens, or the lens belongs to another model.
        UnfitModelError: If the model or CLIP does not read one of the audit's texts to its end, or the model cannot be
            run as it was published.
    """
    generator = load_generator(config.model, config.sampling, config.lens.hookpoint)
    prompts = prompts_of(config, known_occupations(config.model) or ())
    if generator.reader is not None:
        generator.reader.check(prompt.text for prompt in prompts)
    lens = None if lens_path is None else Lens.load(lens_path).to(device_here())
    if lens is not None:
        lens = replace(lens, strengths=lens.strengths | (strengths or {}))
        steered = {mitigation.attribute for mitigation in config.mitigations}
        needed = {name: tuple(g) for name, g in config.attributes.items() if name in lens.groups or name in steered}
        check_fits(lens, generator.fingerprint, config.sampling.steps, needed)
    elif config.mitigations:
        names = ", ".join(mitigation.name for mitigation in config.mitigations)
        raise ValueError(f"mitigations ({names}) edit a model through its lens, found none; dissect the model first")
    clip = load_clip(config.quality, config.model)
    if clip is not None:
        clip.reader.check(clip_texts(config, prompts))
    return ShardParts(
        generator=generator,
        judge=load_judge(config.judge, config.model, config.attributes),
        clip=clip,
        features=load_features(config.quality, config.model),
        lens=lens,
        effects=None if lens is None else EffectTable(lens),
        second=load_second_judges(config.second_opinions, config.model, config.attributes, clip),
    )


def do_shard(parts: ShardParts, settings: ShardSettings, shard: Shard) -> ShardYield:
    """Make and measure the images of ``shard`` in every arm; the same shard always gives the same yield."""
    keys = _padded(shard.keys, settings.batch)
    observer = _observer(parts, len(shard.indices)) if settings.attribution else None
    baseline = _generate(parts, settings, shard, keys, observer=observer)
    images, arms = {BASELINE: baseline}, dict[str, Arm | None]({BASELINE: None})
    for mitigation in settings.mitigations:
        if parts.lens is None:
            raise ValueError(f"mitigation {mitigation.name!r} edits the model through a lens, found none")
        arm = build_arm(mitigation, parts.lens, shard.prompt, keys, settings.seed)
        arms[mitigation.name] = arm
        images[mitigation.name] = _generate(parts, settings, shard, keys, arm)
    return ShardYield(
        table=_table(parts, settings, shard, images, arms),
        attribution=None if observer is None else observer.result(),
        images=images,
    )


def do_shard_in_parts(parts: ShardParts, settings: ShardSettings, shard: Shard, batch: int) -> ShardYield:
    """Make and measure a shard in batches of ``batch`` images, for memory that cannot hold the whole one.

    Every image keeps its own noise and its own edit. Only the shape of the batches differs, and kernels may round
    differently in another shape: rows are equal to about 1e-5 in their probabilities and cosines, not to the bit.

    Raises:
        ValueError: If ``batch`` is below 1.
    """
    if batch < 1:
        raise ValueError(f"a batch holds at least 1 image, got {batch}")
    smaller = replace(settings, batch=min(batch, settings.batch))
    starts = range(0, len(shard.indices), smaller.batch)
    pieces = [replace(shard, indices=shard.indices[start : start + smaller.batch]) for start in starts]
    return _joined([do_shard(parts, smaller, piece) for piece in pieces])


def _joined(yields: Sequence[ShardYield]) -> ShardYield:
    """Put the yields of a shard's pieces together as if they had been made at once: arm by arm, attributions summed."""
    if len(yields) == 1:
        return yields[0]
    arms = {name: torch.cat([one.images[name] for one in yields]) for name in yields[0].images}
    tables = [one.table.filter(pc.field("arm") == name) for name in arms for one in yields]
    sums = [one.attribution for one in yields if one.attribution is not None]
    summed = {name: np.asarray(sum(one[name] for one in sums)) for name in (sums or [{}])[0]}
    return ShardYield(pa.concat_tables(tables), summed or None, arms)


def _padded(keys: Sequence[ImageKey], batch: int) -> tuple[ImageKey, ...]:
    """Repeat the last key up to the fixed shape: kernels, and so the last bits of an image, may depend on the shape."""
    if len(keys) > batch:
        raise ValueError(f"a shard holds at most one batch of {batch} images, got {len(keys)}")
    return (*keys, *[keys[-1]] * (batch - len(keys)))


def _generate(
    parts: ShardParts,
    settings: ShardSettings,
    shard: Shard,
    keys: Sequence[ImageKey],
    arm: Arm | None = None,
    observer: Observer | None = None,
) -> Tensor:
    """Return the shard's own images (n, 3, H, W), without the padding."""
    seeds = [key.seed(settings.seed) for key in keys]
    return parts.generator.generate(shard.prompt, seeds, arm, observer)[: len(shard.indices)]


def _observer(parts: ShardParts, images: int) -> AttributionObserver | None:
    if parts.lens is None or parts.effects is None:
        return None
    return AttributionObserver(parts.lens, images, parts.effects)


def _table(
    parts: ShardParts,
    settings: ShardSettings,
    shard: Shard,
    images: Mapping[str, Tensor],
    arms: Mapping[str, Arm | None],
) -> pa.Table:
    text = None if parts.clip is None else parts.clip.text(shard.prompt.text)
    measured = {arm: _measure(parts, shard, pictures) for arm, pictures in images.items()}
    schema = row_schema(settings.attributes, settings.opinions)
    tables = []
    for name, arm in arms.items():
        columns: dict[str, Any] = {
            "arm": [name] * len(shard.indices),
            "prompt_id": [shard.prompt.id] * len(shard.indices),
            "index": shard.indices,
            "seed": [key.seed(settings.seed) for key in shard.keys],
            "assigned": [None] * len(shard.indices) if arm is None else list(arm.assigned[: len(shard.indices)]),
            **_measured_columns(measured[name], settings.attributes),
            **_clip_columns(measured[name], None if name == BASELINE else measured[BASELINE], text),
            **_opinion_columns(measured[name], settings.opinions),
        }
        arrays = [pa.array(columns[field.name], type=field.type, from_pandas=False) for field in schema]
        tables.append(pa.Table.from_arrays(arrays, schema=schema))
    return pa.concat_tables(tables)


@dataclass(frozen=True)
class _Measured:
    """One arm as its models see it; ``broken`` (n,) marks the images that are none."""

    broken: Mask
    statuses: list[Status]
    seen: Perceived
    clip: Floats | None
    features: Floats | None
    second: dict[str, Perceived]


def _measure(parts: ShardParts, shard: Shard, images: Tensor) -> _Measured:
    seen = parts.judge.perceive(images, shard.prompt.occupation)
    broken = _broken(images)
    clip = None if parts.clip is None else parts.clip.images(images)
    return _Measured(
        broken=broken,
        statuses=[Status.FAILED if bad else status for bad, status in zip(broken, seen.statuses, strict=True)],
        seen=seen,
        clip=clip,
        features=None if parts.features is None else parts.features.embed(images),
        second={
            # CLIP has embedded these images already; embedding them is nearly all that zero-shot judging costs.
            name: judge.perceive_embedded(clip)
            if isinstance(judge, ZeroShotJudge) and clip is not None
            else judge.perceive(images, shard.prompt.occupation)
            for name, judge in parts.second.items()
        },
    )


def _broken(images: Tensor) -> Mask:
    """Mark images of one single value: NaN in the latents decodes to that, and no picture of a face looks so."""
    flat = images.flatten(1)
    mask: Mask = (flat.amin(1) == flat.amax(1)).numpy()
    return mask


def _measured_columns(measured: _Measured, attributes: Sequence[Attribute]) -> dict[str, Any]:
    unseen = np.array([status in (Status.FAILED, Status.NO_FACE) for status in measured.statuses])
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


def _opinion_columns(measured: _Measured, opinions: Sequence[SecondOpinion]) -> dict[str, Any]:
    """Return the further judges' probabilities, null where a judge named none of the audited groups."""
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


def _clip_columns(measured: _Measured, baseline: _Measured | None, text: Floats | None) -> dict[str, Any]:
    """Return the cosines; unit rows make them inner products. The baseline has no ``clip_i``: it would be 1."""
    to_text = None if measured.clip is None or text is None else measured.clip @ text
    to_baseline, missing = None, measured.broken
    if baseline is not None and measured.clip is not None and baseline.clip is not None:
        to_baseline = (measured.clip * baseline.clip).sum(axis=1)
        missing = measured.broken | baseline.broken
    return {"clip_t": _nullable(to_text, measured.broken), "clip_i": _nullable(to_baseline, missing)}


def _nullable(values: Floats | None, missing: Mask) -> pa.Array:
    """Return float32 with null where ``missing``, or everywhere without values."""
    if values is None:
        return pa.nulls(len(missing), pa.float32())
    return pa.array(np.ascontiguousarray(values, dtype=np.float32), mask=missing)
