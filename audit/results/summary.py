"""Computes the result of an audit from the rows of all shards.

Shards are read one at a time in plan order, so the result does not depend on which worker computed a shard, or when.
Memory holds only the rows without their embeddings (about a hundred bytes each), merged sums of the embeddings, and a
sample of limited size.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from audit.analyses.attribution import Attribution, AttributionRequest, LensFeatures
from audit.config.sections import GateConfig
from audit.measure.inference.span import COSINE, Span
from audit.measure.shares.classifier_error import ConfusionMatrix
from audit.planning.targets import AuditTargets, Targets
from audit.records.arms.clip_d import GroupSimilarity
from audit.records.arms.counterfactuals import NamedArm
from audit.records.attributes import Attribute, SecondOpinion, TargetSource
from audit.records.changes import AttributeShift
from audit.records.estimates import OverPrompts
from audit.records.groups import GroupResult
from audit.records.quality import Measurement, QualityResult
from audit.records.result import AuditResult
from audit.records.verdicts import Verdict
from audit.records.work import BASELINE, Shard
from audit.results.arm_rows import ArmRows, arm_rows
from audit.results.arms.clip_d import DirectionTexts, group_similarities
from audit.results.arms.counterfactuals import counterfactual_pairs
from audit.results.arms.joint import JointTarget, joint_results
from audit.results.arms.off_path import PathEvidence, Recorded, off_path, recorded_of
from audit.results.changes import attribute_shifts, group_changes, missing_difference
from audit.results.gates.inputs import GateReader
from audit.results.gates.verdicts import evaluate, gates_of
from audit.results.groups import adjusted, overall_result, prompt_results
from audit.results.intersections import intersections
from audit.results.quality import FeatureSet, KernelSample, Yardstick, kernel_sample, reference_set
from audit.results.scores import LEAST_IMAGES, PAIRED_SPANS, Scores, rescaled
from audit.results.second_opinions import agreements, common_answers, second_views
from audit.results.two_stages import Stages
from audit.storage.rows import ACTIVATIONS, FACES, FEATURES, PAIRED, results_schema, row_schema, with_later_columns
from audit.storage.run_directory import CONFIG, PROVENANCE, RunDirectory


@dataclass(frozen=True)
class SummaryPlan:
    """The part of the plan and the config that a summary needs.

    Attributes:
        run_id: Name of the run.
        attributes: Attributes with their groups, in the config's order.
        shards: The shards to summarise, in plan order; each must be finished.
        arms: Arm names, the baseline first.
        targets: Target distributions by prompt and attribute, and their sources; uniform if there is no entry.
        clip_signature: ``net:…|resize:…|v:…`` of the CLIP model, empty if none was used.
        feature_signature: The same for the feature network.
        pair_signatures: ``net:…|resize:…`` of what fills a column of ``PAIRED``, by column.
        kid_images: Number of images per arm whose features are kept individually, for the kernel distance.
        confusions: Attribute → the judge's confusion matrix, if it is known.
        gates: Limits that the audit checks.
        stages: Two-stage sampling, None if the number of images was fixed.
        opinions: Second judges, which do not change any figure.
        joint: Joint arm → its joint target.
        named: Arms whose prompts all name one group.
        looks_for_faces: Whether the judge gives images without a face the status *no face*.
        faces: Whether the rows have the number of faces.
        edits_maps: Arms that edit maps of the network.
        steps: Steps of an image; 0 if nothing is sampled.
        group_texts: Attribute → group → texts to which CLIP-D compares images; without any, no CLIP-D is reported.
    """

    run_id: str
    attributes: tuple[Attribute, ...]
    shards: tuple[Shard, ...]
    arms: tuple[str, ...]
    targets: AuditTargets = field(default_factory=AuditTargets)
    clip_signature: str = ""
    feature_signature: str = ""
    pair_signatures: Mapping[str, str] = field(default_factory=dict)
    kid_images: int = 2_000
    confusions: Mapping[str, ConfusionMatrix] = field(default_factory=dict)
    gates: tuple[GateConfig, ...] = ()
    stages: Stages | None = None
    opinions: tuple[SecondOpinion, ...] = ()
    looks_for_faces: bool = False
    joint: Mapping[str, JointTarget] = field(default_factory=dict)
    named: tuple[NamedArm, ...] = ()
    faces: bool = False
    edits_maps: tuple[str, ...] = ()
    steps: int = 0
    group_texts: Mapping[str, Mapping[str, tuple[str, ...]]] = field(default_factory=dict)

    @property
    def prompt_ids(self) -> tuple[str, ...]:
        """Prompt ids in plan order."""
        return tuple(dict.fromkeys(shard.prompt.id for shard in self.shards))

    @property
    def images(self) -> dict[str, int]:
        """Images of each prompt in an arm, in plan order."""
        sizes = dict.fromkeys(self.prompt_ids, 0)
        for shard in self.shards:
            sizes[shard.prompt.id] += len(shard.indices)
        return sizes


@dataclass(frozen=True)
class LensEvidence:
    """The parts of a lens that the summary includes.

    Attributes:
        card: The lens's card as plain data.
        features: The features that it selected.
    """

    card: Mapping[str, Any]
    features: LensFeatures


def summarise(
    run: RunDirectory,
    plan: SummaryPlan,
    lens: LensEvidence | None = None,
    reference: NDArray[np.float32] | None = None,
) -> AuditResult:
    """Summarise finished shards and write ``results.parquet``.

    Args:
        run: The run directory, with config and provenance.
        plan: The part of the plan that the summary needs.
        lens: The lens whose features the attribution describes, if one was used.
        reference: Features of reference images, shape (n, d), if the config names any.

    Raises:
        ValueError: If a shard's rows are not exactly those that were planned.
        FileNotFoundError: If a shard is not finished.
    """
    if not plan.shards:
        raise ValueError("expected finished shards to summarise, found none; run the audit again")
    table, features, recorded = _gather(run, plan)
    run.write_results(table)
    arms = {arm: arm_rows(table, arm, plan.attributes, plan.images) for arm in plan.arms}
    edited = [rows for arm, rows in arms.items() if arm != BASELINE]
    shifts = attribute_shifts(arms[BASELINE], edited, plan.attributes)
    quality = _quality(arms, plan, features, reference, shifts)
    results = _results(arms, plan)
    common = tuple(common_answers(table, plan.arms, plan.opinions))
    goals = plan.targets.shares
    return AuditResult(
        run_id=plan.run_id,
        config=run.read_json(CONFIG),
        provenance=run.read_json(PROVENANCE),
        results=results,
        overall=_overall(arms, plan),
        quality=quality,
        lens=_lens(run, plan, lens),
        changes=tuple(c for rows in edited for c in group_changes(arms[BASELINE], rows, plan.attributes, goals)),
        shifts=shifts,
        intersections=intersections(arms, plan.attributes),
        joint=joint_results(arms, plan.joint),
        off_path=off_path(arms, plan.edits_maps, PathEvidence(recorded, features, plan.looks_for_faces, plan.steps)),
        clip_d=_clip_d(arms, plan),
        counterfactuals=counterfactual_pairs(arms, plan.named, plan.attributes, goals),
        missing={rows.arm: missing_difference(arms[BASELINE], rows) for rows in edited},
        verdicts=_verdicts(arms, plan, quality, shifts),
        agreement=agreements(common),
        second_views=second_views(common, results),
        targets={a.name: plan.targets.sources.get(a.name, TargetSource("uniform")) for a in plan.attributes},
        two_stage=None if plan.stages is None else plan.stages.sampling(results, plan.images),
    )


def _results(arms: Mapping[str, ArmRows], plan: SummaryPlan) -> tuple[GroupResult, ...]:
    """Return the rows of all prompts, in plan order; the p-values of one arm are adjusted together."""
    by_arm = [
        adjusted([row for attribute in plan.attributes for row in prompt_results(rows, *_measured_by(attribute, plan))])
        for rows in arms.values()
    ]
    prompts = len(plan.prompt_ids)
    results = tuple(
        results[place + number * prompts]
        for place in range(prompts)
        for results in by_arm
        for number in range(len(plan.attributes))
    )
    return results if plan.stages is None else tuple(plan.stages.applied(row, arms[row.arm]) for row in results)


def _overall(arms: Mapping[str, ArmRows], plan: SummaryPlan) -> tuple[GroupResult, ...]:
    """Return the overall rows of the arms; the p-values of one arm's attributes are adjusted together."""
    return tuple(
        row
        for arm in plan.arms
        for row in adjusted([overall_result(arms[arm], *_measured_by(a, plan)) for a in plan.attributes])
    )


