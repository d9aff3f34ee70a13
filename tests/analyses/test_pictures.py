"""Pictures of a random-weight model: every image has a vector, groups and a picture, and nothing is found in noise."""

from dataclasses import replace

import numpy as np
import pytest

from audit.analyses import pictures
from audit.analyses.analysis import Instruments
from audit.analyses.pictures import PicturesAnalysis, PicturesRequest
from audit.config.sections import ModelConfig, QualityConfig, SamplingConfig
from audit.models.generator import load_generator
from audit.records.work import Prompt
from audit.results.open_set.attributes import unnamed_attributes
from audit.results.open_set.findings import Limits, differences_of
from audit.results.open_set.sample import Sample
from benchmarks.lens_memory import TintJudge
from tests.dissect.test_build import NarrowJudge

NAMES = ("doctor", "nurse", "judge")
ANALYSIS = PicturesAnalysis()


class Coarse:
    """Embeds images as coarse pixels."""

    signature = "coarse"

    def embed(self, images):
        return images.float()[:, :, ::16, ::16].flatten(1).numpy()


@pytest.fixture(scope="module")
def request_(tiny_pipeline):
    return PicturesRequest(
        prompts=tuple(Prompt(name, f"a photo of a {name}", name) for name in NAMES),
        attributes={"tint": ("dark", "bright")},
        images=20,
        batch=8,
        seed=0,
        model=ModelConfig(source=str(tiny_pipeline)),
        quality=QualityConfig(clip="none"),
        embedder="features",
        signature="coarse",
        clip=False,
    )


@pytest.fixture(scope="module")
def made(request_):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pictures, "embedders", lambda *_: (Coarse(), None))
        generator = load_generator(request_.model, SamplingConfig(steps=2, guidance=2.0, batch=8))
        return {
            judge: [ANALYSIS.part(Instruments(generator, judge()), request_, task) for task in ANALYSIS.tasks(request_)]
            for judge in (TintJudge, NarrowJudge)
        }


def test_every_image_has_a_vector_a_group_and_a_picture(request_, made):
    found = ANALYSIS.combine(request_, made[TintJudge])
    assert len(found.vectors) == len(found.webp) == len(found.codes["tint"]) == 60
    assert found.clip.shape == (60, 0)
    assert found.numbers.tolist() == [*range(20)] * 3
    assert {picture[:4] for picture in found.webp} == {b"RIFF"}


@pytest.mark.parametrize("judge", [TintJudge, NarrowJudge])
def test_a_model_with_random_weights_has_no_finding(request_, made, judge):
    found = ANALYSIS.combine(request_, made[judge])
    sample = Sample(NAMES, found.prompts, found.numbers, found.vectors, found.codes, {"tint": 2})
    differences = differences_of(sample, unnamed_attributes(sample), Limits(0.05, 0.1))
    assert differences.findings == ()
    assert np.isfinite(sample.vectors).all()


def test_another_template_or_number_of_images_is_another_part(request_):
    first, *_, last = ANALYSIS.tasks(request_)
    assert (first.first, first.count, last.first, last.count) == (0, 8, 16, 4)
    other = replace(request_, prompts=(replace(request_.prompts[0], text="a drawing of a doctor"),))
    assert ANALYSIS.tasks(other)[0].id != first.id


def test_a_missing_part_does_not_shift_the_prompts(request_, made):
    with pytest.raises(ValueError, match=r"expected a part for task doctor\."):
        ANALYSIS.combine(request_, [None, *made[TintJudge][1:]])
