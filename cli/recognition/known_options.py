"""The options of the commands that start often, generated from their definitions by `option_table`.

Name of a command: its module, its function, its options, and its arguments with whether they take all words
that are left. Name of an option: its parameter, its value or the check of its value, and the value that it
has alone.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    Meaning = tuple[str, bool | str, str | None]

MANY = True
COMMANDS: dict[str, tuple[str, str, dict[str, Meaning], tuple[tuple[str, bool], ...]]] = {
    "run": (
        "canhazgpu.cli.reservations.run",
        "run",
        {
            "--gpus": ("gpus", "canhazgpu.cli.values:gpu_count", None),
            "-g": ("gpus", "canhazgpu.cli.values:gpu_count", None),
            "--gpu-ids": ("gpu_ids", "canhazgpu.cli.values:non_empty", None),
            "-G": ("gpu_ids", "canhazgpu.cli.values:non_empty", None),
            "--mig": ("mig", "canhazgpu.cli.values:mig", None),
            "--vendor": ("vendor", "canhazgpu.cli.values:vendor", None),
            "--duration": ("timeout", "canhazgpu.cli.values:non_empty", None),
            "-d": ("timeout", "canhazgpu.cli.values:non_empty", None),
            "--timeout": ("timeout", "canhazgpu.cli.values:non_empty", None),
            "-t": ("timeout", "canhazgpu.cli.values:non_empty", None),
            "--wait": ("wait", "canhazgpu.cli.values:non_empty", "forever"),
            "-w": ("wait", "canhazgpu.cli.values:non_empty", "forever"),
            "--nonblock": ("nonblock", True, None),
            "--note": ("note", "canhazgpu.cli.values:words", None),
            "-n": ("note", "canhazgpu.cli.values:words", None),
            "--user": ("user", "canhazgpu.cli.values:name", None),
            "-u": ("user", "canhazgpu.cli.values:name", None),
            "--new": ("new", True, None),
        },
        (("command", True),),
    ),
    "reserve": (
        "canhazgpu.cli.reservations.reserve",
        "reserve",
        {
            "--gpus": ("gpus", "canhazgpu.cli.values:gpu_count", None),
            "-g": ("gpus", "canhazgpu.cli.values:gpu_count", None),
            "--gpu-ids": ("gpu_ids", "canhazgpu.cli.values:non_empty", None),
            "-G": ("gpu_ids", "canhazgpu.cli.values:non_empty", None),
            "--mig": ("mig", "canhazgpu.cli.values:mig", None),
            "--vendor": ("vendor", "canhazgpu.cli.values:vendor", None),
            "--duration": ("duration", "canhazgpu.cli.values:non_empty", None),
            "-d": ("duration", "canhazgpu.cli.values:non_empty", None),
            "--begin": ("begin", "canhazgpu.cli.values:non_empty", None),
            "-b": ("begin", "canhazgpu.cli.values:non_empty", None),
            "--every": ("every", "canhazgpu.cli.values:non_empty", None),
            "--until": ("until", "canhazgpu.cli.values:non_empty", None),
            "--wait": ("wait", "canhazgpu.cli.values:non_empty", "forever"),
            "-w": ("wait", "canhazgpu.cli.values:non_empty", "forever"),
            "--nonblock": ("nonblock", True, None),
            "--note": ("note", "canhazgpu.cli.values:words", None),
            "-n": ("note", "canhazgpu.cli.values:words", None),
            "--user": ("user", "canhazgpu.cli.values:name", None),
            "-u": ("user", "canhazgpu.cli.values:name", None),
            "--short": ("short", True, None),
            "-s": ("short", True, None),
            "--json": ("as_json", True, None),
            "--shell": ("shell", "canhazgpu.cli.shells:checked_shell", None),
        },
        (),
    ),
    "release": (
        "canhazgpu.cli.reservations.reserve",
        "release",
        {
            "--gpu-ids": ("gpu_ids", "canhazgpu.cli.values:non_empty", None),
            "-G": ("gpu_ids", "canhazgpu.cli.values:non_empty", None),
            "--all": ("everything", True, None),
            "--json": ("as_json", True, None),
        },
        (("gpus", True),),
    ),
    "extend": (
        "canhazgpu.cli.reservations.reserve",
        "extend",
        {
            "--duration": ("duration", "canhazgpu.cli.values:non_empty", None),
            "-d": ("duration", "canhazgpu.cli.values:non_empty", None),
            "--gpu-ids": ("gpu_ids", "canhazgpu.cli.values:non_empty", None),
            "-G": ("gpu_ids", "canhazgpu.cli.values:non_empty", None),
            "--json": ("as_json", True, None),
        },
        (("words", True),),
    ),
    "status": (
        "canhazgpu.cli.status_options",
        "status",
        {
            "--json": ("as_json", True, None),
            "--long": ("long", True, None),
            "-l": ("long", True, None),
            "--user": ("user", "canhazgpu.cli.values:name", None),
            "-u": ("user", "canhazgpu.cli.values:name", None),
            "--mine": ("mine", True, None),
            "--free": ("free", True, None),
            "--sort": ("sort", "", None),
            "--no-color": ("no_color", True, None),
            "--watch": ("watching", True, None),
            "--all": ("every_host", True, None),
            "--host": ("host", "canhazgpu.cli.values:non_empty", None),
        },
        (),
    ),
    "check": (
        "canhazgpu.cli.reservations.check",
        "check",
        {
            "--quiet": ("quiet", True, None),
            "-q": ("quiet", True, None),
            "--short": ("short", True, None),
            "-s": ("short", True, None),
            "--json": ("as_json", True, None),
            "--exec": ("execute", True, None),
        },
        (("command", True),),
    ),
    "queue": (
        "canhazgpu.cli.reservations.queue_listing",
        "queue",
        {
            "--json": ("as_json", True, None),
            "--all": ("every_host", True, None),
        },
        (),
    ),
    "env": (
        "canhazgpu.cli.reservations.env",
        "env",
        {
            "--gpu-ids": ("gpu_ids", "canhazgpu.cli.values:non_empty", None),
            "-G": ("gpu_ids", "canhazgpu.cli.values:non_empty", None),
            "--shell": ("shell", "canhazgpu.cli.shells:checked_shell", None),
            "--json": ("as_json", True, None),
        },
        (("gpus", True),),
    ),
    "cancel": (
        "canhazgpu.cli.reservations.cancel",
        "cancel",
        {
            "--all": ("everything", True, None),
            "--user": ("user", "canhazgpu.cli.values:name", None),
            "-u": ("user", "canhazgpu.cli.values:name", None),
            "--json": ("as_json", True, None),
        },
        (("requests", True),),
    ),
    "serve": (
        "canhazgpu.cli.operations.serve",
        "serve",
        {
            "--workers": ("workers", True, None),
            "--no-workers": ("workers", False, None),
        },
        (),
    ),
}
