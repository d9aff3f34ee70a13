"""CLIP embeds a picture file as open_clip does, and as a viewer shows it where open_clip would read other pixels."""

import json
import shutil

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image, ImageOps

from audit.calibration.bundle import BUNDLED
from audit.perception.embedders.clip import ClipEmbedder, ClipWeights
from audit.storage.outside.picture import read_picture

SIZE = (90, 120)
"""Width and height: CLIP's input is square."""


@pytest.fixture(scope="module", params=["squash", "shortest", "longest"])
def networks(request, tmp_path_factory):
    """The bundled CLIP with each way to make a picture square: ours, and open_clip's model with its transformation."""
    directory = shutil.copytree(BUNDLED / "clip", tmp_path_factory.mktemp("clip") / request.param)
    config = json.loads((directory / "open_clip_config.json").read_text())
    config["preprocess_cfg"] = config.get("preprocess_cfg", {}) | {"resize_mode": request.param}
    (directory / "open_clip_config.json").write_text(json.dumps(config))
    model, _, prepare = open_clip.create_model_and_transforms(f"local-dir:{directory}")
    return ClipEmbedder(ClipWeights.in_directory(directory)), model.eval(), prepare


def picture():
    """A picture without any symmetry, in colour."""
    width, height = SIZE
    x, y = np.meshgrid(np.linspace(0, 1, width), np.linspace(0, 1, height))
    channels = [255 * x, 255 * y**2, 127 * (1 + np.sin(9 * x + 4 * y))]
    return Image.fromarray(np.stack(channels, axis=-1).astype(np.uint8))


def half_transparent():
    image = picture().convert("RGBA")
    image.putalpha(Image.linear_gradient("L").resize(SIZE))
    return image


def deep_grey():
    values = np.asarray(picture().convert("L")).astype(np.uint16) * 257
    return Image.fromarray(values)


AS_OPEN_CLIP = {
    "colour.png": picture,
    "grey.png": lambda: picture().convert("L"),
    "palette.png": lambda: picture().quantize(64),
    "opaque.png": lambda: picture().convert("RGBA"),
    "cmyk.jpg": lambda: picture().convert("CMYK"),
    "colour.webp": picture,
}
"""Files that Pillow reads as they look."""


def embedded(model, prepare, image):
    with torch.inference_mode():
        return model.encode_image(prepare(image)[None], normalize=True).numpy()


def ours(clip, path):
    return clip.images(torch.from_numpy(read_picture(path)).permute(2, 0, 1)[None])


@pytest.mark.parametrize("name", AS_OPEN_CLIP)
def test_a_file_has_the_embedding_that_open_clip_gives_it(networks, tmp_path, name):
    clip, model, prepare = networks
    AS_OPEN_CLIP[name]().save(tmp_path / name)
    with Image.open(tmp_path / name) as image:
        expected = embedded(model, prepare, image.convert("RGB"))
        first_resized = embedded(model, prepare, image)
    np.testing.assert_allclose(ours(clip, tmp_path / name), expected, atol=1e-6)
    # open_clip resizes and pads before it converts to RGB: wrong for a palette's numbers and for the black of CMYK.
    if name not in ("palette.png", "cmyk.jpg"):
        np.testing.assert_allclose(expected, first_resized, atol=5e-3)


def rotated(path):
    exif = Image.Exif()
    exif[0x0112] = 6
    picture().save(path, exif=exif, quality=95)
    with Image.open(path) as image:
        return ImageOps.exif_transpose(image).convert("RGB")


def on_white(path):
    half_transparent().save(path)
    return Image.alpha_composite(Image.new("RGBA", SIZE, "white"), half_transparent()).convert("RGB")


def of_eight_bits(path):
    deep_grey().save(path)
    return picture().convert("L").convert("RGB")


@pytest.mark.parametrize(
    ("name", "shown"), [("rotated.jpg", rotated), ("transparent.png", on_white), ("deep.png", of_eight_bits)]
)
def test_a_file_that_pillow_reads_otherwise_is_embedded_as_it_looks(networks, tmp_path, name, shown):
    clip, model, prepare = networks
    expected = embedded(model, prepare, shown(tmp_path / name))
    found = ours(clip, tmp_path / name)
    np.testing.assert_allclose(found, expected, atol=1e-3)  # of one grey level where colours are mixed
    with Image.open(tmp_path / name) as image:
        plain = embedded(model, prepare, image)
    assert np.abs(found - plain).max() > 0.01, "open_clip alone would have embedded another picture"


def test_the_signature_says_how_a_picture_becomes_square(networks):
    clip, _, prepare = networks
    assert clip.signature.endswith(
        ("|resize:squash-bicubic-64", "|resize:shortest-bicubic-64", "|resize:longest-bicubic-64")
    )
    assert ("CenterCrop(" in str(prepare)) == ("shortest" in clip.signature)
