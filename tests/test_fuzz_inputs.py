"""The fuzz of models and reference pictures finds nothing in the product, and finds faults that are planted in it."""

import numpy as np
import pytest
from PIL import Image

from audit.models.generator import DiffusionGenerator
from benchmarks import fuzz_models, fuzz_references
from benchmarks.fuzz_cases import Tally, try_case
from benchmarks.fuzz_config import Outcome, without_network


@pytest.fixture(autouse=True, scope="module")
def quiet():
    fuzz_models.quiet_libraries()


def tried(draw, numbers):
    tally = Tally()
    with without_network():
        for number in numbers:
            try_case(draw, 0, number, tally)
    return tally


def found(draw, numbers):
    """Return the first finding."""
    tally = Tally()
    with without_network():
        for number in numbers:
            try_case(draw, 0, number, tally)
            if tally.findings:
                return tally.findings[0]
    return None


def test_folders_are_refused_or_read_right():
    tally = tried(fuzz_references.draw_folder, range(40))
    assert tally.findings == []
    assert tally.problem() is None
    assert tally.cases == 40


def test_models_are_refused_or_draw_right():
    tally = tried(fuzz_models.draw_model, range(8))
    assert tally.findings == []
    assert min(tally.outcome.refused, tally.outcome.configs) > 0


def test_an_ignored_rotation_is_found(monkeypatch):
    monkeypatch.setattr("audit.storage.outside.picture._turned_upright", lambda image: image)
    assert "is read as a picture that was not put there" in found(fuzz_references.draw_folder, range(40))


def test_a_clipped_16_bit_grey_is_found(monkeypatch):
    def clipped(image):
        if image.mode == "I;16":
            return Image.fromarray(np.minimum(np.array(image), 255).astype(np.uint8)), None
        return parts(image)

    from audit.storage.outside.picture import _parts as parts

    monkeypatch.setattr("audit.storage.outside.picture._parts", clipped)
    assert "is read as a picture that was not put there" in found(fuzz_references.draw_folder, range(40))


def test_counted_copies_are_found(monkeypatch):
    from audit.storage.outside.picture_folder import _Walk

    monkeypatch.setattr(_Walk, "counted", property(lambda _self: set(), lambda _self, _value: None), raising=False)
    assert "counted" in found(fuzz_references.draw_folder, range(25))


def test_tolerated_missing_tensors_are_found(monkeypatch):
    """Neither validate nor the loader looks: the libraries fill in random numbers, and say so in their logs alone."""

    def lenient(directory, part, _model, kind):
        # Beside accelerate a missing tensor stays without numbers; without it, it is uninitialised memory.
        plain = {"low_cpu_mem_usage": False} if kind.__module__.startswith("diffusers") else {}
        return kind.from_pretrained(directory / part, use_safetensors=True, local_files_only=True, **plain)

    monkeypatch.setattr("audit.models.files.expected_tensors.unlike_class", lambda *_: iter(()))
    monkeypatch.setattr("audit.models.loading._network", lenient)
    monkeypatch.setattr(fuzz_models, "HARMLESS", {})
    monkeypatch.setattr(fuzz_models, "DRAWN_OFTEN", ("tensor gone",))
    assert "holds other numbers than its files" in found(fuzz_models.draw_model, range(4, 10))


def test_a_forgotten_seed_is_found(monkeypatch):
    own = DiffusionGenerator._call

    def other_seeds(self, texts, seeds, watched):
        return own(self, texts, [seed + 1 for seed in seeds], watched)

    monkeypatch.setattr(DiffusionGenerator, "_call", other_seeds)
    fuzz_models._undamaged.cache_clear()
    assert "draws other pictures than diffusers" in found(fuzz_models.draw_model, range(4))
    fuzz_models._undamaged.cache_clear()


def test_a_refusal_of_what_is_harmless_is_found(monkeypatch):
    monkeypatch.setattr(
        "audit.models.families.stable_diffusion.unfit_parts", lambda _configs: ["expected another model"]
    )
    assert "refused, though nothing in it is wrong" in found(fuzz_models.draw_model, range(4))


def test_a_fuzz_that_refuses_everything_fails():
    assert (
        Tally(Outcome(configs=5, refused=95)).problem()
        == "one kind of end has 5 of 100 cases, which tests too little of it"
    )
    assert Tally(Outcome(configs=95, refused=5)).problem() is not None
    assert Tally(Outcome(configs=40, refused=60)).problem() is None


def test_a_case_is_drawn_from_its_number(tmp_path):
    drawn = []
    for number, name in ((3, "one"), (3, "two"), (4, "three")):
        (tmp_path / name).mkdir()
        drawn.append(fuzz_references.draw_folder(np.random.default_rng([0, number]), tmp_path / name))
    assert drawn[0].ways == drawn[1].ways != drawn[2].ways
