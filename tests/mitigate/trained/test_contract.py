"""What every trained method must do, whatever it is: on a random model of the real architecture."""

from collections import Counter

import pytest
import torch

from audit.mitigate.assignment import assigned_groups
from audit.mitigate.method import Batch
from audit.mitigate.registry import METHODS
from audit.planning.fits import TENSORS_FILE
from audit.records.work import ImageKey
from tests.mitigate.trained.fits import PROMPTS, SHORT, STEPS, audit_of, fitted, ready, same, tools_of

SEEDS = [1, 2, 3]


@pytest.fixture(scope="module", params=[(m, a) for m in SHORT for a in ("gender", "age")], ids="-".join)
def case(request, tiny_pipeline):
    method, attribute = request.param
    audit = audit_of(tiny_pipeline, method, attribute)
    tools = tools_of(audit)
    made, examples, trained = fitted(audit, tools)
    return audit, tools, made, examples, trained


def batch(case, *places):
    groups = case[2].groups
    return Batch(PROMPTS[0], tuple(groups[place % len(groups)] for place in places), STEPS, "")


def drawn(case, directory, places, seeds=SEEDS, **changes):
    mitigation = case[0].mitigations[0].model_copy(update=changes)
    intervene = ready(mitigation, case[4].tensors, directory)
    return case[1].generator.generate(PROMPTS[0], seeds, intervene(batch(case, *places)))


def test_strength_zero_changes_nothing_bit_for_bit(case, tmp_path):
    plain = case[1].generator.generate(PROMPTS[0], SEEDS)
    assert torch.equal(drawn(case, tmp_path, (0, 1, 2), strength=0.0), plain)


def test_the_edit_changes_the_pictures_and_leaves_the_model_as_it_was(case, tmp_path):
    generator = case[1].generator
    plain = generator.generate(PROMPTS[0], SEEDS)
    strong = 1000 * case[0].mitigations[0].strength
    assert not torch.equal(drawn(case, tmp_path, (0, 1, 2), strength=strong), plain)
    assert torch.equal(generator.generate(PROMPTS[0], SEEDS), plain)


def test_a_training_leaves_the_weights_as_they_were(case, tiny_pipeline):
    untouched = tools_of(case[0]).generator.denoiser
    for one, other in zip(case[1].generator.denoiser.parameters(), untouched.parameters(), strict=True):
        assert torch.equal(one, other)
        assert one.requires_grad == other.requires_grad
        assert one.grad is None


def test_an_image_depends_on_its_own_seed_and_group_alone(case, tmp_path):
    one = drawn(case, tmp_path, (0, 1, 2), seeds=[1, 2, 3])
    other = drawn(case, tmp_path, (0, 0, 1), seeds=[1, 7, 8])
    assert torch.equal(one[0], other[0])
    again = drawn(case, tmp_path, (0, 1, 2), seeds=[1, 2, 3])
    assert torch.equal(one, again)


def test_groups_are_led_to_different_pictures(case, tmp_path):
    strong = 1000 * case[0].mitigations[0].strength
    places = range(len(case[2].groups))
    pictures = drawn(case, tmp_path, tuple(places), seeds=[5] * len(places), strength=strong)
    assert len({image.numpy().tobytes() for image in pictures}) == len(places)


def test_the_fit_is_equal_when_it_is_made_again(case):
    _, _, again = fitted(case[0], case[1])
    assert same(again.tensors, case[4].tensors)


def test_a_fit_holds_finite_numbers_and_reports_figures(case):
    assert all(bool(tensor.isfinite().all()) for tensor in case[4].tensors.values())
    assert case[4].report


def test_any_target_is_met_by_assignment(case, tmp_path):
    groups = case[2].groups
    target = dict(zip(groups, (0.75, 0.25) if len(groups) == 2 else (0.5, 0.25, 0.25), strict=True))
    mitigation = case[0].mitigations[0].model_copy(update={"target": target})
    keys = [ImageKey("doctor", i) for i in range(40)]
    assigned = assigned_groups(mitigation, groups, keys, 0)
    arm = ready(mitigation, case[4].tensors, tmp_path)(Batch(PROMPTS[0], assigned, STEPS, ""))
    assert arm.assigned == assigned
    assert Counter(arm.assigned) == {group: 40 * share for group, share in target.items()}
    assert case[2].mitigation.fitted_by == mitigation.fitted_by  # no new fit for another target


def test_without_its_fit_or_with_half_of_it_the_method_says_so(case, tmp_path):
    mitigation = case[0].mitigations[0]
    with pytest.raises(ValueError, match="fitted first, found none"):
        METHODS[mitigation.method].ready(mitigation, None, None)
    ready(mitigation, case[4].tensors, tmp_path)
    (tmp_path / TENSORS_FILE).write_bytes((tmp_path / TENSORS_FILE).read_bytes()[:100])
    with pytest.raises(ValueError, match=r"cannot be read .* delete the directory to fit again"):
        METHODS[mitigation.method].ready(mitigation, None, tmp_path)
