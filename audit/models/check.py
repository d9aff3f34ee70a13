"""Finds whatever keeps a model's directory from being loaded and sampled as it was published, without its weights.

:func:`model_problems` is asked by ``validate`` before any work, and again by whoever loads: what it accepts loads, and
what it refuses is refused in words and never tried again.
"""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from audit.config.problems import Location, Problem, listing
from audit.config.sections import ModelConfig, SamplingConfig
from audit.models.family import latent_size, other_family, unfit_parts, unfit_scheduler, unfit_steps
from audit.models.files.pipeline_files import PipelineConfigs, Weights, find_weights, tokenizer_problem, variants_of
from audit.models.files.untrusted_model import WITH_WEIGHTS, UnfitModelError, UntrustedModelError, check_pipeline

_SOURCE: Location = ("model", "source")
_VARIANT: Location = ("model", "variant")


@dataclass(frozen=True)
class Sampled:
    """What an audit does with a model, beside loading it.

    Attributes:
        sampling: How it is sampled.
        hookpoint: Module of the U-Net that is read and edited.
    """

    sampling: SamplingConfig
    hookpoint: str


def model_problems(directory: Path, model: ModelConfig, sampled: Sampled | None = None) -> tuple[Problem, ...]:
    """Find whatever keeps a diffusers directory from being loaded and sampled as it was published.

    Configs and the headers of weight files are read, no weights. Torch and diffusers are imported only where configs
    and files are as they should be.

    Args:
        directory: Of the pipeline.
        model: The config's model; its variant decides which files count.
        sampled: How it is to be sampled; nothing leaves that to whoever samples.

    Returns:
        Problems, each with its place in the config; none where the model can be audited.
    """
    try:
        check_pipeline(directory)
        configs = PipelineConfigs.read(directory)
    except (UntrustedModelError, UnfitModelError) as error:
        return (Problem(_SOURCE, str(error)),)
    foreign = tuple(other_family(configs.index))
    if foreign:
        return tuple(_at_source(directory, message) for message in foreign)
    messages = [*unfit_parts(configs), *unfit_scheduler(configs.index["scheduler"], configs.parts["scheduler"])]
    lacking = tokenizer_problem(directory)
    problems = [_at_source(directory, message) for message in (*messages, *([lacking] if lacking else []))]
    problems += _files(directory, model.variant)
    return tuple(problems) or tuple(_Built(directory, configs, model.variant).problems(sampled))


def refuse_unfit(directory: Path, model: ModelConfig) -> None:
    """Refuse a directory that :func:`model_problems` finds problems in.

    Raises:
        UntrustedModelError: It holds code, pickled weights alone or classes of its own.
        UnfitModelError: It cannot be run as it was published.
    """
    check_pipeline(directory)
    problems = model_problems(directory, model)
    if problems:
        raise UnfitModelError("; ".join(problem.message for problem in problems))


def _at_source(directory: Path, message: str) -> Problem:
    named = message if message.startswith(str(directory)) else f"{directory}: {message}"
    return Problem(_SOURCE, named, reads=(_VARIANT,))


def _files(directory: Path, variant: str | None) -> Iterator[Problem]:
    """Find parts without weights of the variant that is asked for."""
    variants = {part: variants_of(directory, part) for part in WITH_WEIGHTS}
    known = sorted({name for names in variants.values() for name in names})
    if variant is not None and variant not in known:
        found = f"files of {listing(known)}" if known else "no variant"
        remedy = "choose one of these" if known else "leave model.variant out"
        yield Problem(_VARIANT, f"expected a variant of {directory}, found {found}, not {variant!r}; {remedy}")
        return
    for part in WITH_WEIGHTS:
        try:
            find_weights(directory, part, variant)
        except UnfitModelError as error:
            if variant is None and variants[part]:
                message = (
                    f"{directory / part}: expected weights without a variant, found {listing(variants[part])} alone"
                )
                yield Problem(_VARIANT, f"{message}; set model.variant: {variants[part][0]}", reads=(_SOURCE,))
                return
            yield _at_source(directory, str(error))


class _Built:
    """The parts of a pipeline on the meta device: what can only be found out by building them."""

    def __init__(self, directory: Path, configs: PipelineConfigs, variant: str | None) -> None:
        self._directory, self._configs = directory, configs
        self._weights = {part: find_weights(directory, part, variant) for part in WITH_WEIGHTS}
        self._networks: dict[str, Any] = {}

    def problems(self, sampled: Sampled | None) -> Iterator[Problem]:
        """Find problems of tensors, shapes, tokenizer and schedule; what builds on a problem is left out."""
        with _quiet():
            wrong = [message for part in WITH_WEIGHTS for message in self._tensors(part, self._weights[part])]
            wrong = wrong or [*self._shapes(), *self._schedule()]
            yield from (_at_source(self._directory, message) for message in wrong)
            if sampled is not None and not wrong:
                yield from self._sampled(sampled)

    def _tensors(self, part: str, weights: Weights) -> Iterator[str]:
        from audit.models.files.expected_tensors import network_on_meta, unlike_class

        try:
            shapes = weights.shapes()
            network = network_on_meta(part, self._directory, self._configs.parts[part], len(shapes))
        except UnfitModelError as error:
            yield str(error)
            return
        self._networks[part] = network
        yield from unlike_class(weights, network, shapes)

    def _shapes(self) -> Iterator[str]:
        from audit.models.dry_run import check_shapes
        from audit.models.files.tokens import load_tokenizer

        text = self._networks["text_encoder"].config
        try:
            tokenizer = load_tokenizer(self._directory, text.max_position_embeddings, text.vocab_size)
            check_shapes(self._networks, self._size(), tokenizer.model_max_length)
        except UnfitModelError as error:
            yield str(error)

    def _schedule(self) -> Iterator[str]:
        from audit.models.schedule import as_ddim, load_scheduler, reverse_schedule

        try:
            reverse_schedule(as_ddim(load_scheduler(self._directory, self._configs.index["scheduler"][1])), steps=1)
        except UnfitModelError as error:
            yield str(error)

    def _sampled(self, sampled: Sampled) -> Iterator[Problem]:
        from audit.models.dry_run import check_hookpoint
        from audit.models.schedule import as_ddim, load_scheduler

        scheduler = as_ddim(load_scheduler(self._directory, self._configs.index["scheduler"][1]))
        steps = unfit_steps(scheduler.config, sampled.sampling.steps)
        if steps is not None:
            yield Problem(("sampling", "steps"), steps, reads=(_SOURCE,))
        try:
            check_hookpoint(self._networks, self._size(), 3, sampled.hookpoint)
        except ValueError as error:
            yield Problem(("lens", "hookpoint"), str(error), reads=(_SOURCE,))

    def _size(self) -> tuple[int, int]:
        return latent_size(self._configs.parts["unet"])


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the libraries' warnings about what is refused or settled here from a user who asked for neither."""
    loggers = [logging.getLogger(name) for name in ("diffusers", "transformers")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
