"""Source and fingerprint of a model; no network is loaded here."""

from __future__ import annotations

import functools
import logging
from pathlib import Path

from audit.calibration.bundle import bundle_of, world_table
from audit.config.fields import API, CLOSED, IMAGES
from audit.config.sections import ModelConfig
from audit.models.closed.fingerprint import endpoint_fingerprint, pictures_fingerprint
from audit.models.files.single_file import names_single_file
from audit.models.files.untrusted_model import INDEX
from audit.storage.provenance import CONFIG_FILES, WEIGHT_FILES, fingerprint, sha256_of, short_fingerprint

LOG = logging.getLogger(__name__)


def pipeline_source(model: ModelConfig) -> str:
    """Directory or hub id of the diffusers pipeline of a model; for a closed model its source, which names nothing.

    The weights of a single-file checkpoint are not in this directory: see :func:`single_file`.
    """
    bundle = bundle_of(model) if model.source not in CLOSED else None
    if bundle is not None:
        return str(bundle.pipeline)
    return model.config or model.source if names_single_file(model.source) else model.source


def single_file(model: ModelConfig) -> Path | None:
    """Return the single-file checkpoint that holds a model's weights; None if they are in the pipeline's directory."""
    return Path(model.source) if names_single_file(model.source) else None


def model_fingerprint(model: ModelConfig) -> str:
    """Hash of a model's weights and configs; of the table for ``rendered``; id and commit for a model on the hub.

    For ``images`` it is a hash of the pictures and their prompts; for ``api`` it names the endpoint and the model.
    A LoRA adds the hash of its file and its scale; a single-file checkpoint has that of its file and of its configs.

    A branch or a tag of the hub may stand for other weights tomorrow, so it is the commit behind it that counts.
    """
    if model.source == "rendered":
        table = world_table(model)
        return fingerprint(table.parent, (table.name,))
    if model.source == IMAGES:
        return pictures_fingerprint(model)
    if model.source == API:
        return endpoint_fingerprint(model)
    source, file = pipeline_source(model), single_file(model)
    if file is not None:
        base = f"sha256:{_file_digest(file)}+configs:{_configs_fingerprint(source)}"
    elif Path(source).is_dir():
        base = _directory_fingerprint(source)
    else:
        base = f"{source}@{_commit(source, model.revision or 'main')}"
    adapters = [f"lora:{_file_fingerprint(one.path)}×{one.scale:g}" for one in model.adapters]
    return "+".join([base, *adapters])


def model_parts(model: ModelConfig) -> dict[str, str]:
    """Hash each part of a model by itself, so that a changed one can be named.

    Args:
        model: The model.

    Returns:
        Part → ``sha256:`` and 64 hexadecimal digits: the folders of a pipeline (``unet``, ``vae``), the files beside
        them, a checkpoint in one file, each LoRA, the table of a calibration world. It is empty for a model on the hub,
        whose commit is in the fingerprint, and for closed models.
    """
    parts: dict[str, str] = {}
    if bundle_of(model) is not None and model.source not in CLOSED:
        table = world_table(model)
        parts["world"] = f"sha256:{_file_digest(table)}"
    if model.source != "rendered" and model.source not in CLOSED:
        source, file = Path(pipeline_source(model)), single_file(model)
        if file is not None:
            parts["checkpoint"] = f"sha256:{_file_digest(file)}"
        if source.is_dir():
            parts |= _directory_parts(str(source), CONFIG_FILES if file is not None else WEIGHT_FILES)
    loras = enumerate(model.adapters, start=1)
    return parts | {f"LoRA {number}": f"sha256:{_file_digest(Path(one.path))}" for number, one in loras}


@functools.cache
def _directory_parts(source: str, patterns: tuple[str, ...]) -> dict[str, str]:
    directory = Path(source)
    found: dict[str, str] = {}
    for path in sorted(directory.iterdir()):
        if path.is_dir() and any(file.is_file() for pattern in patterns for file in path.glob(pattern)):
            found[path.name] = fingerprint(path, patterns)
    files = sorted({file for pattern in patterns for file in directory.glob(pattern.removeprefix("**/"))})
    return found | {file.name: f"sha256:{_file_digest(file)}" for file in files if file.is_file()}


@functools.cache
def _commit(source: str, revision: str) -> str:
    """Return the commit of a revision on the hub, or the cached one if the hub does not answer.

    A pipeline is loaded from the same commit. The hub is asked once per process, because a hub that cannot be reached
    takes half a minute to fail. If the commit is unknown, the revision itself is returned: a driver may be unable to
    reach the hub although its workers can.
    """
    from huggingface_hub import hf_hub_download

    try:
        index = hf_hub_download(source, INDEX, revision=revision)
    except OSError as error:
        LOG.warning("%s@%s: the hub does not say which commit that is (%s)", source, revision, type(error).__name__)
        return revision
    return Path(index).parent.name


@functools.cache
def _directory_fingerprint(source: str) -> str:
    return fingerprint(Path(source))


@functools.cache
def _file_digest(file: Path) -> str:
    return sha256_of(file)


@functools.cache
def _configs_fingerprint(source: str) -> str:
    return fingerprint(Path(source), CONFIG_FILES)


@functools.cache
def _file_fingerprint(path: str) -> str:
    return short_fingerprint(Path(path))
