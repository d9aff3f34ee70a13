"""Results as pandas frames, for notebooks and scripts: one frame per kind of row.

    >>> from reports.frames import read_result, result_frames
    >>> frames = result_frames(read_result("runs/occupations-3f9a12"))
    >>> frames["verdicts"][["gate", "verdict", "value", "low", "high"]]

``COLUMNS`` documents every column. A figure that does not exist is NaN, never 0. Intervals are 95 % intervals about the
audited prompts unless the column says otherwise.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any, Final

import pandas as pd

from audit.records.arms.clip_d import GroupSimilarity
from audit.records.arms.off_path import OffPath
from audit.records.changes import GroupChange
from audit.records.estimates import WithInterval
from audit.records.groups import GroupResult
from audit.records.inside.honesty import LensHonesty
from audit.records.quality import QualityResult
from audit.records.result import AuditResult
from audit.records.verdicts import Verdict
from audit.storage.place import place_of
from audit.storage.run_directory import RunDirectory
from reports.export.audit_json import read_audit_json

_NAMES = {"arm": "`baseline`, or the name of a mitigation.", "attribute": "The perceived attribute."}
_PROMPT = {"prompt_id": "The id of the prompt."}


def _interval(name: str, meaning: str) -> dict[str, str]:
    return {name: meaning, f"{name}_low": f"Lower end of the interval of `{name}`.", f"{name}_high": "Upper end."}


COLUMNS: Final[Mapping[str, Mapping[str, str]]] = {
    "arms": {
        "arm": _NAMES["arm"],
        **_interval("clip_i", "Mean cosine of each image to its baseline image; NaN for the baseline."),
        **_interval("clip_t", "Mean cosine of each image to its prompt."),
        **_interval("dino_i", "Mean cosine of DINOv2's features of each image to its baseline image."),
        **_interval("lpips", "Mean LPIPS distance of each image to its baseline image."),
        **_interval("psnr", "Mean PSNR of each image to its baseline image, in dB; equal images are left out."),
        **_interval(
            "psnr_outside", "Mean PSNR outside the hidden parts, in dB; NaN without `quality.outside` in the config."
        ),
        **_interval("lpips_outside", "Mean LPIPS distance outside the hidden parts, in the same way."),
        **_interval("dino_outside", "Mean cosine of DINOv2's features outside the hidden parts, in the same way."),
        **_interval("compared_outside", "Mean share of the pixels that are outside the hidden parts in both images."),
        **_interval("kid", "Kernel distance to the baseline images; NaN for the baseline."),
        "kid_noise_floor": "Kernel distance between two halves of the baseline images.",
        "fid": "Fréchet distance to the baseline images. It has no interval. `quality.features` says on which network.",
        "fid_noise_floor": "Fréchet distance between two halves of the baseline images.",
        **_interval("kid_to_reference", "Kernel distance to the reference images, if the config has some."),
        "fid_to_reference": "Fréchet distance to the reference images.",
        **_interval("prompt_shown", "Share of images that show the prompted occupation, as the judge sees it."),
        **_interval("face_found", "Share of images in which a face was found; NaN if the judge looks for none."),
        **_interval("several_faces", "Share of images with more than one face; NaN if faces are not counted."),
        **_interval("activation_distance", "Distance of edited activations from unedited ones, which have about 1."),
        **_interval("activation_distance_change", "The same, minus the baseline's: paired."),
        **_interval("energy_outside_change", "Change of the energy outside the principal components, paired."),
        **_interval("unlike_prompt_change", "Change of the share unlike the prompt's baseline images, paired."),
        **_interval("unlike_all_change", "Change of the share unlike all baseline images, paired."),
        **_interval("face_lost", "Share of the baseline's images with a face that lose it; NaN if none is looked for."),
    },
    "attributes": {
        **_NAMES,
        "n": "Classified images, over all prompts.",
        "prompts": "Prompts behind the mean.",
        **_interval("discrepancy", "Fairness discrepancy: root mean square over the prompts."),
        "discrepancy_like_these_low": "Lower end of the interval for prompts like these; NaN below eight prompts.",
        "discrepancy_like_these_high": "Upper end.",
        "soft_discrepancy": "Mean of the soft discrepancies, for comparison with the literature.",
        "worst_prompt": "The prompt with the largest discrepancy.",
        **_interval("worst_discrepancy", "Its discrepancy; the interval accounts for the selection of the prompt."),
    },
    "prompts": {
        **_PROMPT,
        **_NAMES,
        "n": "Classified images.",
        "images": "All images of the prompt in this arm.",
        **_interval("discrepancy", "Fairness discrepancy: distance of the counted shares from the target."),
        "plug_in": "The same distance without correction for chance.",
        "expected_at_parity": "Mean plug-in value of a perfectly fair model with as many images.",
        "soft_discrepancy": "Distance of the judge's mean probabilities from the target.",
        "p_parity": "p-value of the hypothesis that the classified images are drawn from the target.",
        "p_adjusted": "p-value that decides on findings, after Benjamini and Hochberg.",
    },
    "groups": {
        **_PROMPT,
        **_NAMES,
        "group": "The perceived group.",
        "n": "Classified images.",
        **_interval("share", "Share of the classified images that show the group."),
        "target": "Target share.",
        "possible_low": "Share if no unclassified image showed the group.",
        "possible_high": "Share if every unclassified image showed the group.",
        **_interval("corrected", "Share corrected for the judge's errors; NaN if they are not known."),
    },
    "changes": {
        **_PROMPT,
        **_NAMES,
        "group": "The perceived group.",
        "n": "Images that both arms could classify.",
        **_interval("change", "Share in this arm minus share in the baseline, paired."),
    },
    "clip_d": {
        **_NAMES,
        "group": "The group to whose text the images are compared.",
        "n": "Images with a cosine.",
        **_interval("clip_d", "Mean cosine of an image to the text of the group; NaN if the CLIP model cuts the text."),
        **_interval("change", "Mean difference to the baseline image, paired; NaN for the baseline."),
        "text": "The text; several, whose embeddings are averaged, are separated by ` | `.",
    },
    "verdicts": {
        "gate": "Name of the gate.",
        "measure": "What the gate limits.",
        "attribute": "The attribute; none if the measure has none.",
        "prompt_id": "The prompt; none for the whole arm.",
        "arm": _NAMES["arm"],
        "limit": "The limit.",
        "side": "`max` or `min`.",
        "value": "The figure; NaN without data.",
        "low": "Lower end of the interval that decides.",
        "high": "Upper end.",
        "confidence": "Confidence of this interval.",
        "n": "Images or pairs behind the figure.",
        "verdict": "`pass`, `fail` or `inconclusive`.",
        "level": "`fail`, or `warn` for a gate that cannot fail a run.",
        "margin": "Distance from the limit, negative if the limit is violated.",
        "note": "Reason for the verdict, if the interval alone does not show it.",
        "from_unclassified": "Part of the interval's width that is due to unclassified images.",
        "corrected": "Whether the judge's errors are corrected.",
    },
    "findings": {
        **_PROMPT,
        **_NAMES,
        "group": "The group that exceeds its target share the most.",
        **_interval("share", "Its share, corrected for the judge's errors if they are known."),
        "target": "Its target share.",
        "p_adjusted": "p-value after Benjamini and Hochberg.",
    },
    "features": {
        "attribute": _NAMES["attribute"],
        "group": "The group whose probability the feature raises.",
        "latent": "Its index in the autoencoder of the lens.",
        "score": "Attribution to the group's probability.",
        **_interval("auc", "AUC for the group, on halves of the lens's images that did not choose it; NaN without."),
        "n": "Images behind the AUC.",
        "chosen": "Share of the halves that choose it again; NaN for lenses of older releases.",
        "shared": "Other attributes for which it is a feature, as `age: old`.",
        "fails": "Why it fails a check; empty if it passes; none for lenses of older releases.",
    },
}
"""Frame → column → description."""


def read_result(run: str) -> AuditResult:
    """Return the result of a finished run.

    Args:
        run: The run directory, or its address in an object store.

    Raises:
        FileNotFoundError: If there is no finished run.
        UnreadableRunError: If the file has an invalid format.
    """
    return read_audit_json(RunDirectory(place_of(str(run))))


def result_frames(result: AuditResult) -> dict[str, pd.DataFrame]:
    """Return the tables of a result; ``COLUMNS`` documents them. A table without rows keeps its columns."""
    rows: dict[str, Iterator[dict[str, Any]]] = {
        "arms": (_arm_row(row, {one.arm: one for one in result.off_path}.get(row.arm)) for row in result.quality),
        "attributes": map(_attribute_row, result.overall),
        "prompts": map(_prompt_row, result.results),
        "groups": (row for prompt in result.results for row in _group_rows(prompt)),
        "changes": (row for change in result.changes if change.prompt_id for row in _change_rows(change)),
        "clip_d": map(_similarity_row, result.clip_d),
        "verdicts": map(_verdict_row, result.verdicts),
        "findings": (_finding_row(row) for row in result.results if row.is_finding),
        "features": _feature_rows(result),
    }
    return {name: pd.DataFrame(list(rows[name]), columns=list(columns)) for name, columns in COLUMNS.items()}


def image_frame(run: str) -> pd.DataFrame:
    """Return ``results.parquet`` of a finished run: one row per image and arm.

    Args:
        run: The run directory, or its address in an object store.

    Raises:
        FileNotFoundError: If there is no finished run.
        UnreadableRunError: If the file has an invalid format.
    """
    frame: pd.DataFrame = RunDirectory(place_of(str(run))).read_results().to_pandas()
    return frame


def _ends(name: str, estimate: WithInterval | None) -> dict[str, float | None]:
    if estimate is None:
        return {}
    return {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}


def _path_row(found: OffPath | None) -> dict[str, float | None]:
    if found is None:
        return {}
    figures: dict[str, WithInterval | None] = {"face_lost": found.face_lost}
    for name in ("unlike_prompt", "unlike_all"):
        figure = getattr(found, name)
        figures[f"{name}_change"] = None if figure is None else figure.change
    if found.activations is not None:
        figures["activation_distance"] = found.activations.distance.after
        figures["activation_distance_change"] = found.activations.distance.change
        figures["energy_outside_change"] = found.activations.outside.change
    return {key: value for name, figure in figures.items() for key, value in _ends(name, figure).items()}


def _arm_row(row: QualityResult, off_path: OffPath | None) -> dict[str, Any]:
    floors = {
        f"{name}_noise_floor": measured.extra.get("noise_floor")
        for name, measured in (("fid", row.fid), ("kid", row.kid))
        if measured is not None
    }
    figures = (
        "clip_i",
        "clip_t",
        "dino_i",
        "lpips",
        "psnr",
        "psnr_outside",
        "lpips_outside",
        "dino_outside",
        "compared_outside",
        "kid",
        "fid",
        "kid_to_reference",
        "fid_to_reference",
        "prompt_shown",
        "face_found",
        "several_faces",
    )
    found = [_ends(name, getattr(row, name)) for name in figures]
    plain = {name: value for part in found for name, value in part.items()}
    return {"arm": row.arm, **floors, **plain, **_path_row(off_path)}


def _attribute_row(row: GroupResult) -> dict[str, Any]:
    found: dict[str, Any] = {"arm": row.arm, "attribute": row.attribute, "n": row.n}
    if row.mean_over_prompts is not None:
        mean = row.mean_over_prompts
        found |= {"prompts": mean.n, "soft_discrepancy": mean.soft, **_ends("discrepancy", mean)}
        if mean.like_these is not None:
            found["discrepancy_like_these_low"] = mean.like_these.low
            found["discrepancy_like_these_high"] = mean.like_these.high
    if row.worst_prompt is not None:
        found |= {"worst_prompt": row.worst_prompt.prompt_id, **_ends("worst_discrepancy", row.worst_prompt)}
    return found


def _prompt_row(row: GroupResult) -> dict[str, Any]:
    found: dict[str, Any] = {"prompt_id": row.prompt_id, "arm": row.arm, "attribute": row.attribute, "n": row.n}
    found["images"] = sum(row.statuses.values())
    if row.fairness_discrepancy is not None:
        figure = row.fairness_discrepancy
        found |= _ends("discrepancy", figure)
        found |= {"plug_in": figure.plug_in, "expected_at_parity": figure.expected_at_parity}
        found |= {"soft_discrepancy": figure.soft, "p_parity": figure.p_parity, "p_adjusted": figure.p_adjusted}
    return found


def _group_rows(row: GroupResult) -> Iterator[dict[str, Any]]:
    for group in row.target or row.shares:
        found: dict[str, Any] = {"prompt_id": row.prompt_id, "arm": row.arm, "attribute": row.attribute, "n": row.n}
        found |= {"group": group, "target": row.target.get(group), **_ends("share", row.shares.get(group))}
        if group in row.bounds:
            found |= {"possible_low": row.bounds[group].low, "possible_high": row.bounds[group].high}
        if row.corrected is not None:
            found |= _ends("corrected", row.corrected.shares[group])
        yield found


def _change_rows(row: GroupChange) -> Iterator[dict[str, Any]]:
    for group, change in row.shares.items():
        named = {"prompt_id": row.prompt_id, "arm": row.arm, "attribute": row.attribute, "group": group, "n": row.n}
        yield {**named, **_ends("change", change)}


def _similarity_row(row: GroupSimilarity) -> dict[str, Any]:
    named = {"arm": row.arm, "attribute": row.attribute, "group": row.group, "text": " | ".join(row.texts)}
    n = row.cosine.n if row.cosine else 0
    return {**named, "n": n, **_ends("clip_d", row.cosine), **_ends("change", row.change)}


def _verdict_row(row: Verdict) -> dict[str, Any]:
    return {field.name: getattr(row, field.name) for field in fields(row)}


def _finding_row(row: GroupResult) -> dict[str, Any]:
    group = row.most_above_target
    p_adjusted = None if row.fairness_discrepancy is None else row.fairness_discrepancy.p_adjusted
    named = {"prompt_id": row.prompt_id, "arm": row.arm, "attribute": row.attribute, "group": group}
    share = _ends("share", row.judged_shares[group])
    return {**named, **share, "target": row.judged_shares[group].value - row.excess[group], "p_adjusted": p_adjusted}


def _feature_rows(result: AuditResult) -> Iterator[dict[str, Any]]:
    data = result.lens.get("honesty")
    found = LensHonesty.of_data(data).groups if data else ()
    checked = {(group.attribute, group.group, one.latent): one for group in found for one in group.features}
    for feature in result.lens.get("features") or []:
        row = {name: feature[name] for name in ("attribute", "group", "latent", "score")}
        one = checked.get((row["attribute"], row["group"], row["latent"]))
        if one is not None:
            row |= {"chosen": one.stability, "fails": "; ".join(one.failures), **_ends("auc", one.auc)}
            row["n"] = one.auc.n if one.auc else None
            row["shared"] = ", ".join(f"{other.attribute}: {other.group}" for other in one.shared)
        yield row
