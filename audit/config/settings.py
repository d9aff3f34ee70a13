"""What an audit's YAML file may say: closed, frozen, documented in place.

Every model forbids unknown keys and converts nothing silently (``steps: "25"`` is a mistake, not 25). Checks that need
more than one field live here too, so that a config built in code obeys the same rules as one read from a file; what
depends on the machine (paths, servers, the calibration world) is checked in :mod:`audit.readiness`. Positions in a file
are the business of :mod:`audit.config.file`.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, Literal, NamedTuple, Self
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    StringConstraints,
    Tag,
    ValidationError,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

from audit.config.problems import Location, Problem, listing, suggestion
from audit.config.shares import category_problems, share_problems
from audit.place import ObjectPath, PlaceError, place_of
from audit.records import BASELINE

ZERO_SHOT = "zero-shot"
"""Source of a further judge: the quality figures' CLIP model, asked which group's caption fits best."""

CLIP_SOURCES = "a directory, hf-hub:OWNER/NAME, or a model with the tag of its weights (ViT-B-32:laion2b_s34b_b79k)"
"""Where a CLIP model of the user's can come from, for messages."""

GENERATED_HERE = ("calibration", "rendered")
"""Model sources that come with this package and draw the occupations of a world."""

RAY_STEP = 0.0001
"""Smallest share of a resource that Ray counts."""

RESOURCES_OF_RAY: Mapping[str, str] = {
    "CPU": "set workers.threads instead",
    "GPU": "set workers.gpus_per_worker instead",
    "memory": "set workers.memory_gb instead",
    "object_store_memory": "remove it, workers keep nothing there",
}
"""Resources that Ray takes by options of their own → what to do; no custom resource can have these names."""

LOOPBACK = ("localhost", "127.0.0.1", "::1")
"""Hosts that plain http may go to."""

DEFAULT_ATTRIBUTES: Mapping[str, tuple[str, ...]] = {
    "gender": ("female", "male"),
    "age": ("young", "adult", "old"),
    "skin_tone": ("light", "medium", "tan", "dark"),
}
"""Attributes and groups as the bundled judge sees them, in the order of its probability vectors."""


def _mistake(message: str) -> PydanticCustomError:
    """Build a pydantic error whose message is already complete (braces in it are text)."""
    return PydanticCustomError("mistake", "{message}", {"message": message})


class GateMeasureKind(NamedTuple):
    """What a gate's measure can be asked of.

    Attributes:
        lowest: Smallest value that it can take.
        highest: Largest value.
        of_attribute: Whether it belongs to one attribute.
        of_prompt: Whether a single prompt has it, and not only the whole arm.
        edited: Whether it compares an arm with the baseline, so that the baseline has none.
    """

    lowest: float
    highest: float
    of_attribute: bool = False
    of_prompt: bool = False
    edited: bool = False


GATE_MEASURES: Mapping[str, GateMeasureKind] = {
    "fairness_discrepancy": GateMeasureKind(0, math.sqrt(2), of_attribute=True, of_prompt=True),
    "share": GateMeasureKind(0, 1, of_attribute=True, of_prompt=True),
    "share_difference": GateMeasureKind(-1, 1, of_attribute=True, of_prompt=True),
    "share_ratio": GateMeasureKind(0, 1, of_attribute=True, of_prompt=True),
    "four_fifths_ratio": GateMeasureKind(0, 1, of_attribute=True, of_prompt=True),
    "normalised_entropy": GateMeasureKind(0, 1, of_attribute=True, of_prompt=True),
    "total_variation": GateMeasureKind(0, 1, of_attribute=True, of_prompt=True),
    "kl_divergence": GateMeasureKind(0, math.inf, of_attribute=True, of_prompt=True),
    "jensen_shannon": GateMeasureKind(0, math.log(2), of_attribute=True, of_prompt=True),
    "effective_groups": GateMeasureKind(1, math.inf, of_attribute=True, of_prompt=True),
    "unclassified_share": GateMeasureKind(0, 1, of_prompt=True),
    "clip_i": GateMeasureKind(-1, 1, edited=True),
    "kid": GateMeasureKind(-math.inf, math.inf, edited=True),
    "prompt_shown": GateMeasureKind(0, 1),
    "attribute_shift": GateMeasureKind(0, 1, of_attribute=True, edited=True),
}
"""What a gate may limit; ``share`` is written with its group, ``share:female``."""

_MEASURES_IN_WORDS = tuple(name if name != "share" else "share:<group>" for name in GATE_MEASURES)


def _known_measure(measure: str) -> str:
    name, colon, group = measure.partition(":")
    if name not in GATE_MEASURES or bool(colon) != (name == "share") or (colon and not group):
        hint = suggestion(name, GATE_MEASURES)
        raise _mistake(f"expected a measure ({listing(_MEASURES_IN_WORDS)}), found {measure!r}{hint}")
    return measure


