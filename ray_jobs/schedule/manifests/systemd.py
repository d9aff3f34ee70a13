"""A systemd service and timer for a scheduled audit."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from audit.storage.place import Place
from ray_jobs.schedule.cron import Cron

Sections = dict[str, dict[str, str]]

UNQUOTED = set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-+=./:@,")


class UnitError(ValueError):
    """A path or user name cannot be written in a unit file."""


@dataclass(frozen=True)
class Units:
    """Parameters of both units.

    Attributes:
        name: Name of the audit; the units are ``difflens-<name>.service`` and ``.timer``.
        program: Absolute path of ``difflens-audit``.
        config: Absolute path of the audit's YAML file.
        output: Absolute path of the directory for runs, or its address in an object store.
        directory: Absolute path that relative paths in the config refer to.
        cron: Due times.
        time_zone: IANA name of the time zone of the cron expression.
        user: User of the audit; it needs write access to ``output`` only.
        end_within: Time limit of an audit in seconds.
    """

    name: str
    program: Path
    config: Path
    output: Place
    directory: Path
    cron: Cron
    time_zone: str
    user: str
    end_within: int = 86_400

    def __post_init__(self) -> None:
        """Refuse values that a unit file cannot express.

        Raises:
            UnitError: If a path contains a line break or a non-printable character, or if the user's name is not a
                valid user name.
        """
        if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,30}", self.user):
            raise UnitError(f"expected the name of a user such as audit, found {self.user!r}; name one with --user")
        for path in (self.program, self.config, self.output, self.directory):
            if not str(path).isprintable():
                raise UnitError(f"expected a path of printable characters for a systemd unit, found {str(path)!r}")

    @property
    def command(self) -> list[str]:
        """Return the command of the service; a failed gate does not mark the unit as failed."""
        return [
            str(self.program), "schedule", "once", str(self.config),
            "--cron", self.cron.text, "--time-zone", self.time_zone,
            "--output", str(self.output), "--gate-exit-code", "0",
        ]  # fmt: skip

    @property
    def service(self) -> Sections:
        """Return the service, which runs one audit and ends."""
        return {
            "Unit": {
                "Description": _text(f"Bias audit {self.name}"),
                "Wants": "network-online.target",
                "After": "network-online.target",
            },
            "Service": {
                "Type": "oneshot",
                # without a user, a system unit would run as root
                "User": self.user,
                "ExecStart": " ".join(map(_argument, self.command)),
                "WorkingDirectory": _text(str(self.directory)),
                # tokens and the webhook's secret; only systemd, as root, needs to read the file, which is optional
                "EnvironmentFile": f"-/etc/difflens-audit/{self.name}.env",
                "TimeoutStartSec": str(self.end_within),
                "TimeoutStopSec": "90",
                # on SIGTERM the schedule stops the audit and releases its lease before processes are killed
                "KillMode": "mixed",
                "NoNewPrivileges": "yes",
                "PrivateTmp": "yes",
                "ProtectSystem": "full",
            },
        }

    @property
    def timer(self) -> Sections:
        """Return the timer; a slot that passed while the machine was off runs after the next start."""
        return {
            "Unit": {"Description": _text(f"When the bias audit {self.name} runs")},
            "Timer": {
                "OnCalendar": self.cron.on_calendar(self.time_zone),
                "Persistent": "true",
                "AccuracySec": "1s",
                "Unit": f"difflens-{self.name}.service",
            },
            "Install": {"WantedBy": "timers.target"},
        }


def to_unit(sections: Sections) -> str:
    """Return the text of a unit file."""
    blocks = [[f"[{name}]", *(f"{key}={value}" for key, value in items.items())] for name, items in sections.items()]
    return "\n\n".join("\n".join(lines) for lines in blocks) + "\n"


def _argument(text: str) -> str:
    """Quote one argument of ExecStart: systemd interprets C escapes, ``%`` specifiers and ``$`` variables."""
    doubled = text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return doubled if set(text) <= UNQUOTED and text else f'"{doubled}"'


def _text(text: str) -> str:
    return text.replace("%", "%%")
