"""Look-ups of figures in a result that several pages share: means over prompts, the worst prompt, status counts."""

from __future__ import annotations

from typing import Protocol

from audit.measure.inference.intervals import share_estimate
from audit.records.attributes import Attribute
from audit.records.estimates import Estimate
from audit.records.groups import PromptMean, WorstPrompt
from audit.records.quality import QualityResult
from audit.records.work import Status
from reports.index.distances import distance_names
from reports.index.settings import edited_by, hidden_words
from reports.index.story import Story


class WithInterval(Protocol):
    """A figure with its interval; None as an end if the interval is not known."""

    @property
    def value(self) -> float:
        """The figure."""
        ...

    @property
    def low(self) -> float | None:
        """Lower end."""
        ...

    @property
    def high(self) -> float | None:
        """Upper end."""
        ...


def mean_over_prompts(story: Story, attribute: str, arm: str) -> PromptMean | None:
    """Root mean square over prompts of the fairness discrepancy, with other means; None if no prompt has one.

    This is not the discrepancy of the pool, in which opposite skews of two occupations cancel.
    """
    overall = story.rows.get((None, arm, attribute))
    return overall.mean_over_prompts if overall else None


def mean_discrepancy(story: Story, attribute: str, arm: str) -> float | None:
    """The value of ``mean_over_prompts``."""
    mean = mean_over_prompts(story, attribute, arm)
    return mean.value if mean else None


def noise_floor(story: Story, attribute: str, arm: str) -> float | None:
    """Mean over prompts of the plug-in value that a perfectly balanced model is expected to score at the same n."""
    mean = mean_over_prompts(story, attribute, arm)
    return mean.expected_at_parity if mean else None


def worst_prompt(story: Story, attribute: str, arm: str) -> WorstPrompt | None:
    """Return the prompt with the largest fairness discrepancy; None if nothing was classified."""
    overall = story.rows.get((None, arm, attribute))
    return overall.worst_prompt if overall else None


def primary_attribute(story: Story) -> Attribute:
    """Return the attribute that the report shows first.

    It is the (first) attribute of the first mitigation, or without mitigations the most skewed one at baseline.

    Raises:
        ValueError: No attribute has a single classified image.
    """
    if not story.attributes:
        raise ValueError(
            "expected classified images for at least one attribute, found none; check the statuses in results.parquet, "
            "and lower judge.min_confidence if the classifier is unsure of these pictures, or judge.faces.threshold if "
            "no face was found"
        )
    by_name = {attribute.name: attribute for attribute in story.attributes}
    edited = [name for arm, own in edited_by(story.result).items() if arm in story.arms for name in own]
    for name in edited:
        if name in by_name:
            return by_name[name]
    return max(story.attributes, key=lambda item: mean_discrepancy(story, item.name, story.arms[0]) or 0.0)


def edited_arm(story: Story, attribute: str) -> str | None:
    """Return the first arm in the config's order that edits ``attribute``.

    The config's order decides, so that no arm is selected by its figures. The arms of a counterfactual pair ask what a
    word changes. They do not aim at the target, and are never selected.
    """
    asking = {arm for pair in story.result.counterfactuals for arm in pair.arms}
    arms = (arm for arm, own in edited_by(story.result).items() if attribute in own and arm in story.arms)
    return next((arm for arm in arms if arm not in asking), None)


def findings_count(story: Story, attribute: str, arm: str) -> int:
    """Number of prompts that depart from the target, corrected for multiple testing."""
    rows = (story.rows.get((prompt, arm, attribute)) for prompt in story.prompts)
    return sum(row.is_finding for row in rows if row)


def unclassified(story: Story, attribute: str, arm: str) -> Estimate:
    """Share of an arm's images without a perceived group.

    Raises:
        ValueError: The arm has no images for this attribute.
    """
    counts = status_counts(story, attribute, arm)
    total = sum(counts.values())
    return share_estimate(total - counts.get(Status.CLASSIFIED, 0), total)


def status_counts(story: Story, attribute: str, arm: str) -> dict[str, int]:
    """Images by status, summed over the prompts of one arm."""
    counts: dict[str, int] = {}
    for prompt in story.prompts:
        row = story.rows.get((prompt, arm, attribute))
        for status, count in (row.statuses if row else {}).items():
            counts[status] = counts.get(status, 0) + count
    return counts


def quality_figures(story: Story) -> dict[str, str]:
    """Return the columns of a table over the arms, as ``QualityResult`` names them, with their names for people.

    Comparisons that need a network or a reference are left out if no arm has them. PSNR outside hidden parts stays
    where every pixel of an arm's images is hidden, so that this is seen.
    """
    names, hidden = distance_names(story), hidden_words(story.result.config)
    titles = {
        "clip_i": "CLIP-I",
        "clip_t": "CLIP-T",
        "dino_i": "DINO-I",
        "lpips": "LPIPS",
        "psnr": "PSNR of changed images, dB",
        "dino_outside": f"DINO-I outside {hidden}",
        "lpips_outside": f"LPIPS outside {hidden}",
        "psnr_outside": f"PSNR outside {hidden}, dB",
        "compared_outside": f"Pixels outside {hidden}, compared",
        "fid": f"{names.frechet} to baseline",
        "kid": f"{names.kernel} to baseline",
        "fid_to_reference": f"{names.frechet} to reference",
        "kid_to_reference": f"{names.kernel} to reference",
    }
    always = {"clip_i", "clip_t", "fid", "kid"}
    return {
        name: title
        for name, title in titles.items()
        if name in always
        or any(getattr(quality, name) or is_all_hidden(quality, name) for quality in story.result.quality)
    }


def is_all_hidden(quality: QualityResult, name: str) -> bool:
    """Return whether a figure of an arm is missing because every pixel of all its images is hidden."""
    compared = quality.compared_outside
    return name == "psnr_outside" and compared is not None and compared.value == 0
