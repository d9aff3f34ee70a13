"""What the file of a benchmark may say: keys of an audit, models, attributes, methods and their settings.

``python -m audit.config.benchmark.sections > configs/benchmarks/schema.json`` writes the committed schema.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from typing import Annotated, Any, Self

from pydantic import AfterValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from audit.config.fields import (
    DEFAULT_ATTRIBUTES,
    EachOnce,
    GroupName,
    Names,
    Section,
    ShortName,
    Text,
    only_known_fields,
)
from audit.config.problems import listing
from audit.config.schema import config_schema

OF_THE_BENCHMARK = ("name", "model", "mitigations", "gates", "alerts", "statement")
"""Keys of an audit that ``base`` cannot have: the benchmark sets them, or decides nothing by them."""

OF_A_MODEL = (
    *("name", "seed", "attributes", "mitigations", "gates", "alerts", "statement", "tracking", "workers", "output"),
)
"""Keys of an audit that an entry of ``models`` cannot have: all models share them."""

OF_A_METHOD = ("name", "settings", "models", "only")
"""Keys of an entry of ``methods`` that are no keys of its mitigation."""

Keys = dict[str, Any]


class BenchmarkMethod(Section):
    """One method, with the keys of its mitigation except for ``name`` and ``attribute``."""

    model_config = ConfigDict(extra="allow")

    name: ShortName
    """Name of the method, used in the names of its arms."""
    method: Text
    """The method, as under ``mitigations`` of an audit."""
    settings: dict[ShortName, Keys] = Field({})
    """Settings to compare: name → keys of the mitigation. Each is an arm of its own; without settings there is one."""
    models: dict[ShortName, Keys] = Field({})
    """Name of a model → keys of the mitigation on this model alone, for example its ``hookpoints``: networks of another
    architecture have other modules."""
    only: Names | None = None
    """Attributes on which the method is tried, as far as they are among ``attributes``; without it all of them. A
    method that names its own ``attribute`` is tried on this one alone."""

    @property
    def own_attribute(self) -> tuple[str, ...]:
        """Attributes that the method's own keys or its parts name; empty if the benchmark sets the attribute."""
        return _attributes_of(self.model_extra or {})

    @property
    def arms(self) -> tuple[str, ...]:
        """Names of the arms of one attribute."""
        return tuple(f"{self.name}-{setting}" for setting in self.settings) or (self.name,)


class BenchmarkControl(Section):
    """Prompts that a method should leave as they are: prompts that name a group, or that show no person."""

    name: ShortName
    """Name of the control, used in titles and file names."""
    template: Annotated[Text, AfterValidator(only_known_fields)] | None = None
    """Template of its prompts, for example ``a face photo of a female {occupation}``; that of ``base`` if unset."""
    occupations: Annotated[tuple[Text, ...], Field(strict=False, min_length=1), EachOnce] | None = None
    """What its prompts name; the occupations of ``base`` if unset. For a model that draws anything, these can be
    things: ``[bicycle, kitchen]``."""

    @model_validator(mode="after")
    def _differs(self) -> Self:
        if self.template is None and self.occupations is None:
            raise _mistake(f"expected template or occupations for the control {self.name!r}, found neither; add one")
        return self


class BenchmarkConfig(Section):
    """Methods × attributes × models × settings, side by side on the same prompts and the same noise."""

    name: ShortName
    """Name of the benchmark, used in file names."""
    base: Keys = Field({})
    """Keys of an audit that all models share: ``prompts``, ``sampling``, ``judge``, ``quality``, ``output``."""
    models: dict[ShortName, Keys] = Field({"calibration": {}}, min_length=1)
    """Name of a model → keys of an audit, which replace those of ``base``: ``model``, ``lens``, ``sampling``."""
    attributes: Annotated[tuple[GroupName, ...], Field(strict=False, min_length=1), EachOnce] = ("gender",)
    """Attributes that the methods balance. All attributes of ``base`` are measured."""
    methods: Annotated[tuple[BenchmarkMethod, ...], Field(strict=False, min_length=1)]
    """Methods to compare."""
    held_out: Annotated[tuple[Text, ...], Field(strict=False), EachOnce] = ()
    """Occupations that no fit sees. They are audited a second time with the fits of the other prompts, and the page
    says whether the ranking is the same. Strengths are found for each prompt anew, as in any audit."""
    controls: Annotated[tuple[BenchmarkControl, ...], Field(strict=False, max_length=20)] = ()
    """Prompts whose groups and pictures must stay as they are. Each is audited with the fits of the other prompts."""
    strips: int = Field(3, ge=0, le=20)
    """Prompts whose paired images the page shows."""

    @model_validator(mode="after")
    def _keys_fit(self) -> Self:
        _refuse("base", self.base, OF_THE_BENCHMARK)
        for name, keys in self.models.items():
            _refuse(f"models.{name}", keys, OF_A_MODEL)
        arms = [arm for method in self.methods for arm in method.arms]
        repeated = sorted({arm for arm in arms if arms.count(arm) > 1})
        if repeated:
            raise _mistake(f"methods: expected unique names of methods and settings, found {listing(repeated)} twice")
        named = [control.name for control in self.controls]
        again = sorted({name for name in named if named.count(name) > 1})
        if again:
            raise _mistake(f"controls: expected unique names, found {listing(again)} twice; rename one")
        for method in self.methods:
            _refuse_other_attributes(method)
            _refuse_other_models(method, self.models)
            _refuse_unknown_attributes(method, (*_audited(self.base), *self.attributes))
        return self


