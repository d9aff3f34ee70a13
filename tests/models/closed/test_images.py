"""Tests that existing pictures are read as a viewer shows them, at their own size, and that a hash identifies them."""

import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from audit.config.sections import ModelConfig
from audit.models.closed.fingerprint import pictures_fingerprint
from audit.models.closed.images import PictureFiles
from audit.models.closed.interface import PictureSource, pixel_seed, within
from audit.models.source import model_fingerprint
from audit.planning.plan import Prompt

DOCTOR = Prompt("doctor", "a doctor", "doctor")
RNG = np.random.default_rng(0)


def noise(height, width):
    return RNG.integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture
def folder(tmp_path):
    """Pictures of one prompt in many forms: index 0 to 6 by file name."""
    own = tmp_path / "pictures" / "doctor"
    own.mkdir(parents=True)
    rotated = Image.Exif()
    rotated[0x0112] = 6
    Image.fromarray(noise(64, 64)).save(own / "0.png")
    Image.fromarray(noise(64, 64)).convert("L").save(own / "1.png")
    Image.fromarray(noise(80, 64)).convert("RGBA").save(own / "2.png")
    Image.fromarray(noise(64, 96)).convert("CMYK").save(own / "3.jpg")
    Image.fromarray(RNG.integers(0, 65536, (64, 64), dtype=np.uint16)).save(own / "4.png")
    Image.fromarray(noise(40, 64)).save(own / "5.jpg", exif=rotated)
    Image.fromarray(noise(300, 200)).save(own / "6.webp", lossless=True)
    return tmp_path / "pictures"


def files(folder, **changes):
    return PictureFiles(ModelConfig(source="images", folder=str(folder), **changes))


def test_pictures_of_one_size_are_one_batch_and_larger_ones_are_scaled_down(folder):
    source = files(folder, longest_side=150)
    assert isinstance(source, PictureSource)
    found = source.batches(DOCTOR, range(7))
    assert {batch.indices: tuple(batch.images.shape[2:]) for batch in found} == {
        (0, 1, 4): (64, 64),
        (2,): (80, 64),
        (3,): (64, 96),
        (5,): (64, 40),  # turned upright
        (6,): (150, 100),
    }
    assert all(batch.images.dtype == torch.uint8 and batch.images.shape[1] == 3 for batch in found)


def test_a_picture_that_is_not_larger_keeps_every_pixel(folder):
    [batch] = files(folder).batches(DOCTOR, [0])
    expected = np.array(Image.open(folder / "doctor" / "0.png"))
    assert np.array_equal(batch.images[0].permute(1, 2, 0).numpy(), expected)
    assert within(expected, 64) is expected


def test_an_extreme_shape_keeps_at_least_one_pixel():
    assert within(noise(1, 5000), 16).shape == (1, 16, 3)


def test_without_a_known_seed_equal_pixels_are_the_same_draw_and_others_are_not(folder, tmp_path):
    shutil.copy(folder / "doctor" / "0.png", folder / "doctor" / "7.png")
    seeds = {
        i: seed for b in files(folder).batches(DOCTOR, range(8)) for i, seed in zip(b.indices, b.seeds, strict=True)
    }
    assert seeds[0] == seeds[7] == pixel_seed(np.array(Image.open(folder / "doctor" / "0.png")))
    assert len(set(seeds.values())) == 7
    manifest = tmp_path / "m.csv"
    manifest.write_text("path,prompt,seed,occupation\npictures/doctor/0.png,a doctor,41,doctor\n")
    source = PictureFiles(ModelConfig(source="images", manifest=str(manifest)))
    assert source.batches(DOCTOR, [0])[0].seeds == (41,)
    assert source.sampling["known_seeds"] == 1


def test_a_picture_damaged_after_the_check_is_named(folder):
    damaged = folder / "doctor" / "0.png"
    damaged.write_bytes(damaged.read_bytes()[:200])
    with pytest.raises(ValueError, match=r"doctor/0\.png: expected a picture that can be read"):
        files(folder).batches(DOCTOR, [0])


def test_a_copy_has_the_same_fingerprint_and_any_change_another(folder, tmp_path):
    def fingerprint(place, **keys):
        return model_fingerprint(ModelConfig(source="images", **(keys or {"folder": str(place)})))

    first = fingerprint(folder)
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    assert fingerprint(copy) == first
    assert first.startswith("sha256:")
    (copy / "doctor" / "0.png").rename(copy / "doctor" / "00.png")
    renamed = fingerprint(copy)
    Image.fromarray(noise(64, 64)).save(copy / "doctor" / "00.png")
    assert len({first, renamed, fingerprint(copy)}) == 3
    manifest = tmp_path / "m.csv"
    found = set()
    for row in ("a doctor,", "a doctor,1", "one doctor,1"):
        manifest.write_text(f"path,prompt,seed\npictures/doctor/0.png,{row}\n")
        found.add(pictures_fingerprint(ModelConfig(source="images", manifest=str(manifest))))
    assert len(found) == 3
