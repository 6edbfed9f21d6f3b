"""Lua scripts as files: one verb each, with what it needs of the preludes, and its header as data.

Redis runs a script from its first line for each call, and would make unneeded definitions each time.
"""

import hashlib
import re
from functools import cache, cached_property
from importlib.resources import files

_HEADER = re.compile(r"^-- (Keys|Args|Returns|Events): ?(.*)$", re.MULTILINE)
# A prelude has definitions only, which begin with `local` in the first column.
_DEFINITION = re.compile(r"^local (?:function )?(\w+(?:, \w+)*).*\n(?:(?!local |--).*\n)*", re.MULTILINE)
_NO_CODE = re.compile(r"--.*|'[^'\n]*'|\"[^\"\n]*\"")
_WORD = re.compile(r"(?<![\w.:])[A-Za-z_]\w*")

# In this order, where a package has them.
PRELUDES = (
    "prelude.lua",
    "fencing.lua",
    "records.lua",
    "process_ownership.lua",
    "callers.lua",
    "rate_limits.lua",
    "host.lua",
    "instances.lua",
    "promises.lua",
    "limits.lua",
    "allocation.lua",
    "bookings.lua",
    "maintenance.lua",
    "settled.lua",
    "scan_rows.lua",
    "idleness.lua",
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
        """The text that Redis runs: what the body needs of the preludes, and the body."""
        top = ".".join(self.package.split(".")[:2])
        packages = dict.fromkeys(("canhazgpu.events", top, self.package))
        return needed("".join(map(_preludes, packages)), self.body) + self.body

    @cached_property
    def sha(self) -> str:
        """The hash of the text, for EVALSHA."""
        return hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()

    @cached_property
    def header(self) -> dict[str, str]:
        """The Keys, Args, Returns and Events of the header."""
        return dict(_HEADER.findall(self.body))


def needed(prelude: str, body: str) -> str:
    """Return the definitions of a prelude that a body uses, and those that these use, in their order.

    A definition can only use those before it.
    """
    words, kept = _words(body), list[str]()
    for definition in reversed(list(_DEFINITION.finditer(prelude))):
        if words.intersection(definition[1].split(", ")):
            kept.append(definition[0])
            words |= _words(definition[0])
    return "".join(reversed(kept))


@cache
def _words(text: str) -> frozenset[str]:
    return frozenset(_WORD.findall(_NO_CODE.sub("", text)))


@cache
def _preludes(package: str) -> str:
    """Return the preludes of a package, which are read once for all its scripts."""
    found = [files(package).joinpath("lua", name) for name in PRELUDES]
    return "".join(file.read_text() for file in found if file.is_file())
