"""A hookpoint is tried before any long work, and every step counts how often it was called."""

import pytest
import torch
from torch import nn

from audit.config.sections import ModelConfig, SamplingConfig
from audit.models.files.untrusted_model import UnfitModelError
from audit.models.generator import load_generator
from audit.models.liveness import require_live
from audit.records.work import Prompt
from benchmarks.tiny_families import FAMILIES

TEXT = "a face photo of a doctor"
DOCTOR = Prompt("doctor", TEXT, "doctor")


@pytest.fixture
def generator(tiny_pipeline):
    return load_generator(ModelConfig(source=str(tiny_pipeline)), SamplingConfig(steps=2, guidance=3.0))


@pytest.mark.parametrize(
    ("name", "paths"),
    [
        ("sdxl", ("mid_block", "down_blocks.1", "up_blocks.0.resnets.0")),
        ("sd3", ("transformer_blocks.0", "transformer_blocks.1")),
        ("flux", ("transformer_blocks.0", "single_transformer_blocks.0")),
        ("pixart", ("transformer_blocks.1",)),
        ("ddpm", ("mid_block",)),
    ],
)
def test_blocks_of_every_family_are_alive(tmp_path, name, paths):
    side = {"height": 32, "width": 32} if name == "flux" else {}
    guidance = 1.0 if name == "ddpm" else 3.0
    model = ModelConfig(source=str(FAMILIES[name](tmp_path)))
    found = load_generator(model, SamplingConfig(steps=2, guidance=guidance, **side))
    require_live(found, paths, "" if name == "ddpm" else TEXT)


def test_nothing_is_called_if_there_is_no_hookpoint(generator):
    generator.denoiser.conv_in.register_forward_pre_hook(lambda *_: pytest.fail("called"))
    require_live(generator, (), TEXT)


def test_a_layer_that_a_block_uses_twice_is_refused(generator):
    with pytest.raises(UnfitModelError, match="expected one call in each step, found 3 in step 0"):
        require_live(generator, ["mid_block.resnets.0.nonlinearity"], TEXT)


class Spare(nn.Module):
    """A block that computes something that nothing reads."""

    def __init__(self, block):
        super().__init__()
        self.block, self.spare = block, nn.Identity()

    def forward(self, x, *inputs, **named):
        self.spare(x)
        return self.block(x, *inputs, **named)


class Mixing(nn.Module):
    """An output layer by which the images of a batch depend on each other."""

    def __init__(self, conv):
        super().__init__()
        self.conv = conv

    def forward(self, x):
        y = self.conv(x)
        return y + y.mean(0, keepdim=True)


class Once(nn.Module):
    """A layer with a part that only the first call passes through."""

    def __init__(self, conv):
        super().__init__()
        self.conv, self.own, self.calls = conv, nn.Identity(), 0

    def forward(self, x):
        self.calls += 1
        y = self.conv(x)
        return self.own(y) if self.calls == 1 else y


def test_a_module_that_nothing_reads_is_refused(generator):
    generator.denoiser.conv_out = Spare(generator.denoiser.conv_out)
    with pytest.raises(UnfitModelError, match="nothing reads this module's output"):
        require_live(generator, ["conv_out.spare"], TEXT)


def test_an_edit_that_reaches_the_other_half_is_refused(generator):
    generator.denoiser.conv_out = Mixing(generator.denoiser.conv_out)
    with pytest.raises(UnfitModelError, match="changes the other half too"):
        require_live(generator, ["mid_block"], TEXT)


def test_a_module_that_later_steps_skip_is_refused_in_that_step(generator):
    generator.denoiser.conv_in = Once(generator.denoiser.conv_in)
    with pytest.raises(UnfitModelError, match="expected one call in each step, found 0 in step 1"):
        generator.generate(DOCTOR, [1, 2], observers={"conv_in.own": lambda _step, _h: None})
    assert torch.equal(generator.generate(DOCTOR, [1, 2]), generator.generate(DOCTOR, [1, 2]))
