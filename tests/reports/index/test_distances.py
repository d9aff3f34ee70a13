"""Only distances on the FID Inception network with its published weights are called FID and KID."""

import pytest

from reports.index.distances import DistanceNames, part_of

PUBLISHED = "net:fid-inception:published:pt_inception-2015-12-05-6726825d.pth:6726825d0af5|resize:tf1-bilinear-299"


@pytest.mark.parametrize(
    ("network", "frechet", "kernel"),
    [
        (PUBLISHED, "FID", "KID"),
        (
            "net:fid-inception:own-weights:x.pth:0123456789ab|resize:tf1-bilinear-299",
            "Fréchet distance (FID Inception network, own weights)",
            "Kernel distance (FID Inception network, own weights)",
        ),
        (
            "net:torchvision-inception-v3:fid-inception:published:x|resize:bicubic-aa-299",
            "Fréchet distance (torchvision Inception v3)",
            "Kernel distance (torchvision Inception v3)",
        ),
        ("net:dinov2-vit-l14:dino:1|resize:pil-bicubic-224", "FD-DINOv2", "Kernel distance (DINOv2 ViT-L/14)"),
        (
            "net:dinov2-vit-s14:dino:1|resize:pil-bicubic-224",
            "Fréchet distance (DINOv2 ViT-S/14)",
            "Kernel distance (DINOv2 ViT-S/14)",
        ),
        (
            "net:dinov2-width-32-depth-2:dino:1|resize:pil-bicubic-224",
            "Fréchet distance (DINOv2, own size)",
            "Kernel distance (DINOv2, own size)",
        ),
        (
            "net:calibration-features-64:1|norm:sqrt-d|resize:none",
            "Fréchet distance (calibration features)",
            "Kernel distance (calibration features)",
        ),
        ("", "Fréchet distance", "Kernel distance"),
    ],
)
def test_the_name_of_a_distance_follows_from_its_network(network, frechet, kernel):
    names = DistanceNames.of_signature(f"metric:frechet_distance|{network}|against:baseline|n:64")
    assert (names.frechet, names.kernel) == (frechet, kernel)
    assert names.are_published == (frechet == "FID")


def test_parts_of_a_signature_are_found_by_key():
    assert part_of(f"metric:x|{PUBLISHED}|n:7", "resize") == "tf1-bilinear-299"
    assert part_of("metric:x|n:7", "net") == ""


def test_a_file_name_cannot_turn_a_distance_into_a_fid():
    signature = f"metric:x|net:torchvision-inception-v3:a|{PUBLISHED}|resize:bicubic-aa-299|n:7"
    assert not DistanceNames.of_signature(signature).are_published
