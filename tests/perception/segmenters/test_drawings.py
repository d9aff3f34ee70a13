"""The segmenter of the calibration model: parts of drawings, and of pictures that the model generates."""

import json

import pytest
import torch

from audit.calibration.bundle import bundle_of
from audit.calibration.canvas import PARTS
from audit.calibration.part_network import PartNetwork
from audit.calibration.world import World
from audit.config.optional.segmenters import SegmenterConfig
from audit.config.sections import ModelConfig
from audit.perception.segmenters.registry import load_segmenter
from audit.training.instruments.segmenter import HELD_OUT_SEED, draw, measure, train_segmenter
from audit.training.loop import Schedule

SHIPPED = bundle_of(ModelConfig()).segmenter


@pytest.fixture(scope="module")
def drawings():
    return draw(World.bundled(), HELD_OUT_SEED, 24)


def test_the_shipped_network_labels_held_out_drawings_as_its_card_says(drawings):
    images, parts = drawings
    card = json.loads((SHIPPED / "card.json").read_text())
    accuracy, iou = measure(PartNetwork.load(SHIPPED), images, parts)
    assert accuracy == pytest.approx(card["accuracy"]["drawn"], abs=0.02)
    assert min(iou.values()) > 0.7
    assert sum(file.stat().st_size for file in SHIPPED.iterdir()) < 1_000_000


def test_the_bundled_segmenter_names_the_renderers_parts_at_any_size(drawings):
    images, parts = drawings
    segmenter = load_segmenter(SegmenterConfig(), ModelConfig())
    assert segmenter.parts == PARTS
    large = torch.nn.functional.interpolate(images[:2].float(), scale_factor=2, mode="bilinear").byte()
    labels = segmenter.labels(large)
    assert labels.shape == (2, 128, 128)
    assert float((labels[:, ::2, ::2] == parts[:2]).float().mean()) > 0.9


def test_training_lowers_the_error(drawings, tmp_path):
    network, losses = train_segmenter(
        *drawings, Schedule(steps=6, batch=4, learning_rate=4e-3, warmup=1), tmp_path / "state.pt"
    )
    assert losses[-1] < losses[0]
    network.save(tmp_path / "saved")
    loaded = PartNetwork.load(tmp_path / "saved")
    assert loaded.parts == PARTS
