"""How much an audit is to do, counted before anything is spent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from audit.dissect.settings import images_of_dissection, needs_lens
from audit.planning.fits import images_of_fits
from audit.planning.plan import arms_of, known_occupations, plan_shards, prompts_of, steps_of_arms, unet_calls
from audit.records.work import Prompt

if TYPE_CHECKING:
    from audit.config.settings import AuditConfig


@dataclass(frozen=True)
class Work:
    """What an audit would do.

    Attributes:
        prompts: Every prompt.
        arms: Every arm, the baseline first.
        images_per_prompt: In each arm; of two-stage sampling those of the pilot.
        pilot: Whether the pilot's images are counted, which decides how many follow.
        lens_images: Most images that making a lens takes where none fits yet; 0 where the audit needs no lens.
        fit_images: Most images that fitting methods takes where no fit is at hand; 0 where no method is fitted.
        shards_per_prompt: A shard does all arms of its images.
        unet_calls: Images that pass the U-Net, over all arms and steps, the padding of short shards included; 0 for the
            renderer, which has none.
    """

    prompts: tuple[Prompt, ...]
    arms: tuple[str, ...]
    images_per_prompt: int
    shards_per_prompt: int
    unet_calls: int
    pilot: bool = False
    lens_images: int = 0
    fit_images: int = 0

    @property
    def preparation(self) -> tuple[str, ...]:
        """One line for each thing that is made before the first shard, and what it costs."""
        if not self.lens_images:
            lens = "Uses no lens: prompts.attribution: true makes one and names the bias features"
        else:
            lens = f"Needs a lens; where none fits yet, at most {self.lens_images:,} images more to make one first"
        if not self.fit_images:
            return (lens,)
        return lens, f"Fits its methods; where no fit is at hand, {self.fit_images:,} images more"

    @property
    def images(self) -> int:
        """Images over all prompts and arms."""
        return len(self.prompts) * len(self.arms) * self.images_per_prompt

    @property
    def shards(self) -> int:
        """Shards over all prompts."""
        return len(self.prompts) * self.shards_per_prompt

    @property
    def summary(self) -> str:
        """One line: ``16 prompts, 2,048 images, 32 shards, arms baseline and gender``."""
        counts = {"prompt": len(self.prompts), "image": self.images, "shard": self.shards}
        parts = [f"{count:,} {name}{'s' * (count != 1)}" for name, count in counts.items()]
        arms = " and ".join(filter(None, (", ".join(self.arms[:-1]), self.arms[-1])))
        more = "; this is the pilot, a second stage follows" if self.pilot else ""
        return f"{', '.join(parts)}, arm{'s' * (len(self.arms) > 1)} {arms}{more}"


def work_of(config: AuditConfig) -> Work:
    """Plan an audit and count."""
    prompts = prompts_of(config, known_occupations(config.model) or ())
    images = config.prompts.images_per_prompt
    shards = len(plan_shards(prompts[:1], images, config.sampling.batch))
    # A shorter last shard is padded to a whole batch.
    sampled = 0 if config.model.source == "rendered" else len(prompts) * shards * config.sampling.batch
    return Work(
        prompts=prompts,
        arms=arms_of(config),
        images_per_prompt=images,
        shards_per_prompt=shards,
        unet_calls=unet_calls(sampled, steps_of_arms(config), config.sampling.guidance),
        pilot=config.prompts.two_stage is not None,
        lens_images=images_of_dissection(config) if needs_lens(config) else 0,
        fit_images=images_of_fits(config, prompts),
    )
