"""What the fit of a trained method says, beyond what tests/mitigate/test_conformance.py asks of every method."""

import math

import pytest

from audit.config.slices import MeasurementRequest
from audit.planning.fits import fit_requests, fit_settings
from tests.mitigate.trained.fits import PROMPTS, SHORT, audit_of, fitted, tools_of


@pytest.mark.parametrize("attribute", ["gender", "age"])
@pytest.mark.parametrize("method", SHORT)
def test_a_training_reports_figures_for_the_card(method, attribute, tiny_pipeline):
    audit = audit_of(tiny_pipeline, method, attribute)
    request, _, trained = fitted(audit, tools_of(audit))
    assert request.groups == tuple(audit.attributes[attribute])
    assert trained.report
    assert all(math.isfinite(value) for value in trained.report.values())


@pytest.mark.parametrize("method", [method for method in SHORT if method != "finetuning"])
def test_another_target_needs_no_other_fit(method, tiny_pipeline):
    uneven = audit_of(tiny_pipeline, method, "gender", target={"female": 0.25, "male": 0.75})
    [asked], [other] = (
        list(fit_requests(MeasurementRequest.of(audit)))
        for audit in (audit_of(tiny_pipeline, method, "gender"), uneven)
    )
    assert fit_settings(asked, PROMPTS) == fit_settings(other, PROMPTS)
