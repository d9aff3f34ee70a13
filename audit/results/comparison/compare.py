"""What changed between two finished runs, and which of it is more than chance.

First what went in: weights, instruments, versions, config. Then every figure that both runs have: the share of each
group, the debiased squared discrepancy and the share of images without a group, per prompt and arm, and the mean of the
squared discrepancy over the prompts. All are of counted shares, worked out here from the images of both runs: those of
older releases, whose own discrepancies are of mean probabilities, compare like any other. Two runs with the same seed
drew their images from the same noise, and images are compared in pairs by their key; otherwise the runs are two
independent samples.

A hundred figures of a model that did not change at all hold five changes that look significant. The p-values of all
compared figures are therefore adjusted together (Benjamini and Hochberg 1995): of the changes flagged, at most the
share ``error_rate`` is expected to be false, and where nothing changed the chance of any flag is at most
``error_rate``. That rests on exact tests (McNemar 1947 for pairs, Fisher 1935 otherwise) and on tests that are
independent or positively dependent. A finding of one run that the other does not show is named only where a change of
its place was flagged: near the threshold of a test, two samples of one model disagree half of the time. Intervals are
those of one figure alone, without adjustment.
"""

from __future__ import annotations

from typing import Any

from audit.results.comparison.differences import differences, plain_hash
from audit.results.comparison.finished_run import read_finished_run
from audit.results.comparison.judgements import findings_of, judged
from audit.results.comparison.pair import RunPair
from audit.results.comparison.records import Comparison
from audit.storage.run_directory import RunDirectory

ERROR_RATE = 0.05
"""Share of false changes to expect among those flagged, at most."""

PROJECT = "difflens-audit"
"""This package, as its provenance names it among the versions."""


class NothingToCompareError(ValueError):
    """The two runs have no figure in common."""


def compare(first: RunDirectory, second: RunDirectory, error_rate: float = ERROR_RATE) -> Comparison:
    """Compare two finished runs, both against the targets of the second.

    Args:
        first: The earlier run, from ``audit.json`` and ``results.parquet``.
        second: The later one.
        error_rate: Share of false changes to expect among those flagged, at most; in (0, 1).

    Raises:
        UnreadableRunError: If a directory holds no finished run.
        NothingToCompareError: If the runs have no figure in common.
        ValueError: If the error rate is not in (0, 1).
    """
    if not 0 < error_rate < 1:
        raise ValueError(f"expected an error rate in (0, 1), found {error_rate}")
    old, new = read_finished_run(first), read_finished_run(second)
    pair = RunPair(old, new)
    cells = judged([*pair.cells(), *pair.means()], error_rate)
    if not cells:
        raise NothingToCompareError(
            f"expected figures that both runs have, found none in {old.run_id} and {new.run_id}: "
            f"{'; '.join(pair.not_compared())}. Compare runs of the same prompts, arms and attributes"
        )
    return Comparison(
        runs=(old.run_id, new.run_id),
        schema_versions=(old.schema_version, new.schema_version),
        config_hashes=(plain_hash(old.config), plain_hash(new.config)),
        inputs=differences(*_told_alike(old.inputs, new.inputs)),
        config=differences(old.config, new.config),
        verdicts=differences(*pair.verdicts()),
        targets=tuple(pair.other_targets()),
        cells=cells,
        findings=findings_of(pair, cells, error_rate),
        not_compared=pair.not_compared(),
        missing=tuple(
            f"the {which} run does not say its {name}"
            for which, run in (("first", old), ("second", new))
            for name in run.missing
        ),
        error_rate=error_rate,
    )


def _told_alike(first: dict[str, Any], second: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Leave out the hash of the code in this project's version (``0.1.0+3f2a…``) where only one of the runs has it.

    A wheel that was handed to a cluster carries one, an installed package does not: that is no other version.
    """
    versions = [run.get("versions") or {} for run in (first, second)]
    own = [str(known.get(PROJECT, "")) for known in versions]
    if all("+" in version for version in own):
        return first, second
    plain = [
        run | {"versions": known | {PROJECT: version.partition("+")[0]}} if version else run
        for run, known, version in zip((first, second), versions, own, strict=True)
    ]
    return plain[0], plain[1]
