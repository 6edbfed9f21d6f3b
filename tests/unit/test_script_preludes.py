"""A script is sent with what it needs of the preludes, and no more."""

import re

import pytest

from canhazgpu.events.redis_client.scripts import Script, needed

SCRIPTS = [
    ("canhazgpu.service.reservations", "reserve"),
    ("canhazgpu.service.reservations", "heartbeat"),
    ("canhazgpu.service.gpus", "observe"),
    ("canhazgpu.service.gpus", "stall"),
    ("canhazgpu.service.storage", "trim"),
    ("canhazgpu.workers", "settle"),
    ("canhazgpu.events", "announce"),
]
PRELUDE = """\
-- What it is for.
local LONGEST, SHORTEST = 9, 1

local function plain(a)
  return a
end

-- Returns the name 'unused' and plain().
local function deep(a) return plain(a .. 'unused') end
local cache = {}
local function unused() return cache.deep end
"""


def test_only_definitions_that_are_used_are_sent() -> None:
    """What a body names is kept with what that needs, in its order; comments and texts name nothing."""
    kept = needed(PRELUDE, "return deep(KEYS[1]) -- unused cache\n")
    assert re.findall(r"^local .*", kept, re.MULTILINE) == [
        "local function plain(a)",
        "local function deep(a) return plain(a .. 'unused') end",
    ]
    assert kept.count("\nend\n") == 1
    assert needed(PRELUDE, "return row.deep") == ""
    assert needed(PRELUDE, "return SHORTEST") == "local LONGEST, SHORTEST = 9, 1\n\n"


@pytest.mark.parametrize(("package", "name"), SCRIPTS)
def test_every_constant_is_defined_where_it_is_used(package: str, name: str) -> None:
    """A constant of a prelude that a script uses, itself or through a function, is in its text."""
    text = re.sub(r"--.*|'[^'\n]*'", "", Script(package, name).text)
    used = set(re.findall(r"(?<![\w.])[A-Z][A-Z_]+\b(?! =)", text)) - {"KEYS", "ARGV"}
    assert used <= {
        one for names in re.findall(r"^local ([\w, ]+) =", text, re.MULTILINE) for one in names.split(", ")
    }


def test_each_definition_is_sent_once_and_whole() -> None:
    """The script of a scan has every line of the functions it needs, and none of those it does not."""
    text = Script("canhazgpu.service.gpus", "observe").text
    assert text.count("\nlocal function open_host(") == 1
    assert text.count("\nlocal function exceeds_limit(") == 1
    assert "save_reply" not in text
    assert "follow_cards" not in text
    assert len(Script("canhazgpu.service.gpus", "stall").text) < len(text) / 4
