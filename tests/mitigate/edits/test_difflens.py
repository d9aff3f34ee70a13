"""The DiffLens edit: neutral where it must be, and exactly Eq. 7 and 9 where it is not."""

from dataclasses import replace

import pytest
import torch

from audit.config.mitigations.edits import DiffLensConfig
from audit.dissect.group_heads import GroupHeads
from audit.dissect.lens import BiasFeature, Lens
from audit.dissect.sae import SaeShape, SparseAutoencoder
from audit.dissect.strengths import GroupStrength
from audit.mitigate.assignment import assigned_groups
from audit.mitigate.edits.difflens import DiffLens, DiffLensEdit, Steering
from audit.mitigate.method import Batch
from audit.records.work import ImageKey, Prompt

STEPS, CHANNELS, SIDE, LATENTS = 3, 6, 2, 20
GROUPS = {"gender": ("female", "male")}


def a_lens(features=None, strengths=None):
    generator = torch.Generator().manual_seed(0)
    chosen = {"female": (1, 2), "male": (3,)} if features is None else features
    width = CHANNELS * SIDE * SIDE
    return Lens(
        sae=SparseAutoencoder(SaeShape(CHANNELS, LATENTS, 4), generator).requires_grad_(False),
        heads=GroupHeads(GROUPS, {"gender": torch.zeros(STEPS, 2, width)}, {"gender": torch.zeros(STEPS, 2)}),
        features={
            "gender": {g: tuple(BiasFeature(i, 1.0, (1.0,) * STEPS) for i in rows) for g, rows in chosen.items()}
        },
        firing={
            "gender": {g: torch.rand(STEPS, SIDE * SIDE, len(rows), generator=generator) for g, rows in chosen.items()}
        },
        strengths={"gender": strengths or {}},
        settings={},
        quality={},
        model_fingerprint="m",
        hookpoint="mid_block",
        steps=STEPS,
        groups=GROUPS,
        contrast={
            "gender": {
                g: torch.randn(STEPS, SIDE * SIDE, sum(map(len, chosen.values())), generator=generator) for g in chosen
            }
        },
    )


@pytest.fixture
def h():
    return torch.randn(4, CHANNELS, SIDE, SIDE, generator=torch.Generator().manual_seed(1))


def steering(*strengths):
    return Steering(("female", "male", "female", "male"), strengths)


def intervention(mitigation, lens, prompt, keys):
    groups = assigned_groups(mitigation, GROUPS["gender"], keys, audit_seed=0)
    return DiffLens().ready(mitigation, lens, None)(Batch(prompt, groups, STEPS, "a {occupation}"))


@pytest.mark.parametrize("kind", ["add", "scale", "contrast"])
def test_strength_zero_changes_nothing(h, kind):
    edit = DiffLensEdit(a_lens(), "gender", kind, steering(0.0, 0.0, 0.0, 0.0))
    assert all(torch.equal(edit(step, h), h) for step in range(STEPS))


@pytest.mark.parametrize("kind", ["add", "scale", "contrast"])
def test_a_lens_without_features_changes_nothing(h, kind):
    lens = a_lens(features={"female": (), "male": ()})
    assert torch.equal(DiffLensEdit(lens, "gender", kind, steering(2.0, 2.0, 2.0, 2.0))(0, h), h)


@pytest.mark.parametrize("others", ["lowered", "unchanged"])
@pytest.mark.parametrize("kind", ["add", "scale"])
def test_the_edit_is_the_decoded_change_of_the_listed_latents(h, kind, others):
    lens, s = a_lens(), (0.5, 1.5, 0.0, 1.0)
    z = lens.sae.latents_of_map(h)
    wanted = z.clone()
    for image, (group, strength) in enumerate(zip(("female", "male", "female", "male"), s, strict=True)):
        own, rest = ((1, 2), (3,)) if group == "female" else ((3,), (1, 2))
        for column, latent in enumerate(own):
            if kind == "scale":
                wanted[image, :, latent] *= 1 + strength
            else:
                wanted[image, :, latent] += strength * lens.firing["gender"][group][1, :, column]
        for latent in rest if others == "lowered" else ():
            wanted[image, :, latent] *= max(0.0, 1 - strength)
    expected = h + lens.sae.map_delta(wanted - z, h.shape)
    assert torch.allclose(DiffLensEdit(lens, "gender", kind, steering(*s), others)(1, h), expected, atol=1e-5)