def _without_duplicates(names: tuple[str, ...]) -> tuple[str, ...]:
    repeated = sorted(name for name, count in Counter(names).items() if count > 1)
    if repeated:
        raise _mistake(f"expected each name once, found {listing(repeated)} more than once; remove the repetition")
    return names


def _only_known_fields(template: str) -> str:
    fields = re.findall(r"{[^{}]*}", template)
    unknown = [field for field in fields if field not in ("{a}", "{occupation}")]
    stray = re.sub(r"{[^{}]*}", "", template)
    if unknown or "{" in stray or "}" in stray or "{occupation}" not in fields:
        raise _mistake(f"expected a text with {{occupation}}, and {{a}} for its article, found {template!r}")
    return template


def _unreserved_alias(alias: str) -> str:
    """Refuse what MLflow's registry refuses, before any image is made."""
    if not re.fullmatch(r"[\w-]{1,255}", alias) or re.fullmatch(r"latest|v\d+", alias, re.IGNORECASE):
        expected = "expected letters, digits, '_' and '-', other than 'latest' and 'v' with a number"
        raise _mistake(f"{expected}, which MLflow keeps for itself, found {alias!r}")
    return alias


def _quantity_of_ray(quantity: float) -> float:
    """Refuse what Ray would end an audit for when it starts the workers."""
    if 0 < quantity < RAY_STEP or (quantity > 1 and quantity != int(quantity)):
        expected = f"expected a share of one, in steps of {RAY_STEP:g}, or a whole number of them"
        raise _mistake(f"{expected}, found {quantity:g}; Ray gives out nothing between")
    return quantity


def _low_below_high(window: tuple[float, float]) -> tuple[float, float]:
    if not window[0] < window[1]:
        raise _mistake(f"expected the start of the window below its end, found [{window[0]:g}, {window[1]:g}]")
    return window


# No control character, and none that reorders what a reader sees: such a text would lie in a report or on a terminal.
_ACTS = r"\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff"
_TEXT = rf"^[^\s{_ACTS}]([^{_ACTS}]*[^\s{_ACTS}])?$"
_FILE_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
_ENVIRONMENT_NAME = r"^[A-Za-z_][A-Za-z0-9_]*$"
_GROUP_NAME = r"^[A-Za-z0-9][A-Za-z0-9_+ -]*$"
_JUDGE_NAME = r"^[a-z0-9][a-z0-9-]*$"
PATTERNS_IN_WORDS = {
    _TEXT: "one line of text without space around it and without control characters",
    _FILE_NAME: "letters, digits, '.', '_' and '-', a letter or digit first",
    _ENVIRONMENT_NAME: "a name of letters, digits and '_', no digit first",
    _GROUP_NAME: "letters, digits, '_', '+', '-' and spaces, a letter or digit first",
    _JUDGE_NAME: "small letters, digits and '-', a letter or digit first",
}
"""What a text must look like, for messages."""

Text = Annotated[str, StringConstraints(min_length=1, max_length=500, pattern=_TEXT)]
FileName = Annotated[str, StringConstraints(min_length=1, max_length=60, pattern=_FILE_NAME)]
GroupName = Annotated[str, StringConstraints(min_length=1, max_length=40, pattern=_GROUP_NAME)]
JudgeName = Annotated[str, StringConstraints(min_length=1, max_length=30, pattern=_JUDGE_NAME)]
EnvironmentName = Annotated[str, StringConstraints(max_length=100, pattern=_ENVIRONMENT_NAME)]
Fraction = Annotated[float, Field(ge=0, le=1)]
# YAML has lists, not tuples: strictness is lifted for the container alone.
Names = Annotated[tuple[Text, ...], Field(min_length=1, strict=False), AfterValidator(_without_duplicates)]
Groups = Annotated[tuple[GroupName, ...], Field(min_length=2, strict=False), AfterValidator(_without_duplicates)]
Window = Annotated[tuple[Fraction, Fraction], Field(strict=False), AfterValidator(_low_below_high)]


GateMeasure = Annotated[
    Text,
    AfterValidator(_known_measure),
    Field(
        json_schema_extra={
            "anyOf": [{"enum": [name for name in GATE_MEASURES if name != "share"]}, {"pattern": "^share:."}]
        }
    ),
]


def names_clip_weights(name: str) -> bool:
    """Whether an open_clip name says which weights are meant: ``hf-hub:OWNER/NAME`` or ``MODEL:TAG``."""
    return re.fullmatch(r"hf-hub:[\w.-]+/[\w.-]+|(?!(hf-hub|local-dir):)[\w.-]+:[\w.-]+", name) is not None


def _word_or_other(value: object) -> str:
    """Tell the branches of ``"word" | other`` apart, so that a mistake is told of the one that was meant."""
    return "word" if isinstance(value, str) else "other"


AllOrNames = Annotated[
    Annotated[Literal["all"], Tag("word")] | Annotated[Names, Tag("other")], Discriminator(_word_or_other)
]
AutoOrCount = Annotated[
    Annotated[Literal["auto"], Tag("word")] | Annotated[int, Field(ge=1, le=100_000), Tag("other")],
    Discriminator(_word_or_other),
]


