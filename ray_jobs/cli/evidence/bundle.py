"""The commands ``bundle`` and ``verify``: one archive with the evidence of a run, and the check that it is whole."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ray_jobs.cli.answers import expected_errors, print_json
from ray_jobs.cli.options import JsonOption, RunArgument

if TYPE_CHECKING:
    from audit.evidence.verification import Verified
    from reports.bundle import Bundled


def bundle(
    run: RunArgument,
    to: Annotated[Path, typer.Option("--to", metavar="FILE", help="The archive (ZIP).", show_default=False)],
    key: Annotated[
        Path | None,
        typer.Option("--key", metavar="FILE", help="Private Ed25519 key in PEM that signs the bundle."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Write the evidence of a finished run as one archive that others can verify.

    It has the report as HTML and PDF, all figures and tables, random samples with the rule that drew them, protocol,
    provenance, installed packages and checksums. Secrets and home directories are taken out. For weights and judges as
    an offline bundle, see fetch.
    """
    with expected_errors():
        from audit.storage.place import place_of
        from reports.bundle import make_bundle

        made = make_bundle(place_of(run), to, key)
    if as_json:
        print_json(_bundled_as_data(made))
    else:
        _show_bundled(made)


def verify(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="An archive from bundle.", show_default=False)],
    public_key: Annotated[
        Path | None,
        typer.Option("--public-key", metavar="FILE", help="The auditor's Ed25519 public key or certificate, in PEM."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Check an evidence bundle: every byte and checksum, the signature, the protocol and the draw of the samples.

    Exit code 0 if it is as it was made, 2 if not. Nothing is unpacked.
    """
    with expected_errors():
        from audit.evidence.verification import verify as check

        found = check(bundle, public_key)
    if as_json:
        print_json({"verified": True, **asdict(found)})
    else:
        _show_verified(found)


def _bundled_as_data(made: Bundled) -> dict[str, Any]:
    return asdict(made) | {"path": str(made.path), "notes": list(made.notes)}


def _show_bundled(made: Bundled) -> None:
    from audit.storage.outside.safe_text import printable

    typer.echo(f"Bundle  {printable(str(made.path))}: {made.files} files, {made.bytes / 1e6:,.1f} MB")
    typer.echo(f"Signed  {made.signed_by or 'no; --key FILE signs it'}")
    if made.no_pdf:
        typer.echo(f"No PDF  {printable(made.no_pdf)}")
    for note in made.notes:
        typer.echo(f"Note    {note}")


def _show_verified(found: Verified) -> None:
    from datetime import UTC, datetime

    from audit.storage.outside.safe_text import printable

    typer.echo(f"Whole     {found.files} files, {found.bytes / 1e6:,.1f} MB, all as in the manifest")
    typer.echo(f"Run       {printable(found.run_id)}, bundled {printable(found.made)}")
    typer.echo(f"Signed    {_signature_words(found)}")
    if found.valid_until is not None:
        today = datetime.now(UTC).date().isoformat()
        over = ", which is over" if str(found.valid_until) < today else ""
        typer.echo(f"Statement valid until {printable(str(found.valid_until))}{over}")


def _signature_words(found: Verified) -> str:
    if found.signed_by is None:
        return "no: a person who can change a file can change the checksums too"
    if not found.trusted:
        return f"by {found.signed_by}; compare this with the auditor's key, or name it with --public-key"
    until = f", valid until {found.key_until}" if found.key_until else ", a key without a date"
    return f"by {found.signed_by}, the key that you named{until}"
