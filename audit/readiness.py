"""Checks a config against this machine, before any work: files, the calibration world, shapes, the tracking server.

Nothing here loads a network or asks for a GPU. Each check finds :class:`Problem` records, so that a caller who has the
file at hand can show them at their lines, beside the mistakes of the schema.
"""

from __future__ import annotations

import math
import os
import re
import socket
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from audit.config.errors import ConfigErrors
from audit.config.fields import GENERATED_HERE
from audit.config.problems import Location, Problem, listing, suggestion
from audit.config.sections import ModelConfig, TargetFileConfig
from audit.config.settings import AuditConfig
from audit.dissect.files import LENS_FILE
from audit.dissect.settings import LENS_FORMAT
from audit.instrument_checks import check_judges, check_networks
from audit.json_object import read_json_object
from audit.object_store import ObjectStore
from audit.place import ObjectPath, Place, place_of, sqlite_file
from audit.plan import prompts_of
from audit.records import Attribute

CONNECT_SECONDS = 2.0
"""How long a tracking server may take to answer a connection."""

_DEFAULT_PORTS = {"http": 80, "https": 443, "postgresql": 5432, "mysql": 3306, "mssql": 1433}
_UNET_PARTS = ("conv_in", "down_blocks", "mid_block", "up_blocks", "conv_norm_out", "conv_out")
_MODEL = (("model", "source"), ("model", "world"))


def check_ready(config: AuditConfig) -> Iterator[Problem]:
    """Find what would stop an audit of this config on this machine.

    Yields:
        Problems, each with its place in the config; nothing where all is ready.
    """
    for section, check in _CHECKS.items():
        try:
            yield from check(config)
        except OSError as error:  # a name too long for the file system, a directory that must not be looked into
            message = f"expected a file or directory that can be looked at, found {str(error.filename)[:80]!r}"
            yield Problem((section,), f"{message} ({error.strerror}); check the path")


def known_occupations(model: ModelConfig) -> tuple[str, ...] | None:
    """Return the occupations of a model's calibration world, None for a model from outside.

    Raises:
        ValueError: If the world's table cannot be read, or is none.
    """
    if model.source not in GENERATED_HERE:
        return None
    from audit.calibration.bundle import world_table
    from audit.calibration.world import World

    try:
        return tuple(World.load(world_table(model)).occupations)
    except OSError as error:
        raise ValueError(f"expected a path that can be looked at, found {error.strerror}") from error


# ---- the model -----------------------------------------------------------------------------------------------------


def _model(config: AuditConfig) -> Iterator[Problem]:
    model = config.model
    if model.source in GENERATED_HERE:
        yield from _calibration_model(config)
    elif Path(model.source).is_dir():
        yield from _pipeline_directory(Path(model.source), config)
    elif _is_path(model.source):
        yield _at_source(f"expected a directory with model_index.json, found none at {model.source}; check the path")
    elif not re.fullmatch(r"[\w.-]+/[\w.-]+", model.source):
        message = f"expected {listing(GENERATED_HERE)}, a directory or a hub id (owner/name), found {model.source!r}"
        yield _at_source(message + suggestion(model.source, GENERATED_HERE))
    if model.world is not None and model.source not in GENERATED_HERE:
        message = f"expected no world beside a model from outside, found {model.world!r}; remove it"
        yield Problem(("model", "world"), message, reads=(("model", "source"),))


def _at_source(message: str) -> Problem:
    return Problem(("model", "source"), message)


def _calibration_model(config: AuditConfig) -> Iterator[Problem]:
    model = config.model
    if model.source == "rendered":
        return
    if model.world is not None and Path(model.world).is_file():
        message = f"expected the directory of a trained world, found the file {model.world}; train it: make calibration"
        yield Problem(("model", "world"), message, reads=_MODEL)
        return
    from audit.calibration.bundle import BUNDLED, bundle_of

    bundle = bundle_of(model)
    if bundle is None:
        return
    place: Location = ("model", "world") if model.world else ("model", "source")
    if not (bundle.pipeline / "model_index.json").is_file():
        message = (
            f"expected a trained model, found no model_index.json in {bundle.pipeline}; train it: make calibration"
        )
        yield Problem(place, message, reads=_MODEL)
    elif bundle.path == BUNDLED:  # it is known to load: the seconds that building it takes are not spent
        yield from _steps_of_bundled(bundle.pipeline, config.sampling.steps)
    else:
        for problem in _problems_of(bundle.pipeline, config):
            yield replace(problem, location=place) if problem.location[0] == "model" else problem