def _audited(base: Keys) -> tuple[str, ...]:
    """Return the attributes that audits have, whether or not they are balanced."""
    own = base.get("attributes")
    return tuple(map(str, own)) if isinstance(own, dict) else tuple(DEFAULT_ATTRIBUTES)


def _refuse_unknown_attributes(method: BenchmarkMethod, known: tuple[str, ...]) -> None:
    """Refuse ``only`` with an attribute that no audit has; one that is not balanced this time leaves the method out."""
    unknown = [name for name in method.only or () if name not in known]
    if unknown:
        audited = listing(dict.fromkeys(known))
        raise _mistake(f"methods: expected only: among the audited attributes ({audited}), found {unknown[0]!r}")


def _attributes_of(keys: Keys) -> tuple[str, ...]:
    """Return the attributes that keys of a mitigation name, themselves or in their parts."""
    parts = keys.get("parts")
    if isinstance(parts, list | tuple):
        return tuple(str(part["attribute"]) for part in parts if isinstance(part, dict) and "attribute" in part)
    found: Any = keys.get("attributes", keys.get("attribute", ()))
    return (found,) if isinstance(found, str) else tuple(map(str, found))


def _refuse_other_attributes(method: BenchmarkMethod) -> None:
    """Refuse a joint method without attributes, and settings of others: an audit compares all arms on its own."""
    own = method.own_attribute
    if method.method == "joint" and not own:
        parts = (method.model_extra or {}).get("parts")
        found = "none" if parts is None else repr(parts)
        raise _mistake(
            f"methods: expected parts of the joint method {method.name!r} beside its name, each with an attribute, "
            f"found {found}; write them there, and in settings only other parts of the same attributes"
        )
    for setting, keys in method.settings.items():
        named = _attributes_of(keys)
        if named and set(named) != set(own):
            key = next(key for key in ("parts", "attributes", "attribute") if key in keys)
            expected = f"the attributes of the method ({listing(own)})" if own else "those of the benchmark"
            raise _mistake(
                f"methods: {method.name}: settings.{setting}.{key}: expected {expected}, found {listing(named)}; write "
                "another method under methods"
            )


def _refuse_other_models(method: BenchmarkMethod, models: Iterable[str]) -> None:
    """Refuse keys for a model that is not compared, and keys that a setting has too: one of both would not count."""
    where = f"methods: {method.name}: models"
    for model, keys in method.models.items():
        if model not in models:
            raise _mistake(f"{where}: expected names of the models ({listing(models)}), found {model!r}; correct it")
        set_twice = sorted(key for setting in method.settings.values() for key in setting if key in keys)
        if set_twice:
            raise _mistake(
                f"{where}.{model}: expected other keys than those of settings, found {set_twice[0]!r} in both; write "
                "another method under methods"
            )


def _refuse(where: str, keys: Keys, names: tuple[str, ...]) -> None:
    found = [name for name in names if name in keys]
    if found:
        raise _mistake(f"{where}: expected keys of an audit without {listing(names)}, found {found[0]!r}; remove it")


def _mistake(message: str) -> PydanticCustomError:
    return PydanticCustomError("mistake", "{message}", {"message": message})


if __name__ == "__main__":
    json.dump(config_schema(BenchmarkConfig), sys.stdout, indent=2, ensure_ascii=False)
    sys.stdout.write("\n")
