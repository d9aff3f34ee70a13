"""PSNR, LPIPS and DINO-I compare an image with its baseline image; equal images are at the end of each scale."""

import lpips
import numpy as np
import pytest
import torch
import torchvision.models as torchvision_models
from transformers import Dinov2Config, Dinov2Model

from audit.config.sections import LpipsConfig, QualityConfig
from audit.models.files.untrusted_model import UnfitModelError
from audit.perception.embedders.pairs import LpipsDistance, cosines, load_pair_instruments, psnr, trunk_problem
from tests.pretended_gpu import pretended_gpu

TRUNKS = {
    "alex": torchvision_models.alexnet,
    "vgg": torchvision_models.vgg16,
    "squeeze": torchvision_models.squeezenet1_1,
}
DRAWS = torch.Generator().manual_seed(0)
FIRST, SECOND = (torch.randint(0, 256, (2, 3, 64, 80), generator=DRAWS, dtype=torch.uint8) for _ in range(2))


def saved(path, kind):
    torch.save(TRUNKS[kind](weights=None).state_dict(), path)
    return LpipsConfig(network=kind, trunk=str(path), own_weights=True)


def test_psnr_is_its_formula_and_equal_images_have_none():
    baseline = torch.full((3, 3, 8, 8), 100, dtype=torch.uint8)
    images = baseline.clone()
    images[1] += 5
    images[2, 0, 0, 0] += 1
    found = psnr(images, baseline)
    one_value = 10 * np.log10(255**2 * 192)
    np.testing.assert_allclose(found, [np.nan, 10 * np.log10(255**2 / 25), one_value], rtol=1e-6)


def test_psnr_of_black_and_white_is_0_and_the_order_does_not_matter():
    black, white = torch.zeros(1, 3, 4, 4, dtype=torch.uint8), torch.full((1, 3, 4, 4), 255, dtype=torch.uint8)
    assert psnr(black, white) == psnr(white, black) == 0


@pytest.mark.parametrize("kind", ["alex", "vgg", "squeeze"])
def test_lpips_is_that_of_the_package_with_the_same_trunk(tmp_path, monkeypatch, kind):
    config = saved(tmp_path / "trunk.pth", kind)
    state = torch.load(tmp_path / "trunk.pth", weights_only=True)

    def trunk(**_):
        network = TRUNKS[kind](weights=None)
        network.load_state_dict(state)
        return network

    monkeypatch.setattr(lpips.pretrained_networks.tv, TRUNKS[kind].__name__, trunk)
    reference = lpips.LPIPS(net=kind, verbose=False)
    monkeypatch.undo()
    with torch.inference_mode():
        expected = reference(FIRST / 127.5 - 1, SECOND / 127.5 - 1).flatten().numpy()
    network = LpipsDistance(config)
    np.testing.assert_allclose(network.between(FIRST, SECOND), expected, rtol=1e-5)
    assert expected.min() > 0
    assert network.between(FIRST, FIRST).tolist() == [0, 0]
    assert network.signature.startswith(f"net:lpips-0.1-{kind}:own-weights:trunk.pth:")


def test_a_trunk_with_other_weights_under_the_published_name_is_refused(tmp_path):
    path = tmp_path / "alexnet-owt-7be5be79.pth"
    config = saved(path, "alex").model_copy(update={"own_weights": False})
    assert "expected torchvision's weights (alexnet-owt-7be5be79.pth, sha256 7be5be79…)" in trunk_problem(config)
    with pytest.raises(UnfitModelError, match="set own_weights: true"):
        LpipsDistance(config)


def test_a_trunk_of_another_network_is_refused(tmp_path):
    config = saved(tmp_path / "squeeze.pth", "squeeze").model_copy(update={"network": "alex"})
    assert "expected the weights of alexnet-owt-7be5be79.pth, found no " in trunk_problem(config)
    whole = (tmp_path / "squeeze.pth").read_bytes()
    (tmp_path / "cut.pth").write_bytes(whole[:5000])  # torch reports this length as an OSError
    cut = LpipsConfig(network="squeeze", trunk=str(tmp_path / "cut.pth"), own_weights=True)
    assert "expected weights and nothing else" in trunk_problem(cut)


def test_images_that_are_too_small_for_lpips_are_refused_with_a_remedy(tmp_path):
    network = LpipsDistance(saved(tmp_path / "trunk.pth", "alex"))
    with pytest.raises(UnfitModelError, match="expected images of at least 32 × 32 pixels, found 4 × 4; remove it"):
        network.between(FIRST[:, :, :4, :4], SECOND[:, :, :4, :4])
    assert network.between(FIRST[:, :, :32, :32], SECOND[:, :, :32, :32]).min() > 0


def test_cosines_are_1_for_equal_rows_whatever_their_length():
    rows = np.array([[3.0, 4.0], [1.0, 0.0]], dtype=np.float32)
    np.testing.assert_allclose(cosines(rows, rows * 7), [1, 1], rtol=1e-6)
    np.testing.assert_allclose(cosines(rows, rows[::-1]), [0.6, 0.6], rtol=1e-6)


def test_a_gpu_gives_the_same_distances(tmp_path):
    quality = QualityConfig(lpips=saved(tmp_path / "trunk.pth", "squeeze"), dino=str(tmp_path / "dino"))
    Dinov2Model(Dinov2Config(hidden_size=32, num_hidden_layers=1, num_attention_heads=2)).save_pretrained(quality.dino)
    here = load_pair_instruments(quality, None)
    with pretended_gpu():
        there = load_pair_instruments(quality, None)
        distances, features = there.lpips.between(FIRST, SECOND), there.dino.embed(FIRST)
    np.testing.assert_allclose(distances, here.lpips.between(FIRST, SECOND), rtol=1e-5)
    np.testing.assert_allclose(features, here.dino.embed(FIRST), atol=1e-5)


def test_without_configuration_no_network_is_loaded():
    found = load_pair_instruments(QualityConfig(), None)
    assert (found.dino, found.lpips, found.signatures) == (None, None, {})
