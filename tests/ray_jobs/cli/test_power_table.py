"""Tests that a plan's power is computed for the targets of the audit."""

import pytest

from audit.config.settings import AuditConfig
from audit.planning.plan import prompts_of
from audit.records.attributes import Attribute
from ray_jobs.cli.power_table import PlannedTests, power_of

GATES = [
    {"name": "women", "measure": "share:female", "attribute": "gender", "prompt": "each", "min": 0.15},
    {"name": "near", "measure": "fairness_discrepancy", "attribute": "gender", "prompt": "each", "max": 0.4},
]


@pytest.fixture
def power(tmp_path):
    def plan(targets, gates=()):
        named = [(prompt, ("female", "male"), shares) for prompt, *shares in targets]
        rows = [f"{p},gender,{group},{s}" for p, groups, own in named for group, s in zip(groups, own, strict=True)]
        (tmp_path / "shares.csv").write_text("\n".join(["prompt,attribute,group,share", *rows]))
        config = AuditConfig(
            name="trial",
            model={"source": "rendered"},
            prompts={"occupations": ["doctor", "nurse"], "images_per_prompt": 100},
            attributes={"gender": ["female", "male"]},
            targets={"gender": {"csv": str(tmp_path / "shares.csv")}} if rows else {},
            gates=gates,
        )
        attributes = tuple(Attribute(name, groups) for name, groups in config.attributes.items())
        planned = PlannedTests(attributes, config.targets, config.gates, config.prompts.images_per_prompt)
        return power_of(planned, prompts_of(config.prompts, ()))

    return plan


def test_departures_are_counted_from_the_most_even_target(power):
    even, own = power([]), power([("doctor", 0.1, 0.9), ("nurse", 0.6, 0.4)])
    assert (even.most_even, own.most_even) == ({}, {"gender": "nurse"})
    alike = power([("doctor", 0.1, 0.9), ("nurse", 0.1, 0.9)])
    assert alike.most_even == {}
    assert alike.detectable[0].distance < own.detectable[0].distance  # rarer groups vary less


def test_a_gate_needs_images_for_the_prompt_that_passes_it_least_easily(power):
    near, far = power([("doctor", 0.25, 0.75), ("nurse", 0.5, 0.5)], GATES), power([], GATES)
    assert near.gates[0].images > 2 * far.gates[0].images
    beyond = power([("doctor", 0.05, 0.95), ("nurse", 0.5, 0.5)], GATES)
    assert beyond.gates[0].images is None
    assert beyond.gates[0].note.startswith("a model on target fails this gate")
    assert beyond.gates[1].images