def _measured_by(attribute: Attribute, plan: SummaryPlan) -> tuple[Attribute, Targets, ConfusionMatrix | None]:
    return attribute, plan.targets.shares, plan.confusions.get(attribute.name)


def _verdicts(
    arms: Mapping[str, ArmRows],
    plan: SummaryPlan,
    quality: Sequence[QualityResult],
    shifts: Sequence[AttributeShift],
) -> tuple[Verdict, ...]:
    gates = gates_of(plan.gates, plan.prompt_ids)
    by_arm = {figures.arm: figures for figures in quality}
    reader = GateReader(arms, plan.attributes, plan.targets.shares, by_arm, plan.stages, shifts, plan.confusions)
    return evaluate(gates, [reader.read(gate) for gate in gates])


def _gather(run: RunDirectory, plan: SummaryPlan) -> tuple[pa.Table, dict[str, FeatureSet], Recorded]:
    """Read the shards; return their rows by arm, prompt and index, and features and activations of each arm."""
    sample = kernel_sample(plan.shards, plan.kid_images)
    parts: list[pa.Table] = []
    vectors: list[pa.Table] = []
    features: dict[str, FeatureSet] = {}
    schema = row_schema(plan.attributes, plan.opinions, faces=plan.faces)
    for shard, stored in zip(plan.shards, run.read_rows(shard.id for shard in plan.shards), strict=True):
        table = with_later_columns(stored, schema)
        _check_rows(shard, table, plan)
        parts.append(table.drop_columns([FEATURES, ACTIVATIONS]))
        if table[ACTIVATIONS].null_count < table.num_rows:
            vectors.append(table.select(["arm", "prompt_id", "index", ACTIVATIONS]))
        for arm in plan.arms:
            found = _feature_set(table.filter(pc.equal(table["arm"], arm)), sample)
            if found is not None:
                features[arm] = features[arm] + found if arm in features else found
    return _in_order(pa.concat_tables(parts), plan), features, recorded_of(vectors)


