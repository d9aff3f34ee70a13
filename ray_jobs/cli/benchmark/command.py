"""The command ``benchmark``: methods side by side."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ray_jobs.cli.answers import expected_errors, print_json, show_log
from ray_jobs.cli.options import AddressOption, JsonOption, OutputOption, SetOption, WorkersOption
from ray_jobs.run.exit_codes import ExitCode

if TYPE_CHECKING:
    from rich.console import Console

    from ray_jobs.run.benchmark import BenchmarkOutcome


def benchmark(  # noqa: PLR0913 (one parameter per option)
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="The benchmark's YAML file.", show_default=False)],
    sets: SetOption = None,
    output: OutputOption = None,
    address: AddressOption = None,
    workers: WorkersOption = None,
    only_plan: Annotated[bool, typer.Option("--plan", help="Print the forecast and stop.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Compare methods side by side on the same prompts and noise; run again, it continues where it stopped.

    CONFIG names models, attributes, methods and their settings. Each model and attribute is one audit, whose arms are
    the methods. The result is one page with tables, charts and images, and the same figures as Markdown and Parquet.
    """
    with expected_errors():
        from audit.config.benchmark.read import read_benchmark
        from audit.preflight.readiness import check_ready
        from ray_jobs.cli.benchmark.forecast import forecast_as_data, forecast_of, show_forecast
        from ray_jobs.cli.terminal import open_console

        asked = read_benchmark(config, _overrides(sets or [], output, workers), [check_ready])
        planned = forecast_of(asked)
        if not as_json:
            show_forecast(planned, open_console())
        if only_plan:
            if as_json:
                print_json({"audits": forecast_as_data(planned)})
            return
        show_log()
        from ray_jobs.run.benchmark import run_benchmark

        outcome = run_benchmark(asked, address=address)
    code = ExitCode.INCOMPLETE if outcome.incomplete else ExitCode.PASS
    if as_json:
        print_json(_as_data(outcome) | {"exit_code": int(code)})
    else:
        _show(outcome, open_console())
    raise typer.Exit(code)


def _overrides(sets: list[str], output: str | None, workers: int | None) -> list[str]:
    """Return the overrides of the file; the output and the workers are keys of ``base``."""
    own = {"base.output": output, "base.workers.count": workers}
    return [
        *sets,
        *(f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in own.items() if value is not None),
    ]


def _as_data(outcome: BenchmarkOutcome) -> dict[str, Any]:
    from dataclasses import asdict

    from reports.benchmark.files import flat_row

    return {
        "page": str(outcome.page),
        "runs": list(outcome.runs),
        "incomplete": list(outcome.incomplete),
        "rows": [flat_row(row) for row in outcome.findings.rows],
        "agreements": [asdict(found) for found in outcome.findings.agreements],
    }


def _show(outcome: BenchmarkOutcome, console: Console) -> None:
    """Print the tables of effects, and where the page is."""
    from rich.markup import escape
    from rich.table import Table

    from reports.benchmark.tables import BEST, effect_table

    for part in outcome.findings.parts:
        found = effect_table(part)
        table = Table(*found.columns, title=escape(part.title), box=None, header_style="bold", title_justify="left")
        for row in found.rows:
            table.add_row(*map(escape, row))
        console.print()
        console.print(table)
    console.print(f"\n{BEST} best of its column, if its interval is separate from all others", highlight=False)
    console.print(f"Page {outcome.page}", markup=False, highlight=False, soft_wrap=True)
    if outcome.incomplete:
        again = shlex.join(["difflens-audit", *sys.argv[1:]])
        message = f"Images are missing in {', '.join(outcome.incomplete)}\nTo retry, run: {again}"
        console.print(message, style="bold red", markup=False, soft_wrap=True)
