"""Lua scripts as files: one verb each, with the preludes it is put behind, and its header as data."""

import hashlib
import re
from functools import cached_property
from importlib.resources import files

_HEADER = re.compile(r"^-- (Keys|Args|Returns|Events): ?(.*)$", re.MULTILINE)

# In this order, where a package has them.
PRELUDES = (
    "prelude.lua",
    "fencing.lua",
    "records.lua",
    "process_ownership.lua",
    "callers.lua",
    "rate_limits.lua",
    "scan_rows.lua",
    "allocation.lua",
    "usage_log.lua",
)


class Script:
    """One Lua script: `lua/<name>.lua` of a package, after the preludes of events and of the package."""

    def __init__(self, package: str, name: str) -> None:
        """Store the name; the text is read on first use."""
        self.package = package
        self.name = name

    @cached_property
    def body(self) -> str:
        """The text of the script without preludes."""
        return files(self.package).joinpath("lua", f"{self.name}.lua").read_text()

    @cached_property
    def text(self) -> str:
        """The text that Redis runs: the preludes and the body."""
        top = ".".join(self.package.split(".")[:2])
        packages = dict.fromkeys(("canhazgpu.events", top, self.package))
        preludes = [files(package).joinpath("lua", name) for package in packages for name in PRELUDES]
        return "".join(file.read_text() for file in preludes if file.is_file()) + self.body

    @cached_property
    def sha(self) -> str:
        """The hash of the text, for EVALSHA."""
        return hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()

    @cached_property
    def header(self) -> dict[str, str]:
        """The Keys, Args, Returns and Events of the header."""
        return dict(_HEADER.findall(self.body))