def _check_rows(shard: Shard, table: pa.Table, plan: SummaryPlan) -> None:
    """Refuse a shard that differs from the plan; a missing row would silently reduce the sample."""
    schema = row_schema(plan.attributes, plan.opinions, faces=plan.faces)
    if not table.schema.equals(schema):
        different = sorted(set(table.schema.names) ^ set(schema.names)) or ["types or order"]
        raise ValueError(
            f"shard {shard.id} has other columns than the config requires ({', '.join(different)}); delete its file "
            "and run the audit again"
        )
    planned = {(arm, key.prompt_id, key.index) for arm in plan.arms for key in shard.keys}
    columns = (table[name].to_pylist() for name in ("arm", "prompt_id", "index"))
    found = list(zip(*columns, strict=True))
    if len(found) != len(planned) or set(found) != planned:
        wrong = sorted(map(str, planned ^ set(found))) or ["a repeated row"]
        raise ValueError(
            f"shard {shard.id}: expected {len(planned)} rows, found {len(found)} (first difference: {wrong[0]}); "
            "delete its file and run the audit again"
        )


def _feature_set(rows: pa.Table, sample: KernelSample) -> FeatureSet | None:
    rows = rows.filter(rows[FEATURES].is_valid())
    if not rows.num_rows:
        return None
    lengths = pc.unique(pc.list_value_length(rows[FEATURES])).to_pylist()
    if len(lengths) != 1:
        raise ValueError(f"expected features of one length, found the lengths {lengths}; use one feature network")
    features = pc.list_flatten(rows[FEATURES]).to_numpy().reshape(rows.num_rows, lengths[0])
    keys = list(zip(rows["prompt_id"].to_pylist(), rows["index"].to_pylist(), strict=True))
    keep = np.fromiter((key in sample for key in keys), dtype=np.bool_, count=rows.num_rows)
    return FeatureSet.of(features, rows["index"].to_numpy(), keep, keys)


def _in_order(table: pa.Table, plan: SummaryPlan) -> pa.Table:
    """Sort rows by arm, prompt and index, the first two in plan order."""
    arm = pc.index_in(table["arm"], value_set=pa.array(plan.arms)).to_numpy()
    prompt = pc.index_in(table["prompt_id"], value_set=pa.array(plan.prompt_ids)).to_numpy()
    order = np.lexsort((table["index"].to_numpy(), prompt, arm))
    return table.take(order).cast(results_schema(plan.attributes, plan.opinions, faces=plan.faces))


