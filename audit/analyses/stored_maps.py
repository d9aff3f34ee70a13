"""Finished location maps: named by content, beside the runs of an output directory, or bundled with a model."""

from __future__ import annotations

import json
from dataclasses import dataclass

from audit.calibration.bundle import bundle_of
from audit.config.sections import JudgeConfig, ModelConfig, SamplingConfig
from audit.config.slices import Attributes, DissectionRequest
from audit.models.families.interface import TEXT_MASK
from audit.models.families.registry import family_here
from audit.models.source import model_fingerprint
from audit.perception.judges.registry import judge_name
from audit.records.located.location import LOCATION_FORMAT, LocationMap
from audit.storage.files import storage_of
from audit.storage.place import Place, place_of
from audit.storage.provenance import content_name
from audit.storage.run_directory import LOCATION
from audit.storage.stored_result import read_result

ANALYSES_DIRECTORY = "analyses"
"""Directory of maps and of parts of analyses under ``output`` of the config."""


MAP = "map"
"""What the name of a map's directory starts with."""


@dataclass(frozen=True)
class Located:
    """What a location map belongs to: equal models, samplers, judges, attributes and templates share a map.

    Attributes:
        model: The model.
        sampling: How it is sampled.
        judge: Judge of the images.
        attributes: Audited attributes.
        template: Template of the prompts.
    """

    model: ModelConfig
    sampling: SamplingConfig
    judge: JudgeConfig
    attributes: Attributes
    template: str

    @classmethod
    def of(cls, request: DissectionRequest) -> Located:
        """Take it from what a lens is made from."""
        return cls(request.model, request.sampling, request.judge, request.attributes, request.prompts.template)

    @property
    def name(self) -> str:
        """Name by content."""
        settings = {
            "steps": self.sampling.steps,
            "guidance": self.sampling.guidance,
            "departures": self.sampling.departures,
            "dtype": self.model.dtype,
            **({"compile": True} if self.model.compile else {}),
            **({"text_masks": True} if self._texts_have_masks else {}),  # older maps left them where they were
            "judge": judge_name(self.judge, self.model),
            "judge_settings": self.judge.model_dump(mode="json", exclude_defaults=True),
            "attributes": {name: list(groups) for name, groups in self.attributes.items()},
            "template": self.template,
        }
        return content_name(MAP, LOCATION_FORMAT, model_fingerprint(self.model), settings)

    @property
    def _texts_have_masks(self) -> bool:
        family = family_here(self.model)
        return family is not None and TEXT_MASK in family.read_by_denoiser.values()


def find_map(located: Located, output: str) -> LocationMap | None:
    """Return the finished map of a model, made before or bundled with the model; None if no map is finished.

    Args:
        located: What the map belongs to.
        output: Path or address of the directory that holds maps.

    Raises:
        ValueError: A stored map cannot be read.
    """
    places = (directory / located.name for directory in directories_of_maps(located, output))
    return next((_read(place) for place in places if storage_of(place).has(LOCATION)), None)


def directories_of_maps(located: Located, output: str) -> tuple[Place, ...]:
    """Return the directories that hold maps, of this model or another one.

    Look here before you ask for the name of a map, which reads all weights of the model or asks the hub.
    """
    bundle = bundle_of(located.model)
    directories: list[Place] = [place_of(output).absolute() / ANALYSES_DIRECTORY, *([bundle.maps] if bundle else [])]
    return tuple(one for one in directories if any(name.startswith(f"{MAP}-") for name in storage_of(one).folders()))


def store_map(found: LocationMap, located: Located, output: str) -> None:
    """Store a map as that of a model; it replaces an earlier one."""
    storage_of(map_place(located, output)).write(LOCATION, map_as_bytes(found))


def map_place(located: Located, output: str) -> Place:
    """Return the directory of a model's map."""
    return place_of(output).absolute() / ANALYSES_DIRECTORY / located.name


def map_as_bytes(found: LocationMap) -> bytes:
    """Return a map as the JSON that is stored."""
    return (json.dumps(found.as_data(), indent=1) + "\n").encode()


def _read(place: Place) -> LocationMap:
    return read_result(place, LOCATION, LocationMap.of_data, "a location map", "difflens-audit locate")
