"""The analyses by name, and the observers that a worker prepares."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from audit.analyses.analysis import Analysis, Observe, ObservingAnalysis, PictureAnalysis, SamplingAnalysis
from audit.analyses.attribution import Attribution
from audit.analyses.composed.persons import PersonsAnalysis
from audit.analyses.concepts.dictionaries import ConceptDictionaries
from audit.analyses.concepts.recorded import ConceptRecording
from audit.analyses.directions import DirectionsAnalysis
from audit.analyses.feature_names import FeatureNames
from audit.analyses.given.picture_maps import PictureMapsAnalysis
from audit.analyses.location import LocationAnalysis
from audit.analyses.perceived import PerceivedAnalysis
from audit.analyses.pictures import PicturesAnalysis, TextsAnalysis
from audit.analyses.stages.trials import StageTrials

if TYPE_CHECKING:
    from audit.dissect.lens import Lens

OBSERVING: Mapping[str, ObservingAnalysis[Any, Any]] = {one.name: one for one in (Attribution(),)}
"""Analyses that watch the baseline images of an audit."""

SAMPLING: Mapping[str, SamplingAnalysis[Any, Any]] = {
    one.name: one
    for one in (
        ConceptDictionaries(),
        ConceptRecording(),
        DirectionsAnalysis(),
        FeatureNames(),
        LocationAnalysis(),
        PerceivedAnalysis(),
        StageTrials(),
        PictureMapsAnalysis(),
        PicturesAnalysis(),
    )
}
"""Analyses with tasks of their own that look inside the model."""

PICTURED: Mapping[str, PictureAnalysis[Any, Any]] = {one.name: one for one in (PersonsAnalysis(), TextsAnalysis())}
"""Analyses with tasks of their own for any model."""

ANALYSES: Mapping[str, Analysis[Any, Any]] = {**OBSERVING, **SAMPLING, **PICTURED}
"""All analyses."""


def ready_observers(lens: Lens | None) -> dict[str, Observe]:
    """Prepare the observing analyses on a worker, by name; those that need a lens are left out without one."""
    ready = {name: analysis.ready(lens) for name, analysis in OBSERVING.items()}
    return {name: observe for name, observe in ready.items() if observe is not None}
