"""Slices of a config: the sections that one part of an audit uses, made once at the edge and then passed on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from audit.config.mitigations.arms import ArmConfig, sections_of
from audit.config.mitigations.registry import MitigationConfig
from audit.config.optional.compositions import CompositionsConfig
from audit.config.optional.concepts import ConceptsConfig
from audit.config.optional.exploration import ExploreConfig
from audit.config.sections import (
    JudgeConfig,
    LensConfig,
    ModelConfig,
    PromptsConfig,
    QualityConfig,
    SamplingConfig,
    SecondOpinionConfig,
    TargetChoice,
    with_clip,
)
from audit.config.settings import AuditConfig

Attributes = Mapping[str, tuple[str, ...]]
"""Attribute → its groups, in the order of the config."""


@dataclass(frozen=True)
class MeasurementRequest:
    """How the images of an audit are made, and what is measured in them.

    Attributes:
        seed: Seed of the audit; the noise of every image derives from it.
        model: Model that makes the images.
        prompts: Prompts of the images.
        sampling: How the model is sampled.
        hookpoint: Module whose output the lens reads.
        attributes: Audited attributes.
        judge: Judge that decides.
        second_opinions: Further judges.
        quality: Networks that measure quality.
        mitigations: Interventions, each with an arm of its own.
    """

    seed: int
    model: ModelConfig
    prompts: PromptsConfig
    sampling: SamplingConfig
    hookpoint: str
    attributes: Attributes
    judge: JudgeConfig
    second_opinions: tuple[SecondOpinionConfig, ...]
    quality: QualityConfig
    mitigations: tuple[ArmConfig, ...]

    @classmethod
    def of(cls, config: AuditConfig) -> MeasurementRequest:
        """Take the slice out of a config."""
        return cls(
            seed=config.seed,
            model=config.model,
            prompts=config.prompts,
            sampling=config.sampling,
            hookpoint=config.lens.hookpoint,
            attributes=config.attributes,
            judge=with_clip(config.judge, config.quality),
            second_opinions=config.second_opinions,
            quality=config.quality,
            mitigations=config.mitigations,
        )

    @property
    def judges(self) -> tuple[JudgeConfig | SecondOpinionConfig, ...]:
        """All judges, the one that decides first."""
        return (self.judge, *self.second_opinions)

    @property
    def sections(self) -> tuple[MitigationConfig, ...]:
        """The interventions of all arms, each of which steers one attribute."""
        return sections_of(self.mitigations)


@dataclass(frozen=True)
class DissectionRequest:
    """What a lens is made from, and with which judge.

    Attributes:
        model: Model that is dissected.
        prompts: Prompts of the audit; a calibration model is dissected with all occupations of its world.
        sampling: How the model is sampled.
        lens: Settings of the lens.
        attributes: Audited attributes; ``lens.attributes`` names those that the lens knows.
        judge: Judge that labels the images.
    """

    model: ModelConfig
    prompts: PromptsConfig
    sampling: SamplingConfig
    lens: LensConfig
    attributes: Attributes
    judge: JudgeConfig

    @classmethod
    def of(cls, config: AuditConfig) -> DissectionRequest:
        """Take the slice out of a config."""
        judge = with_clip(config.judge, config.quality)
        return cls(config.model, config.prompts, config.sampling, config.lens, config.attributes, judge)

    def of_each_lens(self) -> tuple[DissectionRequest, ...]:
        """Return the request of each lens: this one's, then those of its variants."""
        return tuple(replace(self, lens=lens) for lens in self.lens.with_variants())


@dataclass(frozen=True)
class CommandsRequest:
    """What ``compose``, ``concepts`` and ``explore`` are asked for, beside an audit.

    Attributes:
        model: Audited model.
        prompts: Prompts of the audit.
        sampling: How the model is sampled.
        attributes: Audited attributes.
        judge: Judge that decides; persons are found by the same faces.
        compositions: What ``compose`` samples.
        concepts: What ``concepts`` measures.
        explore: What ``explore`` reads.
        written: Sections that the config has.
    """

    model: ModelConfig
    prompts: PromptsConfig
    sampling: SamplingConfig
    attributes: Attributes
    judge: JudgeConfig
    compositions: CompositionsConfig
    concepts: ConceptsConfig
    explore: ExploreConfig
    written: frozenset[str]

    @classmethod
    def of(cls, config: AuditConfig) -> CommandsRequest:
        """Take the slice out of a config."""
        return cls(
            model=config.model,
            prompts=config.prompts,
            sampling=config.sampling,
            attributes=config.attributes,
            judge=config.judge,
            compositions=config.compositions,
            concepts=config.concepts,
            explore=config.explore,
            written=frozenset(config.model_fields_set),
        )


@dataclass(frozen=True)
class FilesRequest:
    """The sections of a config that name files, directories and models on the hub.

    Attributes:
        model: Audited model.
        judge: Judge that decides.
        second_opinions: Further judges.
        quality: Networks that measure quality.
        lens: Settings of the lens, which may exist already.
        targets: Attribute → target, which may be a file.
    """

    model: ModelConfig
    judge: JudgeConfig
    second_opinions: tuple[SecondOpinionConfig, ...]
    quality: QualityConfig
    lens: LensConfig
    targets: Mapping[str, TargetChoice]

    @classmethod
    def of(cls, config: AuditConfig) -> FilesRequest:
        """Take the slice out of a config."""
        return cls(config.model, config.judge, config.second_opinions, config.quality, config.lens, config.targets)