def test_a_shared_feature_belongs_to_the_group_that_an_image_is_steered_to(h):
    apart = a_lens()
    shared = replace(
        apart,
        features={"gender": dict.fromkeys(GROUPS["gender"], apart.features["gender"]["male"])},
        firing={"gender": dict.fromkeys(GROUPS["gender"], apart.firing["gender"]["male"])},
    )
    found = DiffLensEdit(shared, "gender", "scale", steering(1.0, 1.0, 1.0, 1.0))(1, h)
    z = shared.sae.latents_of_map(h)
    change = torch.zeros_like(z)
    change[:, :, 3] = z[:, :, 3]  # doubled for both groups, lowered for none
    assert torch.allclose(found, h + shared.sae.map_delta(change, h.shape), atol=1e-5)


def test_a_contrast_moves_the_features_of_all_groups(h):
    lens, s = a_lens(), (0.5, 1.5, 0.0, 1.0)
    assert lens.latents("gender") == (1, 2, 3)
    z = lens.sae.latents_of_map(h)
    change = torch.zeros_like(z)
    for image, (group, strength) in enumerate(zip(("female", "male", "female", "male"), s, strict=True)):
        for column, latent in enumerate((1, 2, 3)):
            change[image, :, latent] = strength * lens.contrast["gender"][group][1, :, column]
    expected = h + lens.sae.map_delta(change, h.shape)
    assert torch.allclose(DiffLensEdit(lens, "gender", "contrast", steering(*s))(1, h), expected, atol=1e-5)


def test_a_lens_of_an_older_release_has_no_contrast():
    with pytest.raises(ValueError, match="expected the contrast of gender, found none"):
        DiffLensEdit(replace(a_lens(), contrast={}), "gender", "contrast", steering(1.0, 1.0, 1.0, 1.0))


@pytest.mark.parametrize("kind", ["add", "scale", "contrast"])
def test_an_edit_lives_where_its_lens_is_and_moves_nothing(h, kind):
    lens = a_lens()
    edit = DiffLensEdit(lens.to("meta"), "gender", kind, steering(0.5, 1.5, 0.0, 1.0))
    assert edit(1, h.to("meta")).device.type == "meta"
    assert lens.sae.decoder.device.type == "cpu"
    with pytest.raises(RuntimeError, match=r"[Dd]evice"):
        edit(1, h)


def test_each_image_is_steered_by_itself(h):
    edit = DiffLensEdit(a_lens(), "gender", "add", steering(0.0, 1.0, 0.0, 0.0))
    changed = (edit(0, h) != h).flatten(1).any(1)
    assert changed.tolist() == [False, True, False, False]


def test_strengths_come_from_the_lens_prompt_by_prompt():
    found = {"female": GroupStrength(0.0, "searched"), "male": GroupStrength(2.0, "predicted")}
    lens = a_lens(strengths={"nurse": found})
    mitigation = DiffLensConfig(name="m", method="difflens", attribute="gender")
    keys = [ImageKey("nurse", i) for i in range(4)]
    arm = intervention(mitigation, lens, Prompt("nurse", "a nurse", "nurse"), keys)
    assert sorted(arm.assigned) == ["female", "female", "male", "male"]
    h = torch.randn(4, CHANNELS, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    changed = (arm.edits["mid_block"](0, h) != h).flatten(1).any(1).tolist()
    assert changed == [group == "male" for group in arm.assigned]


def test_images_are_steered_to_the_shares_that_the_mitigation_names():
    mitigation = DiffLensConfig(
        name="m", attribute="gender", strength=1.0, target={"male": 0.746, "female": 0.25}
    )  # rounded shares
    keys = [ImageKey("nurse", i) for i in range(400)]
    arm = intervention(mitigation, a_lens(), Prompt("nurse", "a nurse", "nurse"), keys)
    assert arm.assigned.count("female") == pytest.approx(400 * 0.25 / 0.996, abs=1)


def test_a_prompt_without_strengths_gets_none_of_another():
    lens = a_lens(
        strengths={"nurse": {"female": GroupStrength(1.0, "searched"), "male": GroupStrength(1.0, "searched")}}
    )
    with pytest.raises(ValueError, match=r"strengths of the gender edit for 'doctor', found none"):
        intervention(
            DiffLensConfig(name="m", attribute="gender"),
            lens,
            Prompt("doctor", "a doctor", "doctor"),
            [ImageKey("doctor", 0)],
        )


def test_without_a_lens_there_is_nothing_to_steer_by():
    with pytest.raises(ValueError, match="through its lens, found none; dissect the model first"):
        DiffLens().ready(DiffLensConfig(name="m", attribute="gender"), None, None)


@pytest.mark.parametrize("kind", ["add", "scale"])
def test_blocks_of_one_image_give_the_same_edit(h, kind, monkeypatch):
    edit = DiffLensEdit(a_lens(), "gender", kind, steering(0.5, 1.5, 0.0, 1.0))
    together = edit(1, h)
    monkeypatch.setattr("audit.dissect.settings.BLOCK_BYTES", 1)
    torch.testing.assert_close(edit(1, h), together)