UNIONS_IN_WORDS = {
    "occupations": "'all' or a list of names",
    "count": "'auto' or a whole number",
    "targets": "'uniform', a share for each group, or csv: with a file",
    "target": "'uniform' or a share for each group",
}
"""What the fields of two kinds take, for messages."""


class _Section(BaseModel):
    """A closed, frozen part of the config; the text under a field is its documentation in the JSON Schema."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


class ModelConfig(_Section):
    """Which text-to-image model is audited."""

    source: Text = "calibration"
    """``calibration`` (the bundled model with planted bias), ``rendered`` (its renderer, with no network between), a
    directory of a diffusers Stable Diffusion pipeline, or a hub id such as ``owner/name``."""
    revision: Text | None = None
    """Branch, tag or commit of a hub id; pin a commit for an audit that can be repeated."""
    variant: Text | None = None
    """Weight file variant, for example ``fp16``."""
    dtype: Literal["float32", "float16", "bfloat16"] = "float32"
    """Number format of the network's weights and activations."""
    world: Text | None = None
    """Another calibration world: the directory that ``make calibration OUT=`` wrote, or, for ``rendered``, a table of
    planted shares (YAML). Nothing means the bundled one."""


class TwoStageConfig(_Section):
    """A pilot first, then as many images of each prompt as one share needs for its precision."""

    attribute: Text
    """The attribute whose share is to be that precise, in the baseline arm."""
    group: GroupName | None = None
    """The group whose share it is; nothing means the attribute's first. Of two groups either will do."""
    half_width: float = Field(0.1, gt=0, lt=0.5)
    """Half the length of the share's 95 % interval: 0.1 for ± 10 points."""
    max: int | None = Field(None, ge=2, le=1_000_000)
    """Most images of each prompt in each arm, however wide the interval then is; nothing means what it takes."""


class PromptsConfig(_Section):
    """What the model is asked to draw."""

    template: Annotated[Text, AfterValidator(_only_known_fields)] = "a face photo of {a} {occupation}"
    """Text of every prompt; ``{a}`` becomes "a" or "an" as the word after it asks."""
    occupations: AllOrNames = "all"
    """Names, or ``all`` those of the calibration world."""
    images_per_prompt: int = Field(64, ge=1, le=1_000_000)
    """Images of each prompt in each arm; with ``two_stage`` those of the pilot."""
    two_stage: TwoStageConfig | None = None
    """Sample in two stages: ``images_per_prompt`` first, then as many more as each prompt needs."""
    attribution: bool = True
    """Also find which bias features carry each occupation's skew."""


class SamplingConfig(_Section):
    """How the model is sampled: DDIM, one noise seed per image."""

    steps: int = Field(25, ge=1, le=1000)
    """Denoising steps."""
    guidance: float = Field(3.0, ge=1, le=50)
    """Classifier-free guidance scale; 1 samples the conditional model itself."""
    batch: int = Field(32, ge=1, le=4096)
    """Images per shard, made in one batch of fixed shape (a shorter last shard is padded)."""


class JudgeConfig(_Section):
    """Who names the perceived groups in an image."""

    source: Text = "bundled"
    """``bundled`` (the calibration model's own classifier) or the file of a FairFace checkpoint."""
    min_confidence: Fraction = 0.5
    """Images whose most probable group is less probable than this count as low confidence, not as a group."""
    confusion: Text | None = None
    """Confusion matrices of this judge, from ``difflens-audit calibrate``; the bundled judge brings its own."""


class SecondOpinionConfig(_Section):
    """A further judge that looks at the same images; its answers decide nothing, its agreement is reported."""

    name: JudgeName
    """Name of the judge in tables and columns."""
    source: Text = ZERO_SHOT
    """``zero-shot`` (the CLIP model of ``quality.clip``, asked which group's caption fits best), ``bundled`` or the
    file of a FairFace checkpoint."""
    attributes: Names | None = None
    """Attributes that it is asked about; nothing means all audited ones."""
    min_confidence: Fraction = 0.0
    """It names no group in an image whose most probable group it finds less probable than this; 0 takes every best
    guess."""


