"""The list of commands in a help text: in sections, with summaries that are wrapped and never cut."""

from typing import Any

import typer

LONGEST = 1000
SECTIONS = {
    "Use GPUs": ("run", "reserve", "env", "check", "extend", "release", "disown", "cancel"),
    "View status": (
        "status",
        "find",
        "top",
        "who",
        "reservations",
        "queue",
        "bookings",
        "history",
        "report",
        "events",
    ),
    "Notices and violations": ("violations", "silence", "deliveries", "deadletters", "notify", "log"),
    "Administer": (
        "admin",
        "doctor",
        "config",
        "backup",
        "restore",
        "redis",
        "install",
        "enforcement",
        "slurm",
        "pbs",
        "kubernetes",
        "oci",
    ),
    "Run the service": ("serve", "worker", "exporter", "web", "demo"),
}


class WholeSummaries(typer.core.TyperGroup):
    """A group whose commands are one list."""

    def sections(self, names: list[str]) -> dict[str, list[str]]:
        """Return the names of the commands by section; each is in exactly one."""
        return {"Commands": names}

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the sections that have commands."""
        found = {name: self.get_command(ctx, name) for name in self.list_commands(ctx)}
        shown = {
            name: one.get_short_help_str(LONGEST) for name, one in found.items() if one and not one.hidden
        }
        for title, names in self.sections(list(shown)).items():
            rows = [(name, shown[name]) for name in names if name in shown]
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows)


class AllCommands(WholeSummaries):
    """The group of all commands."""

    def sections(self, names: list[str]) -> dict[str, list[str]]:
        """Return the sections; a command that has none is in the last one."""
        placed = {name for section in SECTIONS.values() for name in section}
        found = {title: list(section) for title, section in SECTIONS.items()}
        rest = [name for name in names if name not in placed]
        return {**found, "Other": rest}