def _quality(
    arms: Mapping[str, ArmRows],
    plan: SummaryPlan,
    features: Mapping[str, FeatureSet],
    reference: NDArray[np.float32] | None,
    shifts: Sequence[AttributeShift],
) -> tuple[QualityResult, ...]:
    yardstick = None
    if BASELINE in features:
        kept = None if reference is None else reference_set(reference, plan.kid_images)
        yardstick = Yardstick.of(features[BASELINE], kept, plan.feature_signature)
    moved = {arm: {shift.attribute: shift.value for shift in shifts if shift.arm == arm} for arm in plan.arms}
    return tuple(_arm_quality(arms[arm], plan, yardstick, features.get(arm), moved[arm]) for arm in plan.arms)


def _arm_quality(
    rows: ArmRows,
    plan: SummaryPlan,
    yardstick: Yardstick | None,
    features: FeatureSet | None,
    attribute_shift: dict[str, float],
) -> QualityResult:
    edited = rows.arm != BASELINE
    fid = kid = fid_to_reference = kid_to_reference = None
    if yardstick is not None and features is not None:
        if edited:
            fid, kid = yardstick.frechet(features), yardstick.kernel(features)
        fid_to_reference = yardstick.frechet_to_reference(features)
        kid_to_reference = yardstick.kernel_to_reference(features)
    return QualityResult(
        arm=rows.arm,
        clip_i=_clip(rows, "clip_i", plan.clip_signature) if edited else None,
        clip_t=_clip(rows, "clip_t", plan.clip_signature),
        **{name: _paired(rows, name, plan.pair_signatures.get(name, "")) for name in PAIRED},
        fid=fid,
        kid=kid,
        prompt_shown=_prompt_shown(rows),
        attribute_shift=attribute_shift,
        fid_to_reference=fid_to_reference,
        kid_to_reference=kid_to_reference,
        face_found=Scores.of_faces(rows).share_shown() if plan.looks_for_faces else None,
        several_faces=_several_faces(rows),
    )


def _clip_d(arms: Mapping[str, ArmRows], plan: SummaryPlan) -> tuple[GroupSimilarity, ...]:
    if not plan.group_texts:
        return ()
    return group_similarities(arms, plan.attributes, DirectionTexts(plan.group_texts, plan.clip_signature))


def _clip(rows: ArmRows, name: str, network: str) -> Measurement | None:
    """Return the mean cosine of the images that have one, with an interval for two or more images."""
    found = _mean_score(rows, name, COSINE, network)
    return None if found is None else replace(found, extra={"rescaled": rescaled(found.value)})


def _paired(rows: ArmRows, name: str, made_by: str) -> Measurement | None:
    """Return the mean of a comparison with the baseline images; the baseline itself has none."""
    return _mean_score(rows, name, PAIRED_SPANS[name], made_by)


def _mean_score(rows: ArmRows, name: str, span: Span, made_by: str) -> Measurement | None:
    scores = Scores.of(rows, name)
    if scores is None:
        return None
    mean = scores.mean(span)
    known = mean.n >= LEAST_IMAGES
    return Measurement(
        value=mean.value,
        n=mean.n,
        signature=f"metric:{name}|{made_by}|n:{mean.n}",
        low=mean.low if known else None,
        high=mean.high if known else None,
        like_these=mean.like_these,
    )


def _prompt_shown(rows: ArmRows) -> OverPrompts | None:
    scores = Scores.of(rows, "p_prompt_shown")
    return None if scores is None else scores.share_shown()


def _several_faces(rows: ArmRows) -> OverPrompts | None:
    """Return the share of images with more than one face among those in which faces were looked for."""
    scores = Scores.of(rows, FACES)
    return None if scores is None else replace(scores, values=(scores.values > 1).astype(np.float64)).share_shown()


def _lens(run: RunDirectory, plan: SummaryPlan, lens: LensEvidence | None) -> dict[str, Any]:
    """Return the lens's card with its features and their attribution by prompt, as plain data."""
    if lens is None:
        return {}
    attribution, request = Attribution(), AttributionRequest(plan.attributes, lens.features, plan.shards)
    parts = run.read_parts(attribution.name, [shard.id for shard in attribution.tasks(request)])
    findings = attribution.combine(request, parts)
    return {**lens.card, "features": [asdict(finding) for finding in findings]}
