"""The part of a config that fixes what happens to a shard."""

from __future__ import annotations

from dataclasses import dataclass

from audit.config.mitigations import MitigationConfig
from audit.config.settings import AuditConfig
from audit.planning.plan import opinions_of
from audit.records.attributes import Attribute, SecondOpinion


@dataclass(frozen=True)
class ShardSettings:
    """The part of the config that fixes what happens to a shard.

    Attributes:
        seed: The audit's seed.
        batch: B, the shape of every batch; a shorter shard is padded to it.
        attributes: Attributes in the config's order.
        template: Of the prompts.
        steps: Denoising steps.
        mitigations: The arms beside the baseline.
        attribution: Whether the baseline is observed through the lens.
        opinions: What each further judge is asked about.
    """

    seed: int
    batch: int
    attributes: tuple[Attribute, ...]
    template: str
    steps: int
    mitigations: tuple[MitigationConfig, ...]
    attribution: bool
    opinions: tuple[SecondOpinion, ...] = ()

    @classmethod
    def of(cls, config: AuditConfig) -> ShardSettings:
        """Take the slice out of a config."""
        return cls(
            seed=config.seed,
            batch=config.sampling.batch,
            attributes=tuple(Attribute(name, tuple(groups)) for name, groups in config.attributes.items()),
            template=config.prompts.template,
            steps=config.sampling.steps,
            mitigations=tuple(config.mitigations),
            attribution=config.prompts.attribution is not False,
            opinions=opinions_of(config),
        )

    def groups(self, attribute: str) -> tuple[str, ...]:
        """Return the groups of an attribute."""
        return next(one.groups for one in self.attributes if one.name == attribute)