class LensConfig(_Section):
    """How the model is looked into: sparse autoencoder, group classifiers, bias features, strengths."""

    path: Text | None = None
    """A lens made before. Nothing means: the one that fits this model and these settings, made first where missing."""
    hookpoint: Text = "mid_block"
    """Module of the U-Net whose output is read and edited."""
    whole_map: bool = False
    """Encode the whole feature map as one vector instead of each position by itself."""
    expansion: int = Field(8, ge=1, le=256)
    """Latents per channel of the hookpoint."""
    k: int = Field(16, ge=1, le=4096)
    """Latents that are active at once."""
    trajectories: int = Field(384, ge=2, le=1_000_000)
    """Sampled images whose activations train the autoencoder."""
    sae_steps: int = Field(1500, ge=1, le=10_000_000)
    """Optimiser steps of the autoencoder."""
    features_per_group: int = Field(30, ge=1, le=4096)
    """Bias features kept for each group."""
    baseline: Literal["zero", "counterfactual"] = "zero"
    """Where attribution starts: at zero, or at another group's prompt with the same noise."""
    attributes: Names = tuple(DEFAULT_ATTRIBUTES)
    """Attributes to find features for; all audited ones unless said otherwise."""
    strength_images: int = Field(12, ge=1, le=100_000)
    """Held-out images per prompt, group and round when strengths are searched."""


Shares = dict[GroupName, Fraction]
UniformOrShares = Annotated[
    Annotated[Literal["uniform"], Tag("word")] | Annotated[Shares, Tag("other")], Discriminator(_word_or_other)
]


class TargetFileConfig(_Section):
    """Targets per prompt from a file, such as labour statistics."""

    csv: Text
    """A CSV file with the columns ``prompt,attribute,group,share`` and, if it likes, ``overlaps`` and ``source``."""
    categories: dict[Text, GroupName | None] | None = None
    """What the file's categories count for: a group, or nothing for one that is left out on purpose. Without it the
    file names the audit's own groups."""


def _kind_of_target(value: object) -> str:
    named = value if isinstance(value, dict) else {}
    return "file" if isinstance(value, TargetFileConfig) or "csv" in named else _word_or_other(value)


TargetChoice = Annotated[
    Annotated[Literal["uniform"], Tag("word")]
    | Annotated[Shares, Tag("other")]
    | Annotated[TargetFileConfig, Tag("file")],
    Discriminator(_kind_of_target),
]


class MitigationConfig(_Section):
    """One intervention; its name is the name of an arm."""

    name: FileName
    """Name of the arm, used in file names."""
    method: Literal["difflens"] = "difflens"
    """How the model is edited."""
    attribute: Text
    """The attribute to balance."""
    target: UniformOrShares = "uniform"
    """The distribution over groups that images are steered to; what they are measured against stands in ``targets``."""
    edit: Literal["add", "scale"] = "add"
    """Add to the bias features, or multiply them (which does nothing where a feature does not fire)."""
    strength: Annotated[float, Field(ge=0, le=1000)] | None = None
    """One strength for all prompts; nothing means per prompt, as found by the lens."""
    window: Window = (0.0, 1.0)
    """Part of the denoising steps that is edited, as fractions from first to last."""
    reverse_step: Literal["symmetric", "asymmetric"] = "symmetric"
    """Whether the edit acts on both terms of the DDIM step or on the predicted image alone (Asyrp)."""


class QualityConfig(_Section):
    """What is measured beside fairness: what an intervention costs."""

    clip: Text = "bundled"
    """CLIP model: ``bundled``, ``none``, an open_clip directory, ``hf-hub:OWNER/NAME``, or an open_clip model with the
    tag of its weights (``ViT-B-32:laion2b_s34b_b79k``); without a tag it would have random weights and is refused."""
    features: Text = "bundled"
    """Network whose features the Fréchet and kernel distances compare: ``bundled``, ``none`` or a file with the weights
    of torchvision's Inception v3."""
    reference: Text | None = None
    """Directory of reference images: the distance of every arm to them is measured, also the baseline's. Distances to
    the baseline arm are measured in any case."""


class GateConfig(_Section):
    """One limit on one figure: it passes or fails where the whole interval says so, and is inconclusive otherwise."""

    name: FileName
    """Name of the gate in verdicts and reports."""
    measure: GateMeasure
    """What is limited: ``fairness_discrepancy``, ``share:<group>``, ``share_difference`` (of two groups the first share
    minus the second, of more the largest minus the smallest), ``share_ratio`` (smallest share by largest),
    ``four_fifths_ratio``, ``normalised_entropy``, ``total_variation``, ``kl_divergence``, ``jensen_shannon``,
    ``effective_groups``, ``unclassified_share``, ``clip_i``, ``kid``, ``prompt_shown`` or ``attribute_shift``."""
    attribute: Text | None = None
    """The attribute concerned; only the fairness measures and ``attribute_shift`` have one."""
    prompt: Text = "overall"
    """Id of a prompt (``police-officer``), ``each`` for a verdict per prompt, or ``overall`` for the whole arm."""
    arm: Text = BASELINE
    """The arm that is judged: ``baseline`` or the name of a mitigation."""
    max: float | None = None
    """The figure may be this large."""
    min: float | None = None
    """The figure must be this large. A gate has either ``max`` or ``min``."""
    level: Literal["fail", "warn"] = "fail"
    """Whether the gate can fail the audit or only warn."""

    @property
    def kind(self) -> GateMeasureKind:
        """What the measure can be asked of."""
        return GATE_MEASURES[self.measure.partition(":")[0]]

    @property
    def group(self) -> str | None:
        """The group of ``share:<group>``, None for any other measure."""
        return self.measure.partition(":")[2] or None


