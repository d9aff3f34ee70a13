"""Compares two finished runs and flags the significant changes.

The inputs are compared first: weights, instruments, versions and config. Then every figure that both runs have is
compared: the share of each group, the debiased squared discrepancy and the share of images without a group, per prompt
and arm, and the mean of the squared discrepancy over the prompts. All figures use counted shares and are recomputed
here from the images of both runs. Older releases reported discrepancies of mean probabilities; their runs can be
compared too. Two runs with the same seed have images from the same noise, which are compared in pairs by their key.
Otherwise the runs are two independent samples.

If a model did not change, five of a hundred tests are still expected to be significant. The p-values of all compared
figures are therefore adjusted together (Benjamini and Hochberg 1995). The expected share of false changes among the
flagged ones is at most ``error_rate``. If nothing changed, the probability of any flag is at most ``error_rate``. This
requires exact tests (McNemar 1947 for pairs, Fisher 1935 otherwise) that are independent or positively dependent. A
finding that only one run shows is reported only if a change at its place was flagged, because near the threshold of a
test, two samples of one model disagree half of the time. Intervals are for one figure alone, without adjustment.
"""

from __future__ import annotations

from typing import Any

from audit.models.closed.fingerprint import UNKNOWN_WEIGHTS
from audit.results.comparison.differences import differences, plain_hash
from audit.results.comparison.finished_run import read_finished_run
from audit.results.comparison.judgements import findings_of, judged
from audit.results.comparison.pair import RunPair
from audit.results.comparison.records import Comparison
from audit.storage.run_directory import MODEL_FINGERPRINT, RunDirectory

ERROR_RATE = 0.05
"""Largest expected share of false changes among the flagged ones (false discovery rate)."""

PROJECT = "difflens-audit"
"""Name of this package in the versions of the provenance."""


class NothingToCompareError(ValueError):
    """The two runs have no figure in common."""


def compare(first: RunDirectory, second: RunDirectory, error_rate: float = ERROR_RATE) -> Comparison:
    """Compare two finished runs, both against the targets of the second.

    Args:
        first: The earlier run, from ``audit.json`` and ``results.parquet``.
        second: The later run.
        error_rate: Largest expected share of false changes among the flagged ones, in (0, 1).

    Raises:
        UnreadableRunError: If a directory has no finished run.
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
            f"expected figures that both {old.run_id} and {new.run_id} have, found none: "
            f"{'; '.join(pair.not_compared())}. Compare runs of the same prompts, arms and attributes"
        )
    return Comparison(
        runs=(old.run_id, new.run_id),
        schema_versions=(old.schema_version, new.schema_version),
        config_hashes=(plain_hash(old.config), plain_hash(new.config)),
        inputs=differences(*_with_comparable_versions(old.inputs, new.inputs)),
        config=differences(old.config, new.config),
        verdicts=differences(*pair.verdicts()),
        targets=tuple(pair.other_targets()),
        cells=cells,
        findings=findings_of(pair, cells, error_rate),
        not_compared=pair.not_compared(),
        missing=tuple(
            f"the {which} run does not record its {name}"
            for which, run in (("first", old), ("second", new))
            for name in run.missing
        ),
        error_rate=error_rate,
        unknown_weights=any(str(run.inputs[MODEL_FINGERPRINT]).endswith(UNKNOWN_WEIGHTS) for run in (old, new)),
    )


def _with_comparable_versions(first: dict[str, Any], second: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Keep the versions that both runs record, without a hash of the code that only one of them has.

    A release that records further packages did not change their versions. And a wheel that was sent to a cluster has
    ``0.1.0+3f2a…`` where an installed package has ``0.1.0``, although the version is the same.
    """
    versions = [run.get("versions") or {} for run in (first, second)]
    if all(versions):
        both = versions[0].keys() & versions[1].keys()
        versions = [{name: version for name, version in known.items() if name in both} for known in versions]
    if not all("+" in str(known.get(PROJECT, "")) for known in versions):
        versions = [
            known | ({PROJECT: str(known[PROJECT]).partition("+")[0]} if PROJECT in known else {}) for known in versions
        ]
    plain = [run | {"versions": known} if known else run for run, known in zip((first, second), versions, strict=True)]
    return plain[0], plain[1]
