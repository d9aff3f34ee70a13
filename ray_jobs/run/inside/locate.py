"""Makes the location map of a model on the workers."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from audit.analyses.location import Counts, LocationRequest
from audit.analyses.location_map import MapRequest
from audit.analyses.stored_maps import Located, find_map, store_map
from audit.config.slices import DissectionRequest
from audit.models.families.registry import steps_here
from audit.models.source import model_fingerprint
from audit.planning.plan import prompts_of_model
from audit.preflight.lens import places_of
from audit.records.located.location import LocationMap
from audit.records.located.places import Place
from ray_jobs.run.inside.analyse import AnalysisSettings, run_analysis
from ray_jobs.run.network import NetworkSettings
from ray_jobs.run.parts import WorkerPool

LOG = logging.getLogger(__name__)

PROMPTS, IMAGES = 8, 3
"""Prompts of a map that a run makes, and seeds of each."""


def make_map(located: Located, request: MapRequest, output: str, pool: WorkerPool) -> LocationMap:
    """Make a location map in three stages, each of which resumes with the parts that are missing.

    Args:
        located: The model and the judge.
        request: What the map is made for.
        output: Path or address of the directory that holds parts.
        pool: Where the tasks run.

    Raises:
        AnalysisError: If a task failed.
    """

    def count(stage: LocationRequest) -> Sequence[Counts]:
        if not stage.questions:
            return ()
        network = NetworkSettings(located.model, located.sampling, "")
        settings = AnalysisSettings("location", stage, network, located.judge, located.attributes)
        counts: Sequence[Counts] = run_analysis(settings, output, pool)
        return counts

    LOG.info("Location map: screening %d places", len(request.places))
    screened = count(request.screening)
    counting = request.counting(screened)
    LOG.info("Location map: %d of %d figures to count", len(counting.questions), len(screened))
    counted = count(counting)
    windowing = request.windowing(counted)
    LOG.info("Location map: %d figures by window of steps", len(windowing.questions))
    windows = count(windowing)
    steps = steps_here(located.model, located.sampling)
    return request.assemble(screened, counted, windows, model_fingerprint(located.model), steps)


def ensure_map(request: DissectionRequest, output: str, pool: WorkerPool) -> LocationMap | None:
    """Return the finished map of a model; with ``lens.locate`` a missing one is made and stored.

    Raises:
        AnalysisError: If a task failed.
        ValueError: A stored map cannot be read, or the model has no places.
    """
    located = Located.of(request)
    found = find_map(located, output)
    if found is None and request.lens.locate:
        found = make_map(located, _request(request), output, pool)
        store_map(found, located, output)
    return found


def _request(request: DissectionRequest) -> MapRequest:
    return MapRequest(
        attributes=request.attributes,
        prompts=prompts_of_model(request.model, request.prompts)[:PROMPTS],
        template=request.prompts.template,
        places=places_of(request.model),
        always=(Place.parse(request.lens.hookpoint),),
        images=IMAGES,
        batch=request.sampling.batch,
    )
