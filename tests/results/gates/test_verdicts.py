"""A verdict follows from the interval: pass, fail or inconclusive; missing images never help to pass."""

import math

import numpy as np
import pytest
from scipy import stats

from audit.config.settings import AuditConfig
from audit.measure.inference.intervals import share_estimate
from audit.results.gates.verdicts import Gate, GateInput, NoData, evaluate, gates_of, overall_verdict

PROMPTS = ("doctor", "nurse")


def gate(limit=0.3, side="max", measure="fairness_discrepancy", level="fail", name="g"):
    return Gate(name, measure, "gender", None, "baseline", limit, side, level)


def normal(value, error, **fields):
    """A normally distributed estimate."""

    def interval(confidence):
        half = stats.norm.ppf((1 + confidence) / 2) * error
        return value - half, value + half

    return GateInput(value, interval, n=64, **fields)


def counted(successes, n, **fields):
    def interval(confidence):
        found = share_estimate(successes, n, confidence)
        return found.low, found.high

    return GateInput(successes / n, interval, n, **fields)


def verdicts(*pairs):
    return evaluate([gate for gate, _ in pairs], [found for _, found in pairs])


@pytest.mark.parametrize(
    ("value", "side", "expected"),
    [
        (0.279, "max", "pass"), (0.281, "max", "inconclusive"), (0.319, "max", "inconclusive"), (0.321, "max", "fail"),
        (0.321, "min", "pass"), (0.319, "min", "inconclusive"), (0.281, "min", "inconclusive"), (0.279, "min", "fail"),
    ],
)  # fmt: skip
def test_a_single_gate_is_decided_by_its_95_percent_interval(value, side, expected):
    (found,) = verdicts((gate(0.3, side), normal(value, 0.02 / 1.96)))
    assert (found.verdict, found.value, found.n, found.side, found.limit) == (expected, value, 64, side, 0.3)
    assert found.high - found.low == pytest.approx(0.04, rel=1e-4)
    assert found.margin == pytest.approx(0.3 - value if side == "max" else value - 0.3)


def test_an_interval_that_touches_the_limit_from_inside_passes():
    exactly = GateInput(0.2, lambda _: (0.1, 0.3), 10)
    assert [v.verdict for v in verdicts((gate(0.3), exactly))] == ["pass"]
    assert [v.verdict for v in verdicts((gate(0.1), exactly))] == ["inconclusive"]


@pytest.mark.parametrize("found", [NoData("no image was classified"), GateInput(0.0, lambda _: (0.0, 0.0), 0)])
def test_a_gate_without_data_is_inconclusive_with_its_reason(found):
    (verdict,) = verdicts((gate(0.9), found))
    assert (verdict.verdict, verdict.value, verdict.low, verdict.high, verdict.n) == (
        "inconclusive", None, None, None, 0,
    )  # fmt: skip
    assert verdict.note


@pytest.mark.parametrize("ends", [(0.1, math.nan), (math.nan, 0.1), (math.nan, 0.9), (-math.inf, math.inf)])
def test_an_invalid_interval_gives_no_verdict(ends):
    for side in ("max", "min"):
        assert verdicts((gate(0.3, side), GateInput(0.1, lambda _: ends, 64)))[0].verdict == "inconclusive"


def test_a_figure_that_is_not_finite_never_passes():
    (found,) = verdicts((gate(), GateInput(math.nan, lambda _: (0.0, 0.1), 64)))
    assert (found.verdict, found.value, found.margin) == ("inconclusive", None, None)


def test_more_gates_widen_every_interval():
    near = normal(0.279, 0.02 / 1.96)
    assert verdicts((gate(), near))[0].verdict == "pass"
    alone, *rest = verdicts((gate(), near), *[(gate(), normal(0.3, 0.1))] * 4)
    assert alone.verdict == "inconclusive"
    assert [v.confidence for v in (alone, *rest)] == pytest.approx([0.99] * 5)


def test_gates_decided_in_one_direction_raise_the_level_of_the_others():
    clear, near = normal(0.1, 0.01), normal(0.279, 0.02 / 1.96)
    found = verdicts((gate(), clear), (gate(), clear), (gate(), near))
    assert [v.verdict for v in found] == ["pass"] * 3
    assert [v.confidence for v in found] == pytest.approx([1 - 0.05 / 3, 1 - 0.05 / 3, 0.95])
    found = verdicts((gate(), normal(0.5, 0.01)), (gate(), normal(0.5, 0.01)), (gate(), near))
    assert [v.verdict for v in found] == ["fail", "fail", "inconclusive"]


