"""Finds everything that prevents a model's directory from being loaded and sampled as published, without its weights.

:func:`model_problems` is asked by ``validate`` before any work, and again by whoever loads: what it accepts loads, and
what it refuses is refused in words and never tried again.
"""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from audit.config.mitigations.section import CROSS_ATTENTION, chosen_by_method
from audit.config.problems import Location, Problem, listing
from audit.config.sections import ModelConfig, SamplingConfig
from audit.models.families.interface import Family
from audit.models.families.registry import family_of
from audit.models.files.adapter_file import AdapterFile
from audit.models.files.pipeline_files import (
    PipelineConfigs,
    find_weights,
    part_directory,
    read_index,
    variants_of,
)
from audit.models.files.stored_parts import PartFiles, StoredParts, stored_parts
from audit.models.files.untrusted_model import UnfitModelError, UntrustedModelError, check_pipeline
from audit.models.schedulers.published import unfit_choice, unfit_scheduler
from audit.models.source import single_file
from audit.records.located.places import Place

_SOURCE: Location = ("model", "source")
_VARIANT: Location = ("model", "variant")
_COMPILE: Location = ("model", "compile")


@dataclass(frozen=True)
class Sampled:
    """What an audit does with a model after loading it.

    Attributes:
        sampling: How it is sampled.
        hookpoints: Place in the config → module of the denoiser that is read or edited; at a key without a number, the
            module in which a method finds cross-attention itself.
    """

    sampling: SamplingConfig
    hookpoints: Mapping[Location, str]


def model_problems(directory: Path, model: ModelConfig, sampled: Sampled | None = None) -> tuple[Problem, ...]:
    """Find everything that prevents a diffusers directory from being loaded and sampled as published.

    Configs and the headers of weight files are read, no weights. Torch and diffusers are imported only if configs and
    files are as they should be.

    Args:
        directory: Of the pipeline.
        model: The config's model; its variant decides which files count.
        sampled: How it is to be sampled; None checks the loading alone.

    Returns:
        Problems, each with its place in the config; empty if the model can be audited.
    """
    try:
        check_pipeline(directory)
        index = read_index(directory)
        family = family_of(index)
        foreign = tuple(family.unfit_index(index))
        if foreign:
            return tuple(_at_source(directory, message) for message in foreign)
        configs = PipelineConfigs.read(directory, family.configs(index))
    except (UntrustedModelError, UnfitModelError) as error:
        return (_at_source(directory, str(error)),)
    messages = [
        *family.unfit_parts(directory, configs),
        *unfit_scheduler(
            index.get("scheduler"), configs.parts.get("scheduler", {}), family.schedulers, flow=family.flow
        ),
    ]
    problems = [_at_source(directory, message) for message in messages]
    problems += _files(directory, family.networks(index), model.variant) if single_file(model) is None else ()
    problems += _adapters(model)
    if problems:
        return tuple(problems)
    try:
        stored = stored_parts(directory, single_file(model), model.variant, configs, family.networks(index))
    except UnfitModelError as error:
        return (_at_source(single_file(model) or directory, str(error)),)
    built = _Built(directory, family, configs, stored)
    problems = list(built.problems(sampled))
    if model.compile and sampled is not None and family.denoiser and not problems:
        problems += built.inside_compiled(sampled.hookpoints)
    return tuple(problems)


def refuse_unfit(directory: Path, model: ModelConfig) -> None:
    """Refuse a directory that :func:`model_problems` finds problems in.

    Raises:
        UntrustedModelError: The directory holds code, only pickled weights, or custom classes.
        UnfitModelError: It cannot be run as it was published.
    """
    check_pipeline(directory)
    problems = model_problems(directory, model)
    if problems:
        raise UnfitModelError("; ".join(problem.message for problem in problems))


def hookpoints_of(directory: Path, model: ModelConfig) -> dict[str, tuple[int, int, int]]:
    """Return the shape ``(C, H, W)`` of the map of every hookpoint of a model, without its weights.

    Args:
        directory: Of the pipeline.
        model: The config's model.

    Returns:
        Address → shape, in the order of the calls.

    Raises:
        UntrustedModelError: As :func:`refuse_unfit`.
        UnfitModelError: As :func:`refuse_unfit`.
    """
    from audit.models.dry_run import maps_of

    refuse_unfit(directory, model)
    index = read_index(directory)
    family = family_of(index)
    configs = PipelineConfigs.read(directory, family.configs(index))
    built = _Built(
        directory,
        family,
        configs,
        stored_parts(directory, single_file(model), model.variant, configs, family.networks(index)),
    )
    with _quiet():
        return maps_of(built.denoiser, built.predict, family.stream)


def _at_source(directory: Path, message: str) -> Problem:
    named = message if message.startswith(str(directory)) else f"{directory}: {message}"
    return Problem(_SOURCE, named, reads=(_VARIANT,))


def _files(directory: Path, networks: Sequence[str], variant: str | None) -> Iterator[Problem]:
    """Find parts without weights of the variant that is asked for."""
    variants = {part: variants_of(directory, part) for part in networks}
    known = sorted({name for names in variants.values() for name in names})
    if variant is not None and variant not in known:
        found = f"files of {listing(known)}" if known else "no variant"
        remedy = "choose one of these" if known else "leave model.variant out"
        yield Problem(_VARIANT, f"expected a variant of {directory}, found {found}, not {variant!r}; {remedy}")
        return
    for part in networks:
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


def _adapters(model: ModelConfig) -> Iterator[Problem]:
    """Find files that are no LoRA; whether one fits the model shows when it is loaded."""
    for number, adapter in enumerate(model.adapters):
        try:
            AdapterFile.read(Path(adapter.path))
        except UnfitModelError as error:
            yield Problem(("model", "adapters", number, "path"), str(error))


