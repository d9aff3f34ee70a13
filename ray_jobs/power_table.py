"""What a plan's images can tell, worked out before one is made: for ``difflens-audit plan``."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from audit.gates import Gate, gates_of
from audit.measure.discrepancy import discrepancy_interval_of_counts
from audit.measure.fairness import uniform
from audit.power import (
    Detectable,
    PlannedGate,
    detectable,
    images_for_gate,
    planned_level,
    share_interval,
)
from audit.records import Attribute, Prompt

if TYPE_CHECKING:
    from collections.abc import Sequence

    from audit.config.settings import AuditConfig

LEVEL, POWER = 0.05, 0.8


@dataclass(frozen=True)
class GateNeed:
    """Images that a gate needs to pass a model at parity, with probability ``POWER``.

    Attributes:
        gate: Name of the gate.
        images: Per prompt and arm; None where no number that can be made is enough, or the gate cannot be planned.
        note: Why there is no number.
    """

    gate: str
    images: int | None
    note: str = ""


@dataclass(frozen=True)
class Power:
    """What the planned images can tell.

    Attributes:
        tests: Tests of parity in an arm: prompts times attributes.
        detectable: Per attribute the smallest departure that is detected.
        gates: What each gate needs.
    """

    tests: int
    detectable: tuple[Detectable, ...]
    gates: tuple[GateNeed, ...]


def power_of(config: AuditConfig, prompts: Sequence[Prompt]) -> Power:
    """Work out the power of a plan, each test at the level that remains where all of them are corrected for."""
    attributes = [Attribute(name, tuple(groups)) for name, groups in config.attributes.items()]
    tests = len(prompts) * len(attributes)
    level, images = planned_level(LEVEL, tests), config.prompts.images_per_prompt
    gates = gates_of(config.gates, [prompt.id for prompt in prompts])
    one_each = {gate.name: gate for gate in reversed(gates)}  # the prompts of one gate need alike
    return Power(
        tests=tests,
        detectable=tuple(detectable(attribute, images, level=level, power=POWER) for attribute in attributes),
        gates=tuple(_need(gate, attributes, len(gates)) for gate in reversed(one_each.values())),
    )


def _need(gate: Gate, attributes: Sequence[Attribute], verdicts: int) -> GateNeed:
    if gate.prompt_id is None or gate.attribute is None:
        return GateNeed(gate.name, None, "judged on a whole arm")
    groups = next(attribute.groups for attribute in attributes if attribute.name == gate.attribute)
    target = uniform(len(groups))
    measure, _, group = gate.measure.partition(":")
    if measure == "share":
        interval = share_interval(groups.index(group))
    elif measure == "fairness_discrepancy":
        interval = partial(_interval, target)
    else:
        return GateNeed(gate.name, None, "its power is not worked out")
    confidence = 1 - planned_level(LEVEL, verdicts)
    images = images_for_gate(PlannedGate(gate.limit, gate.side, interval, confidence), target, POWER, largest=5_000)
    return GateNeed(gate.name, images, "" if images else "more than 5,000, or never: the limit lies at parity itself")


def _interval(target: tuple[float, ...], counts: Any, confidence: float) -> tuple[float, float]:  # noqa: ANN401 - an array
    return discrepancy_interval_of_counts(counts, target, confidence)


def power_as_data(power: Power) -> dict[str, Any]:
    """Return the power as plain data."""
    return asdict(power)


def show_power(power: Power, console: Console) -> None:
    """Print what can be told, and what each gate needs."""
    table = Table("perceived", box=None, header_style="bold", pad_edge=False)
    for column in ("images", "smallest departure seen", "as a distance", "smallest change between arms"):
        table.add_column(column, justify="right")
    for found in power.detectable:
        towards = " or ".join(found.direction)
        departure = "none" if found.share is None else f"{100 * found.share:.0f} points to {towards}"
        distance = "none" if found.hardest_distance is None else f"{found.hardest_distance:.3f}"
        change = "none" if found.paired_change is None else f"{100 * found.paired_change:.0f} points"
        table.add_row(found.attribute.replace("_", " "), f"{found.n:,}", departure, distance, change)
    console.print(f"\nSeen with a chance of {POWER:.0%}, corrected for {power.tests} tests:", highlight=False)
    console.print(table)
    for gate in power.gates:
        need = f"{gate.images:,} images per prompt and arm" if gate.images else gate.note
        words = f"a model at parity passes from {need}" if gate.images else need
        console.print(f"gate {gate.gate}: {words}", highlight=False, markup=False)