class ReportConfig(_Section):
    """What the HTML report holds."""

    images_per_prompt: int = Field(4, ge=0, le=64)
    """Image pairs shown per prompt: always the first ones, never the best."""
    keep: Literal["shown", "all"] = "shown"
    """Which images stay in the run directory."""
    max_mb: int = Field(20, ge=1, le=50)
    """Largest size of the report, in MB."""


class RegisteredModelConfig(_Section):
    """A version in MLflow's model registry that stands for the audited weights."""

    name: Text
    """Registered model."""
    version: int = Field(ge=1)
    """Version that holds the audited weights; it gets the audit's verdict as tags."""
    alias: Annotated[str, AfterValidator(_unreserved_alias)] | None = None
    """Alias that moves to this version where every gate passes, those that only warn included, and never otherwise."""


class TrackingConfig(_Section):
    """Where MLflow keeps the results."""

    enabled: bool = True
    """Whether the run is logged to MLflow at all."""
    uri: Text | None = None
    """Tracking server or database; nothing means ``sqlite:///<output>/mlflow.db``."""
    experiment: Text = "difflens-audit"
    """MLflow experiment."""
    timeout_seconds: float = Field(120.0, ge=1, le=3600)
    """Longest time that the end of an audit waits for MLflow; what is left then is for ``difflens-audit sync``."""
    registered_model: RegisteredModelConfig | None = None
    """A registered model version that the audit's verdict is written on."""


class AlertsConfig(_Section):
    """Who is told when a scheduled audit finds that a gate changed state, or that a figure did."""

    webhook: Text | None = None
    """Address that takes each alert as a signed POST of JSON; plain ``http`` only to this machine."""
    secret_env: EnvironmentName | None = None
    """Environment variable that holds the secret the webhook's posts are signed with."""


class WorkersConfig(_Section):
    """Who does the work."""

    count: AutoOrCount = "auto"
    """Worker actors: a number, or ``auto`` for one per GPU, or per CPU core where there is none."""
    gpus_per_worker: Annotated[float, AfterValidator(_quantity_of_ray)] = Field(1.0, ge=0, le=64)
    """GPUs that a worker holds, a share of one or whole ones, used only where there are GPUs; 0 leaves them to
    others."""
    threads: int = Field(1, ge=1, le=256)
    """CPU threads of each worker; fixed, so that the number of workers cannot change a result."""
    memory_gb: Annotated[float, Field(gt=0, le=65_536)] | None = None
    """Main memory that a worker reserves on its node, in GB; nothing reserves none."""
    accelerator_type: Text | None = None
    """Kind of GPU that a worker must have, as Ray names it (``H100``, ``A100-80G``); used only where there are GPUs."""
    resources: dict[Text, Annotated[float, Field(gt=0, le=1_000_000), AfterValidator(_quantity_of_ray)]] = Field(
        default_factory=dict
    )
    """Custom resources of the cluster that each worker takes, by name: a share of one, or whole ones. CPUs, GPUs and
    memory have keys of their own."""
    images_per_worker: Annotated[int, Field(ge=1)] | None = None
    """With ``count: auto``, start no more workers than give each this many images. On GPUs, where a worker takes about
    20 seconds to load, 1500 keeps loading below a twentieth of the work; nothing starts one per GPU or core."""
    error_budget: Fraction = 0.05
    """Share of the shards that may fail before nothing new is begun; an image that could not be made counts by its
    share of its shard. Beyond it the audit ends as incomplete, with everything finished kept."""
    attempts: int = Field(3, ge=1, le=100)
    """Tries of a shard whose worker was lost, ran out of memory or disk, or did not answer in time."""
    deadline_factor: float = Field(10.0, ge=2, le=10_000)
    """A worker is killed when a shard takes it this many times the running median, and twice that at each new try."""
    deadline_seconds: float = Field(60.0, gt=0, le=604_800)
    """But never before so many seconds."""


