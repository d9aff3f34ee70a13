"""Driver of the numbered fuzz tests: each case must be refused with a message, or be accepted and correct.

A case depends only on its number and the seed, so that a failing case can be repeated with ``--only``.
"""

from __future__ import annotations

import argparse
import re
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from audit.config.file import ConfigErrors, read_config
from audit.preflight.readiness import check_ready
from benchmarks.fuzz_config import Outcome, without_network

FEWEST_SHARE = 0.2
"""Minimum share of refused and of accepted cases: a fuzz test that refuses everything tests nothing."""

_FEW_CASES = 30
"""With fewer cases, all can have the same result by chance."""


class FindingError(Exception):
    """A case ended neither with a clean refusal nor with a correct result."""


@dataclass
class Tally:
    """Results of the cases so far.

    Attributes:
        outcome: Refused and accepted cases, and the reported errors.
        ways: Kind of change → number of refused and accepted cases with it.
        findings: All other cases: description and result.
    """

    outcome: Outcome = field(default_factory=Outcome)
    ways: dict[str, Counter[str]] = field(default_factory=dict)
    findings: list[str] = field(default_factory=list)

    @property
    def cases(self) -> int:
        """Number of cases."""
        return self.outcome.refused + self.outcome.configs + len(self.findings)

    def problem(self) -> str | None:
        """Return why the cases are not a valid or sufficient test, None if they are."""
        if self.findings:
            return f"{len(self.findings)} findings"
        fewest = min(self.outcome.refused, self.outcome.configs)
        if self.cases >= _FEW_CASES and fewest < FEWEST_SHARE * self.cases:
            return f"one kind of end has {fewest} of {self.cases} cases, which tests too little of it"
        return None


@dataclass(frozen=True)
class Drawn:
    """One case.

    Attributes:
        ways: Changes of the input, as text.
        config: Text of the config that uses it.
        check: Raises :class:`FindingError` if an accepted config does not work correctly.
        refusable: Whether a refusal is allowed; not if all changes are harmless.
        ignored: Places of the config whose errors do not belong to this case.
    """

    ways: tuple[str, ...]
    config: str
    check: Callable[[], None]
    refusable: bool = True
    ignored: frozenset[str] = frozenset()


Draw = Callable[[np.random.Generator, Path], Drawn]
"""Writes the input of one case to an empty directory."""


def try_case(draw: Draw, seed: int, number: int, tally: Tally) -> None:
    """Draw one case, run the checks of ``validate``, and test what it accepts."""
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        drawn = draw(np.random.default_rng([seed, number]), root)
        started = time.perf_counter()
        try:
            end = _end(drawn, root / "audit.yaml", tally)
        except Exception:  # noqa: BLE001 - every unexpected end is reported, and the next case is drawn
            tally.findings.append(f"case {number} ({'; '.join(drawn.ways)}):\n{traceback.format_exc(limit=-6)}")
            return
        tally.outcome.slowest = max(tally.outcome.slowest, time.perf_counter() - started)
        for way in drawn.ways:
            tally.ways.setdefault(way.partition(":")[0], Counter())[end] += 1


def _end(drawn: Drawn, path: Path, tally: Tally) -> str:
    path.write_text(drawn.config, encoding="utf-8")
    try:
        read_config(path, [], [check_ready])
    except ConfigErrors as found:
        errors = [error for error in found.errors if error.where not in drawn.ignored]
        if errors:
            tally.outcome.count(ConfigErrors([replace(e, message=_named(e.message, path.parent)) for e in errors]))
            if not drawn.refusable:
                raise FindingError(f"refused, though nothing in it is wrong: {errors[0]}") from found
            tally.outcome.refused += 1
            return "refused"
    drawn.check()
    tally.outcome.configs += 1
    return "accepted"


def _named(message: str, root: Path) -> str:
    """Return a message without the case's own directory."""
    return re.sub(rf"{re.escape(str(root))}/[^/:]*(/[^:]*)?: ", "", message)


def run_cases(draw: Draw, description: str | None, kind: str, cases: int) -> int:
    """Run the cases of a command line and print the results.

    Args:
        draw: Draws a case.
        description: Description of the command.
        kind: Name of the cases, for the printed line.
        cases: Default number of cases.

    Returns:
        The exit code: 1 if there is a finding, or if refusals or acceptances are implausibly rare.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=cases)
    parser.add_argument("--seed", type=int, default=0, help="another stream of cases")
    parser.add_argument("--only", type=int, default=None, metavar="NUMBER", help="one case alone")
    parser.add_argument("--ways", action="store_true", help="print how each way of drawing ended")
    arguments = parser.parse_args()
    tally, started = Tally(), time.perf_counter()
    numbers = range(arguments.cases) if arguments.only is None else [arguments.only]
    with without_network():
        for number in numbers:
            before = len(tally.findings)
            try_case(draw, arguments.seed, number, tally)
            for finding in tally.findings[before:]:
                print(finding, flush=True)
    _print(tally, kind, time.perf_counter() - started, arguments.ways)
    return 1 if tally.problem() else 0


def _print(tally: Tally, kind: str, seconds: float, ways: bool) -> None:
    outcome = tally.outcome
    print(f"{tally.cases} {kind} in {seconds:.0f} s, the slowest {1000 * outcome.slowest:.0f} ms")
    print(
        f"{outcome.refused} refused with clean mistakes, {outcome.configs} accepted and right, "
        f"{len(tally.findings)} of any other kind"
    )
    for message, count in outcome.mistakes.most_common(12):
        print(f"{count:7d}  {message}")
    for way, ends in sorted(tally.ways.items()) if ways else ():
        print(f"  {way}: {ends['refused']} refused, {ends['accepted']} accepted")
    if tally.problem():
        print(f"failed: {tally.problem()}")
