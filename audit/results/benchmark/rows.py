"""One row of a benchmark: what one method does to one attribute of one model, and what it costs.

Every figure is that of the finished audit. Only two are computed here from its images: how many change their group in
an attribute that nobody edits, and the discrepancy of a part of the images, with which rankings are compared.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from audit.measure.discrepancy.estimate import debiased_squares
from audit.measure.discrepancy.samples import Samples
from audit.measure.prompts.stratified import pooled_share
from audit.records.arms.off_path import OffPath, PairedFigure
from audit.records.changes import AttributeShift
from audit.records.groups import GroupResult
from audit.records.quality import QualityResult
from audit.records.result import AuditResult
from audit.records.work import BASELINE
from audit.results.arm_rows import ArmRows
from audit.results.benchmark.costs import Cost
from audit.results.benchmark.steered import Figure, GroupInArm, groups_in_arm

_ROUNDING = 1e-6
"""Of the cosine of an embedding with itself."""

LEAST_IMAGES = 2
"""Smallest number of classified images of a prompt; with fewer a squared discrepancy cannot be debiased."""


@dataclass(frozen=True)
class MethodRow:
    """What one method does to one attribute of one model.

    Attributes:
        model: Name of the model in the benchmark.
        balanced: Attributes that the arm balances.
        attribute: The one of them that the row describes.
        arm: Name of the arm.
        method: Name of the method in the benchmark.
        held_out: Whether the prompts are held out.
        control: Name of the control whose prompts the row has; empty for none.
        run: Name of the run.
        prompts: Prompts with a discrepancy.
        before: Discrepancy of the baseline, as a root mean square over prompts.
        after: The same of the arm.
        worst_before: Largest discrepancy of a prompt in the baseline.
        worst: The same in the arm.
        worst_prompt: The prompt of ``worst``.
        shift: Largest shift of another attribute beyond chance; None if no other attribute is measured.
        shifted: The attribute of ``shift``.
        own_shift: Shift of the attribute itself beyond chance, which control prompts should not have.
        own_flips: Share of images whose group of the attribute itself changes.
        flips: Share of images whose group of any other attribute changes, among those classified in both arms.
        clip_i: CLIP similarity to the paired baseline image.
        clip_t: CLIP similarity to the prompt.
        kid: Kernel distance to the baseline; ``network`` says on which features.
        fid: Fréchet distance to the baseline.
        network: Signature of the distances.
        shown: Share of images that show the occupation.
        psnr_outside: PSNR to the baseline images outside the hidden parts; None unless the audit measures it.
        lpips_outside: LPIPS distance there.
        dino_outside: Cosine of DINOv2's features there.
        distance: Change of the distance of activations from unedited ones; None if the method edits no map.
        outside: Change of the energy outside their principal components.
        unlike_prompt: Change of the share of images unlike the prompt's baseline images.
        unlike_all: Change of the share of images unlike all baseline images.
        faces_lost: Share of the images with a face in the baseline that lose it.
        groups: Steered and measured shares of the attribute's groups, and CLIP-D.
        cost: What the method costs.
    """

    model: str
    balanced: tuple[str, ...]
    attribute: str
    arm: str
    method: str
    held_out: bool
    control: str
    run: str
    prompts: int
    before: Figure | None
    after: Figure | None
    worst_before: Figure | None
    worst: Figure | None
    worst_prompt: str
    shift: Figure | None
    shifted: str
    own_shift: Figure | None
    own_flips: Figure | None
    flips: Figure | None
    clip_i: Figure | None
    clip_t: Figure | None
    kid: Figure | None
    fid: Figure | None
    network: str
    shown: Figure | None
    psnr_outside: Figure | None
    lpips_outside: Figure | None
    dino_outside: Figure | None
    distance: Figure | None
    outside: Figure | None
    unlike_prompt: Figure | None
    unlike_all: Figure | None
    faces_lost: Figure | None
    groups: tuple[GroupInArm, ...]
    cost: Cost

    @property
    def is_main(self) -> bool:
        """Whether the row has the prompts of the benchmark, neither held-out nor control prompts."""
        return not self.held_out and not self.control

    @property
    def changes_no_image(self) -> bool:
        """Whether all images that should be balanced are those of the baseline; images of control prompts should be.

        Their CLIP-I is 1 then, up to the rounding of a cosine. Without CLIP nothing is said.
        """
        return not self.control and self.clip_i is not None and self.clip_i.value > 1 - _ROUNDING


@dataclass(frozen=True)
class RowOrigin:
    """What a row has from the benchmark and not from the audit's result.

    Attributes:
        model: Name of the model.
        balanced: Attributes that the arms balance.
        methods: Arm → name of its method.
        costs: Arm → what it costs.
        targets: Arm → attribute → group → share of images that the arm's config steers to the group.
        held_out: Whether the prompts are held out.
        control: Name of the control whose prompts are audited; empty for none.
    """

    model: str
    balanced: tuple[str, ...]
    methods: Mapping[str, str]
    costs: Mapping[str, Cost]
    targets: Mapping[str, Mapping[str, Mapping[str, float]]]
    held_out: bool = False
    control: str = ""


def method_rows(origin: RowOrigin, result: AuditResult, arms: Mapping[str, ArmRows]) -> Iterator[MethodRow]:
    """Yield a row for each arm and each attribute that it balances.

    Args:
        origin: Names and costs.
        result: Result of the audit.
        arms: Images of every arm, the baseline among them.
    """
    overall = {(row.arm, row.attribute): row for row in result.overall}
    quality = {row.arm: row for row in result.quality}
    paths = {one.arm: one for one in result.off_path}
    others = [name for name in arms[BASELINE].probabilities if name not in origin.balanced]
    for attribute in origin.balanced:
        for arm, method in origin.methods.items():
            before, after = overall.get((BASELINE, attribute)), overall.get((arm, attribute))
            moved, own = (_largest_shift(result.shifts, arm, names) for names in (others, [attribute]))
            found = quality[arm]
            yield MethodRow(
                model=origin.model,
                balanced=origin.balanced,
                attribute=attribute,
                arm=arm,
                method=method,
                held_out=origin.held_out,
                control=origin.control,
                run=result.run_id,
                prompts=after.mean_over_prompts.n if after and after.mean_over_prompts else 0,
                before=_mean(before),
                after=_mean(after),
                worst_before=Figure.of(before.worst_prompt) if before else None,
                worst=Figure.of(after.worst_prompt) if after else None,
                worst_prompt=after.worst_prompt.prompt_id if after and after.worst_prompt else "",
                shift=beyond_chance(moved) if moved else None,
                shifted=moved.attribute if moved else "",
                own_shift=beyond_chance(own) if own else None,
                own_flips=flipped(arms[BASELINE], arms[arm], [attribute]),
                flips=flipped(arms[BASELINE], arms[arm], others),
                clip_i=Figure.of(found.clip_i),
                clip_t=Figure.of(found.clip_t),
                kid=Figure.of(found.kid),
                fid=Figure.of(found.fid),
                network=_network(found),
                shown=Figure.of(found.prompt_shown),
                psnr_outside=Figure.of(found.psnr_outside),
                lpips_outside=Figure.of(found.lpips_outside),
                dino_outside=Figure.of(found.dino_outside),
                **path_figures(paths.get(arm)),
                groups=groups_in_arm(result, arm, BASELINE, attribute, origin.targets[arm][attribute]),
                cost=origin.costs[arm],
            )


def path_figures(found: OffPath | None) -> dict[str, Figure | None]:
    """Return how far an arm leaves what the model makes without it, by the field of a row."""
    inside = None if found is None else found.activations
    return {
        "distance": None if inside is None else Figure.of(inside.distance.change),
        "outside": None if inside is None else Figure.of(inside.outside.change),
        "unlike_prompt": _change(None if found is None else found.unlike_prompt),
        "unlike_all": _change(None if found is None else found.unlike_all),
        "faces_lost": None if found is None else Figure.of(found.face_lost),
    }


def _change(figure: PairedFigure | None) -> Figure | None:
    return None if figure is None else Figure.of(figure.change)


def beyond_chance(shift: AttributeShift) -> Figure:
    """Return a shift minus the shift by chance alone, at least 0; the interval is the audit's, which does the same."""
    return Figure(max(0.0, shift.value - shift.floor), shift.low, shift.high)


