"""The command ``judge``: tries the judge of a config on a folder of pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ray_jobs.cli.answers import expected_errors, print_json
from ray_jobs.cli.options import JsonOption, SetOption

if TYPE_CHECKING:
    from rich.console import Console

    from audit.perception.judges.temperature import TemperatureFit
    from audit.perception.judges.trial import Answer, Comparison, Trial


def judge(
    images: Annotated[Path, typer.Argument(metavar="IMAGES", help="A folder of pictures.", show_default=False)],
    config: Annotated[
        Path, typer.Option("--config", metavar="CONFIG", help="Use the judge and the attributes of this audit.")
    ],
    labels: Annotated[
        Path | None,
        typer.Option("--labels", metavar="CSV", help="Compare with labels by hand: image,attribute,group."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", metavar="FILE", dir_okay=False, help="Write the confusion matrices here, for judge.confusion."
        ),
    ] = None,
    sets: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Try a judge on the pictures of a folder.

    The table shows what the judge of CONFIG sees in each picture. With --labels it also shows the confusion matrix and
    the accuracy with its interval, and for a zero-shot judge the temperature that fits the labels.
    """
    if output is not None and (labels is None or not output.parent.is_dir()):
        needed = "--labels, from which matrices are counted" if labels is None else f"a directory to write {output} to"
        raise typer.BadParameter(f"expected {needed}, found none", param_hint="--output")
    if not images.is_dir():
        raise typer.BadParameter(f"expected a folder of pictures, found none at {images}", param_hint="IMAGES")
    with expected_errors():
        trial, found, fit = _tried(images, config, labels, sets or ())
    if output is not None:
        _write(output, found)
    if as_json:
        print_json(trial_as_data(trial, found, fit))
        return
    from ray_jobs.cli.terminal import open_console, show_confusions

    console = open_console()
    show_trial(trial, console)
    show_comparisons(found, trial, console)
    matrices = {name: one.matrix for name, one in found.items() if one.matrix is not None}
    if matrices:
        show_confusions(matrices)
    if fit is not None:
        console.print(f"\n{temperature_words(fit)}", highlight=False, markup=False)
    if output is not None:
        typer.echo(f"\nConfusion matrices: {output}")


def _tried(
    images: Path, config: Path, labels: Path | None, sets: Sequence[str]
) -> tuple[Trial, dict[str, Comparison], TemperatureFit | None]:
    from audit.config.file import read_config
    from audit.config.sections import with_clip
    from audit.perception.judges.label_table import read_label_table
    from audit.perception.judges.trial import compare_with_labels, fitted_temperature, known_groups, try_judge
    from audit.preflight.readiness import check_judge

    audit = read_config(config, sets, [check_judge])
    section = with_clip(audit.judge, audit.quality)
    known = known_groups(section, audit.model, audit.attributes)
    table = None if labels is None else read_label_table(labels, known)
    trial = try_judge(section, audit.model, audit.attributes, images)
    if table is None:
        return trial, {}, None
    return trial, compare_with_labels(trial, table, audit.attributes), fitted_temperature(trial, table)


def _write(output: Path, found: Mapping[str, Comparison]) -> None:
    from audit.perception.judges.confusion_file import write_confusions

    lacking = {name: one.lacking for name, one in found.items() if one.matrix is None}
    if lacking:
        words = "; ".join(f"{name}: {', '.join(groups)}" for name, groups in lacking.items())
        message = f"expected labelled and classified pictures of every group, found none of {words}; label some"
        raise typer.BadParameter(message, param_hint="--output")
    write_confusions(output, {name: one.matrix for name, one in found.items() if one.matrix is not None})


def trial_as_data(trial: Trial, found: Mapping[str, Comparison], fit: TemperatureFit | None) -> dict[str, Any]:
    """Return a trial as plain data."""
    from ray_jobs.cli.terminal import confusions_as_data

    matrices = {name: one.matrix for name, one in found.items() if one.matrix is not None}
    return {
        "judge": trial.signature,
        "groups": {name: list(groups) for name, groups in trial.groups.items()},
        "answers": [_answer_as_data(answer, trial) for answer in trial.answers],
        "unusable": [{"file": str(one.path), "reason": one.reason} for one in trial.unusable],
        "counts": {
            name: [{"truth": truth, "answer": answer, "images": n} for (truth, answer), n in one.counts.items()]
            for name, one in found.items()
        },
        "attributes": confusions_as_data(matrices),
        "temperature": None if fit is None else asdict(fit),
    }


def _answer_as_data(answer: Answer, trial: Trial) -> dict[str, Any]:
    shares = dict(zip(trial.groups[answer.attribute], answer.shares, strict=True))
    return asdict(answer) | {"status": answer.status.value, "shares": shares}


def show_trial(trial: Trial, console: Console) -> None:
    """Print a row for each picture and attribute, and the files that could not be used."""
    from rich.markup import escape
    from rich.table import Table

    faces = any(answer.faces is not None for answer in trial.answers)
    columns = ("file", *(("faces", "score") if faces else ()), "attribute", "group")
    table = Table(*columns, box=None, header_style="bold", pad_edge=False)
    table.add_column("probability", justify="right")
    table.add_column("status")
    before = ""
    for answer in trial.answers:
        probability = "" if answer.probability is None else f"{answer.probability:.3f}"
        again = answer.file == before
        file = "" if again else escape(answer.file)
        score = "–" if answer.face_score is None else f"{answer.face_score:.2f}"
        found = ("", "") if again else (str(answer.faces), score)
        shown = (answer.attribute, answer.group or "–", probability, answer.status.replace("_", " "))
        table.add_row(file, *(found if faces else ()), *shown)
        before = answer.file
    console.print(table)
    for one in trial.unusable:
        console.print(f"not judged: {one.path}: {one.reason}", style="yellow", markup=False, highlight=False)
    console.print(f"\nJudge: {trial.signature}", markup=False, highlight=False, soft_wrap=True)


def show_comparisons(found: Mapping[str, Comparison], trial: Trial, console: Console) -> None:
    """Print the answers by labelled group, for each attribute."""
    from rich.table import Table

    for name, one in found.items():
        truths, answers = {truth for truth, _ in one.counts}, {answer for _, answer in one.counts}
        order = [group for group in trial.groups[name] if group in truths | answers]
        columns = [*order, *sorted(answers - set(order))]
        table = Table(f"{name}: labelled as", box=None, header_style="bold", pad_edge=False, title_justify="left")
        for answer in columns:
            table.add_column(f"judged {answer.replace('_', ' ')}", justify="right")
        for truth in (group for group in order if group in truths):
            table.add_row(truth, *(str(one.counts.get((truth, answer), 0)) for answer in columns))
        console.print()
        console.print(table)
        if one.lacking:
            lacking = f"No labelled and classified picture of {', '.join(one.lacking)}; label some for an accuracy."
            console.print(lacking, style="yellow", markup=False, highlight=False)
    console.print()


def temperature_words(fit: TemperatureFit) -> str:
    """Describe a fitted temperature, and how to use it."""
    if not fit.identified:
        return (
            f"No temperature was fitted: the {fit.n} labels do not determine one, because the judge is right in all of "
            "them, or no better than chance. Label more pictures."
        )
    return (
        f"Fitted temperature: {fit.temperature:.4g} (log loss {fit.after:.3f} instead of {fit.before:.3f}, {fit.n} "
        f"labels). To use it, set judge.zero_shot.temperature: {fit.temperature:.4g}"
    )
