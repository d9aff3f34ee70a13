"""What an audit's YAML file may say: closed, frozen, documented in place.

Every model forbids unknown keys and converts nothing silently (``steps: "25"`` is a mistake, not 25).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, Tag

from audit.config.fields import (
    DEFAULT_ATTRIBUTES,
    GATE_MEASURES,
    ZERO_SHOT,
    AllNoneOrNames,
    AutoOrCount,
    EnvironmentName,
    FileName,
    Fraction,
    GateMeasure,
    GateMeasureKind,
    GroupName,
    Groups,
    JudgeName,
    Names,
    Races,
    Section,
    Shares,
    Text,
    only_known_fields,
    quantity_of_ray,
    unreserved_alias,
    word_or_other,
)
from audit.config.mitigations import MitigationConfig
from audit.records.work import BASELINE


class ModelConfig(Section):
    """Which text-to-image model is audited."""

    source: Text = "calibration"
    """``calibration`` (the bundled model with planted bias), ``calibration-unconditional`` (one that reads no prompt),
    ``rendered`` (the renderer of both, with no network between), a directory of a diffusers pipeline (Stable Diffusion,
    or an unconditional DDPM or DDIM), or a hub id such as ``owner/name``."""
    revision: Text | None = None
    """Branch, tag or commit of a hub id; pin a commit for an audit that can be repeated."""
    variant: Text | None = None
    """Weight file variant, for example ``fp16``."""
    dtype: Literal["float32", "float16", "bfloat16"] = "float32"
    """Number format of the network's weights and activations."""
    world: Text | None = None
    """Another calibration world: the directory that ``make calibration OUT=`` wrote, or, for ``rendered``, a table of
    planted shares (YAML). Nothing means the bundled one."""


class TwoStageConfig(Section):
    """A pilot first, then as many images of each prompt as one share needs for its precision."""

    attribute: Text
    """The attribute whose share is to be that precise, in the baseline arm."""
    group: GroupName | None = None
    """The group whose share it is; nothing means the attribute's first. Of two groups either will do."""
    half_width: float = Field(0.1, gt=0, lt=0.5)
    """Half the length of the share's 95 % interval: 0.1 for ± 10 points."""
    max: int | None = Field(None, ge=2, le=1_000_000)
    """Most images of each prompt in each arm, however wide the interval then is; nothing means what it takes."""


class PromptsConfig(Section):
    """What the model is asked to draw."""

    template: Annotated[Text, AfterValidator(only_known_fields)] = "a face photo of {a} {occupation}"
    """Text of every prompt; ``{a}`` becomes "a" or "an" as the word after it asks."""
    occupations: AllNoneOrNames = "all"
    """Names, ``all`` those of the calibration world, or ``none`` for a model that reads no prompt."""
    images_per_prompt: int = Field(64, ge=1, le=1_000_000)
    """Images of each prompt in each arm; with ``two_stage`` those of the pilot."""
    two_stage: TwoStageConfig | None = None
    """Sample in two stages: ``images_per_prompt`` first, then as many more as each prompt needs."""
    attribution: bool | None = None
    """Also find which bias features carry each occupation's skew. Nothing means: where there is a lens anyway, because
    the audit edits the model or names a lens. ``true`` makes a lens for it where none fits yet, without any mitigation
    too; ``plan`` says how many images that takes. ``false`` never attributes."""


def _none_in_full(prompts: object) -> object:
    return {"occupations": "none"} if prompts == "none" else prompts


def _none_in_schema(schema: dict[str, Any]) -> None:
    schema["anyOf"] = [{"$ref": schema.pop("$ref")}, {"const": "none", "type": "string"}]


Prompts = Annotated[PromptsConfig, BeforeValidator(_none_in_full), Field(json_schema_extra=_none_in_schema)]


class SamplingConfig(Section):
    """How the model is sampled: DDIM, one noise seed per image."""

    steps: int = Field(25, ge=1, le=1000)
    """Denoising steps."""
    guidance: float = Field(3.0, ge=1, le=50)
    """Classifier-free guidance scale; 1 samples the conditional model itself. Without prompts it is 1."""
    batch: int = Field(32, ge=1, le=4096)
    """Images per shard, made in one batch of fixed shape (a shorter last shard is padded)."""


class JudgeConfig(Section):
    """Who names the perceived groups in an image."""

    source: Text = "bundled"
    """``bundled`` (the calibration model's own classifier) or the file of a FairFace checkpoint."""
    races: Races | None = None
    """Races that the FairFace checkpoint tells apart, 7 or 4: both published ones have 18 outputs, and their weights do
    not say which they are. Nothing means what the file name says (``res34_fair_align_multi_4_20190809.pt``)."""
    min_confidence: Fraction = 0.5
    """Images whose most probable group, audited or not, is less probable than this count as low confidence, not as a
    group."""
    confusion: Text | None = None
    """Confusion matrices of this judge, from ``difflens-audit calibrate``; the bundled judge brings its own."""


class SecondOpinionConfig(Section):
    """A further judge that looks at the same images; its answers decide nothing, its agreement is reported."""

    name: JudgeName
    """Name of the judge in tables and columns."""
    source: Text = ZERO_SHOT
    """``zero-shot`` (the CLIP model of ``quality.clip``, asked which group's caption fits best), ``bundled`` or the
    file of a FairFace checkpoint."""
    races: Races | None = None
    """Races that the FairFace checkpoint tells apart, as in ``judge.races``."""
    attributes: Names | None = None
    """Attributes that it is asked about; nothing means all audited ones."""
    min_confidence: Fraction = 0.0
    """It names no group in an image whose most probable group it finds less probable than this; 0 takes every best
    guess."""