def flipped(baseline: ArmRows, arm: ArmRows, attributes: Sequence[str]) -> Figure | None:
    """Return the share of images whose group changes in any of some attributes.

    Only images that both arms could classify in all of these attributes are counted. The arms have the same noise, so
    an arm that changes nothing has 0.

    Args:
        baseline: Images of the baseline.
        arm: Images of the arm, in the same order.
        attributes: The attributes.
    """
    if not attributes:
        return None
    both = np.logical_and.reduce([rows.known(name) for rows in (baseline, arm) for name in attributes])
    changed = np.logical_or.reduce([baseline.codes(name) != arm.codes(name) for name in attributes]) & both
    numbers, prompts = baseline.prompt_numbers(), len(baseline.prompts)
    images = np.bincount(numbers[both], minlength=prompts)
    if not images.sum():
        return None
    return Figure.of(pooled_share(np.bincount(numbers[changed], minlength=prompts), images))


def part_discrepancy(
    codes: NDArray[np.int64], prompts: NDArray[np.int64], targets: NDArray[np.float64]
) -> float | None:
    """Return the discrepancy of some images, as a root mean square over prompts, None without enough of them.

    Args:
        codes: Group of each image, shape (N,).
        prompts: Number of each image's prompt, shape (N,).
        targets: The distribution that counts as fair for each prompt, shape (P, K).
    """
    enough = np.flatnonzero(np.bincount(prompts, minlength=len(targets)) >= LEAST_IMAGES)
    if not enough.size:
        return None
    kept = np.isin(prompts, enough)
    owners = np.searchsorted(enough, prompts[kept])
    samples = Samples.of(np.eye(targets.shape[1])[codes[kept]], owners, enough.size)
    return float(np.sqrt(max(0.0, debiased_squares(samples, targets[enough]).mean())))


def _mean(row: GroupResult | None) -> Figure | None:
    """Return the mean over prompts; with one prompt, its own discrepancy, which alone has an interval."""
    if row is None or row.mean_over_prompts is None:
        return None
    single = row.mean_over_prompts.n == 1 and row.fairness_discrepancy is not None
    return Figure.of(row.fairness_discrepancy if single else row.mean_over_prompts)


def _largest_shift(shifts: Sequence[AttributeShift], arm: str, others: Sequence[str]) -> AttributeShift | None:
    own = [shift for shift in shifts if shift.arm == arm and shift.attribute in others]
    return max(own, key=lambda shift: shift.value - shift.floor, default=None)


def _network(quality: QualityResult) -> str:
    found = quality.fid or quality.kid
    return "" if found is None else found.signature
