"""Every registered method: neutral is identity, the model is restored, and an image depends on nothing but its key.

To add a method, add one line to ``CASES``.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache, partial

import pytest
import torch
from pydantic import TypeAdapter
from safetensors.torch import load_file

from audit.config.mitigations.registry import MitigationConfig
from audit.config.sections import ModelConfig, SamplingConfig
from audit.mitigate.assignment import assigned_groups
from audit.mitigate.method import Batch
from audit.mitigate.registry import METHODS
from audit.models.generator import load_generator
from audit.models.intervention import Intervention
from audit.models.replay import SharedSteps
from audit.planning.fits import TENSORS_FILE
from audit.planning.plan import steps_of_arms
from audit.records.work import ImageKey
from benchmarks.tiny_families import FAMILIES
from tests.mitigate.fitting import (
    FIRST_ROUND,
    PROMPTS,
    TEMPLATE,
    BalancedBySecondRound,
    ByBrightness,
    fit_here,
    random_lens,
)
from tests.mitigate.trained.fits import SHORT

STEPS, SEEDS = 3, [5, 6, 7, 8]
TWO, THREE = ("female", "male"), ("female", "male", "old")


@dataclass(frozen=True)
class Case:
    """What the tests need to know of a method.

    Attributes:
        settings: Keys of its section beside name and attribute; strong enough to change a picture.
        neutral: Keys that make it change nothing; None if no setting does, and then it changes only what is read.
        models: Families on which it is tested, besides Stable Diffusion.
        judge: Makes the judge of its fit from the groups.
    """

    settings: dict = field(default_factory=dict)
    neutral: dict | None = None
    models: tuple[str, ...] = ()
    judge: Callable = ByBrightness


CASES = {
    "prompt": Case(models=("sd3", "flux", "pixart")),
    "mean_difference": Case({"images_per_group": 2, "strength": 3.0, "project": 0.9}, {"strength": 0.0}, ("flux",)),
    "difflens": Case({"strength": 3.0, "project": 0.9}, {"strength": 0.0}),
    "feature_control": Case(
        {"strength": 3.0, "features_per_group": 2, "images_per_group": 2, "equal_norm": False, "project": 0.9},
        {"strength": 0.0},
    ),
    "gated_cross_attention": Case(
        {"push": 3.0, "images_per_group": 2, "gate": False}, {"strength": 0.0}, ("sdxl", "pixart", "sana")
    ),
    "fair_pca": Case({"push": 3.0}, {"strength": 0.0}, ("sdxl", "sd3", "flux", "pixart")),
    "fair_diffusion": Case({"scale": 30.0, "warm_up": 1, "threshold": 0.5}, {"scale": 0.0}, ("sdxl", "sd3", "pixart")),
    "uce": Case(
        {"rounds": 6, "images_per_prompt": FIRST_ROUND, "gain": 5.0, "tolerance": 0.0},
        {"strength": 0.0},
        ("sdxl", "lcm", "pixart", "sana"),
        BalancedBySecondRound,
    ),
    "latent_direction": Case(
        SHORT["latent_direction"] | {"strength": 1000.0},
        {"strength": 0.0},
        ("sdxl", "lcm", "pixart", "sd3", "sana", "flux"),
    ),
    "latent_editing": Case(
        SHORT["latent_editing"] | {"strength": 1000.0}, {"strength": 0.0}, ("pixart", "sd3", "sana", "flux")
    ),
    "entanglement_free_attention": Case(
        SHORT["entanglement_free_attention"] | {"strength": 300.0}, {"strength": 0.0}, ("sdxl", "lcm", "pixart", "sana")
    ),
    "finetuning": Case(
        SHORT["finetuning"] | {"strength": 30.0}, {"strength": 0.0}, ("sdxl", "pixart", "sd3", "sana", "flux")
    ),
    "h_distribution": Case(SHORT["h_distribution"] | {"strength": 1e5}, {"strength": 0.0}, ("sd3", "pixart")),
}
PROJECTED = [method for method, case in CASES.items() if "project" in case.settings]
MODELS = {
    "sd": (SamplingConfig(steps=STEPS, guidance=2.0, scheduler="DDIMScheduler"), "mid_block"),
    "sdxl": (SamplingConfig(steps=STEPS, guidance=2.0), "mid_block"),
    "lcm": (SamplingConfig(steps=STEPS, guidance=2.0), "mid_block"),
    "sd3": (SamplingConfig(steps=STEPS, guidance=2.0), "transformer_blocks.0"),
    "flux": (SamplingConfig(steps=STEPS, guidance=2.0, height=32, width=32), "transformer_blocks.0"),
    "pixart": (
        SamplingConfig(steps=STEPS, guidance=2.0, height=64, width=64, scheduler="DDIMScheduler"),
        "transformer_blocks.0",
    ),
    "sana": (SamplingConfig(steps=STEPS, guidance=2.0), "transformer_blocks.0"),
}


@pytest.fixture(scope="module")
def generator_of(tmp_path_factory):
    """Return the generator of a family, loaded once."""

    @cache
    def load(family):
        sampling, hookpoint = MODELS[family]
        source = FAMILIES[family](tmp_path_factory.mktemp(family))
        return load_generator(ModelConfig(source=str(source)), sampling, hookpoint)

    return load


@pytest.fixture(scope="module")
def ready(generator_of, tmp_path_factory):
    """Return a maker of interventions: a method, fitted on a model, with some of its settings replaced."""

    @cache
    def fitted(method, family, groups):
        generator, section = generator_of(family), section_of(method, family)
        lens = random_lens(generator, groups) if section.uses_lens else None
        directory, judge = tmp_path_factory.mktemp("fit") / "fit", CASES[method].judge(groups)
        return lens, fit_here(section, generator, groups, directory, judge=judge, lens=lens)

    def make(method, family="sd", groups=TWO, **settings):
        lens, fit = fitted(method, family, groups)
        intervene = METHODS[method].ready(section_of(method, family, **settings), lens, fit)
        return lambda assigned: intervene(
            Batch(PROMPTS[0], tuple(assigned), generator_of(family).steps, TEMPLATE, groups)
        )

    make.fitted = fitted
    return make


def section_of(method, family="sd", **settings):
    plain = {"name": "m", "method": method, "attribute": "gender", **CASES[method].settings, **settings}
    section = TypeAdapter(MitigationConfig).validate_python(plain)
    hookpoint = MODELS[family][1]
    if hasattr(section, "layers") and hookpoint != "mid_block":  # a transformer has no decoder to find layers in
        return section.model_copy(update={"layers": (hookpoint,)})
    of_ddim = getattr(section, "reverse_step", None) == "asymmetric"
    if of_ddim and family in ("sd3", "sana", "flux"):  # a flow has no such step
        section = section.model_copy(update={"reverse_step": "symmetric"})
    return section.model_copy(update={"hookpoints": (hookpoint,)}) if hasattr(section, "hookpoints") else section


def state(generator):
    """Every number of the denoiser, what is asked of its parameters, and what hangs on its modules."""
    network = generator.denoiser
    gradients = [(weight.requires_grad, weight.grad is None) for weight in network.parameters()]
    hooks = [(len(m._forward_hooks), len(m._forward_pre_hooks), "forward" in vars(m)) for m in network.modules()]
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}, gradients, hooks


def same(one, other):
    return one[1:] == other[1:] and all(torch.equal(tensor, other[0][name]) for name, tensor in one[0].items())


def on_models(*names):
    return [
        (method, family)
        for method in METHODS
        for family in ("sd", *CASES[method].models)
        if family in names or not names
    ]


FITTED = [(method, family) for method, family in on_models("sd", "pixart") if METHODS[method].fit is not None]


def test_every_method_is_tested():
    assert set(CASES) == set(METHODS)


@pytest.mark.parametrize(("method", "family"), on_models())
def test_it_changes_pictures_and_its_neutral_setting_changes_no_bit(method, family, generator_of, ready):
    generator, assigned, neutral = generator_of(family), ("female", "male") * 2, CASES[method].neutral
    plain = generator.generate(PROMPTS[0], SEEDS)
    changed = generator.generate(PROMPTS[0], SEEDS, ready(method, family)(assigned))
    assert not torch.equal(changed, plain)
    if neutral is None:
        arm = ready(method, family)(assigned)
        assert arm.changes_texts_alone
        own = Intervention(arm.assigned, arm.window, texts=(PROMPTS[0].text,) * len(SEEDS))
    else:
        own = ready(method, family, **neutral)(assigned)
    assert torch.equal(generator.generate(PROMPTS[0], SEEDS, own), plain)


@pytest.mark.parametrize(("method", "family"), on_models())
def test_the_model_is_as_before_also_if_sampling_fails(method, family, generator_of, ready):
    generator, hookpoint = generator_of(family), MODELS[family][1]
    plain, before = generator.generate(PROMPTS[0], SEEDS), state(generator)

    def fail(step, _h):
        if step == STEPS - 1:
            raise RuntimeError("the observer fails")

    with pytest.raises(RuntimeError, match="the observer fails"):
        generator.generate(PROMPTS[0], SEEDS, ready(method, family)(("female", "male") * 2), {hookpoint: fail})
    assert same(state(generator), before)
    assert "step" not in vars(generator.pipeline.scheduler)
    assert torch.equal(generator.generate(PROMPTS[0], SEEDS), plain)


@pytest.mark.parametrize(("method", "family"), on_models())
def test_a_batch_gives_the_same_pictures_again(method, family, generator_of, ready):
    generator, intervene, assigned = generator_of(family), ready(method, family), ("female", "male") * 2
    arm = intervene(assigned)
    first = generator.generate(PROMPTS[0], SEEDS, arm)
    assert torch.equal(generator.generate(PROMPTS[0], SEEDS, arm), first)
    generator.generate(PROMPTS[1], [1, 2, 3, 4], intervene(("male",) * 4))
    assert torch.equal(generator.generate(PROMPTS[0], SEEDS, intervene(assigned)), first)
    assert torch.equal(generator.generate(PROMPTS[0], SEEDS, ready(method, family)(assigned)), first)


@pytest.mark.parametrize(("method", "family"), on_models())
def test_an_image_does_not_depend_on_its_companions(method, family, generator_of, ready):
    generator, intervene = generator_of(family), ready(method, family)
    one = generator.generate(PROMPTS[0], SEEDS, intervene(("female", "male", "female", "male")))
    other = generator.generate(PROMPTS[0], [SEEDS[0], 1, 2, 3], intervene(("female", "female", "female", "female")))
    assert torch.equal(one[0], other[0])
    assert not torch.equal(one[1], other[1])


@pytest.mark.parametrize("method", PROJECTED)
def test_an_edit_has_the_same_properties_without_its_projection(method, generator_of, ready):
    plain = partial(ready, project=None)
    generator, assigned = generator_of("sd"), ("female", "male") * 2
    projected, whole = (generator.generate(PROMPTS[0], SEEDS, make(method)(assigned)) for make in (ready, plain))
    assert not torch.equal(projected, whole)
    test_it_changes_pictures_and_its_neutral_setting_changes_no_bit(method, "sd", generator_of, plain)
    test_the_model_is_as_before_also_if_sampling_fails(method, "sd", generator_of, plain)
    test_a_batch_gives_the_same_pictures_again(method, "sd", generator_of, plain)
    test_an_image_does_not_depend_on_its_companions(method, "sd", generator_of, plain)


@pytest.mark.parametrize("method", METHODS)
def test_the_denoiser_is_called_as_often_as_the_plan_says(method, generator_of, ready):
    generator, late = generator_of("sd"), {}
    if hasattr(section_of(method), "window"):
        late = {"window": (0.5, 1.0)} | ({"blocks": ("mid_block",)} if method == "prompt" else {})
    arm, calls = ready(method, **late)(("female", "male") * 2), []
    shared = SharedSteps.of([arm], STEPS)
    hook = generator.denoiser.mid_block.register_forward_hook(lambda *_: calls.append(1))
    try:
        plain = generator.generate(PROMPTS[0], SEEDS, shared=shared)
        found = generator.generate(PROMPTS[0], SEEDS, arm, shared=shared)
    finally:
        hook.remove()
    assert len(calls) == steps_of_arms([section_of(method, **late)], STEPS, {"gender": TWO})
    assert torch.equal(found, generator.generate(PROMPTS[0], SEEDS, arm))
    assert torch.equal(plain, generator.generate(PROMPTS[0], SEEDS))


@pytest.mark.parametrize("method", METHODS)
def test_any_number_of_groups_can_be_steered_to(method, generator_of, ready):
    generator, assigned = generator_of("sd"), (*THREE, "male")
    arm = ready(method, groups=THREE)(assigned)
    assert arm.assigned in (assigned, (None,) * 4)
    images = generator.generate(PROMPTS[0], SEEDS, arm)
    assert images.shape == (4, 3, 16, 16)
    if arm.assigned == assigned:  # steered image by image: the same noise gives another picture for each group
        pictures = [generator.generate(PROMPTS[0], SEEDS[:1], ready(method, groups=THREE)((g,))) for g in THREE]
        assert len({picture.numpy().tobytes() for picture in pictures}) == len(THREE)


@pytest.mark.parametrize(("method", "family"), on_models("sd", "pixart"))
def test_an_uneven_target_is_met_by_the_assignment(method, family, generator_of, ready):
    section = section_of(method, family, target={"female": 0.25, "male": 0.75})
    assigned = assigned_groups(section, TWO, [ImageKey("doctor", i) for i in range(4)], 0)
    assert Counter(assigned) == {"female": 1, "male": 3}
    arm = ready(method, family, target={"female": 0.25, "male": 0.75})(assigned)
    assert arm.assigned in (assigned, (None,) * 4)
    generator = generator_of(family)
    assert generator.generate(PROMPTS[0], SEEDS, arm).shape == (4, 3, *generator.size)


@pytest.mark.parametrize(("method", "family"), FITTED)
def test_a_fit_is_equal_when_it_is_made_again_and_leaves_the_model_as_it_was(
    method, family, generator_of, ready, tmp_path
):
    generator = generator_of(family)
    lens, fit = ready.fitted(method, family, TWO)
    before = state(generator)
    judge = CASES[method].judge(TWO)
    again = fit_here(section_of(method, family), generator, TWO, tmp_path / "again", judge=judge, lens=lens)
    assert same(state(generator), before)
    found, other = (load_file(directory / TENSORS_FILE) for directory in (fit, again))
    assert found
    assert found.keys() == other.keys()
    assert all(torch.equal(tensor, other[name]) for name, tensor in found.items())
    assert all(bool(tensor.isfinite().all()) for tensor in found.values())


@pytest.mark.parametrize(("method", "family"), FITTED)
def test_a_stored_fit_is_read_back_and_half_of_it_is_refused(method, family, ready, tmp_path):
    lens, fit = ready.fitted(method, family, TWO)
    half = tmp_path / TENSORS_FILE
    half.write_bytes((fit / TENSORS_FILE).read_bytes()[:120])
    with pytest.raises(ValueError, match=r"cannot be read .* delete the directory to fit again"):
        METHODS[method].ready(section_of(method, family), lens, tmp_path)
    with pytest.raises(ValueError, match=r"fitted first, found none"):
        METHODS[method].ready(section_of(method, family), lens, None)
