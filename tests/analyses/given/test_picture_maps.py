"""Pictures read inside a model: the model's own images are the ends of an axis, and known faces are placed right."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from audit.analyses.analysis import Instruments
from audit.analyses.given.picture_maps import PictureMapsAnalysis, PictureMapsRequest, fitted, picture_files
from audit.calibration.renderer import render
from audit.calibration.world import OCCUPATIONS, face_noise, uniform_labels
from audit.config.sections import ModelConfig, SamplingConfig
from audit.models.generator import load_generator
from audit.records.inside.exploration import Axis
from audit.records.work import derive_seed
from benchmarks.tiny_families import save_sdxl

NEUTRAL, LOW, HIGH = "a photo of a person", "a photo of a cold person", "a photo of a warm person"
ANALYSIS = PictureMapsAnalysis()


def request_of(folder, **changes):
    plain = PictureMapsRequest(
        hookpoint="mid_block", step=3, seeds=3, batch=8, neutral=NEUTRAL, axes=(Axis("warmth", LOW, HIGH),),
        images=8, seed=0, files=tuple(picture_files(folder)),
    )  # fmt: skip
    return replace(plain, **changes)


def found(generator, request):
    parts = [ANALYSIS.part(Instruments(generator, None), request, task) for task in ANALYSIS.tasks(request)]
    return ANALYSIS.combine(request, parts)


def save(folder, images, name):
    folder.mkdir(exist_ok=True)
    for number, image in enumerate(images):
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(folder / f"{name}{number}.png")


def own(generator, text, images):
    return generator.sample([text] * images, [derive_seed("own pictures", 0, number) for number in range(images)])


@pytest.fixture(scope="module", params=["sd", "sdxl"])
def generator(request, tiny_pipeline, tmp_path_factory):
    directory = tiny_pipeline if request.param == "sd" else save_sdxl(tmp_path_factory.mktemp("sdxl"))
    return load_generator(ModelConfig(source=str(directory)), SamplingConfig(steps=6, guidance=2.0))


def test_the_models_own_images_are_the_ends_and_the_middle(generator, tmp_path):
    for name, text in (("a", LOW), ("b", HIGH), ("c", NEUTRAL)):
        save(tmp_path / "own", own(generator, text, 8), name)
    maps = found(generator, request_of(tmp_path / "own"))
    low, high = maps.scores[:8, 0].mean(), maps.scores[8:16, 0].mean()
    assert (low, high) == (pytest.approx(-1, abs=1e-4), pytest.approx(1, abs=1e-4))
    middle, whole = maps.halves[:, 16:].mean((0, 1)), maps.halves[:, :16].mean((0, 1))
    assert np.abs(middle).max() < 0.01 * np.abs(maps.halves).max()
    assert whole.any()
    assert maps.own.shape == (1, 2, 8)


def test_neither_batch_nor_other_files_change_a_score(generator, tmp_path):
    save(tmp_path / "given", own(generator, NEUTRAL, 5), "p")
    one = found(generator, request_of(tmp_path / "given"))
    other = found(generator, request_of(tmp_path / "given", batch=3))
    # With random weights the ends of an axis are nearly equal, so that scores magnify rounding, and reach 100.
    rounding = 1e-3 * np.abs(one.scores).max()
    np.testing.assert_allclose(one.scores, other.scores, rtol=0, atol=rounding)
    (tmp_path / "given" / "p0.png").unlink()
    fewer = found(generator, request_of(tmp_path / "given"))
    np.testing.assert_allclose(one.scores[1:], fewer.scores, rtol=0, atol=rounding)


def photo(path, size=(97, 61), **saved):
    noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    noise[:, : size[0] // 2] //= 4  # a dark left half shows how a picture is turned
    Image.fromarray(noise).save(path, **saved)


def test_a_photograph_is_turned_upright_covers_the_size_and_keeps_its_middle(tmp_path):
    photo(tmp_path / "plain.jpg", quality=95)
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 3, "camera"
    photo(tmp_path / "turned.jpg", quality=95, exif=exif)
    plain, turned = (fitted(tmp_path / name, 16, 16) for name in ("plain.jpg", "turned.jpg"))
    assert plain.shape == (3, 16, 16)
    assert plain[:, :, :8].mean() < plain[:, :, 8:].mean() / 2
    np.testing.assert_array_equal(turned, plain[:, ::-1, ::-1])


@pytest.mark.parametrize("mode", ["L", "RGBA", "1", "P", "CMYK"])
def test_every_colour_mode_is_read_as_three_channels(tmp_path, mode):
    path = tmp_path / ("p.jpg" if mode == "CMYK" else "p.png")
    Image.new("RGB", (40, 90), (200, 30, 30)).convert(mode).save(path)
    assert fitted(path, 24, 16).shape == (3, 24, 16)


def test_a_damaged_file_is_named(tmp_path):
    photo(tmp_path / "whole.jpg")
    (tmp_path / "half.jpg").write_bytes((tmp_path / "whole.jpg").read_bytes()[:900])
    with pytest.raises(ValueError, match=r"half\.jpg: expected a picture that can be read"):
        fitted(tmp_path / "half.jpg", 16, 16)


def test_a_task_is_named_by_the_content_of_its_files(tmp_path):
    photo(tmp_path / "p.png")
    before = ANALYSIS.tasks(request_of(tmp_path))
    assert len({task.id for task in before}) == len(before) == 4
    (tmp_path / "p.png").rename(tmp_path / "odd “name'; &.png")
    assert [task.id for task in ANALYSIS.tasks(request_of(tmp_path))] == [task.id for task in before]
    photo(tmp_path / "odd “name'; &.png", size=(50, 50))
    after = [task.id for task in ANALYSIS.tasks(request_of(tmp_path))]
    assert after[:-1] == [task.id for task in before[:-1]]
    assert after[-1] != before[-1].id


def test_drawn_faces_are_placed_by_their_gender(tmp_path):
    noise = face_noise(range(24))
    labels = uniform_labels(noise, OCCUPATIONS[:16])
    save(tmp_path / "faces", render(labels, noise).images, "f")
    order = sorted(range(24), key=lambda number: f"f{number}.png")
    generator = load_generator(ModelConfig(), SamplingConfig(batch=24))
    neutral, low, high = (f"a face photo of a {word}person" for word in ("", "female ", "male "))
    axes = (Axis("gender", low, high),)
    request = request_of(tmp_path / "faces", neutral=neutral, axes=axes, step=12, seeds=2, batch=24, images=8)
    maps = found(generator, request)
    gender, scores = labels.gender[order], maps.scores[:, 0].mean(1)
    assert (scores[gender == 1][:, None] > scores[gender == 0]).mean() > 0.9
    assert scores[gender == 0].mean() < 0 < scores[gender == 1].mean()
