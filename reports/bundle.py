"""Makes the evidence bundle of a finished run: one archive that others can read and verify without this program's data.

Every file is made from ``audit.json`` after secrets and home directories were taken out of it; nothing of the run is
copied as it is except pictures, the rows of the images and the protocol.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from audit.evidence.archive import BundleError, archive_bytes
from audit.evidence.dependencies import installed_packages
from audit.evidence.keys import key_name, private_key, sign
from audit.evidence.manifest import MANIFEST, SIGNATURE, manifest_bytes
from audit.evidence.privacy import leaks, private_tree
from audit.evidence.samples import SAMPLES, sample_pictures
from audit.records.result import SCHEMA_VERSION, AuditResult
from audit.records.work import BASELINE
from audit.results.comparison.trend import read_trend
from audit.results.replay.outcome import REPLAY
from audit.storage.place import Place
from audit.storage.run_directory import AUDIT, CONFIG, PROTOCOL, PROVENANCE, REPORT, RESULTS, RunDirectory
from reports.export.audit_json import audit_json_bytes, from_json, read_audit_json, to_json
from reports.export.browser import NotPrintedError
from reports.export.files import export_texts
from reports.export.pdf import to_pdf
from reports.html import kept_pictures, render
from reports.index.story import story_of

PDF, DEPENDENCIES, README = "report.pdf", "dependencies.spdx.json", "README.txt"

LEAST_SAMPLES = 5
"""Random pictures of each prompt in each arm, if the run has so many."""

_ABOUT = """Evidence bundle of the audit {run_id}, made {made} by difflens-audit.

report.html             the report; it opens without network and scripts
report.pdf              the same page, printed{pdf}
audit.json              all figures, for programs
config.json             the config as resolved
provenance.json         weights, versions, machine, departures from the protocol
protocol.json           what was registered before the run{protocol}
replay.json             what making another run again has shown; this run is that replay{replay}
results.csv, intersections.csv, impact_ratios.csv, summary.md, junit.xml, model-index.yaml    tables and summaries
results.parquet         one row per image and arm
samples.json, images/   random pictures of every prompt and arm, and the rule that drew them
dependencies.spdx.json  installed packages with versions and licences
manifest.json           sha256 and size of every file
manifest.sig            signature of manifest.json{signature}

