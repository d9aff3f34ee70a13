"""Records everything that decides the rows of a run, so that it can be made again elsewhere and compared.

The driver records what it knows before the first shard: weights, files, code, versions. Workers record what they
compute on. What is made for the run, a lens and fits, is recorded by name and by content.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from audit.calibration.bundle import bundle_of
from audit.config.sections import ModelConfig, PromptsConfig
from audit.config.slices import FilesRequest
from audit.models.source import model_fingerprint, model_parts
from audit.planning.fits import TENSORS_FILE
from audit.preflight.weights.needs import Origin, needed
from audit.records.energy import EnergyUse, energy_of
from audit.storage.files import storage_of
from audit.storage.place import Place
from audit.storage.provenance import collect_provenance, fingerprint, sha256_of
from audit.storage.run_directory import RunDirectory

MODEL_PARTS = "model_parts"
"""Key of the provenance with the hash of each part of the model."""

FILES = "files"
"""Key of the provenance with the hashes of the other files that the config names, by key of the config."""

FITTED_ON = "fitted_on"
"""Key of the provenance with the prompts that methods were fitted with, if they are not those of the audit."""

COMPUTE = "compute"
"""Folder of a run with one file for each kind of worker, and key of the provenance with their contents."""

ENERGY = "energy"
"""Folder of a run with one file for each worker that worked, and key of the provenance with their sum."""

PREPARED = "prepared"
"""Key of the provenance with what was made for the run or found beside it: the lens and the fits."""

_PREPARED_FILE = "prepared.json"
_NOT_FILES = ("model.source", "model.config", "model.folder", "model.manifest")
"""Keys of the config whose files are in the fingerprint of the model."""

_LENS_FILES = ("sae.safetensors", "heads.safetensors", "firing.safetensors", "contrast.safetensors", "lens.json")
"""Files of a lens that decide what it does; its card and its examples do not."""


def inputs_here(
    request: FilesRequest, accelerators: Sequence[str], fitted_on: PromptsConfig | None = None
) -> dict[str, Any]:
    """Return what decides the rows of a run, as this machine has it, as plain data.

    Args:
        request: Sections that name files.
        accelerators: Names of the accelerators in use.
        fitted_on: Prompts that methods are fitted with; None for those of the audit.
    """
    other = {} if fitted_on is None else {FITTED_ON: fitted_on.model_dump(mode="json")}
    return {
        **collect_provenance(model_fingerprint(request.model), accelerators),
        MODEL_PARTS: model_parts(request.model),
        FILES: {**_instruments_of_world(request.model), **_named_files(request)},
        **other,
    }


def compute_record(found: Mapping[str, str]) -> tuple[str, dict[str, str]]:
    """Return name and content of the file that describes a worker; workers of one kind write the same file."""
    text = json.dumps(found, sort_keys=True)
    return f"{COMPUTE}/{hashlib.sha256(text.encode()).hexdigest()[:12]}.json", dict(found)


def energy_file() -> str:
    """Return a new name for the file with the energy of a worker; each worker that starts has its own."""
    return f"{ENERGY}/{uuid.uuid4().hex[:12]}.json"


def keep_prepared(run: RunDirectory, lens: Place | None, fits: Mapping[str, Place]) -> None:
    """Store in a run the name and the content hash of its lens and of its fits."""
    kept: dict[str, Any] = {}
    if lens is not None:
        kept["lens"] = {"name": lens.name, "content": _digest(lens, _LENS_FILES)}
    if fits:
        kept["fits"] = {
            name: {"name": place.name, "content": _digest(place, (TENSORS_FILE,))} for name, place in fits.items()
        }
    if kept:
        run.write_json(_PREPARED_FILE, kept)


def made_on(run: RunDirectory) -> dict[str, Any]:
    """Return what became known while a run was made: its workers' hardware and energy, its lens and its fits."""
    kinds = {f"workers {number}": kind for number, kind in enumerate(_files_of(run, COMPUTE), start=1)}
    found: dict[str, Any] = {COMPUTE: kinds} if kinds else {}
    used = energy_of(map(EnergyUse.of_data, _files_of(run, ENERGY)))
    found |= {} if used is None else {ENERGY: used.as_data()}
    return found | ({PREPARED: run.read_json(_PREPARED_FILE)} if run.has(_PREPARED_FILE) else {})


def _files_of(run: RunDirectory, folder: str) -> Iterator[dict[str, Any]]:
    """Yield the contents of the files that workers wrote, in the order of their names."""
    for name in sorted(run.storage.names(folder)):
        yield run.read_json(f"{folder}/{name}")


def _digest(place: Place, names: Sequence[str]) -> str:
    """Hash the files of a directory that exist, one after the other."""
    storage, digest = storage_of(place), hashlib.sha256()
    for name in names:
        if storage.has(name):
            digest.update(name.encode() + b"\0" + hashlib.sha256(storage.read(name)).digest())
    return f"sha256:{digest.hexdigest()}"


def _named_files(request: FilesRequest) -> dict[str, str]:
    """Hash the files and directories that a config names; a lens by the files that decide what it does."""
    found = {
        need.key: _digest(Path(need.source), _LENS_FILES) if need.key == "lens.path" else _hash_of(Path(need.source))
        for need in needed(request)
        if need.origin is Origin.PATH and need.key not in _NOT_FILES and not need.key.startswith("model.adapters")
    }
    return {key: digits for key, digits in found.items() if digits is not None}


def _instruments_of_world(model: ModelConfig) -> dict[str, str]:
    """Return the networks that were trained with a calibration model, which ``bundled`` stands for."""
    bundle = bundle_of(model)
    if bundle is None:
        return {}
    networks = {"bundled judge": bundle.judge, "bundled features": bundle.features, "bundled CLIP": bundle.clip}
    return {name: found for name, path in networks.items() if (found := _hash_of(path))}


def _hash_of(path: Path) -> str | None:
    """Hash a file or all files of a directory; None if there is nothing."""
    if path.is_file():
        return f"sha256:{sha256_of(path)}"
    if path.is_dir() and any(one.is_file() for one in path.rglob("*")):
        return fingerprint(path, ("**/*",))
    return None
