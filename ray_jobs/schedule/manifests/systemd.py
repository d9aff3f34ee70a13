"""A systemd service and timer for a scheduled audit, as sections of settings written out in systemd's own syntax."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from audit.storage.place import Place
from ray_jobs.schedule.cron import Cron

Sections = dict[str, dict[str, str]]

UNQUOTED = set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-+=./:@,")


class UnitError(ValueError):
    """A path that a unit file cannot name."""


@dataclass(frozen=True)
class Units:
    """What both units say.

    Attributes:
        name: Of the audit; the units are ``difflens-<name>.service`` and ``.timer``.
        program: Absolute path of ``difflens-audit``.
        config: Absolute path of the audit's YAML file.
        output: Absolute path of the directory for runs, or its address in an object store.
        directory: Absolute path that relative paths in the config start from.
        cron: When.
        time_zone: Where the clock hangs, by its IANA name.
        user: Whom the audit runs as; it needs to write to ``output`` and nothing more.
        end_within: Seconds after which an audit is ended.
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
        """Refuse what no unit file can say.

        Raises:
            UnitError: If a path holds a line's end or another character that cannot be shown, or the user's name is
                none of a user.
        """
        if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,30}", self.user):
            raise UnitError(f"expected the name of a user such as audit, found {self.user!r}; name one with --user")
        for path in (self.program, self.config, self.output, self.directory):
            if not str(path).isprintable():
                raise UnitError(f"expected a path of printable characters for a systemd unit, found {str(path)!r}")

    @property
    def command(self) -> list[str]:
        """Return what the service runs; a gate that fails leaves the unit in good state."""
        return [
            str(self.program), "schedule", "once", str(self.config),
            "--cron", self.cron.text, "--time-zone", self.time_zone,
            "--output", str(self.output), "--gate-exit-code", "0",
        ]  # fmt: skip

    @property
    def service(self) -> Sections:
        """Return the service: one audit, then it ends."""
        return {
            "Unit": {
                "Description": _text(f"Bias audit {self.name}"),
                "Wants": "network-online.target",
                "After": "network-online.target",
            },
            "Service": {
                "Type": "oneshot",
                # without one a system's unit would run as root
                "User": self.user,
                "ExecStart": " ".join(map(_argument, self.command)),
                "WorkingDirectory": _text(str(self.directory)),
                # tokens and the webhook's secret: systemd reads it as root, and nobody else needs to; it may be absent
                "EnvironmentFile": f"-/etc/difflens-audit/{self.name}.env",
                "TimeoutStartSec": str(self.end_within),
                "TimeoutStopSec": "90",
                # the schedule asks the audit to leave and gives back its lease, before anything is killed
                "KillMode": "mixed",
                "NoNewPrivileges": "yes",
                "PrivateTmp": "yes",
                "ProtectSystem": "full",
            },
        }

    @property
    def timer(self) -> Sections:
        """Return the timer; a slot that passed while the machine was off is made up for when it is on again."""
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
    """Quote one argument of ExecStart: systemd knows C's escapes, ``%`` for its specifiers and ``$`` for variables."""
    doubled = text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return doubled if set(text) <= UNQUOTED and text else f'"{doubled}"'


def _text(text: str) -> str:
    return text.replace("%", "%%")
