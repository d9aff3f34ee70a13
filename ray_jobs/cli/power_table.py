"""Statistical power of a plan, computed before any image is made, for ``difflens-audit plan``."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from audit.measure.discrepancy.estimate import discrepancy_interval_of_counts
from audit.planning.power.detectable import Detectable, detectable, planned_level
from audit.planning.power.gates import PlannedGate, images_for_gate, share_interval
from audit.planning.targets import Targets, audit_targets
from audit.records.attributes import Attribute
from audit.records.estimates import percent
from audit.records.work import Prompt
from audit.results.gates.verdicts import Gate, gates_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from audit.config.sections import GateConfig, TargetChoice

LEVEL, POWER = 0.05, 0.8


@dataclass(frozen=True)
class GateNeed:
    """Images that a gate needs to pass a model that is on target, with probability ``POWER``.

    Attributes:
        gate: Name of the gate.
        images: Per prompt and arm; None if no feasible number is enough, or if the gate cannot be planned.
        note: The reason, if there is no number.
    """

    gate: str
    images: int | None
    note: str = ""


@dataclass(frozen=True)
class Power:
    """Statistical power of the planned images.

    Attributes:
        tests: Tests of parity in an arm: prompts times attributes.
        detectable: Smallest detectable departure per attribute.
        gates: Required images per gate.
        most_even: For attributes whose targets differ between prompts, the prompt with the most even target. The
            figures are computed for it: its shares vary most, so a departure is hardest to detect.
    """

    tests: int
    detectable: tuple[Detectable, ...]
    gates: tuple[GateNeed, ...]
    most_even: dict[str, str]


@dataclass(frozen=True)
class PlannedTests:
    """What the images of a plan are tested for.

    Attributes:
        attributes: Audited attributes.
        targets: Section ``targets`` of the config.
        gates: Section ``gates``.
        images: Images of each prompt in each arm.
    """

    attributes: tuple[Attribute, ...]
    targets: Mapping[str, TargetChoice]
    gates: tuple[GateConfig, ...]
    images: int


def power_of(planned: PlannedTests, prompts: Sequence[Prompt]) -> Power:
    """Compute the power of a plan, each test at the level that remains after correction for multiple testing.

    Raises:
        ConfigErrors: If a file with targets has errors.
    """
    attributes, images = planned.attributes, planned.images
    prompt_ids = [prompt.id for prompt in prompts]
    targets = audit_targets(planned.targets, prompt_ids, attributes).shares
    tests = len(prompts) * len(attributes)
    level = planned_level(LEVEL, tests)
    gates = gates_of(planned.gates, prompt_ids)
    by_name: dict[str, list[Gate]] = {}
    for gate in gates:
        by_name.setdefault(gate.name, []).append(gate)
    even = {attribute.name: _most_even(attribute, targets) for attribute in attributes}
    goals = {name: targets[prompt_id][name] for name, prompt_id in even.items()}
    return Power(
        tests=tests,
        detectable=tuple(
            detectable(attribute, images, target=goals[attribute.name], level=level, power=POWER)
            for attribute in attributes
        ),
        gates=tuple(_need(own, attributes, targets, len(gates)) for own in by_name.values()),
        most_even={name: prompt for name, prompt in even.items() if len({row[name] for row in targets.values()}) > 1},
    )


def _most_even(attribute: Attribute, targets: Targets) -> str:
    return min(targets, key=lambda prompt_id: sum(share**2 for share in targets[prompt_id][attribute.name]))


def _need(own: Sequence[Gate], attributes: Sequence[Attribute], targets: Targets, verdicts: int) -> GateNeed:
    """Plan the gate for the prompt that needs the most images."""
    gate = own[0]
    if gate.prompt_id is None or gate.attribute is None:
        return GateNeed(gate.name, None, "judged for a whole arm, not planned")
    attribute = next(attribute for attribute in attributes if attribute.name == gate.attribute)
    goals = [targets[one.prompt_id][attribute.name] for one in own if one.prompt_id is not None]
    measure, _, group = gate.measure.partition(":")
    if measure == "share":
        code = attribute.groups.index(group)
        target = (max if gate.side == "max" else min)(goals, key=lambda goal: goal[code])
        interval = share_interval(code)
        if (target[code] > gate.limit) if gate.side == "max" else (target[code] < gate.limit):
            return GateNeed(gate.name, None, "a model on target fails this gate for any number of images")
    elif measure == "fairness_discrepancy":
        target = min(goals, key=lambda goal: sum(share**2 for share in goal))
        interval = partial(_interval, target)
    else:
        return GateNeed(gate.name, None, "its power is not computed")
    confidence = 1 - planned_level(LEVEL, verdicts)
    images = images_for_gate(PlannedGate(gate.limit, gate.side, interval, confidence), target, POWER, largest=5_000)
    return GateNeed(
        gate.name, images, "" if images else "more than 5,000, or never, because the limit equals the target"
    )


def _interval(target: tuple[float, ...], counts: Any, confidence: float) -> tuple[float, float]:  # noqa: ANN401 - an array
    return discrepancy_interval_of_counts(counts, target, confidence)


def power_as_data(power: Power) -> dict[str, Any]:
    """Return the power as plain data."""
    return asdict(power)


def show_power(power: Power, console: Console) -> None:
    """Print what the plan can detect, and what each gate needs."""
    table = Table("perceived", box=None, header_style="bold", pad_edge=False)
    for column in ("images", "smallest departure", "as a distance", "smallest change between arms"):
        table.add_column(column, justify="right")
    for found in power.detectable:
        towards = " or ".join(found.direction)
        departure = "none" if found.share is None else f"{100 * found.share:.0f} points to {towards}"
        distance = "none" if found.hardest_distance is None else f"{found.hardest_distance:.3f}"
        change = "none" if found.paired_change is None else f"{100 * found.paired_change:.0f} points"
        table.add_row(found.attribute.replace("_", " "), f"{found.n:,}", departure, distance, change)
    heading = f"\nDetected with a probability of {percent(POWER)}, corrected for {power.tests} tests:"
    console.print(heading, highlight=False)
    console.print(table)
    for attribute, prompt in power.most_even.items():
        line = f"{attribute.replace('_', ' ')}: computed for the target of {prompt}, the most even one"
        console.print(line, highlight=False, markup=False)
    for gate in power.gates:
        need = f"{gate.images:,} images per prompt and arm" if gate.images else gate.note
        words = f"a model on target passes with {need}" if gate.images else need
        console.print(f"gate {gate.gate}: {words}", highlight=False, markup=False)
