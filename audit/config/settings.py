"""An audit's complete, validated config.

Checks that need more than one field (:mod:`audit.config.agreement`) run whenever a config is created, in code or from
a file. Checks that depend on the machine (paths, servers, the calibration world) are in
:mod:`audit.preflight.readiness`. :mod:`audit.config.file` finds the position of each error in a file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

from pydantic import ValidationError, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from audit.config.agreement import disagreements
from audit.config.fields import CLOSED, ZERO_SHOT
from audit.config.kinds.known_models import usual_sampling
from audit.config.problems import Problem
from audit.config.sections import AuditSections
from audit.storage.place import place_of, sqlite_uri


class AuditConfig(AuditSections):
    """One audit: a model, its prompts, the attributes that a judge perceives, and the mitigations to try."""

    @model_validator(mode="before")
    @classmethod
    def _lens_follows_attributes(cls, data: Any) -> Any:  # noqa: ANN401 (a file can contain any value)
        """Let ``lens.attributes`` default to the audited attributes if the config names any."""
        if not isinstance(data, dict) or not isinstance(data.get("attributes"), dict) or not data["attributes"]:
            return data
        lens = data.get("lens", {})
        if not isinstance(lens, dict) or "attributes" in lens:
            return data
        return data | {"lens": lens | {"attributes": tuple(data["attributes"])}}

    @model_validator(mode="before")
    @classmethod
    def _sampling_follows_model(cls, data: Any) -> Any:  # noqa: ANN401 (a file can contain any value)
        """Let steps and guidance default to those that the model is published with; there is no guidance without text.

        A model whose settings are not known leaves them unset, and :mod:`audit.preflight.model` asks for them.
        """
        if not isinstance(data, dict) or not isinstance(data.get("sampling", {}), dict):
            return data
        model = data.get("model", {})
        source = model.get("source", "calibration") if isinstance(model, dict) else getattr(model, "source", None)
        source = source if isinstance(source, str) else ""  # anything else is refused with its place
        usual = usual_sampling(source)
        known: dict[str, Any] = {} if usual is None else asdict(usual)
        if source not in CLOSED and _without_prompts(data.get("prompts")):
            known["guidance"] = 1.0
        return data | {"sampling": known | data.get("sampling", {})}

    @model_validator(mode="before")
    @classmethod
    def _default_opinion_differs(cls, data: Any) -> Any:  # noqa: ANN401 (a file can contain any value)
        """Let ``second_opinions`` default to an empty list if no CLIP model is loaded, or the judge is zero-shot."""
        if not isinstance(data, dict) or "second_opinions" in data:
            return data
        without = _value(data.get("quality"), "clip") == "none" or _value(data.get("judge"), "source") == ZERO_SHOT
        return data | {"second_opinions": ()} if without else data

    @model_validator(mode="after")
    def _fields_agree(self) -> Self:
        problems = tuple(disagreements(self))
        if problems:
            raise ValidationError.from_exception_data(type(self).__name__, _line_errors(problems))
        return self

    @property
    def tracking_uri(self) -> str:
        """The effective MLflow URI: the configured one, or a SQLite file under ``output``."""
        if self.tracking.uri:
            return self.tracking.uri
        output = place_of(self.output)
        return sqlite_uri(output / "mlflow.db") if isinstance(output, Path) else ""


def _value(section: object, key: str) -> object:
    """Return a value of a section that is still plain data, or already validated."""
    return section.get(key) if isinstance(section, dict) else getattr(section, key, None)


def _without_prompts(prompts: object) -> bool:
    named = prompts.get("occupations") if isinstance(prompts, dict) else getattr(prompts, "occupations", prompts)
    return named == "none"


def _line_errors(problems: Sequence[Problem]) -> list[InitErrorDetails]:
    return [
        InitErrorDetails(
            type=PydanticCustomError("mistake", "{message}", {"message": problem.message, "reads": problem.reads}),
            loc=problem.location,
            input=None,
        )
        for problem in problems
    ]
