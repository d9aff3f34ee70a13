"""Reads a lens's card and features without loading its weights, and copies them into the run."""

from __future__ import annotations

import re
from statistics import fmean
from typing import Any

from audit.dissect.card import HONESTY
from audit.dissect.settings import EXAMPLES, HONESTY_FILE, LENS_FILE, lens_name
from audit.dissect.strengths import strengths_as_data, strengths_of_data
from audit.records.inside.honesty import LensHonesty
from audit.results.run_strengths import steering_in
from audit.results.summary import LensEvidence
from audit.storage.files import Storage, storage_of
from audit.storage.outside.json_object import json_object
from audit.storage.place import Place

CARDS = (("", (".json", ".md")), (EXAMPLES, (".webp",)))
"""Files of a lens that are copied into a run, by folder and suffix: all except its weights."""


def lens_evidence(directory: Place) -> LensEvidence:
    """Read the evidence in a lens directory.

    Raises:
        FileNotFoundError: If the directory has no finished lens.
    """
    storage = storage_of(directory)
    if not storage.has(LENS_FILE):
        raise FileNotFoundError(f"expected a lens in {directory}, found no {LENS_FILE}; build the lens first")
    plain = json_object(storage.read(LENS_FILE), f"{directory / LENS_FILE}: expected the card of a lens")
    features = plain.pop("features")
    steering = steering_in(storage)
    strengths = strengths_of_data(plain["strengths"]) | steering
    return LensEvidence(
        card={
            "name": lens_name(plain["model_fingerprint"], plain["settings"]),
            **plain,
            # Its summary of the features' figures is for the card in Markdown; here are the figures themselves.
            "quality": {name: value for name, value in plain.get("quality", {}).items() if name != HONESTY},
            "strengths": {
                attribute: {
                    prompt: {group: found.strength for group, found in by_group.items()}
                    for prompt, by_group in prompts.items()
                }
                for attribute, prompts in strengths.items()
            },
            "steering": strengths_as_data(steering),
            "top_images": _top_images(storage),
            **_honesty(storage, directory),
        },
        features={
            attribute: {group: [_chosen(row) for row in rows] for group, rows in by_group.items()}
            for attribute, by_group in features.items()
        },
    )


def _honesty(lens: Storage, directory: Place) -> dict[str, Any]:
    """Return how far the features can be trusted, under its key; empty for a lens of an older release."""
    if not lens.has(HONESTY_FILE):
        return {}
    plain = json_object(lens.read(HONESTY_FILE), f"{directory / HONESTY_FILE}: expected figures of features")
    return {"honesty": LensHonesty.of_data(plain).as_data()}


def keep_evidence(lens: Place, directory: Place) -> None:
    """Copy a lens without its weights into a run, because the report is rendered from the run alone.

    Raises:
        ValueError: If the run already has evidence of another lens; shards of different lenses must not be mixed.
    """
    source, kept = storage_of(lens), storage_of(directory)
    used = source.read(LENS_FILE)
    if not kept.has(LENS_FILE):
        kept.write_all({name: source.read(name) for name in _cards(source)})
        kept.write(LENS_FILE, used)  # last, so that an interrupted copy is repeated
    elif kept.read(LENS_FILE) != used:
        raise ValueError(
            f"this run was started with a different lens from {lens}: its {LENS_FILE} differs from "
            f"{directory / LENS_FILE}; restore that lens to resume, or choose another name or output for a new run"
        )


def _cards(lens: Storage) -> list[str]:
    """Return the files to copy in addition to ``lens.json``; links to files outside the lens are skipped."""
    named = [
        f"{folder}/{name}" if folder else name
        for folder, ends in CARDS
        for name in lens.names(folder)
        if name.endswith(ends)
    ]
    return [name for name in named if name != LENS_FILE and lens.owns(name)]


def _chosen(row: dict[str, Any]) -> tuple[int, float, float]:
    """Return (latent, score, mean activation), the mean over the steps at which the latent is active at all."""
    firing = [value for value in row["mean_firing_per_step"] if value > 0]
    return row["latent"], row["score"], fmean(firing) if firing else 0.0


def _top_images(lens: Storage) -> dict[str, list[str]]:
    """Return latent → pictures with its highest activation, best first, as paths relative to the lens directory."""
    pictures: dict[str, dict[int, str]] = {}
    for name in lens.names(EXAMPLES):
        named = re.fullmatch(r"([0-9]{1,9})-([0-9]{1,9})\.webp", name)
        if named:
            pictures.setdefault(named[1], {})[int(named[2])] = f"{EXAMPLES}/{name}"
    return {latent: [ranked[rank] for rank in sorted(ranked)] for latent, ranked in sorted(pictures.items())}