To check it: difflens-audit verify BUNDLE --public-key FILE
Groups are perceived presentation, as a named classifier sees a picture; they are nobody's identity.
"""


@dataclass(frozen=True)
class Bundled:
    """A bundle that was written.

    Attributes:
        path: The archive.
        bytes: Its size.
        files: Number of files in it.
        no_pdf: Why it has no PDF; empty if it has one.
        signed_by: Name of the key that signed it, None if it is not signed.
        notes: What a reader should know of it.
    """

    path: Path
    bytes: int
    files: int
    no_pdf: str
    signed_by: str | None
    notes: tuple[str, ...]


def make_bundle(run_path: Place, to: Path, key: Path | None = None) -> Bundled:
    """Write the bundle of a finished run; an older file of this name is replaced when the new one is complete.

    Args:
        run_path: The run.
        to: The archive.
        key: Private Ed25519 key that signs it, in PEM; None for none.

    Raises:
        BundleError: If the run is not finished, or was made by an older release, or a secret would be in the bundle.
        KeyFileError: If the key cannot be used.
        UnreadableRunError: If a file of the run has an invalid format.
    """
    signer = None if key is None else private_key(key)
    run = RunDirectory(run_path)
    result = _private_result(run)
    made = datetime.now(UTC)
    files, no_pdf, notes = _files(run, result, made)
    raw_key = None if signer is None else signer.public_key().public_bytes_raw()
    files[README] = _about(result.run_id, made, files, signed=signer is not None).encode()
    leaking = leaks(files)
    if leaking:
        raise BundleError(
            f"expected no secret in the bundle, found the value of a secret variable of this environment in "
            f"{', '.join(leaking)}; rename what contains it"
        )
    files[MANIFEST] = manifest_bytes(result.run_id, made.isoformat(timespec="seconds"), files, raw_key)
    if signer is not None:
        files[SIGNATURE] = sign(signer, files[MANIFEST])
    data = archive_bytes(files)
    _write(to, data)
    return Bundled(to, len(data), len(files), no_pdf, None if raw_key is None else key_name(raw_key), notes)


def _private_result(run: RunDirectory) -> AuditResult:
    if not run.has(AUDIT):
        raise BundleError(f"{run.path}: expected a finished run with {AUDIT}, found none; finish the audit first")
    result = read_audit_json(run)
    if result.schema_version != SCHEMA_VERSION:
        raise BundleError(
            f"{run.path}: expected schema version {SCHEMA_VERSION} of {AUDIT}, found {result.schema_version}; run the "
            "audit again with this release"
        )
    return from_json(private_tree(to_json(result)))


def _files(run: RunDirectory, result: AuditResult, made: datetime) -> tuple[dict[str, bytes], str, tuple[str, ...]]:
    """Return the content of the bundle by name, why there is no PDF, and notes."""
    story = story_of(result)
    page = render(result, kept_pictures(run, result), read_trend(run))
    samples = sample_pictures(run, result.run_id, _images(result), story.arms, LEAST_SAMPLES)
    files = {
        AUDIT: audit_json_bytes(result),
        REPORT: page.encode(),
        CONFIG: _json_bytes(result.config),
        PROVENANCE: _json_bytes(result.provenance),
        SAMPLES: _json_bytes(samples.record),
        DEPENDENCIES: _json_bytes(installed_packages(made.strftime("%Y-%m-%dT%H:%M:%SZ"), result.run_id)),
        **{name: text.encode() for name, text in export_texts(result).items()},
        **{name: run.read_bytes(name) for name in (RESULTS, PROTOCOL) if run.has(name)},
        **_replay(run),
        **samples.pictures,
    }
    try:
        files[PDF], no_pdf = to_pdf(page, made.strftime("%Y%m%d%H%M%S")), ""
    except NotPrintedError as error:
        no_pdf = str(error)
    return files, no_pdf, tuple(_notes(result, samples.record, files))


def _replay(run: RunDirectory) -> dict[str, bytes]:
    """Return the outcome of a replay, if the run is one."""
    if not run.has(REPLAY):
        return {}
    try:
        return {REPLAY: _json_bytes(private_tree(run.read_json(REPLAY)))}
    except ValueError as error:
        raise BundleError(f"{error}; make the replay again, or remove the file") from error


def _images(result: AuditResult) -> dict[str, int]:
    """Return the images of each prompt in an arm; with two-stage sampling the pilot, which was fixed before."""
    counts = {row.prompt_id: sum(row.statuses.values()) for row in result.results if row.arm == BASELINE}
    pilot = None if result.two_stage is None else result.two_stage.pilot
    return {prompt: min(count, pilot or count) for prompt, count in counts.items() if prompt is not None}


def _notes(result: AuditResult, record: Mapping[str, Any], files: Mapping[str, bytes]) -> list[str]:
    notes = []
    limited = record["drawn_from_kept_pictures"]
    if limited:
        notes.append(
            f"The run kept no random sample of {len(limited)} of {len(record['drawn'])} prompts; theirs is drawn from "
            "the pictures that were kept, the first ones of each prompt."
        )
    if PROTOCOL not in files:
        notes.append("No protocol was registered before the run (difflens-audit register).")
    if not result.config.get("statement"):
        notes.append("The config has no statement of the auditor (difflens-audit report RUN --statement FILE).")
    return notes


def _about(run_id: str, made: datetime, files: Mapping[str, bytes], *, signed: bool) -> str:
    absent = " (absent)"
    return _ABOUT.format(
        run_id=run_id,
        made=made.isoformat(timespec="seconds"),
        pdf="" if PDF in files else absent,
        protocol="" if PROTOCOL in files else absent,
        replay="" if REPLAY in files else absent,
        signature="" if signed else absent,
    )


def _json_bytes(data: Mapping[str, Any]) -> bytes:
    return (json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()


def _write(to: Path, data: bytes) -> None:
    try:
        with tempfile.NamedTemporaryFile(dir=to.parent, prefix=f".{to.name}.", delete=False) as file:
            file.write(data)
        os.chmod(file.name, 0o644)
        os.replace(file.name, to)
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError, PermissionError) as error:
        raise BundleError(f"{to}: expected a file that can be written, found none ({error.strerror})") from error
