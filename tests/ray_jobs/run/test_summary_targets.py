"""Which arms a summary compares with a target of their own, and which with their counterfactual."""

import pytest

from audit.config.settings import AuditConfig
from audit.config.slices import MeasurementRequest
from audit.records.arms.counterfactuals import NamedArm
from ray_jobs.run.summary import joint_targets, named_arms


def request_of(*mitigations):
    arms = [{"attribute": "gender", "method": "prompt", **one} for one in mitigations]
    return MeasurementRequest.of(AuditConfig(name="targets", mitigations=arms))


def test_an_even_arm_has_no_target_of_its_own():
    request = request_of({"name": "even"}, {"name": "said", "target": "uniform"})
    assert joint_targets(request) == {}
    assert named_arms(request) == ()


def test_an_uneven_arm_is_compared_with_its_shares():
    [(arm, target)] = joint_targets(request_of({"name": "a", "target": {"female": 0.3, "male": 0.7}})).items()
    assert arm == "a"
    assert target.groups == {"gender": ("female", "male")}
    assert target.shares == pytest.approx({("female",): 0.3, ("male",): 0.7})


SHE, HE = ({"name": n, "target": {"female": f, "male": 1 - f}} for n, f in (("she", 1), ("he", 0)))


def test_an_arm_that_names_one_group_is_compared_with_its_counterfactual_alone():
    request = request_of(SHE, {"name": "even"}, HE)
    assert joint_targets(request) == {}
    assert named_arms(request) == (NamedArm("she", "gender", "female"), NamedArm("he", "gender", "male"))


@pytest.mark.parametrize("others", [(), ({"name": "even"},), (SHE | {"name": "again"},)])
def test_an_arm_without_a_counterfactual_is_compared_with_its_target(others):
    request = request_of(SHE, *others)
    assert named_arms(request) == ()
    assert joint_targets(request)["she"].shares == {("female",): 1.0, ("male",): 0.0}
