"""The protocol of an audit: what was fixed before the first image, written to a file by ``difflens-audit register``.

The time in a protocol is that of the machine that wrote it. Who must prove the time to others hands them the protocol's
checksum when it is registered, for example in a commit, a message or an entry of a public log.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from audit.config.sections import ModelConfig
from audit.evidence.privacy import private_tree
from audit.models.source import model_fingerprint
from audit.planning.targets import Targets
from audit.preflight.weights.needs import Need, Origin
from audit.records.attributes import Attribute
from audit.records.work import Prompt
from audit.storage.outside.json_object import json_object
from audit.storage.provenance import sha256_of

FORMAT = "difflens-audit protocol 1"
SUFFIX = ".protocol.json"

_MAX_BYTES = 64 * 1024**2
_CHECKSUM = "sha256"


class ProtocolError(ValueError):
    """A protocol cannot be read, was changed after it was registered, or would replace another one."""


@dataclass(frozen=True)
class PlannedPrompt:
    """One prompt of a protocol, with its images in each arm (the pilot, with two-stage sampling)."""

    id: str
    text: str
    images: int


@dataclass(frozen=True)
class Protocol:
    """What was fixed before an audit.

    Attributes:
        registered: When, ISO 8601 in UTC.
        version: Version of this package.
        config: The config as resolved, as a run stores it, without secrets and home directories.
        model_fingerprint: Of the weights, None if they were not here.
        prompts: Every prompt.
        arms: Every arm.
        targets: Attribute → prompt id → group → target share.
        files: Key of the config → sha256 of the file that it names; directories and the model's weights are left out.
        power: Statistical power of the plan, as ``difflens-audit plan --json`` prints it.
    """

    registered: str
    version: str
    config: dict[str, Any]
    model_fingerprint: str | None
    prompts: tuple[PlannedPrompt, ...]
    arms: tuple[str, ...]
    targets: dict[str, dict[str, dict[str, float]]]
    files: dict[str, str]
    power: dict[str, Any]

    def as_data(self) -> dict[str, Any]:
        """Return the protocol as plain data, with a checksum over all of it."""
        data = {"format": FORMAT, **json.loads(json.dumps(asdict(self)))}
        return {**data, _CHECKSUM: checksum(data)}

    @classmethod
    def of_bytes(cls, data: bytes, name: str) -> Protocol:
        """Read what :meth:`as_data` became as JSON.

        Args:
            data: Content of the file.
            name: Its name, for messages.

        Raises:
            ProtocolError: If it is no protocol, or was changed after it was registered.
        """
        expected = f"{name}: expected a protocol from difflens-audit register"
        try:
            found = json_object(data, expected, _MAX_BYTES)
        except ValueError as error:
            raise ProtocolError(str(error)) from error
        if found.pop("format", None) != FORMAT:
            raise ProtocolError(f"{expected}, found another file; name the file that register wrote")
        stored = found.pop(_CHECKSUM, None)
        if stored != checksum({"format": FORMAT, **found}):
            raise ProtocolError(f"{expected}, found one that was changed since; register the audit again")
        try:
            prompts = tuple(PlannedPrompt(**prompt) for prompt in found.pop("prompts"))
            return cls(**{**found, "prompts": prompts, "arms": tuple(found["arms"])})
        except (AttributeError, KeyError, TypeError) as error:
            raise ProtocolError(
                f"{expected}, found one with other fields ({error}); register the audit again"
            ) from error

    @property
    def sha256(self) -> str:
        """Checksum of the protocol."""
        found: str = self.as_data()[_CHECKSUM]
        return found


@dataclass(frozen=True)
class Plan:
    """What an audit is going to do, apart from its config.

    Attributes:
        model: The audited model.
        prompts: Its prompts.
        images: Images of each prompt in an arm, by prompt id.
        arms: Its arms.
        attributes: Its attributes.
        targets: Targets of each prompt.
        needs: Files that the config names.
    """

    model: ModelConfig
    prompts: Sequence[Prompt]
    images: Mapping[str, int]
    arms: Sequence[str]
    attributes: Sequence[Attribute]
    targets: Targets
    needs: Sequence[Need]


def register(config: Mapping[str, Any], plan: Plan, power: Mapping[str, Any]) -> Protocol:
    """Return the protocol of an audit, registered now.

    Args:
        config: The config as a run would store it.
        plan: What the audit is going to do.
        power: Its statistical power, as plain data.
    """
    return Protocol(
        registered=datetime.now(UTC).isoformat(timespec="seconds"),
        version=version("difflens-audit"),
        config=private_tree(dict(config)),
        model_fingerprint=known_fingerprint(plan.model),
        prompts=tuple(PlannedPrompt(prompt.id, prompt.text, plan.images[prompt.id]) for prompt in plan.prompts),
        arms=tuple(plan.arms),
        targets={
            attribute.name: {
                prompt.id: dict(zip(attribute.groups, plan.targets[prompt.id][attribute.name], strict=True))
                for prompt in plan.prompts
            }
            for attribute in plan.attributes
        },
        files=file_digests(plan.needs),
        power=json.loads(json.dumps(dict(power))),
    )


def known_fingerprint(model: ModelConfig) -> str | None:
    """Return the fingerprint of a model, None if its weights are not here and no commit names them."""
    try:
        found = model_fingerprint(model)
    except (OSError, ValueError):
        return None
    named = found.startswith(f"{model.source}@")
    return None if named and not re.match(r"[0-9a-f]{40}\b", found[len(model.source) + 1 :]) else found


def file_digests(needs: Iterable[Need]) -> dict[str, str]:
    """Return the sha256 of every single file that a config names and that is here; the model has its fingerprint."""
    return {
        need.key: sha256_of(Path(need.source))
        for need in needs
        if need.origin is Origin.PATH and need.key != "model.source" and Path(need.source).is_file()
    }


def checksum(data: Mapping[str, Any]) -> str:
    """Return the sha256 of plain data; it does not depend on the order of keys."""
    text = json.dumps(data, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def protocol_beside(config: Path) -> Path:
    """Return where the protocol of a config is looked for: ``audit.yaml`` has ``audit.protocol.json``."""
    return config.with_name(config.stem + SUFFIX)


def write_new(protocol: Protocol, to: Path) -> None:
    """Write a protocol to a file that does not exist yet.

    Raises:
        ProtocolError: If the file exists, since a protocol that can be replaced proves nothing.
        OSError: If the file cannot be written.
    """
    text = json.dumps(protocol.as_data(), indent=2, ensure_ascii=False) + "\n"
    try:
        with to.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError as error:
        raise ProtocolError(
            f"{to}: expected no file there, found one; a protocol is not replaced. Name another file with --to"
        ) from error
    except FileNotFoundError as error:
        raise ProtocolError(f"{to}: expected a directory to write to, found none; create it first") from error


def protocol_for(config: Path, named: Path | None) -> bytes | None:
    """Return the protocol of a config: the named file, or the one beside the config; None if there is none.

    Raises:
        ProtocolError: If the file cannot be read, or is no protocol.
    """
    place = named or protocol_beside(config)
    return read_protocol_file(place) if named is not None or place.exists() else None


def read_protocol_file(path: Path) -> bytes:
    """Return the content of a protocol's file after it was checked.

    Raises:
        ProtocolError: If it cannot be read, or is no protocol.
    """
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise ProtocolError(
            f"{path}: expected a protocol, found no readable file ({error.strerror}); check the path"
        ) from error
    Protocol.of_bytes(data, str(path))
    return data
