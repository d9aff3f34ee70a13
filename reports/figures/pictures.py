"""Selects the pictures of a report and limits their total size.

The report shows the first indices of every occupation, the same in every arm. No picture is selected by its content.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from audit.records.work import ImageKey
from audit.storage.run_directory import LENS, RunDirectory, image_name

TOP_IMAGES = 5
"""Thumbnails per bias feature."""


@dataclass(frozen=True)
class Pictures:
    """WebP bytes for a report.

    Attributes:
        shown: Image key to arm to picture.
        features: Latent to its top activating pictures.
        left_out: Sentence about the pictures that the size limit removed; empty if none were removed.
    """

    shown: Mapping[ImageKey, Mapping[str, bytes]]
    features: Mapping[int, tuple[bytes, ...]]
    left_out: str = ""

    @property
    def embedded_bytes(self) -> int:
        """Size of the pictures inside the report, as base64 text."""
        return sum(_embedded(data) for data in self._all())

    def _all(self) -> Iterable[bytes]:
        for arms in self.shown.values():
            yield from arms.values()
        for thumbnails in self.features.values():
            yield from thumbnails


def data_uri(webp: bytes) -> str:
    """Embed a WebP picture as a data URI, which needs no file and no network."""
    return "data:image/webp;base64," + base64.b64encode(webp).decode("ascii")


def read_pictures(
    run: RunDirectory, keys: Iterable[ImageKey], arms: Iterable[str], top_images: Mapping[str, Iterable[str]]
) -> Pictures:
    """Read the pictures that the run stored; others are left out.

    Args:
        run: The run directory.
        keys: Image keys to show.
        arms: Arms to show of each.
        top_images: Latent to paths relative to the run's lens directory, as the lens's card has them.
    """
    names = tuple(arms)
    shown = {key: _kept(run, {arm: image_name(key.prompt_id, key.index, arm) for arm in names}) for key in keys}
    features = {
        int(latent): tuple(_kept(run, {path: f"{LENS}/{path}" for path in list(paths)[:TOP_IMAGES]}).values())
        for latent, paths in top_images.items()
    }
    return Pictures(
        shown={key: pictures for key, pictures in shown.items() if pictures},
        features={latent: thumbnails for latent, thumbnails in features.items() if thumbnails},
    )


def _kept(run: RunDirectory, names: Mapping[str, str]) -> dict[str, bytes]:
    """Read pictures by name. A name that points outside the run directory is never read."""
    found = {key: run.read_picture(name) for key, name in names.items()}
    return {key: picture for key, picture in found.items() if picture is not None}


def fit(pictures: Pictures, budget_bytes: int) -> Pictures:
    """Drop pictures until the others take at most ``budget_bytes`` as base64.

    The highest image indices are dropped first, in all occupations and arms; the features' thumbnails are dropped last.
    """
    if pictures.embedded_bytes <= budget_bytes:
        return pictures
    indices = sorted({key.index for key in pictures.shown})
    for keep in range(len(indices) - 1, -1, -1):
        kept = set(indices[:keep])
        candidate = replace(
            pictures,
            shown={key: arms for key, arms in pictures.shown.items() if key.index in kept},
            left_out=_left_out(keep, len(indices)),
        )
        if candidate.embedded_bytes <= budget_bytes:
            return candidate
    note = f"{_left_out(0, len(indices))} The features' pictures were left out as well."
    return Pictures(shown={}, features={}, left_out=note)


def _left_out(keep: int, total: int) -> str:
    return (
        f"To stay under the size limit this report shows the first {keep} of {total} kept images per occupation; the "
        "highest indices were left out in all occupations and arms alike. They are in the run directory."
    )


def _embedded(data: bytes) -> int:
    return 4 * ((len(data) + 2) // 3)
