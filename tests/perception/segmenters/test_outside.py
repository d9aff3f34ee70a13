"""Outside the face: a change of the face alone is no change there, and one elsewhere has its exact size."""

import numpy as np
import pytest
import torch

from audit.config.optional.segmenters import OutsideConfig
from audit.config.sections import ModelConfig
from audit.config.settings import AuditConfig
from audit.config.slices import MeasurementRequest
from audit.generation.parts import load_parts
from audit.generation.rows import measure, table_of
from audit.generation.settings import ShardSettings
from audit.perception.embedders.pairs import psnr
from audit.perception.segmenters.outside import composite, load_outside, psnr_outside
from audit.planning.plan import plan_shards, prompts_of
from audit.preflight.networks import check_quality
from audit.records.work import BASELINE

RNG = torch.Generator().manual_seed(0)
BEFORE = torch.randint(0, 246, (3, 3, 64, 64), dtype=torch.uint8, generator=RNG)
FACE = torch.zeros(3, 64, 64, dtype=torch.bool)
FACE[:, 20:40, 20:40] = True


def test_a_change_in_the_hidden_parts_alone_is_none_outside():
    after = torch.where(FACE[:, None], 255 - BEFORE, BEFORE)
    assert torch.equal(composite(after, BEFORE, ~FACE), BEFORE)
    assert np.isnan(psnr_outside(after, BEFORE, ~FACE)).all(), "equal pixels have none, as whole images"
    assert not np.isnan(psnr(after, BEFORE)).any()


def test_a_change_outside_has_the_psnr_of_its_own_pixels():
    after = torch.where(FACE[:, None], 255 - BEFORE, BEFORE + 9)
    np.testing.assert_allclose(psnr_outside(after, BEFORE, ~FACE), 10 * np.log10(255**2 / 81), rtol=1e-6)
    np.testing.assert_allclose(psnr_outside(after, BEFORE, torch.ones_like(FACE)), psnr(after, BEFORE), rtol=1e-5)
    mixed = composite(after, BEFORE, ~FACE)
    assert torch.equal(mixed[:, :, 30, 30], BEFORE[:, :, 30, 30])
    assert torch.equal(mixed[:, :, 0, 0], BEFORE[:, :, 0, 0] + 9)


def test_a_picture_that_is_all_face_has_no_figure():
    assert np.isnan(psnr_outside(BEFORE + 9, BEFORE, torch.zeros_like(FACE))).all()


def test_a_part_that_the_segmenter_does_not_know_is_refused_before_and_while_it_is_loaded():
    config = OutsideConfig(hidden=("face", "nose"))
    with pytest.raises(ValueError, match=r"expected parts of the segmenter .* found 'nose'"):
        load_outside(config, ModelConfig())
    quality = AuditConfig(name="t").quality.model_copy(update={"outside": config})
    [problem] = check_quality(quality, ModelConfig())
    assert problem.location == ("quality", "outside", "hidden")
    [other] = [p for p in check_quality(quality, ModelConfig(source="/no/such/model")) if p.location[1] == "outside"]
    assert other.message.startswith("quality.outside.source: expected the directory of a CLIPSeg model")
    assert load_outside(None, ModelConfig()) is None


def test_an_audit_compares_the_pixels_that_show_the_face_in_neither_image():
    config = AuditConfig(
        name="t",
        prompts={"occupations": ["nurse"], "images_per_prompt": 3},
        sampling={"batch": 3, "steps": 8},
        mitigations=[{"name": "words", "method": "prompt", "attribute": "gender"}],
        second_opinions=[],
        quality={"clip": "none", "features": "none", "outside": {}},
    )
    assert "outside" not in AuditConfig(name="t").model_dump()["quality"]
    request = MeasurementRequest.of(config)
    parts, settings = load_parts(request, None), ShardSettings.of(request)
    assert parts.signatures["outside"].startswith("outside:face+hair|by:bundled:")
    [shard] = plan_shards(prompts_of(config.prompts, ()), 3, 3)
    pictures = parts.generator.generate(shard.prompt, [1, 2, 3])
    shown = parts.outside.shown(pictures)
    after = torch.where(shown[:, None], pictures, 255 - pictures)
    measured = {arm: measure(parts, shard, arm, own) for arm, own in ((BASELINE, pictures), ("words", after))}
    rows = table_of(parts, settings, shard, measured, {BASELINE: {}, "words": {}}).to_pylist()
    assert all(row["compared_outside"] is None for row in rows[:3])
    both = shown & parts.outside.shown(after)
    np.testing.assert_allclose([row["compared_outside"] for row in rows[3:]], both.float().mean((1, 2)), rtol=1e-6)
    assert 0 < both.float().mean() < 1
    assert all(row["psnr_outside"] is None and row["psnr"] is not None for row in rows[3:])
    assert all(row["lpips_outside"] is None for row in rows[3:])
