"""Counts the work of an audit before it runs: images, shards, network calls."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from audit.config.fields import API, WITHOUT_NETWORK
from audit.config.mitigations.section import SearchableSection
from audit.config.slices import MeasurementRequest
from audit.dissect.strengths import LADDER
from audit.planning.fits import fit_requests, images_of_fits, passes_of_fits, steps_of_fits
from audit.planning.plan import arms_of, images_of_prompts, prompts_of_model, steps_of_arms
from audit.records.work import Prompt


@dataclass(frozen=True)
class Work:
    """The work of an audit.

    Attributes:
        prompts: Every prompt.
        arms: Every arm, the baseline first.
        images_per_prompt: Images in each arm, the smallest number if prompts differ; with two-stage sampling those of
            the pilot.
        pilot: Whether only the images of a pilot are counted; the pilot decides how many follow.
        lens_images: Most images needed to make a lens if none fits yet; 0 if the audit needs no lens.
        lens_disk: Bytes on disk while the lens is made; 0 if it is not known on this machine.
        lens_memory: Bytes of memory beside the model while the lens is made; 0 if it is not known.
        fit_images: Most images needed to fit methods if no fit is stored; 0 if no method is fitted.
        trial_images: Most images needed to search strengths without a lens; 0 if none is searched.
        fit_steps: Most training steps of methods if no fit is stored; 0 if no method is trained.
        fit_passes: How often an image passes the denoiser with gradients in trainings that sample their own images.
        shards_per_prompt: Shards of each prompt, the smallest number if prompts differ; a shard makes all arms of its
            images.
        unet_calls: Images that pass the denoiser, over all arms and steps, including the padding of short shards; 0 for
            a model without a network.
        images_by_prompt: Images in each arm by prompt id, if prompts differ.
        shards_by_prompt: Shards by prompt id, if prompts differ.
        requests: Requests to an endpoint without retries; 0 for any other model.
        cost: Cost of these requests in the currency of ``model.limits.price_per_image``, None without a price.
    """

    prompts: tuple[Prompt, ...]
    arms: tuple[str, ...]
    images_per_prompt: int
    shards_per_prompt: int
    unet_calls: int
    pilot: bool = False
    lens_images: int = 0
    lens_disk: int = 0
    lens_memory: int = 0
    fit_images: int = 0
    trial_images: int = 0
    fit_steps: int = 0
    fit_passes: int = 0
    images_by_prompt: Mapping[str, int] = field(default_factory=dict)
    shards_by_prompt: Mapping[str, int] = field(default_factory=dict)
    requests: int = 0
    cost: float | None = None

    @property
    def preparation(self) -> tuple[str, ...]:
        """One line for each step before the first shard, with its cost."""
        if not self.lens_images:
            lens = "Uses no lens: prompts.attribution: true makes one and names the bias features"
        else:
            lens = f"Needs a lens; where none fits yet, at most {self.lens_images:,} images more to make one first"
            if self.lens_disk:
                disk, memory = _size(self.lens_disk), _size(self.lens_memory)
                lens += f", which takes {disk} of disk space for a time, and {memory} of memory beside the model"
        trained = f" and {self.fit_steps:,} training steps" if self.fit_steps else ""
        trained += (
            f", with {self.fit_passes:,} image passes through the denoiser with gradients," if self.fit_passes else ""
        )
        fits = f"Fits its methods; where no fit is stored, {self.fit_images:,} images{trained} more"
        searches = f"Searches strengths; at most {self.trial_images:,} trial images more"
        return lens, *[fits] * bool(self.fit_images), *[searches] * bool(self.trial_images)

    @property
    def images(self) -> int:
        """Images over all prompts and arms."""
        return len(self.arms) * sum(self.images_of(prompt) for prompt in self.prompts)

    @property
    def shards(self) -> int:
        """Shards over all prompts."""
        return sum(self.shards_of(prompt) for prompt in self.prompts)

    def images_of(self, prompt: Prompt) -> int:
        """Return the images of a prompt in each arm."""
        return self.images_by_prompt.get(prompt.id, self.images_per_prompt)

    def shards_of(self, prompt: Prompt) -> int:
        """Return the shards of a prompt."""
        return self.shards_by_prompt.get(prompt.id, self.shards_per_prompt)

    @property
    def summary(self) -> str:
        """One line: ``16 prompts, 2,048 images, 32 shards, arms baseline and gender``."""
        counts = {"prompt": len(self.prompts), "image": self.images, "shard": self.shards}
        parts = [f"{count:,} {name}{'s' * (count != 1)}" for name, count in counts.items()]
        arms = " and ".join(filter(None, (", ".join(self.arms[:-1]), self.arms[-1])))
        more = "; this is the pilot, a second stage follows" if self.pilot else ""
        return f"{', '.join(parts)}, arm{'s' * (len(self.arms) > 1)} {arms}{self._price}{more}"

    @property
    def _price(self) -> str:
        """What an endpoint is asked for; empty for any other model."""
        if not self.requests:
            return ""
        cost = "" if self.cost is None else f", cost {self.cost:,.2f}"
        return f"; {self.requests:,} requests{cost}, retries not counted"


def work_of(request: MeasurementRequest, lens_images: int) -> Work:
    """Plan an audit and count its work.

    Args:
        request: How the images are made and measured.
        lens_images: Most images needed to make its lens, 0 if it needs none.
    """
    prompts = prompts_of_model(request.model, request.prompts)
    images, sampling = images_of_prompts(request.model, request.prompts, prompts), request.sampling
    shards = {prompt_id: math.ceil(count / sampling.batch) for prompt_id, count in images.items()}
    # A shorter last shard is padded to a whole batch.
    sampled = 0 if request.model.source in WITHOUT_NETWORK else sum(shards.values()) * sampling.batch
    requests = sum(images.values()) if request.model.source == API else 0
    price = request.model.limits.price_per_image
    differ = len(set(images.values())) > 1
    return Work(
        prompts=prompts,
        arms=arms_of(request.mitigations),
        images_per_prompt=min(images.values()),
        shards_per_prompt=min(shards.values()),
        unet_calls=_denoised(request, sampled),
        pilot=request.prompts.two_stage is not None,
        lens_images=lens_images,
        fit_images=images_of_fits(fit_requests(request), prompts),
        trial_images=_trial_images(request, prompts),
        fit_steps=steps_of_fits(fit_requests(request)),
        fit_passes=passes_of_fits(fit_requests(request)),
        images_by_prompt=images if differ else {},
        shards_by_prompt=shards if differ else {},
        requests=requests,
        cost=None if price is None or not requests else requests * price,
    )


def _trial_images(request: MeasurementRequest, prompts: Sequence[Prompt]) -> int:
    """Count the most images that the searches for strengths without a lens sample."""
    return sum(
        len(prompts) * len(request.attributes[one.attribute]) * one.trial_images * len(LADDER)
        for one in request.sections
        if isinstance(one, SearchableSection) and one.searches_strength
    )


def _size(count: int) -> str:
    """Write a number of bytes: ``60 MB``, ``3.2 GB``, ``271 GB``."""
    megabytes = count / 1e6
    if megabytes < 1000:
        return f"{max(1, round(megabytes))} MB"
    return f"{megabytes / 1000:,.1f} GB" if megabytes < 100_000 else f"{megabytes / 1000:,.0f} GB"


def _denoised(request: MeasurementRequest, images: int) -> int:
    """Count the images that pass the denoiser, over all arms, steps and halves of the guidance."""
    if not images:
        return 0
    from audit.models.families.registry import rows_here, steps_here

    steps = steps_here(request.model, request.sampling)
    calls = steps_of_arms(request.mitigations, steps, request.attributes)
    return images * calls * rows_here(request.model, request.sampling)
