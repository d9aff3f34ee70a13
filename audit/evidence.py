"""What an audit tells about the lens it used: the card and the bias features, read without loading a network."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from statistics import fmean
from typing import Any

from audit.dissect.settings import lens_name
from audit.json_object import read_json_object
from audit.summary import LensEvidence

LENS_FILE = "lens.json"
EXAMPLES = "examples"
CARDS = ("*.json", "*.md", f"{EXAMPLES}/*.webp")
"""What a run keeps of a lens: all but its weights."""


def lens_evidence(directory: Path) -> LensEvidence:
    """Read the evidence that a lens directory holds.

    Raises:
        FileNotFoundError: If there is no finished lens.
    """
    path = directory / LENS_FILE
    if not path.is_file():
        raise FileNotFoundError(f"expected a lens in {directory}, found no {LENS_FILE}; dissect the model first")
    plain = read_json_object(path, "the card of a lens")
    features = plain.pop("features")
    return LensEvidence(
        card={
            "name": lens_name(plain["model_fingerprint"], plain["settings"]),
            **plain,
            "top_images": _top_images(directory),
        },
        features={
            attribute: {group: [_chosen(row) for row in rows] for group, rows in by_group.items()}
            for attribute, by_group in features.items()
        },
    )


def keep_evidence(lens: Path, directory: Path) -> None:
    """Copy a lens into a run, all but its weights: the report must render from the run alone.

    Raises:
        ValueError: If the run already holds evidence of another lens; shards made with different lenses do not mix.
    """
    kept, used = directory / LENS_FILE, lens / LENS_FILE
    if not kept.exists():
        for path in (path for pattern in CARDS for path in lens.glob(pattern) if path != used and _is_own(path, lens)):
            target = directory / path.relative_to(lens)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
        shutil.copyfile(used, kept)  # last, so that a copy that was cut short is made again
    elif kept.read_bytes() != used.read_bytes():
        raise ValueError(
            f"the run was begun with another lens than {lens}: its {LENS_FILE} differs from {kept}; take the old lens "
            "back to go on, or choose another name or output for a new run"
        )


def _is_own(path: Path, lens: Path) -> bool:
    """Whether a file lies in the lens itself: a link must not fetch a file of this machine."""
    return path.is_file() and path.resolve().is_relative_to(lens.resolve())


def _chosen(row: dict[str, Any]) -> tuple[int, float, float]:
    """Return (latent, score, mean firing over the steps at which the latent fires at all)."""
    firing = [value for value in row["mean_firing_per_step"] if value > 0]
    return row["latent"], row["score"], fmean(firing) if firing else 0.0


def _top_images(directory: Path) -> dict[str, list[str]]:
    """Return latent → pictures that make it fire most, best first, as paths relative to the lens directory."""
    pictures: dict[str, dict[int, str]] = {}
    for path in (directory / EXAMPLES).glob("*.webp"):
        named = re.fullmatch(r"([0-9]{1,9})-([0-9]{1,9})", path.stem)
        if named:
            pictures.setdefault(named[1], {})[int(named[2])] = f"{EXAMPLES}/{path.name}"
    return {latent: [ranked[rank] for rank in sorted(ranked)] for latent, ranked in sorted(pictures.items())}
