"""Projection of an edit's change: exact in the kept directions, nothing elsewhere, and refused without sense."""

import pytest
import torch

from audit.config.errors import ConfigErrors
from audit.config.file import read_config
from audit.config.mitigations.edits import DiffLensConfig, FeatureControlConfig, MeanDifferenceConfig
from audit.mitigate.edits.projection import ProjectedEdit, _bases, _components, _Products


def sums_of(maps):
    products = _Products(len(maps))
    for step, h in enumerate(maps):
        products(step, h)
    return products.sums("mid_block")


def maps(images=40, channels=6, side=3):
    """Maps whose channels vary in two directions alone, about another mean at each step."""
    rng = torch.Generator().manual_seed(0)
    directions = torch.linalg.qr(torch.randn(channels, 2, generator=rng))[0]
    found = []
    for step in range(3):
        weights = torch.randn(images, side * side, 2, generator=rng) * torch.tensor([3.0, 1.0])
        found.append((weights @ directions.T).transpose(1, 2).reshape(images, channels, side, side) + 10.0 * step)
    return found, directions


def test_the_components_are_those_of_the_channels_about_the_mean_of_each_step():
    found, directions = maps()
    tensors = _components(sums_of(found))
    [basis] = _bases(tensors, 0.999).values()
    assert len(basis) == 2
    assert torch.allclose(basis.T @ basis, directions @ directions.T, atol=1e-4)
    assert len(_bases(tensors, 0.5)["mid_block"]) == 1
    assert len(_bases(tensors, 1.0)["mid_block"]) >= 2


def test_sums_of_prompts_merge_by_addition():
    found, _ = maps()
    whole, parts = sums_of(found), [sums_of([h[rows] for h in found]) for rows in (slice(0, 15), slice(15, None))]
    for name, total in whole.items():
        assert torch.allclose(parts[0][name] + parts[1][name], total)


def test_the_change_keeps_its_part_in_the_subspace_and_an_image_without_change_keeps_every_bit():
    basis = torch.eye(4)[:2]
    h = torch.randn(3, 4, 2, 2, generator=torch.Generator().manual_seed(1))
    strength = torch.tensor([1.0, 0.0, 2.0]).view(-1, 1, 1, 1)
    edit = ProjectedEdit(lambda _step, x: x + strength, basis)
    after = edit(0, h)
    assert torch.equal(after[1], h[1])
    assert torch.allclose(after[:, :2], (h + strength)[:, :2])
    assert torch.equal(after[:, 2:], h[:, 2:])


@pytest.mark.parametrize(
    "section",
    [
        DiffLensConfig(name="m", attribute="gender"),
        MeanDifferenceConfig(name="m", method="mean_difference", attribute="gender"),
        FeatureControlConfig(name="m", method="feature_control", attribute="gender"),
    ],
)
def test_the_key_is_left_out_unless_it_is_set_and_all_shares_have_one_fit(section):
    assert "project" not in section.model_dump()
    projected = section.model_copy(update={"project": 0.9})
    assert projected.model_dump()["project"] == 0.9
    assert projected.fitted_by == section.model_copy(update={"project": 0.5}).fitted_by != section.fitted_by
    assert projected.fitted_images_of(2) == section.fitted_images_of(2) + 8


@pytest.mark.parametrize(
    ("mitigation", "message"),
    [
        (
            "{method: mean_difference, hookpoints: ['skips:down_blocks.0'], project: 0.9}",
            "expected places with channels",
        ),
        ("{method: difflens, project: 0.9}", "expected a strength for this edit"),
        ("{method: difflens, strength: 1, project: 1.5}", "expected at most 1.0, found 1.5"),
        ("{method: prompt, project: 0.9}", "project"),
    ],
)
def test_a_projection_that_has_no_sense_is_refused_with_its_place(mitigation, message, tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text(f"name: t\nmitigations:\n  - {mitigation[:-1]}, name: m, attribute: gender}}\n")
    with pytest.raises(ConfigErrors, match=message) as error:
        read_config(path)
    assert "c.yaml:3" in str(error.value)
