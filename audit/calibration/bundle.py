"""The directories of a calibration model: the bundled one, or one trained into a user's directory."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from audit.calibration.world import World
from audit.config.fields import GENERATED_HERE, UNCONDITIONAL, WIDE
from audit.config.sections import ModelConfig

BUNDLED = Path(__file__).parent / "weights"
_OWN = {UNCONDITIONAL: BUNDLED / "unconditional", WIDE: BUNDLED / "wide"}
"""Model sources whose weights are in a directory of their own; the bundled world's networks measure them."""

NETWORK_WEIGHTS, NETWORK_CONFIG = "model.safetensors", "config.json"
NETWORK_FILES = (NETWORK_WEIGHTS, NETWORK_CONFIG)
"""Files that define the judge and the feature network: weights, and a config with the order of the answers."""


@dataclass(frozen=True)
class Bundle:
    """A trained calibration world.

    Attributes:
        path: Directory with ``pipeline/``, ``lens/`` and ``world.yaml``.
        instruments: Directory with ``judge/``, ``features/`` and ``clip/``. Most worlds have their own; the wide one
            has its own judge, and the other two of the bundled world.
    """

    path: Path
    instruments: Path

    @classmethod
    def at(cls, path: Path) -> Bundle:
        """Return a world whose instruments were trained with it."""
        return cls(path, path)

    @property
    def pipeline(self) -> Path:
        """The diffusers directory."""
        return self.path / "pipeline"

    @property
    def judge(self) -> Path:
        """The attribute classifier and its confusion matrix; that of the world itself, if it has one."""
        own = self.path / "judge"
        return own if own.is_dir() else self.instruments / "judge"

    @property
    def features(self) -> Path:
        """The feature network for FID and KID."""
        return self.instruments / "features"

    @property
    def segmenter(self) -> Path:
        """The network that labels pixels with parts; it knows drawings of every world."""
        return BUNDLED / "segmenter"

    @property
    def clip(self) -> Path:
        """The OpenCLIP directory."""
        return self.instruments / "clip"

    @property
    def lenses(self) -> Path:
        """Lenses that ship with the model, one directory each, named by content."""
        return self.path / "lens"

    @property
    def maps(self) -> Path:
        """Location maps that ship with the model, one directory each, named by content."""
        return self.path / "maps"

    @property
    def table(self) -> Path:
        """The planted shares."""
        return self.path / "world.yaml"


def bundle_of(model: ModelConfig) -> Bundle | None:
    """Return the calibration bundle of a model, None for any other model.

    ``rendered`` and pictures of drawings (``drawings: true``) have no network of their own, but use the judge and
    feature network of their world, or the bundled ones.
    """
    if model.source not in GENERATED_HERE and not model.drawings:
        return None
    trained = Path(model.world) if model.world is not None and Path(model.world).is_dir() else None
    if model.source in _OWN:
        return Bundle(trained or _OWN[model.source], BUNDLED)
    return Bundle.at(trained or BUNDLED)


def world_table(model: ModelConfig) -> Path:
    """Return the table of planted shares: that of a trained world, the user's YAML file, or the bundled one."""
    if model.world is None:
        return Bundle.at(_OWN[model.source]).table if model.source in _OWN else World.bundled_path()
    path = Path(model.world)
    return Bundle.at(path).table if path.is_dir() else path


def missing_weights(model: ModelConfig, part: str) -> str | None:
    """Return a message if the weights of a network that was trained with a calibration model are missing.

    Args:
        model: Model of the audit.
        part: Directory of the network in its bundle: ``judge``, ``features`` or ``clip``.
    """
    bundle = bundle_of(model)
    directory: Path | None = None if bundle is None else getattr(bundle, part)
    if directory is None or any(directory.glob("**/*.safetensors")):
        return None
    return f"expected the weights that 'bundled' stands for, found none in {directory}; train them: make calibration"