def _steps_of_bundled(pipeline: Path, steps: int) -> Iterator[Problem]:
    from audit.models.family import unfit_steps

    path = pipeline / "scheduler" / "scheduler_config.json"
    message = unfit_steps(read_json_object(path, "a scheduler", any_number=True), steps)
    if message:
        yield Problem(("sampling", "steps"), message, reads=_MODEL)


def _problems_of(directory: Path, config: AuditConfig) -> tuple[Problem, ...]:
    from audit.models.check import Sampled, model_problems

    return model_problems(directory, config.model, Sampled(config.sampling, config.lens.hookpoint))


def _pipeline_directory(directory: Path, config: AuditConfig) -> Iterator[Problem]:
    if (directory / "pipeline" / "model_index.json").is_file():
        remedy = f"set source: calibration and world: {directory}"
        yield _at_source(f"expected a pipeline, found a trained world in {directory}; {remedy}")
    elif not (directory / "model_index.json").is_file():
        yield _at_source(f"expected a diffusers pipeline, found no model_index.json in {directory}; check the path")
    else:
        yield from _problems_of(directory, config)


# ---- what it is asked, and who looks -------------------------------------------------------------------------------


def check_occupations(config: AuditConfig) -> Iterator[Problem]:
    """Find occupations that the model's world does not know, and a world that cannot be read.

    Yields:
        Problems, each with its place in the config.
    """
    named = config.prompts.occupations
    try:
        known = known_occupations(config.model)
    except ValueError as error:
        message = f"expected a trained world or a table of planted shares, found none in {config.model.world} ({error})"
        yield Problem(("model", "world"), message + "; check the path", reads=_MODEL)
        return
    if known is None and named == "all":
        message = f"expected a list of occupations for {config.model.source!r}, found 'all', which only a world knows"
        yield Problem(("prompts", "occupations"), message, reads=_MODEL)
    if known is None or named == "all":
        return
    for index, occupation in enumerate(named):
        if occupation not in known:
            message = f"expected an occupation of the calibration world ({listing(known)}), found {occupation!r}"
            yield Problem(("prompts", "occupations", index), message + suggestion(occupation, known), reads=_MODEL)


def check_prompts(config: AuditConfig) -> Iterator[Problem]:
    """Find occupations that are unknown, and texts that the model or CLIP would not read to their end.

    Yields:
        Problems, each with its place in the config.
    """
    mistaken = False
    for problem in check_occupations(config):
        mistaken = True
        yield problem
    if not mistaken:
        from audit.prompt_lengths import cut_texts

        yield from cut_texts(config, prompts_of(config, known_occupations(config.model) or ()))


# ---- where it is looked into ---------------------------------------------------------------------------------------


def _lens(config: AuditConfig) -> Iterator[Problem]:
    lens = config.lens
    if lens.path is not None:
        yield from _named_lens(Path(lens.path))
    if config.model.source == "rendered":
        return
    part = lens.hookpoint.split(".")[0]
    if part not in _UNET_PARTS:
        message = f"expected a module of the U-Net ({listing(_UNET_PARTS)}), found {lens.hookpoint!r}"
        yield Problem(("lens", "hookpoint"), message + suggestion(part, _UNET_PARTS))
    latents = _latents(config)
    if latents is None:
        return
    for name in ("k", "features_per_group"):
        wanted = getattr(lens, name)
        if wanted > latents:
            message = f"expected at most the {latents} latents that there will be, found {wanted}; raise lens.expansion"
            yield Problem(("lens", name), message, reads=(("lens", "expansion"), ("lens", "hookpoint"), *_MODEL))


