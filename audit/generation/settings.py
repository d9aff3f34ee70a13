"""Settings that determine the content of a shard."""

from __future__ import annotations

from dataclasses import dataclass

from audit.analyses.attribution import Attribution
from audit.config.mitigations.arms import ArmConfig
from audit.config.slices import MeasurementRequest
from audit.planning.plan import opinions_of, prompts_of_model
from audit.records.attributes import Attribute, SecondOpinion


@dataclass(frozen=True)
class ShardSettings:
    """Settings that determine the content of a shard.

    Attributes:
        seed: Seed of the audit.
        batch: B, the size of every batch; a shorter shard is padded to it.
        attributes: Attributes in the order of the config.
        template: Template of the prompts.
        mitigations: Interventions, each an arm besides the baseline.
        analyses: Names of the analyses that observe the baseline images.
        opinions: Further judges, each with the attributes that it judges.
        faces: Whether faces are found for the judge.
        prompts: Number of the audit's prompts, which decides how many images of each have their activations recorded.
    """

    seed: int
    batch: int
    attributes: tuple[Attribute, ...]
    template: str
    mitigations: tuple[ArmConfig, ...]
    analyses: tuple[str, ...]
    opinions: tuple[SecondOpinion, ...] = ()
    faces: bool = False
    prompts: int = 1

    @classmethod
    def of(cls, request: MeasurementRequest) -> ShardSettings:
        """Return the settings of a request."""
        return cls(
            seed=request.seed,
            batch=request.sampling.batch,
            attributes=tuple(Attribute(name, tuple(groups)) for name, groups in request.attributes.items()),
            template=request.prompts.template,
            mitigations=request.mitigations,
            analyses=() if request.prompts.attribution is False else (Attribution.name,),
            opinions=opinions_of(request.second_opinions, request.attributes),
            faces=request.judge.face_settings is not None,
            prompts=len(prompts_of_model(request.model, request.prompts)),
        )

    def groups(self, attribute: str) -> tuple[str, ...]:
        """Return the groups of an attribute."""
        return next(one.groups for one in self.attributes if one.name == attribute)
