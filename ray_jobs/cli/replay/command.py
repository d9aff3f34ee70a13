"""The command ``replay``: makes a finished run again, and says row by row whether it is the same."""

from __future__ import annotations

import shlex
import sys
from typing import Annotated

import typer

from ray_jobs.cli.answers import expected_errors, print_json, show_log
from ray_jobs.cli.options import AddressOption, JsonOption, SetOption, WorkersOption
from ray_jobs.run.exit_codes import ExitCode


def replay(  # noqa: PLR0913 (one parameter per option)
    run: Annotated[
        str, typer.Argument(metavar="RUN", help="A finished run directory, or its address.", show_default=False)
    ],
    to: Annotated[
        str, typer.Option("--to", metavar="DIR", help="Where the replay is kept: a path or s3://bucket/prefix.")
    ] = "replays",
    prompts: Annotated[
        int | None, typer.Option("--prompts", min=1, metavar="N", help="Only the first N prompts.")
    ] = None,
    sample: Annotated[
        float | None,
        typer.Option(
            "--sample",
            min=0,
            max=1,
            metavar="SHARE",
            help="Only this share of the images of each prompt, 0.1 for 10 %.",
        ),
    ] = None,
    sets: SetOption = None,
    address: AddressOption = None,
    workers: WorkersOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a finished run again from its directory, and say row by row whether it is the same, and if not, why.

    It first lists what differs here: settings, weights, files, versions, hardware. Then it runs the same audit and
    compares every image. Rows must be identical; where hardware or versions differ, a tolerance is stated. A replay
    that was stopped is resumed. The exit code is 0 if the run is identical or the same within the tolerance, 1 if it
    is different.
    """
    if sample is not None and (prompts is not None or sample == 0):
        given = "both options" if prompts is not None else "0"
        raise typer.BadParameter(f"expected --prompts N or a --sample above 0, found {given}")
    with expected_errors():
        from audit.storage.place import place_of
        from audit.storage.run_directory import RunDirectory
        from ray_jobs.run.replay import ReplayRequest
        from ray_jobs.run.replay import replay as make_again

        show_log()
        request = ReplayRequest(RunDirectory(place_of(run)), to, tuple(sets or ()), workers, prompts, sample)
        outcome = make_again(request, address=address)
    from ray_jobs.cli.replay.table import show_replay
    from ray_jobs.cli.terminal import open_console

    found = outcome.found
    code = ExitCode.INCOMPLETE if found is None else ExitCode.PASS
    if found is not None and found.verdict == "different":
        code = ExitCode.GATE_FAILED
    if as_json:
        data = {"verdict": "incomplete"} if found is None else found.as_data()
        print_json({"path": str(outcome.place), **data, "exit_code": int(code)})
    elif found is None:
        again = shlex.join(["difflens-audit", *sys.argv[1:]])
        typer.echo(f"The replay is incomplete: shards are missing in {outcome.place}. To resume it: {again}")
    else:
        show_replay(found, outcome.place, open_console())
    raise typer.Exit(code)