class _Built:
    """The parts of a pipeline on the meta device: finds what only building and calling them shows."""

    def __init__(self, directory: Path, family: Family, configs: PipelineConfigs, stored: StoredParts) -> None:
        self._directory, self._family, self._configs = directory, family, configs
        self._stored_at, self._weights = stored.at, stored.parts
        self._networks: dict[str, Any] = {}

    def problems(self, sampled: Sampled | None) -> Iterator[Problem]:
        """Find problems of tensors, shapes, tokenizer and schedule; checks that need a failed one are left out."""
        with _quiet():
            wrong = [
                _at_source(self._stored_at, message)
                for part in self._weights
                for message in self._tensors(part, self._weights[part])
            ]
            if not wrong:
                messages = [*self._calls(), *(self._schedule() if self._family.denoiser else ())]
                wrong = [_at_source(self._directory, message) for message in messages]
            yield from wrong
            if sampled is not None and not wrong:
                yield from self._sampled(sampled)

    def inside_compiled(self, hookpoints: Mapping[Location, str]) -> Iterator[Problem]:
        """Find hookpoints inside the blocks that ``model.compile`` compiles, where no hook is called."""
        from audit.models.kernels.compiled import block_around, inside_compiled

        for place, path in hookpoints.items():
            module = Place.parse(path).module
            block = block_around(self.denoiser, module)
            if block is not None:
                yield Problem(place, inside_compiled(module, block), reads=(_COMPILE,))

    @property
    def denoiser(self) -> Any:  # noqa: ANN401 - a network of diffusers
        """The denoiser; built if it is not yet."""
        for part, weights in self._weights.items():
            if part not in self._networks:
                list(self._tensors(part, weights))
        if not self._family.denoiser:
            raise UnfitModelError(
                f"expected a model whose inside can be reached, found {self._configs.index['_class_name']}"
            )
        return self._networks[self._family.denoiser]

    def predict(self) -> Any:  # noqa: ANN401 - a tensor, of a library that is imported late
        """Call the denoiser once."""
        return self._family.predict_on_meta(self._configs, self._networks)

    def _tensors(self, part: str, weights: PartFiles) -> Iterator[str]:
        from audit.models.files.expected_tensors import network_on_meta, unlike_class

        try:
            shapes = weights.shapes()
            place, config = part_directory(self._directory, part), self._configs.parts[part]
            kind = self._family.network_class(part, self._configs.index)
            network = network_on_meta(part, place, config, len(shapes), kind)
        except UnfitModelError as error:
            yield str(error)
            return
        self._networks[part] = network
        yield from unlike_class(weights, network, shapes)

    def _calls(self) -> Iterator[str]:
        try:
            self._family.check_parts(self._directory, self._configs, self._networks)
        except UnfitModelError as error:
            yield str(error)

    def _schedule(self) -> Iterator[str]:
        from audit.models.schedulers.trial import steps_of

        try:
            steps_of(self._published, steps=2)
        except UnfitModelError as error:
            yield str(error)

    def _sampled(self, sampled: Sampled) -> Iterator[Problem]:
        for key, message in self._unfit_sampling(sampled.sampling):
            yield Problem(("sampling", key), message, reads=(_SOURCE,))
        named = {place: path for place, path in sampled.hookpoints.items() if not chosen_by_method(place)}
        if not self._family.denoiser:
            message = f"expected no module for {self._configs.index['_class_name']}, whose inside is not reached, found"
            for place, path in named.items():
                yield Problem(place, f"{message} {path!r}; remove what edits or analyses the model", reads=(_SOURCE,))
            return
        # Methods that choose modules with cross-attention are refused where a model has none.
        yield from self._unfit_hookpoints(sampled.hookpoints if self._family.cross_attention else named)

    def _unfit_hookpoints(self, hookpoints: Mapping[Location, str]) -> Iterator[Problem]:
        from audit.models.dry_run import check_cross_attention, check_hookpoint

        for place, path in hookpoints.items():
            try:
                if not chosen_by_method(place):
                    check_hookpoint(self.denoiser, path, self.predict, self._family.stream)
                # Where a module or the family has none, the check of the method or of its modules says so.
                known = self._family.cross_attention and path.split(".")[0] in self._family.blocks
                if CROSS_ATTENTION in place and known:
                    check_cross_attention(self.denoiser, path)
            except ValueError as error:
                yield Problem(place, str(error), reads=(_SOURCE,))

    def _unfit_sampling(self, sampling: SamplingConfig) -> Iterator[tuple[str, str]]:
        """Find settings of the sampling that this model does not have, and steps that cannot be taken."""
        from audit.models.schedulers.trial import replaced_scheduler, steps_of

        yield from self._family.unfit_sampling(self._configs, sampling)
        unknown = unfit_choice(sampling.scheduler, self._family.schedulers)
        if unknown is not None:
            yield "scheduler", unknown
        if unknown is not None or not self._family.denoiser:
            return
        try:
            scheduler = replaced_scheduler(self._published, sampling.scheduler)
        except UnfitModelError as error:
            yield "scheduler", str(error)
            return
        try:
            steps_of(scheduler, sampling.steps)
        except UnfitModelError as error:
            yield "steps", str(error)

    @cached_property
    def _published(self) -> Any:  # noqa: ANN401 - a scheduler, of a library that is imported late
        """The published scheduler, as the pipeline corrects it."""
        return self._family.build(self._directory, self._networks, self._configs.index).scheduler


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
