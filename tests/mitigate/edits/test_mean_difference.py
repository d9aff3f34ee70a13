"""Mean difference adds what naming a group changes on average, and sums of prompts are those of all images."""

import pytest
import torch
from safetensors.torch import save_file

from audit.config.mitigations.edits import MeanDifferenceConfig
from audit.config.sections import ModelConfig, SamplingConfig
from audit.config.settings import AuditConfig
from audit.mitigate.edits.mean_difference import COUNT, MeanDifference, MeanDifferenceFit, key_of
from audit.mitigate.method import Batch
from audit.models.generator import load_generator
from audit.planning.fits import TENSORS_FILE, FitRequest
from audit.records.work import Prompt, derive_seed

STEPS, IMAGES = 3, 4
SAMPLING = SamplingConfig(steps=STEPS, guidance=2.0, scheduler="DDIMScheduler")
GROUPS = ("female", "male")
PROMPTS = tuple(Prompt(name, f"a face photo of a {name}", name) for name in ("doctor", "nurse"))
PATHS = ("mid_block", "conv_in", "skips:down_blocks.0")


@pytest.fixture(scope="module")
def config(tiny_pipeline):
    mitigation = {
        "name": "means", "method": "mean_difference", "attribute": "gender", "hookpoints": PATHS,
        "images_per_group": IMAGES,
    }  # fmt: skip
    sampling = {"steps": STEPS, "guidance": 2.0, "batch": 3}
    return AuditConfig(name="a", model={"source": str(tiny_pipeline)}, sampling=sampling, mitigations=[mitigation])


@pytest.fixture(scope="module")
def generator(tiny_pipeline):
    return load_generator(ModelConfig(source=str(tiny_pipeline)), SAMPLING)


@pytest.fixture(scope="module")
def directions(config, generator):
    fit, (mitigation,) = MeanDifferenceFit(), config.mitigations
    request = FitRequest(mitigation, GROUPS, config.prompts.template, config.sampling)
    parts = [fit.part(generator, request, prompt) for prompt in PROMPTS]
    sums = {name: parts[0][name] + parts[1][name] for name in parts[0]}
    assert sums[COUNT] == len(PROMPTS) * IMAGES
    return fit.join(request, sums)


def maps_of(generator, group, path):
    """Every map of the images that name a group, one image at a time: (S, images, C, H, W)."""
    seen = []
    for prompt in PROMPTS:
        for i in range(IMAGES):
            own = []
            observers = {path: lambda _step, h, own=own: own.append(h[0].clone())}
            text = f"a face photo of a {group} {prompt.occupation}"
            generator.sample([text], [derive_seed("mean_difference", prompt.id, i)], observers=observers)
            seen.append(torch.stack(own))
    return torch.stack(seen, 1)


@pytest.mark.parametrize("path", PATHS)
def test_a_direction_is_the_difference_of_the_means_over_all_images(generator, directions, path):
    means = {group: maps_of(generator, group, path).mean(1) for group in GROUPS}
    expected = means["female"] - means["male"]
    torch.testing.assert_close(directions[key_of(path, "female")], expected, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(directions[key_of(path, "male")], -directions[key_of(path, "female")])


def ready(directions, tmp_path, **more):
    save_file(directions, tmp_path / TENSORS_FILE)
    mitigation = MeanDifferenceConfig(name="m", method="mean_difference", attribute="gender", hookpoints=PATHS, **more)
    return MeanDifference().ready(mitigation, None, tmp_path)


def test_each_image_gets_the_direction_of_its_group_at_every_step(directions, tmp_path):
    assigned = ("male", "female", "male")
    found = ready(directions, tmp_path, strength=2.0, window=(0.0, 0.5))(Batch(PROMPTS[0], assigned, STEPS, ""))
    assert (found.assigned, found.window, set(found.edits)) == (assigned, range(2), set(PATHS))
    for path in PATHS:
        shape = directions[key_of(path, "male")].shape[1:]
        h = torch.randn(3, *shape, generator=torch.Generator().manual_seed(0))
        for step in range(STEPS):
            wanted = torch.stack(
                [image + 2 * directions[key_of(path, g)][step] for image, g in zip(h, assigned, strict=True)]
            )
            torch.testing.assert_close(found.edits[path](step, h), wanted)


def test_strength_zero_draws_the_unedited_pictures_bit_for_bit(generator, directions, tmp_path):
    batch, seeds = Batch(PROMPTS[0], ("female", "male"), STEPS, ""), [1, 2]
    plain = generator.generate(PROMPTS[0], seeds)
    neutral = ready(directions, tmp_path, strength=0)(batch)
    assert torch.equal(generator.generate(PROMPTS[0], seeds, neutral), plain)
    assert not torch.equal(
        generator.generate(PROMPTS[0], seeds, ready(directions, tmp_path, strength=3.0)(batch)), plain
    )


def test_without_its_fit_the_method_says_so():
    mitigation = MeanDifferenceConfig(name="m", method="mean_difference", attribute="gender")
    with pytest.raises(ValueError, match="fitted first, found none"):
        MeanDifference().ready(mitigation, None, None)


def test_half_a_file_of_directions_is_refused_by_name(directions, tmp_path):
    save_file(directions, tmp_path / TENSORS_FILE)
    (tmp_path / TENSORS_FILE).write_bytes((tmp_path / TENSORS_FILE).read_bytes()[:200])
    mitigation = MeanDifferenceConfig(name="m", method="mean_difference", attribute="gender", hookpoints=PATHS)
    with pytest.raises(ValueError, match=r"cannot be read .* delete the directory to fit again"):
        MeanDifference().ready(mitigation, None, tmp_path)