def test_the_reported_interval_agrees_with_the_verdict():
    rng = np.random.default_rng(3)
    inputs = [normal(value, 0.03) for value in rng.uniform(0.1, 0.5, 40)]
    for v in evaluate([gate()] * 40, inputs):
        inside, outside = v.high <= 0.3, v.low > 0.3
        assert v.verdict == ("pass" if inside else "fail" if outside else "inconclusive")


def test_all_verdicts_of_a_run_are_correct_with_the_stated_confidence():
    rng = np.random.default_rng(8)
    truths, limits, sides = (0.5, 0.45, 0.6, 0.55), (0.49, 0.46, 0.59, 0.56), ("max", "min", "min", "max")
    gates = [gate(limit, side, "share:female") for limit, side in zip(limits, sides, strict=True)]
    right = ["fail", "fail", "pass", "pass"]
    wrong = 0
    for _ in range(800):
        shared = rng.uniform(size=200)  # every gate uses the same images
        inputs = [counted(int((shared < truth).sum()), 200) for truth in truths]
        found = [v.verdict for v in evaluate(gates, inputs)]
        wrong += any(a not in (b, "inconclusive") for a, b in zip(found, right, strict=True))
    assert wrong / 800 <= 0.05 + 0.02


def around(low, high):
    """An interval that is the same at any confidence."""
    return lambda _: (low, high)


def test_a_verdict_describes_the_effect_of_unclassified_images():
    few = GateInput(0.1, around(0.02, 0.41), 64, unclassified=0.25, classified_at=around(0.05, 0.15), corrected=True)
    (found,) = verdicts((gate(0.3), few))
    assert (found.verdict, found.low, found.high, found.corrected) == ("inconclusive", 0.02, 0.41, True)
    assert found.from_unclassified == pytest.approx(0.39 - 0.10)
    assert found.note == (
        "25.0\xa0% of the images have no perceived group; the interval covers every group that they could have; "
        "for the other images alone it is [0.050, 0.150]"
    )
    (whole,) = verdicts((gate(0.3), GateInput(0.1, around(0.05, 0.15), 64)))
    assert (whole.verdict, whole.from_unclassified, whole.corrected, whole.note) == ("pass", 0.0, False, "")


def test_the_overall_verdict_is_the_worst_of_the_gates_that_can_fail():
    def run(*kinds):
        values = {"pass": 0.1, "fail": 0.6, "inconclusive": 0.3}
        return overall_verdict(verdicts(*((gate(level=level), normal(values[kind], 0.01)) for kind, level in kinds)))

    assert overall_verdict(()) == "none"
    assert run(("pass", "fail")) == "pass"
    assert run(("pass", "fail"), ("inconclusive", "fail"), ("fail", "fail")) == "fail"
    assert run(("pass", "fail"), ("inconclusive", "fail"), ("fail", "warn")) == "inconclusive"
    assert run(("pass", "fail"), ("fail", "warn")) == "warn"
    assert run(("inconclusive", "warn")) == "pass"


def test_a_gate_on_each_prompt_is_one_gate_per_prompt():
    config = AuditConfig.model_validate(
        {
            "name": "a",
            "gates": [
                {"name": "x", "measure": "share:female", "attribute": "gender", "prompt": "each", "min": 0.2},
                {"name": "y", "measure": "unclassified_share", "max": 0.1, "level": "warn"},
                {"name": "z", "measure": "share_ratio", "attribute": "age", "prompt": "nurse", "min": 0.8},
            ],
        }
    )
    found = gates_of(config.gates, PROMPTS)
    assert [(g.name, g.prompt_id, g.limit, g.side, g.level) for g in found] == [
        ("x", "doctor", 0.2, "min", "fail"),
        ("x", "nurse", 0.2, "min", "fail"),
        ("y", None, 0.1, "max", "warn"),
        ("z", "nurse", 0.8, "min", "fail"),
    ]
    with pytest.raises(ValueError, match="gate 'z': expected a prompt of the audit \\(doctor\\), found 'nurse'"):
        gates_of(config.gates, ("doctor",))


def test_no_gates_give_no_verdicts_and_a_missing_input_is_an_error():
    assert evaluate([], []) == ()
    with pytest.raises(ValueError, match="one input per gate"):
        evaluate([gate()], [])
