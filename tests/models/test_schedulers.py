"""Schedulers: which sample a model, how many steps they take, and which numbers of steps they can take at all."""

import diffusers
import pytest

from audit.models.files.untrusted_model import UnfitModelError
from audit.models.schedulers.published import steps_taken, unfit_choice, unfit_scheduler
from audit.models.schedulers.trial import replaced_scheduler, steps_of

BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
ZERO_SNR = {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
KINDS = (
    "DDIMScheduler",
    "DDPMScheduler",
    "DPMSolverMultistepScheduler",
    "EulerDiscreteScheduler",
    "HeunDiscreteScheduler",
    "KDPM2DiscreteScheduler",
    "LCMScheduler",
    "PNDMScheduler",
    "UniPCMultistepScheduler",
)


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("steps", [4, 7, 25])
def test_the_plan_counts_the_steps_that_a_scheduler_takes(name, steps):
    more = {"skip_prk_steps": True} if name == "PNDMScheduler" else {}
    assert steps_of(getattr(diffusers, name)(**BETAS, **more), steps) == steps_taken(name, steps)


def test_a_scheduler_is_left_as_it_was_after_its_steps_were_tried():
    scheduler = diffusers.DPMSolverMultistepScheduler(**BETAS)
    steps_of(scheduler, 5)
    assert scheduler.num_inference_steps is None


@pytest.mark.parametrize(
    ("scheduler", "steps", "message"),
    [
        (diffusers.DDIMScheduler(**BETAS), 1001, "at most the 1000 steps"),
        (diffusers.LCMScheduler(**BETAS), 60, "expected a number of steps that LCMScheduler can take, found 60"),
        (diffusers.DDIMScheduler(**BETAS, steps_offset=1), 1000, "which lead from timestep 1000 to 1"),
        (
            diffusers.DDIMScheduler(**BETAS, **ZERO_SNR, clip_sample=False),
            4,
            "zero terminal",
        ),
        (diffusers.DDIMScheduler(trained_betas=[0.1] * 3), 2, "expected trained_betas for each of 1000"),
    ],
)
def test_steps_that_cannot_be_taken_are_refused_in_words(scheduler, steps, message):
    with pytest.raises(UnfitModelError, match=message):
        steps_of(scheduler, steps)


def test_another_scheduler_is_the_one_that_a_user_of_diffusers_gets():
    published = diffusers.EulerDiscreteScheduler(**BETAS, steps_offset=1)
    expected = diffusers.DDIMScheduler.from_config(published.config)
    assert replaced_scheduler(published, "DDIMScheduler").config == expected.config
    assert replaced_scheduler(published, None) is published
    assert replaced_scheduler(published, "EulerDiscreteScheduler") is published


def test_a_scheduler_of_another_process_is_refused_before_it_is_built():
    flow = ["diffusers", "FlowMatchEulerDiscreteScheduler"]
    assert "found FlowMatchEulerDiscreteScheduler" in next(unfit_scheduler(flow, {}, KINDS, flow=False))
    assert unfit_choice("DDIMSheduler", KINDS).endswith("did you mean 'DDIMScheduler'?")
    assert unfit_choice("DDIMScheduler", KINDS) is None
    assert unfit_choice(None, KINDS) is None
