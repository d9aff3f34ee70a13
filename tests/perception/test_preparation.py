"""What a judge's network sees of a file is what the network's own library makes of it, whatever the file's format."""

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image, ImageOps
from torchvision import transforms
from transformers import BlipImageProcessor

from audit.calibration.bundle import BUNDLED
from audit.config.judges import ClassifierConfig
from audit.perception.embedders.clip import ClipEmbedder, ClipWeights
from audit.perception.judges.kinds.classifier import transform_of
from audit.perception.judges.kinds.fairface import fairface_transform
from audit.perception.preparation import as_pictures, prepared
from audit.storage.outside.picture import read_picture

RIGHT_TOP = 6
"""EXIF orientation of a picture that a viewer turns by 90°."""


def noise(mode, bands):
    """Return smooth coloured noise of 97 × 61 pixels, wider than high, with edges that resizing has to filter."""
    generator = np.random.default_rng(3)
    small = generator.integers(0, 256, (13, 20, bands), dtype=np.uint8)
    pixels = np.kron(small, np.ones((5, 5, 1), dtype=np.uint8))[:61, :97]
    return Image.fromarray(pixels[:, :, 0] if bands == 1 else pixels, mode)


def rgb(path):
    noise("RGB", 3).save(path.with_suffix(".png"))
    return path.with_suffix(".png"), noise("RGB", 3)


def grey(path):
    noise("L", 1).save(path.with_suffix(".png"))
    return path.with_suffix(".png"), noise("L", 1).convert("RGB")


def rgba(path):
    noise("RGBA", 4).save(path.with_suffix(".png"))
    page = Image.new("RGBA", (97, 61), "white")
    page.paste(noise("RGBA", 4).convert("RGB"), mask=noise("RGBA", 4).getchannel("A"))
    return path.with_suffix(".png"), page.convert("RGB")


def cmyk(path):
    noise("CMYK", 4).save(path.with_suffix(".jpg"), quality=95)
    return path.with_suffix(".jpg"), Image.open(path.with_suffix(".jpg")).convert("RGB")


def sixteen_bits(path):
    values = np.asarray(noise("L", 1)).astype(np.uint16) * 257
    Image.fromarray(values).save(path.with_suffix(".png"))
    return path.with_suffix(".png"), noise("L", 1).convert("RGB")


def rotated(path):
    exif = Image.Exif()
    exif[0x0112] = RIGHT_TOP
    noise("RGB", 3).save(path.with_suffix(".jpg"), quality=95, exif=exif)
    return path.with_suffix(".jpg"), ImageOps.exif_transpose(Image.open(path.with_suffix(".jpg"))).convert("RGB")


each_format = pytest.mark.parametrize("written", [rgb, grey, rgba, cmyk, sixteen_bits, rotated])


@pytest.fixture
def file(tmp_path, written):
    """Return the pixels as the audit reads them, ``(1, 3, H, W)``, and the same file as Pillow shows it."""
    path, picture = written(tmp_path / "picture")
    pixels = torch.from_numpy(read_picture(path)).permute(2, 0, 1)[None]
    return pixels, picture


@each_format
def test_the_reader_shows_what_pillow_shows(file, written):
    pixels, picture = file
    assert picture.size == ((61, 97) if written is rotated else (97, 61))
    assert np.array_equal(np.asarray(next(as_pictures(pixels))), np.asarray(picture))


@each_format
def test_fairface_sees_what_its_script_shows_it(file):
    pixels, picture = file
    script = transforms.Compose(
        [
            transforms.Resize((224, 224)),
            transforms.ToTensor(),
            transforms.Normalize(mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225]),
        ]
    )
    assert torch.equal(prepared(pixels, fairface_transform())[0], script(picture))


@each_format
def test_a_classifier_sees_what_torchvisions_weights_prescribe(file):
    from torchvision.models import ResNet50_Weights

    preset = ResNet50_Weights.IMAGENET1K_V2.transforms()
    settings = ClassifierConfig(
        architecture="torchvision/resnet50",
        outputs=("a", "b"),
        groups={"x": {"a": ("a",), "b": ("b",)}},
        size=preset.crop_size[0],
        resize=preset.resize_size[0],
        interpolation=preset.interpolation.value,
    )
    pixels, picture = file
    assert torch.allclose(prepared(pixels, transform_of(settings))[0], preset(picture), atol=1e-6)


@each_format
def test_clip_sees_what_open_clip_shows_it(file):
    clip = ClipEmbedder(ClipWeights.in_directory(BUNDLED / "clip"))
    _, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{BUNDLED / 'clip'}")
    pixels, picture = file
    assert torch.equal(prepared(pixels, clip._transform)[0], preprocess(picture))


@each_format
def test_blip_sees_what_its_processor_shows_it(file):
    processor = BlipImageProcessor(size={"height": 32, "width": 32})
    pixels, picture = file
    expected = processor(picture, return_tensors="pt").pixel_values
    assert torch.equal(processor(list(as_pictures(pixels)), return_tensors="pt").pixel_values, expected)
