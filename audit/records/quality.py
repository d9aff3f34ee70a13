"""Quality measurements of an arm."""

from __future__ import annotations

from dataclasses import dataclass, field

from audit.records.estimates import LikeThese, OverPrompts


@dataclass(frozen=True)
class Measurement:
    """A quality figure with the signature of its method.

    Attributes:
        value: The figure.
        n: Images (or pairs) that it is based on.
        signature: ``metric:…|net:…|n:…``: network, resize, estimator, version.
        low: Lower end of the 95 % interval, None if there is no interval.
        high: Upper end.
        extra: Additional figures of the same measurement by name, for example ``rescaled`` for (cos + 1) / 2 and
            ``noise_floor`` for the split-half value of the baseline.
        like_these: The interval for prompts like these, None if there is none.
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
    """Quality of an arm: CLIP-I and Fréchet/kernel distances to the baseline arm, CLIP-T per arm.

    Attributes:
        arm: The arm.
        clip_i: Paired image similarity to the baseline arm, None for the baseline itself.
        clip_t: Image-text similarity.
        fid: Fréchet distance to the baseline arm on any feature network, which the signature names; it is the FID of
            papers only on the FID Inception network (None for the baseline), ``extra`` has ``noise_floor``.
        kid: Kernel distance, in the same way.
        prompt_shown: Share of images that show the prompted occupation according to the judge; None if it cannot tell.
        attribute_shift: By attribute, the mean over prompts of the total variation between the arm's and the baseline's
            group shares.
        fid_to_reference: Fréchet distance to the reference images, for the baseline too; None if the config names no
            reference.
        kid_to_reference: Kernel distance, in the same way.
        psnr: Mean PSNR to the paired baseline images in dB; None for the baseline, and in files of older versions.
        lpips: Mean LPIPS distance, in the same way; None also if the config names no network.
        dino_i: Mean cosine of DINOv2's features, in the same way.
        face_found: Share of images in which a face was found, among all images; None if the judge looks for none.
        several_faces: Share of images with more than one face; None if faces are not counted.
        psnr_outside: Mean PSNR outside the hidden parts, in dB; None unless the config has ``quality.outside``.
        lpips_outside: Mean LPIPS distance there, in the same way.
        dino_outside: Mean cosine of DINOv2's features there, in the same way.
        compared_outside: Mean share of the pixels that are compared there.
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
    psnr: Measurement | None = None
    lpips: Measurement | None = None
    dino_i: Measurement | None = None
    face_found: OverPrompts | None = None
    several_faces: OverPrompts | None = None
    psnr_outside: Measurement | None = None
    lpips_outside: Measurement | None = None
    dino_outside: Measurement | None = None
    compared_outside: Measurement | None = None