class AuditConfig(_Section):
    """One audit: a model, its prompts, what is perceived in the images, and what is tried against the bias."""

    name: FileName
    """Name of the audit, used in file names."""
    seed: int = Field(0, ge=0, lt=2**63)
    """Every image's own noise derives from this seed, its prompt and its index."""
    model: ModelConfig = ModelConfig()
    prompts: PromptsConfig = PromptsConfig()
    sampling: SamplingConfig = SamplingConfig()
    attributes: dict[GroupName, Groups] = Field(dict(DEFAULT_ATTRIBUTES), min_length=1)
    """Attributes and their groups: perceived presentation as the judge sees it, never identity."""
    targets: dict[GroupName, TargetChoice] = {}
    """The distribution over groups that counts as fair, by attribute: ``uniform`` unless it says otherwise."""
    judge: JudgeConfig = JudgeConfig()
    second_opinions: Annotated[tuple[SecondOpinionConfig, ...], Field(strict=False)] = (
        SecondOpinionConfig(name="clip"),
    )
    """Further judges, to see whether the findings hang on one of them. Zero-shot CLIP costs next to nothing, since the
    images are embedded for the quality figures anyway; where ``quality.clip`` is ``none`` there is none by default."""
    lens: LensConfig = LensConfig()
    mitigations: Annotated[tuple[MitigationConfig, ...], Field(strict=False)] = ()
    """Interventions to try, each an arm of its own beside the baseline."""
    quality: QualityConfig = QualityConfig()
    gates: Annotated[tuple[GateConfig, ...], Field(strict=False)] = ()
    """Limits that the audit must keep; without any, it reports figures and no verdict."""
    report: ReportConfig = ReportConfig()
    tracking: TrackingConfig = TrackingConfig()
    alerts: AlertsConfig = AlertsConfig()
    workers: WorkersConfig = WorkersConfig()
    output: Text = "runs"
    """Directory in which each run gets a directory of its own, or an address in an object store (``s3://bucket/runs``;
    ``gs``, ``abfs``). Credentials come from the environment."""

    @model_validator(mode="before")
    @classmethod
    def _lens_follows_attributes(cls, data: Any) -> Any:  # noqa: ANN401 (anything can stand in a file)
        """Let ``lens.attributes`` default to the audited attributes where the config names its own."""
        if not isinstance(data, dict) or not isinstance(data.get("attributes"), dict) or not data["attributes"]:
            return data
        lens = data.get("lens", {})
        if not isinstance(lens, dict) or "attributes" in lens:
            return data
        return data | {"lens": lens | {"attributes": tuple(data["attributes"])}}

    @model_validator(mode="before")
    @classmethod
    def _zero_shot_follows_clip(cls, data: Any) -> Any:  # noqa: ANN401 (anything can stand in a file)
        """Let ``second_opinions`` default to none where no CLIP model is loaded."""
        if not isinstance(data, dict) or "second_opinions" in data:
            return data
        quality = data.get("quality")
        clip = quality.get("clip") if isinstance(quality, dict) else getattr(quality, "clip", None)
        return data | {"second_opinions": ()} if clip == "none" else data

    @model_validator(mode="after")
    def _fields_agree(self) -> Self:
        problems = tuple(_disagreements(self))
        if problems:
            raise ValidationError.from_exception_data(type(self).__name__, _line_errors(problems))
        return self

    @property
    def tracking_uri(self) -> str:
        """The MLflow URI in force: the configured one, or a SQLite file under ``output``."""
        return self.tracking.uri or f"sqlite:///{self.output.rstrip('/')}/mlflow.db"


def _line_errors(problems: Sequence[Problem]) -> list[InitErrorDetails]:
    return [
        InitErrorDetails(
            type=PydanticCustomError("mistake", "{message}", {"message": problem.message, "reads": problem.reads}),
            loc=problem.location,
            input=None,
        )
        for problem in problems
    ]


def _disagreements(config: AuditConfig) -> Iterator[Problem]:
    """Find what single fields cannot know: names that must exist elsewhere, shapes that must fit each other."""
    yield from _two_stage_disagreements(config)
    yield from _mistaken_targets(config)
    yield from _unknown_lens_attributes(config)
    yield from _unusable_arm_names(config)
    for index, mitigation in enumerate(config.mitigations):
        yield from _mitigation_disagreements(config, ("mitigations", index), mitigation)
    yield from _opinion_disagreements(config)
    yield from _resources_of_ray(config.workers)
    yield from _webhook(config.alerts)
    yield from _output(config)
    yield from _repeated_gate_names(config)
    for index, gate in enumerate(config.gates):
        at: Location = ("gates", index)
        yield from _gate_limit(at, gate)
        yield from _gate_attribute(config, at, gate)
        yield from _gate_place(config, at, gate)


def _two_stage_disagreements(config: AuditConfig) -> Iterator[Problem]:
    stages, at = config.prompts.two_stage, ("prompts", "two_stage")
    if stages is None:
        return
    known, pilot = tuple(config.attributes), config.prompts.images_per_prompt
    reads: tuple[Location, ...] = (("attributes",), ("prompts", "images_per_prompt"))
    if stages.attribute not in known:
        hint = suggestion(stages.attribute, known)
        message = f"expected an audited attribute ({listing(known)}), found {stages.attribute!r}{hint}"
        yield Problem((*at, "attribute"), message, reads)
    elif stages.group is not None and stages.group not in config.attributes[stages.attribute]:
        groups = config.attributes[stages.attribute]
        message = f"expected a group of {stages.attribute} ({listing(groups)}), found {stages.group!r}"
        yield Problem((*at, "group"), message + suggestion(stages.group, groups), (*reads, (*at, "attribute")))
    if pilot < 2:
        message = f"expected a pilot of at least 2 images per prompt, found {pilot}; raise it"
        yield Problem(("prompts", "images_per_prompt"), message, (at,))
    elif stages.max is not None and stages.max < pilot:
        message = f"expected at least the {pilot} images of the pilot, found {stages.max}; raise it"
        yield Problem((*at, "max"), message, reads)


