"""What an arm cost in quality."""

from __future__ import annotations

from dataclasses import dataclass, field

from audit.records.estimates import LikeThese, OverPrompts


@dataclass(frozen=True)
class Measurement:
    """A quality figure with the signature of how it was made.

    Attributes:
        value: The figure.
        n: Images (or pairs) behind it.
        signature: ``metric:…|net:…|n:…``: network, resize, estimator, version.
        low: Lower end of the 95 % interval, where there is one.
        high: Upper end.
        extra: Figures that belong to the same measurement under names of their own, for example ``rescaled`` for
            (cos + 1) / 2, ``noise_floor`` for the split-half value of the baseline.
        like_these: The interval for prompts like these, where there is one.
    """

    value: float
    n: int
    signature: str
    low: float | None = None
    high: float | None = None
    extra: dict[str, float] = field(default_factory=dict)
    like_these: LikeThese | None = None


@dataclass(frozen=True)
class QualityResult:
    """What an arm cost or kept: CLIP-I and Fréchet/kernel distances against the baseline arm, CLIP-T per arm.

    Attributes:
        arm: The arm.
        clip_i: Paired image similarity to the baseline arm, None for the baseline itself.
        clip_t: Image-text similarity.
        fid: Fréchet distance to the baseline arm (None for the baseline), ``extra`` has ``noise_floor``.
        kid: Kernel distance, likewise.
        prompt_shown: Share of images that show the prompted occupation as the judge sees it, where it can.
        attribute_shift: By attribute, the mean over prompts of the total variation between the arm's and the baseline's
            group shares.
        fid_to_reference: Fréchet distance to the reference images, of the baseline too; None where the config names
            none.
        kid_to_reference: Kernel distance, likewise.
    """

    arm: str
    clip_i: Measurement | None
    clip_t: Measurement | None
    fid: Measurement | None
    kid: Measurement | None
    prompt_shown: OverPrompts | None
    attribute_shift: dict[str, float]
    fid_to_reference: Measurement | None = None
    kid_to_reference: Measurement | None = None