def _named_lens(directory: Path) -> Iterator[Problem]:
    if not (directory / LENS_FILE).is_file():
        message = f"expected a lens, found no {LENS_FILE} in {directory}; make one with difflens-audit dissect"
        yield Problem(("lens", "path"), message)
        return
    try:
        version = read_json_object(directory / LENS_FILE, "the card of a lens").get("format_version")
    except ValueError as error:
        yield Problem(("lens", "path"), str(error))
        return
    if version != LENS_FORMAT:
        message = f"expected a lens of format {LENS_FORMAT}, found format {version} in {directory}; dissect again"
        yield Problem(("lens", "path"), message)


def _latents(config: AuditConfig) -> int | None:
    """Count the latents of an autoencoder on the mid block; None where the model's shape is not at hand."""
    from audit.models.family import latent_size

    unet = _unet_config(config.model)
    if unet is None or config.lens.hookpoint != "mid_block":
        return None
    channels = unet.get("block_out_channels")
    if not isinstance(channels, list) or not channels or not isinstance(channels[-1], int):
        return None
    try:
        height, width = latent_size(unet)
    except ValueError:  # reported by _model
        return None
    halved = 2 ** (len(channels) - 1)
    positions = math.ceil(height / halved) * math.ceil(width / halved) if config.lens.whole_map else 1
    return config.lens.expansion * channels[-1] * positions


def _unet_config(model: ModelConfig) -> dict[str, Any] | None:
    from audit.models.source import pipeline_source

    try:
        return read_json_object(
            Path(pipeline_source(model)) / "unet" / "config.json", "the shape of a U-Net", any_number=True
        )
    except ValueError:  # told by _model, or a model on the hub
        return None


# ---- what is measured, and where results go ------------------------------------------------------------------------


def _quality(config: AuditConfig) -> Iterator[Problem]:
    quality = config.quality
    yield from check_networks(config)
    if quality.reference is not None:
        yield from _reference(Path(quality.reference), quality.features)


def _reference(directory: Path, features: str) -> Iterator[Problem]:
    """Decode every reference picture: one that cannot be used would otherwise end the audit after its other work."""
    from audit.calibration.canvas import SIZE
    from audit.picture_folder import SUFFIXES, picture_folder, unreadable_pictures

    at = ("quality", "reference")
    if not directory.is_dir():
        yield Problem(at, f"expected a directory with images, found none at {directory}; check the path")
        return
    folder = picture_folder(directory)
    if len(folder.pictures) < 2:
        kinds = listing(sorted(SUFFIXES))
        message = f"expected at least 2 images ({kinds}) in {directory}, found {len(folder.pictures)}"
        yield Problem(at, f"{message}; add some")
    side = SIZE if features == "bundled" else None  # the bundled network reads drawings as they are
    reads = (("quality", "features"),) if side else ()  # a mistaken network hides no picture that none could read
    for found in (*folder.unusable, *unreadable_pictures(folder.pictures, side)):
        message = f"expected images that can be read, found {found.path}: {found.reason}"
        yield Problem(at, message, reads=reads)


def check_gates(config: AuditConfig) -> Iterator[Problem]:
    """Find gates on prompts that the audit does not have.

    Yields:
        Problems, each with its place in the config; nothing where the prompts themselves cannot be known.
    """
    named = [(index, gate) for index, gate in enumerate(config.gates) if gate.prompt not in ("each", "overall")]
    if not named:
        return
    try:
        known = tuple(prompt.id for prompt in prompts_of(config, known_occupations(config.model) or ()))
    except ValueError:  # told by check_occupations
        return
    for index, gate in named:
        if gate.prompt not in known:
            message = f"expected 'each', 'overall' or the id of a prompt ({listing(known)}), found {gate.prompt!r}"
            reads = (("prompts", "occupations"), *_MODEL)
            yield Problem(("gates", index, "prompt"), message + suggestion(gate.prompt, known), reads)


def check_targets(config: AuditConfig) -> Iterator[Problem]:
    """Find what is mistaken in the files that targets come from, each mistake with its line in that file.

    Yields:
        Problems, each with its place in the config; nothing where the prompts themselves cannot be known.
    """
    files: dict[str, list[str]] = {}
    for name, choice in config.targets.items():
        if isinstance(choice, TargetFileConfig):
            files.setdefault(choice.csv, []).append(name)
    if not files:
        return
    from audit.targets import audit_targets

    try:
        prompt_ids = [prompt.id for prompt in prompts_of(config, known_occupations(config.model) or ())]
    except ValueError:  # told by check_occupations
        return
    for names in files.values():
        own = [Attribute(name, tuple(config.attributes[name])) for name in names]
        try:
            audit_targets(config.targets, prompt_ids, own)
        except ConfigErrors as mistakes:
            reads = (("attributes",), ("prompts", "occupations"), *_MODEL)
            for error in mistakes.errors:
                yield Problem(("targets", names[0], "csv"), str(error), reads)