def _mistaken_targets(config: AuditConfig) -> Iterator[Problem]:
    known = tuple(config.attributes)
    for name, choice in config.targets.items():
        at: Location = ("targets", name)
        if name not in known:
            message = f"expected an audited attribute ({listing(known)}), found {name!r}{suggestion(name, known)}"
            yield Problem(at, message, reads=(("attributes",),))
        elif isinstance(choice, dict):
            yield from _unless_in_doubt(share_problems(at, choice, config.attributes[name]))
        elif isinstance(choice, TargetFileConfig) and choice.categories is not None:
            found = category_problems((*at, "categories"), choice.categories, config.attributes[name])
            yield from _unless_in_doubt(found)


def _unless_in_doubt(problems: Iterator[Problem]) -> Iterator[Problem]:
    """Say what was looked at: where the attributes, or shares beside these, are mistaken too, it is no news."""
    return (replace(problem, reads=(("attributes",), problem.location)) for problem in problems)


def _unknown_lens_attributes(config: AuditConfig) -> Iterator[Problem]:
    if "attributes" not in config.lens.model_fields_set:
        return
    known = tuple(config.attributes)
    for index, name in enumerate(config.lens.attributes):
        if name not in known:
            message = f"expected an audited attribute ({listing(known)}), found {name!r}{suggestion(name, known)}"
            yield Problem(("lens", "attributes", index), message, reads=(("attributes",),))


def _unusable_arm_names(config: AuditConfig) -> Iterator[Problem]:
    seen: set[str] = set()
    for index, mitigation in enumerate(config.mitigations):
        location: Location = ("mitigations", index, "name")
        if mitigation.name.lower() == BASELINE:
            yield Problem(location, f"expected a name of its own, found {BASELINE!r}, the arm without intervention")
        elif mitigation.name.lower() in seen:  # file systems may ignore case
            yield Problem(location, f"expected a name of its own, found {mitigation.name!r} again; rename one")
        seen.add(mitigation.name.lower())


def _as_searched(mitigation: MitigationConfig) -> bool:
    """Whether an edit is of the kind whose strengths a lens holds."""
    return (mitigation.edit, mitigation.reverse_step, mitigation.window) == ("add", "symmetric", (0.0, 1.0))


def _mitigation_disagreements(config: AuditConfig, at: Location, mitigation: MitigationConfig) -> Iterator[Problem]:
    known, name = tuple(config.attributes), mitigation.attribute
    if name not in known:
        message = f"expected an audited attribute ({listing(known)}), found {name!r}{suggestion(name, known)}"
        yield Problem((*at, "attribute"), message, reads=(("attributes",),))
    elif name not in config.lens.attributes and set(config.lens.attributes) <= set(known):
        message = f"expected an attribute of the lens ({listing(config.lens.attributes)}), found {name!r}; add it there"
        yield Problem((*at, "attribute"), message, reads=(("attributes",), ("lens", "attributes")))
    elif isinstance(mitigation.target, dict):
        yield from _unless_in_doubt(share_problems((*at, "target"), mitigation.target, config.attributes[name]))
    if mitigation.strength is None and not _as_searched(mitigation):
        message = (
            "expected a strength for this edit, found none; a lens holds strengths for edit: add, reverse_step:"
            " symmetric and the whole window alone"
        )
        yield Problem((*at, "name"), message)
    if config.model.source == "rendered":
        message = "expected no mitigation for 'rendered', which has no network to edit, found one; remove it"
        yield Problem(at, message, reads=(("model", "source"),))


def _opinion_disagreements(config: AuditConfig) -> Iterator[Problem]:
    known, names = tuple(config.attributes), [opinion.name for opinion in config.second_opinions]
    for index, opinion in enumerate(config.second_opinions):
        at: Location = ("second_opinions", index)
        if opinion.name in names[:index]:
            message = f"expected a name of its own, found {opinion.name!r} again; rename one"
            yield Problem((*at, "name"), message)
        if opinion.source == config.judge.source:
            message = f"expected another judge than {opinion.source!r}, which decides already; an echo is no opinion"
            yield Problem((*at, "source"), message, reads=(("judge", "source"),))
        if opinion.source == ZERO_SHOT and config.quality.clip == "none":
            message = "expected a CLIP model for 'zero-shot', found quality.clip: none; name one, or remove this judge"
            yield Problem((*at, "name"), message, reads=(("quality", "clip"),))
        for position, name in enumerate(opinion.attributes or ()):
            if name not in known:
                message = f"expected an audited attribute ({listing(known)}), found {name!r}{suggestion(name, known)}"
                yield Problem((*at, "attributes", position), message, reads=(("attributes",),))


