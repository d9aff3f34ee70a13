"""Sections of the methods: what a driver learns from them without a network, and what they refuse."""

import pytest

from audit.config.settings import AuditConfig
from audit.config.slices import MeasurementRequest
from audit.planning.fits import fit_name, fit_requests, fit_settings, images_of_fits
from audit.planning.plan import prompts_of

TWO_PROMPTS = {"occupations": ["doctor", "nurse"]}


EFA = {"method": "entanglement_free_attention"}


def audit(**mitigation):
    plain = {"name": "m", "attribute": "age", **mitigation}
    return AuditConfig(
        name="x", prompts=TWO_PROMPTS, mitigations=[plain], attributes={"age": ["young", "adult", "old"]},
        quality={"outside": {}},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("mitigation", "images"),
    [
        ({"method": "uce", "images_per_prompt": 5, "rounds": 4}, 2 * 5 * 4),
        ({"method": "feature_control", "images_per_group": 5}, 2 * 3 * 5 * 2),
        ({"method": "gated_cross_attention", "images_per_group": 5}, 2 * (3 + 1) * 5 * 2),
        ({"method": "mean_difference", "images_per_group": 5}, 2 * 3 * 5),
        ({"method": "fair_pca"}, 0),
        (EFA | {"images_per_group": 5, "steps": 7}, 2 * 3 * 5),
    ],
)
def test_the_plan_counts_the_images_of_every_fit(mitigation, images):
    config = audit(**mitigation)
    requests = list(fit_requests(MeasurementRequest.of(config)))
    assert len(requests) == 1
    assert images_of_fits(requests, prompts_of(config.prompts, ())) == images


def test_how_a_fit_is_applied_does_not_name_it_and_what_decides_it_does():
    def name(**mitigation):
        [request] = fit_requests(MeasurementRequest.of(audit(**mitigation)))
        return fit_name("model", fit_settings(request, ()))

    assert name(method="fair_pca", push=1) == name(method="fair_pca", push=0, strength=0.5)
    assert name(method="fair_pca", dimensions=5) != name(method="fair_pca")
    assert name(method="uce", strength=2) == name(method="uce")
    uneven = {"young": 0.2, "adult": 0.3, "old": 0.5}
    assert name(method="uce", target=uneven) != name(method="uce")  # the shares are fitted to the target
    assert name(method="fair_pca", target=uneven) == name(method="fair_pca")
    assert name(**EFA, strength=2, window=[0, 0.5]) == name(**EFA, target=uneven) == name(**EFA)
    assert (
        len({name(**EFA), name(**EFA, layers=["mid_block"]), name(**EFA, outside_weight=0), name(**EFA, width=8)}) == 4
    )
    assert name(method="feature_control", choice="random") != name(method="feature_control", choice="activation")


@pytest.mark.parametrize(
    "mitigation",
    [
        {"method": "uce", "regularisation": 0},
        {"method": "uce", "tokens": "all"},
        {"method": "fair_diffusion", "threshold": 1},
        {"method": "fair_pca", "push": -1},
        {"method": "feature_control", "choice": "attribution"},
        {"method": "gated_cross_attention", "gate": "yes"},
        EFA | {"present_weight": -1},
        EFA | {"layers": ["mid block"]},
    ],
)
def test_values_out_of_range_are_refused(mitigation):
    with pytest.raises(ValueError, match=mitigation["method"]):
        audit(**mitigation)


def test_a_gate_needs_the_first_step():
    with pytest.raises(ValueError, match=r"expected a window that begins at 0, .* found 0\.5; set gate: false"):
        audit(method="gated_cross_attention", window=[0.5, 1])
    audit(method="gated_cross_attention", window=[0.5, 1], gate=False)
    audit(method="gated_cross_attention", window=[0, 0.5])


@pytest.mark.parametrize(
    "method", ["uce", "fair_diffusion", "fair_pca", "feature_control", "gated_cross_attention", *EFA.values()]
)
def test_a_model_without_prompts_has_no_text_that_names_a_group(method):
    with pytest.raises(ValueError, match="expected a method that names no group in a prompt"):
        AuditConfig(
            name="x", prompts={"occupations": "none"}, sampling={"guidance": 0},
            mitigations=[{"name": "m", "method": method, "attribute": "gender"}],
        )  # fmt: skip
