"""Summarises the finished shards of a run, and adds to the result what was not known when the run began."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audit.config.fields import API, CLOSED
from audit.config.mitigations.arms import parts_of
from audit.config.mitigations.joint import JointConfig
from audit.config.mitigations.section import EditSection
from audit.config.mitigations.texts import PromptConfig
from audit.config.sections import GateConfig
from audit.config.slices import MeasurementRequest
from audit.dissect.settings import LENS_FILE
from audit.dissect.strengths import strengths_as_data
from audit.models.closed.picture_store import REQUESTS, PictureStore
from audit.perception.group_texts import group_texts
from audit.perception.judges.confusion_file import judge_confusions
from audit.planning.plan import arms_of, opinions_of
from audit.planning.targets import AuditTargets
from audit.records.arms.counterfactuals import NamedArm
from audit.records.arms.joint import Cell
from audit.records.attributes import Attribute
from audit.records.located.location import LocationMap
from audit.records.result import AuditResult
from audit.records.work import Shard, Status
from audit.results.arms.joint import JointTarget
from audit.results.lens_evidence import lens_evidence
from audit.results.run_strengths import searched_of
from audit.results.scores import PSNR_SIGNATURE
from audit.results.summary import SummaryPlan, summarise
from audit.results.two_stages import Stages
from audit.storage.run_directory import LENS, LOCATION, RunDirectory
from ray_jobs.run.inputs import made_on
from ray_jobs.run.worker import INSTRUMENTS, SAMPLING


class NoImagesError(RuntimeError):
    """No image of an audit could be made or classified, so there is nothing to measure."""


@dataclass(frozen=True)
class Comparison:
    """What the images of an audit are compared with.

    Attributes:
        targets: Fair shares of the groups.
        gates: Limits of the verdicts.
        reference: Features of the reference images (n, d), None if there are none.
    """

    targets: AuditTargets
    gates: tuple[GateConfig, ...] = ()
    reference: NDArray[np.float32] | None = None


def summarise_run(
    request: MeasurementRequest, shards: tuple[Shard, ...], run: RunDirectory, compared: Comparison
) -> AuditResult:
    """Summarise finished shards; everything is read from the run directory.

    Args:
        request: How the images were made and measured.
        shards: The finished shards, in plan order.
        run: Run directory.
        compared: What the images are compared with.

    Raises:
        CorruptShardError: If the file of a shard cannot be read.
    """
    instruments = run.read_json(INSTRUMENTS)
    summary_plan = SummaryPlan(
        run_id=run.path.name,
        attributes=tuple(Attribute(name, groups) for name, groups in request.attributes.items()),
        shards=shards,
        arms=arms_of(request.mitigations),
        targets=compared.targets,
        clip_signature=instruments["clip"],
        group_texts=group_texts(request.attributes, request.judges) if instruments["clip"] else {},
        feature_signature=instruments["features"],
        pair_signatures={
            "psnr": PSNR_SIGNATURE,
            "lpips": instruments.get("lpips", ""),
            "dino_i": instruments.get("dino", ""),
            **outside_signatures(instruments),
        },
        confusions=judge_confusions(request.judge, request.model, request.attributes),
        gates=compared.gates,
        opinions=opinions_of(request.second_opinions, request.attributes),
        stages=Stages.of(request.prompts, request.attributes),
        looks_for_faces=request.judge.looks_for_faces,
        faces=request.judge.face_settings is not None,
        joint=joint_targets(request),
        named=named_arms(request),
        edits_maps=map_editing_arms(request),
        steps=int(run.read_json(SAMPLING).get("steps", 0)) if run.has(SAMPLING) else 0,
    )
    lens = lens_evidence(run.file(LENS)) if run.has(f"{LENS}/{LENS_FILE}") else None
    result = summarise(run, summary_plan, lens, compared.reference)
    return replace(result, strengths=strengths_as_data(searched_of(run)))


def outside_signatures(instruments: Mapping[str, str]) -> dict[str, str]:
    """Return how images are compared outside the hidden parts, by column; empty if they are not."""
    where = instruments.get("outside")
    if where is None:
        return {}
    filled = f"{where}|hidden:baseline's pixels"
    return {
        "psnr_outside": f"{PSNR_SIGNATURE}|{where}",
        "lpips_outside": f"{instruments.get('lpips', '')}|{filled}",
        "dino_outside": f"{instruments.get('dino', '')}|{filled}",
        "compared_outside": where,
    }


def map_editing_arms(request: MeasurementRequest) -> tuple[str, ...]:
    """Return the arms that edit maps of the network."""
    return tuple(
        arm.name for arm in request.mitigations if any(isinstance(part, EditSection) for part in parts_of(arm))
    )


def joint_targets(request: MeasurementRequest) -> dict[str, JointTarget]:
    """Return the target of each arm that steers several attributes together, or one attribute to uneven shares.

    An even target of one attribute is that of the fairness discrepancy, and an arm whose prompts all name one group is
    compared with its counterfactual, if there is one.
    """
    targets, named = {}, {one.arm for one in named_arms(request)}
    for arm in request.mitigations:
        if isinstance(arm, JointConfig):
            groups = {name: request.attributes[name] for name in arm.attributes}
            targets[arm.name] = JointTarget(groups, arm.shares(tuple(groups.values())))
        elif arm.steers_images and arm.target != "uniform" and arm.name not in named:
            own = request.attributes[arm.attribute]
            shares: dict[Cell, float] = {(group,): share for group, share in arm.steered_shares(own).items()}
            targets[arm.name] = JointTarget({arm.attribute: own}, shares)
    return targets


def named_arms(request: MeasurementRequest) -> tuple[NamedArm, ...]:
    """Return the arms whose prompts all name one group, if another arm names another group of the attribute."""
    found = list[NamedArm]()
    for arm in request.mitigations:
        if isinstance(arm, PromptConfig) and (group := arm.only_group(request.attributes[arm.attribute])) is not None:
            found.append(NamedArm(arm.name, arm.attribute, group))
    pairs = {(one.attribute, one.group) for one in found}
    groups = Counter(attribute for attribute, _ in pairs)
    return tuple(one for one in found if groups[one.attribute] > 1)


def unmade_images(result: AuditResult) -> float:
    """Return the share of images, over all arms, that could not be made.

    Raises:
        NoImagesError: If no image could be made, or none has a group of any attribute.
    """
    by_arm = {row.arm: row.statuses for row in result.overall}
    unmade = sum(statuses.get(Status.FAILED, 0) for statuses in by_arm.values())
    images = sum(sum(statuses.values()) for statuses in by_arm.values())
    if unmade == images and result.config["model"]["source"] in CLOSED:
        raise NoImagesError(
            f"none of {images} images could be had: the endpoint refused or failed every request, or all pictures are "
            f"blank; {REQUESTS}/ in the run directory has the reason of each. Choose another output to start a new run"
        )
    if unmade == images:
        raise NoImagesError(
            f"none of {images} images could be made: all are blank (one constant value), usually because of NaN in the "
            "latents or a safety filter. Try another model.dtype, and check the images of the model for these prompts; "
            "choose another output to start a new run"
        )
    if not any(row.n for row in result.overall):
        raise NoImagesError(_unclassified_words(result, images))
    return unmade / images


def _requests(result: AuditResult, run: RunDirectory) -> dict[str, Any]:
    """Count the requests to an endpoint over all attempts of a run, and their cost if the price is known."""
    prompts = {row.prompt_id for row in result.results if row.prompt_id is not None}
    totals = PictureStore(run.storage).totals(sorted(prompts))
    limits = result.config["model"].get("limits") or {}
    price = limits.get("price_per_image")
    cost = None if price is None else {"least": totals.received * price, "most": totals.charged * price}
    return {**asdict(totals), "cost": cost}


def _unclassified_words(result: AuditResult, images: int) -> str:
    """Return why there is nothing to report although images were made."""
    counts: Counter[str] = Counter()
    for row in {row.arm: row for row in result.overall}.values():
        counts.update(row.statuses)
    found = ", ".join(f"{count} {status.replace('_', ' ')}" for status, count in counts.items() if count)
    return (
        f"none of {images} images has a perceived group ({found}). Look at the pictures that the run kept, and try the "
        "judge on them: difflens-audit judge RUN/images --config CONFIG. If no face is found, lower "
        "judge.faces.threshold or use a judge of whole pictures; if the confidence is low, lower judge.min_confidence"
    )


def with_provenance(result: AuditResult, run: RunDirectory, missing: Sequence[str]) -> AuditResult:
    """Add what the summary does not read: instruments, sampler, missing shards, hardware, lens, fits, map."""
    added: dict[str, Any] = {"instruments": run.read_json(INSTRUMENTS), "unfinished_shards": list(missing)}
    if run.has(SAMPLING):
        added["sampling"] = run.read_json(SAMPLING)
    if result.config["model"]["source"] == API:
        added["requests"] = _requests(result, run)
    added |= made_on(run)
    location = LocationMap.of_data(run.read_json(LOCATION)) if run.has(LOCATION) else None
    return replace(result, provenance={**result.provenance, **added}, location=location)