def _resources_of_ray(workers: WorkersConfig) -> Iterator[Problem]:
    for name, remedy in RESOURCES_OF_RAY.items():
        if name in workers.resources:
            message = f"expected a custom resource of the cluster, found {name!r}, which Ray counts itself; {remedy}"
            yield Problem(("workers", "resources", name), message)


def _webhook(alerts: AlertsConfig) -> Iterator[Problem]:
    if alerts.webhook is None:
        return
    at: Location = ("alerts", "webhook")
    try:
        parts = urlsplit(alerts.webhook)
        host, scheme, secret = parts.hostname, parts.scheme, parts.username or parts.password
    except ValueError:
        host, scheme, secret = None, "", None
    if not host or not (scheme == "https" or (scheme == "http" and host in LOOPBACK)):
        message = "expected an https address (http only to this machine), found another; correct it"
        yield Problem(at, message)
    elif secret:
        yield Problem(at, "expected an address without user name and password, found one with them; sign by secret_env")
    if alerts.secret_env is None:
        yield Problem(at, "expected secret_env beside the webhook, found none; an alert that anyone can forge is none")


def _output(config: AuditConfig) -> Iterator[Problem]:
    try:
        place = place_of(config.output)
    except PlaceError as error:
        yield Problem(("output",), str(error))
        return
    if isinstance(place, ObjectPath) and config.tracking.enabled and config.tracking.uri is None:
        message = (
            f"expected a tracking server or database beside results in {place}, where no database file can lie, found "
            "none; set tracking.uri, or tracking.enabled: false"
        )
        yield Problem(("tracking", "uri"), message, reads=(("output",), ("tracking", "enabled")))


def _repeated_gate_names(config: AuditConfig) -> Iterator[Problem]:
    seen: set[str] = set()
    for index, gate in enumerate(config.gates):
        if gate.name in seen:
            message = f"expected a name of its own, found {gate.name!r} again; rename one"
            yield Problem(("gates", index, "name"), message)
        seen.add(gate.name)


def _gate_limit(at: Location, gate: GateConfig) -> Iterator[Problem]:
    limits = {side: limit for side in ("max", "min") if (limit := getattr(gate, side)) is not None}
    if len(limits) != 1:
        found = "both" if limits else "none"
        yield Problem((*at, "name"), f"expected one limit, max or min, found {found}; a gate needs exactly one")
    for side, limit in limits.items():
        if not gate.kind.lowest <= limit <= gate.kind.highest:
            span = f"{gate.kind.lowest:g} to {gate.kind.highest:.4g}"
            yield Problem((*at, side), f"expected a limit that {gate.measure} can reach ({span}), found {limit:g}")


def _gate_attribute(config: AuditConfig, at: Location, gate: GateConfig) -> Iterator[Problem]:
    known, name = tuple(config.attributes), gate.attribute
    reads: tuple[Location, ...] = (("attributes",), (*at, "measure"))
    if not gate.kind.of_attribute:
        if name is not None:
            message = f"expected no attribute for {gate.measure}, which has none, found {name!r}; remove it"
            yield Problem((*at, "attribute"), message, reads)
    elif name is None:
        message = f"expected an audited attribute ({listing(known)}) for {gate.measure}, found none; add it"
        yield Problem((*at, "measure"), message, reads)
    elif name not in known:
        message = f"expected an audited attribute ({listing(known)}), found {name!r}{suggestion(name, known)}"
        yield Problem((*at, "attribute"), message, reads)
    elif gate.group is not None and gate.group not in config.attributes[name]:
        groups = config.attributes[name]
        message = f"expected a group of {name} ({listing(groups)}), found {gate.group!r}"
        yield Problem((*at, "measure"), message + suggestion(gate.group, groups), reads)


def _gate_place(config: AuditConfig, at: Location, gate: GateConfig) -> Iterator[Problem]:
    arms = (BASELINE, *(mitigation.name for mitigation in config.mitigations))
    if gate.arm not in arms:
        message = f"expected an arm ({listing(arms)}), found {gate.arm!r}{suggestion(gate.arm, arms)}"
        yield Problem((*at, "arm"), message, reads=(("mitigations",),))
    elif gate.kind.edited and gate.arm == BASELINE:
        message = f"expected the name of a mitigation for {gate.measure}, which compares an arm with the baseline"
        yield Problem((*at, "arm"), f"{message}, found {BASELINE!r}; name one", reads=((*at, "measure"),))
    if not gate.kind.of_prompt and gate.prompt != "overall":
        message = f"expected 'overall' for {gate.measure}, which only a whole arm has, found {gate.prompt!r}; remove it"
        yield Problem((*at, "prompt"), message, reads=((*at, "measure"),))
    network = {"clip_i": "clip", "kid": "features"}.get(gate.measure)
    if network is not None and getattr(config.quality, network) == "none":
        message = f"expected a measure that is made, found {gate.measure!r} though quality.{network} is 'none'"
        yield Problem((*at, "measure"), message, reads=(("quality", network),))