def _is_path(text: str) -> bool:
    return text.startswith((".", "/", "~"))


def _output(config: AuditConfig) -> Iterator[Problem]:
    obstacle = unwritable(place_of(config.output))
    if obstacle:
        yield Problem(("output",), obstacle)


def _tracking(config: AuditConfig) -> Iterator[Problem]:
    if not config.tracking.enabled:
        return
    obstacle = unusable_tracking(config.tracking_uri)
    if obstacle:
        yield Problem(("tracking", "uri"), obstacle, reads=(("output",),))


def unwritable(directory: Place) -> str | None:
    """Return what keeps a directory from being made and written to, None where nothing does.

    A directory is looked at; in an object store something small is written and removed again, since nothing else tells.
    """
    if isinstance(directory, ObjectPath):
        return ObjectStore(directory).obstacle()
    nearest = next((path for path in (directory, *directory.absolute().parents) if path.exists()), Path("/"))
    if not nearest.is_dir():
        return f"expected a directory, found the file {nearest}; choose another place"
    if not os.access(nearest, os.W_OK | os.X_OK):
        return f"expected a directory that can be written to, found {nearest}, which cannot; choose another place"
    return None


def unusable_tracking(uri: str) -> str | None:
    """Return why MLflow could never use a tracking URI, None where it could.

    A server is asked for nothing, since one that is down costs an audit nothing; a SQLite file is asked for a directory
    that can hold it.
    """
    scheme, separator = _scheme(uri), ":" in uri
    if separator and scheme == "sqlite":
        file = sqlite_file(uri)
        return None if file is None else _unusable_database(file)
    if separator and scheme in _DEFAULT_PORTS:
        place = _host_and_port(uri)
        return place if isinstance(place, str) else None
    if scheme in ("databricks", "databricks-uc"):
        return None
    known = listing(("http", "https", "sqlite", *list(_DEFAULT_PORTS)[2:]))
    remedy = "MLflow keeps no new results in plain directories (`mlflow migrate-filestore` moves old ones)"
    return f"expected a tracking URI ({known}), found {uri!r}; {remedy}"


def _unusable_database(file: Path) -> str | None:
    if file.is_dir():
        return f"expected a database, found the directory {file}; choose another file"
    return unwritable(file.parent)


def unreachable_tracking(uri: str) -> str | None:
    """Return why a tracking server takes no connection, None where it does or where the URI names no server."""
    place = _host_and_port(uri) if _scheme(uri) in _DEFAULT_PORTS else None
    if not isinstance(place, tuple):
        return place
    try:
        socket.create_connection(place, timeout=CONNECT_SECONDS).close()
    except OSError as error:
        reason = error.strerror or str(error)
        return f"expected a tracking server at {place[0]}:{place[1]}, found none ({reason}); start it"
    return None


def _scheme(uri: str) -> str:
    return uri.partition(":")[0].split("+")[0].lower()  # mysql+pymysql


def _host_and_port(uri: str) -> tuple[str, int] | str:
    """Return where a server listens, or in words why the URI does not say."""
    try:
        parts = urlsplit(uri)
        host, port = parts.hostname, parts.port or _DEFAULT_PORTS[_scheme(uri)]
    except ValueError as error:
        return f"expected a URI with a host, found {uri!r} ({error}); correct it"
    return (host, port) if host else f"expected a URI with a host, found {uri!r}; correct it"


_CHECKS: Mapping[str, Callable[[AuditConfig], Iterator[Problem]]] = {
    "model": _model,
    "prompts": check_prompts,
    "judge": check_judges,
    "lens": _lens,
    "quality": _quality,
    "targets": check_targets,
    "gates": check_gates,
    "output": _output,
    "tracking": _tracking,
}
"""Section of the config → what this machine must have for it."""