class LensConfig(Section):
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
    """Held-out images per prompt, group and strength when strengths are searched."""
    side_effect_budget: float = Field(1.0, gt=0, le=100)
    """Images that may change in another attribute (or lose their face) for each image that an edit brings to its own
    group. The search takes a stronger edit only while it keeps within this; less keeps more of the images."""
    unseen: Literal["predict", "search"] = "predict"
    """Strengths of prompts that the lens was not made from: ``predict`` them from one U-Net call, where that was right
    about the lens's own prompts, and search the others; or ``search`` them all."""


class TargetFileConfig(Section):
    """Targets per prompt from a file, such as labour statistics."""

    csv: Text
    """A CSV file with the columns ``prompt,attribute,group,share`` and, if it likes, ``overlaps`` and ``source``."""
    categories: dict[Text, GroupName | None] | None = None
    """What the file's categories count for: a group, or nothing for one that is left out on purpose. Without it the
    file names the audit's own groups."""


def _kind_of_target(value: object) -> str:
    named = value if isinstance(value, dict) else {}
    return "file" if isinstance(value, TargetFileConfig) or "csv" in named else word_or_other(value)


TargetChoice = Annotated[
    Annotated[Literal["uniform"], Tag("word")]
    | Annotated[Shares, Tag("other")]
    | Annotated[TargetFileConfig, Tag("file")],
    Discriminator(_kind_of_target),
]


class QualityConfig(Section):
    """What is measured beside fairness: what an intervention costs."""

    clip: Text = "bundled"
    """CLIP model: ``bundled``, ``none``, an open_clip directory, ``hf-hub:OWNER/NAME``, or an open_clip model with the
    tag of its weights (``ViT-B-32:laion2b_s34b_b79k``); without a tag it would have random weights and is refused."""
    features: Text = "bundled"
    """Network whose features the Fréchet and kernel distances compare: ``bundled``, ``none`` or a file with the weights
    of torchvision's Inception v3."""
    reference: Text | None = None
    """Directory of reference images: the distance of every arm to them is measured, also the baseline's. Distances to
    the baseline arm are measured in any case. PNG, JPEG and WebP at any depth count, hidden files and folders do not;
    for the bundled features they are 64 × 64 pixels."""


class GateConfig(Section):
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
    correct: bool = True
    """Whether the judge's own errors are taken out of a figure of perceived groups, where its confusion matrix is known
    (``judge.confusion``; the bundled judge brings one). ``false`` judges the shares as they are perceived."""

    @property
    def kind(self) -> GateMeasureKind:
        """What the measure can be asked of."""
        return GATE_MEASURES[self.measure.partition(":")[0]]

    @property
    def group(self) -> str | None:
        """The group of ``share:<group>``, None for any other measure."""
        return self.measure.partition(":")[2] or None


class ReportConfig(Section):
    """What the HTML report holds."""

    images_per_prompt: int = Field(4, ge=0, le=64)
    """Image pairs shown per prompt: always the first ones, never the best."""
    keep: Literal["shown", "all"] = "shown"
    """Which images stay in the run directory."""
    max_mb: int = Field(20, ge=1, le=50)
    """Largest size of the report, in MB."""


class RegisteredModelConfig(Section):
    """A version in MLflow's model registry that stands for the audited weights."""

    name: Text
    """Registered model."""
    version: int = Field(ge=1)
    """Version that holds the audited weights; it gets the audit's verdict as tags."""
    alias: Annotated[str, AfterValidator(unreserved_alias)] | None = None
    """Alias that moves to this version where every gate passes, those that only warn included, and never otherwise."""


class TrackingConfig(Section):
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


class AlertsConfig(Section):
    """Who is told when a scheduled audit finds that a gate changed state, or that a figure did."""

    webhook: Text | None = None
    """Address that takes each alert as a signed POST of JSON; plain ``http`` only to this machine."""
    secret_env: EnvironmentName | None = None
    """Environment variable that holds the secret the webhook's posts are signed with."""


class WorkersConfig(Section):
    """Who does the work."""

    count: AutoOrCount = "auto"
    """Worker actors: a number, or ``auto`` for one per GPU, or per CPU core where there is none."""
    gpus_per_worker: Annotated[float, AfterValidator(quantity_of_ray)] = Field(1.0, ge=0, le=64)
    """GPUs that a worker holds, a share of one or whole ones, used only where there are GPUs; 0 leaves them to
    others."""
    threads: int = Field(1, ge=1, le=256)
    """CPU threads of each worker; fixed, so that the number of workers cannot change a result."""
    memory_gb: Annotated[float, Field(gt=0, le=65_536)] | None = None
    """Main memory that a worker reserves on its node, in GB; nothing reserves none."""
    accelerator_type: Text | None = None
    """Kind of GPU that a worker must have, as Ray names it (``H100``, ``A100-80G``); used only where there are GPUs."""
    resources: dict[Text, Annotated[float, Field(gt=0, le=1_000_000), AfterValidator(quantity_of_ray)]] = Field(
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


class AuditSections(Section):
    """Everything that an audit's file may say, whether or not its parts agree."""

    name: FileName
    """Name of the audit, used in file names."""
    seed: int = Field(0, ge=0, lt=2**63)
    """Every image's own noise derives from this seed, its prompt and its index."""
    model: ModelConfig = ModelConfig()
    prompts: Prompts = PromptsConfig()
    """``none`` is short for ``occupations: none``."""
    sampling: SamplingConfig = SamplingConfig()
    attributes: dict[GroupName, Groups] = Field(dict(DEFAULT_ATTRIBUTES), min_length=1)
    """Attributes and their groups: perceived presentation as the judge sees it, never identity."""
    targets: dict[GroupName, TargetChoice] = Field({})
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
