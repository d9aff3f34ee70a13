"""Which steps DDIM takes for a published noise schedule."""

from diffusers import DDIMScheduler

from audit.models.published_schedule import timesteps


def test_timesteps_are_those_of_diffusers():
    for spacing in ("leading", "trailing", "linspace"):
        config = {"num_train_timesteps": 1000, "steps_offset": 1, "timestep_spacing": spacing}
        scheduler = DDIMScheduler(**config)
        for steps in (1, 4, 25, 50, 60, 61, 333):
            scheduler.set_timesteps(steps)
            assert timesteps(config, steps) == scheduler.timesteps.tolist()
