"""What an audit tells about the lens it used: the card and the bias features, read without loading a network."""

from __future__ import annotations

import json
import re
from statistics import fmean
from typing import Any

from audit.dissect.settings import EXAMPLES, LENS_FILE, STEERING_FILE, lens_name
from audit.dissect.strengths import Strengths, strengths_as_data, strengths_of_data
from audit.results.summary import LensEvidence
from audit.storage.files import Storage, storage_of
from audit.storage.outside.json_object import json_object
from audit.storage.place import Place
from audit.storage.run_directory import LENS, RunDirectory

CARDS = (("", (".json", ".md")), (EXAMPLES, (".webp",)))
"""What a run keeps of a lens, by folder and end of the name: all but its weights."""


def lens_evidence(directory: Place) -> LensEvidence:
    """Read the evidence that a lens directory holds.

    Raises:
        FileNotFoundError: If there is no finished lens.
    """
    storage = storage_of(directory)
    if not storage.has(LENS_FILE):
        raise FileNotFoundError(f"expected a lens in {directory}, found no {LENS_FILE}; dissect the model first")
    plain = json_object(storage.read(LENS_FILE), f"{directory / LENS_FILE}: expected the card of a lens")
    features = plain.pop("features")
    steering = _steering(storage)
    strengths = strengths_of_data(plain["strengths"]) | steering
    return LensEvidence(
        card={
            "name": lens_name(plain["model_fingerprint"], plain["settings"]),
            **plain,
            "strengths": {
                attribute: {
                    prompt: {group: found.strength for group, found in by_group.items()}
                    for prompt, by_group in prompts.items()
                }
                for attribute, prompts in strengths.items()
            },
            "steering": strengths_as_data(steering),
            "top_images": _top_images(storage),
        },
        features={
            attribute: {group: [_chosen(row) for row in rows] for group, rows in by_group.items()}
            for attribute, by_group in features.items()
        },
    )


def steering_of(run: RunDirectory) -> Strengths:
    """Return the strengths of a run's own prompts, by attribute; empty where it searched and predicted none."""
    return _steering(storage_of(run.file(LENS)))


def keep_steering(run: RunDirectory, strengths: Strengths) -> None:
    """Keep the strengths of a run's own prompts: every worker, and every later try, takes them from there."""
    storage_of(run.file(LENS)).write(
        STEERING_FILE, (json.dumps(strengths_as_data(strengths), indent=1) + "\n").encode()
    )


def _steering(storage: Storage) -> Strengths:
    if not storage.has(STEERING_FILE):
        return {}
    found = json_object(storage.read(STEERING_FILE), f"{STEERING_FILE}: expected strengths")
    return strengths_of_data(found)


def keep_evidence(lens: Place, directory: Place) -> None:
    """Copy a lens into a run, all but its weights: the report must render from the run alone.

    Raises:
        ValueError: If the run already holds evidence of another lens; shards made with different lenses do not mix.
    """
    source, kept = storage_of(lens), storage_of(directory)
    used = source.read(LENS_FILE)
    if not kept.has(LENS_FILE):
        kept.write_all({name: source.read(name) for name in _cards(source)})
        kept.write(LENS_FILE, used)  # last, so that a copy that was cut short is made again
    elif kept.read(LENS_FILE) != used:
        raise ValueError(
            f"the run was begun with another lens than {lens}: its {LENS_FILE} differs from {directory / LENS_FILE}; "
            "take the old lens back to go on, or choose another name or output for a new run"
        )


def _cards(lens: Storage) -> list[str]:
    """Name what is kept beside ``lens.json``; a link must not fetch a file of this machine."""
    named = [
        f"{folder}/{name}" if folder else name
        for folder, ends in CARDS
        for name in lens.names(folder)
        if name.endswith(ends)
    ]
    return [name for name in named if name != LENS_FILE and lens.owns(name)]


def _chosen(row: dict[str, Any]) -> tuple[int, float, float]:
    """Return (latent, score, mean firing), the last over the steps at which the latent fires at all."""
    firing = [value for value in row["mean_firing_per_step"] if value > 0]
    return row["latent"], row["score"], fmean(firing) if firing else 0.0


def _top_images(lens: Storage) -> dict[str, list[str]]:
    """Return latent → pictures that make it fire most, best first, as paths relative to the lens directory."""
    pictures: dict[str, dict[int, str]] = {}
    for name in lens.names(EXAMPLES):
        named = re.fullmatch(r"([0-9]{1,9})-([0-9]{1,9})\.webp", name)
        if named:
            pictures.setdefault(named[1], {})[int(named[2])] = f"{EXAMPLES}/{name}"
    return {latent: [ranked[rank] for rank in sorted(ranked)] for latent, ranked in sorted(pictures.items())}
