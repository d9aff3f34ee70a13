"""The benchmark of open sets counts a finding as true only if its state is what is planted in its prompt."""

import numpy as np

from audit.calibration.world import World
from benchmarks.open_set import PLANTED, Drawn, control, outcome
from tests.results.open_set.test_findings import a_sample


def a_drawing():
    """Images in which prompt p2 has an attribute more often, with labels: the attribute, and one at random."""
    sample = a_sample()
    random = np.random.default_rng(0)
    rate = np.where(sample.prompts == 2, 0.8, 0.2)
    hidden = random.random(len(sample.prompts)) < rate  # the first draw of the sample, see a_sample
    return Drawn(sample, {"glasses": hidden, "smile": random.random(len(hidden)) < 0.5})


def test_a_finding_is_true_in_the_prompt_where_it_is_planted_and_false_elsewhere():
    drawn = a_drawing()
    planted = outcome(drawn, {"p2": "glasses", "p4": "glasses"})
    assert (len(planted.true), planted.false, planted.recalled) == (1, (), {"p2"})
    for other in ({}, {"p2": "background"}, {"p4": "glasses"}):
        found = outcome(drawn, other)
        assert (found.true, len(found.false), found.recalled) == ((), 1, frozenset())


def test_a_state_that_no_label_explains_is_false():
    drawn = a_drawing()
    unrelated = {"glasses": np.random.default_rng(7).random(len(drawn.sample.prompts)) < 0.3}
    assert len(outcome(Drawn(drawn.sample, unrelated), {"p2": "glasses"}).false) == 1


def test_the_control_has_the_planted_world_without_what_no_attribute_names():
    world = World.bundled()
    plain = control(world)
    assert {one.glasses for one in plain.planted.values()} == {0.2}
    assert len({tuple(one.background) for one in plain.planted.values()}) == 1
    assert all(world.planted[name].glasses > 0.2 for name, kind in PLANTED.items() if kind == "glasses")
