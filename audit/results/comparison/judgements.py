"""Selects the significant changes between two runs, and the findings that only one of them shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from audit.measure.discrepancy.estimate import parity_p_value
from audit.measure.inference import multiplicity
from audit.results.comparison.finished_run import FinishedRun
from audit.results.comparison.pair import RunPair
from audit.results.comparison.records import Cell, Finding, Judgement, Place


def judged(cells: Sequence[Cell], error_rate: float) -> tuple[Cell, ...]:
    """Adjust all p-values together and flag the significant changes."""
    if not cells:
        return ()
    adjusted = multiplicity.benjamini_hochberg([cell.p_value for cell in cells])
    return tuple(
        replace(cell, adjusted_p_value=float(p), judgement=_judgement(cell) if p <= error_rate else "none")
        for cell, p in zip(cells, adjusted, strict=True)
    )


def _judgement(cell: Cell) -> Judgement:
    if cell.figure == "share":
        return "changed"
    return "worse" if cell.change.value > 0 else "better"


def findings_of(pair: RunPair, cells: Sequence[Cell], error_rate: float) -> tuple[Finding, ...]:
    """Return the flagged places that are a finding in only one run; each run is adjusted for all its places."""
    first, second = _parity(pair, pair.first), _parity(pair, pair.second)
    places = [place for place in second if place in first]
    if not places:
        return ()
    shown = [multiplicity.findings({place: run[place] for place in places}, error_rate) for run in (first, second)]
    flagged = {cell.place for cell in cells if cell.judgement != "none"}
    only_one = [place for place in places if place in flagged and (place in shown[0]) != (place in shown[1])]
    return tuple(
        Finding(place, "new" if place in shown[1] else "vanished", (first[place], second[place])) for place in only_one
    )


def _parity(pair: RunPair, run: FinishedRun) -> dict[Place, float]:
    """Return the p-value of parity for every common place, from all its classified images in one run."""
    p_values: dict[Place, float] = {}
    for arm, prompt_id in pair.keys:
        images = run.images[arm, prompt_id]
        for attribute in pair.attributes:
            labels = images.where(images.known(attribute)).labels(attribute)
            if len(labels):
                p_values[Place(arm, prompt_id, attribute.name)] = parity_p_value(
                    labels.sum(axis=0), pair.target(prompt_id, attribute)
                )
    return p_values
