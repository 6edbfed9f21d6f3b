"""Rules for every script: the header matches the body, and all called functions exist."""

import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from canhazgpu.events.redis_client.scripts import PRELUDES, Script
from canhazgpu.events.redis_client.store import Store

ROOT = Path(__file__).parents[2]
SCRIPTS = sorted(
    (".".join(path.relative_to(ROOT).parts[:-2]), path.stem)
    for folder in ("service", "workers", "events")
    for path in (ROOT / folder).rglob("lua/*.lua")
    if path.name not in PRELUDES
)
NOUNS = "booking|gpu|host|scanner|notice|reservation|request|silence|process|consumer_group"
# The events that functions of the service's prelude publish.
PRELUDE = {
    "create": "reservation.created",
    "serve_queue": "reservation.created",
    "release": "reservation.released",
    "release_parts": "reservation.released",
    "leave": "request.left",
    "track_idleness": "reservation.idle reservation.used",
    "begin_maintenance": "gpu.drained",
    "end_maintenance": "gpu.drained gpu.undrained",
}

LUA = {
    "error",
    "ipairs",
    "next",
    "pairs",
    "pcall",
    "rawget",
    "setmetatable",
    "tonumber",
    "tostring",
    "type",
    "unpack",
}


@pytest.mark.parametrize(("folder", "name"), SCRIPTS)
def test_the_header_names_what_the_body_takes(folder: str, name: str) -> None:
    """The body uses the keys and arguments that the header lists, and no clock of a caller."""
    script = Script(f"canhazgpu.{folder}", name)
    header, body = script.header, script.body
    first = re.search(r"open_host\((\w+)\)", body)
    if first:  # It reads a whole host, whose keys begin behind those it has of its own.
        body += "KEYS[8] ARGV[2]" + f"KEYS[{first[1] if first[1].isdigit() else 12}]"
    elif "publish(" in body:
        body += "KEYS[2] ARGV[1]"
    assert set(header) == {"Keys", "Args", "Returns", "Events"}
    assert body.startswith(f"-- {name}: ")
    for listed, used in (("Keys", "KEYS"), ("Args", "ARGV")):
        names = header[listed].split()
        highest = max((int(number) for number in re.findall(rf"{used}\[(\d+)", body)), default=0)
        fixed = [one for one in names if not one.endswith("...")]
        assert highest <= len(names)
        assert len(fixed) <= highest or (len(names) > len(fixed) and highest >= len(fixed)), names
    assert "redis.call('TIME')" not in body
    assert "redis.call('KEYS'" not in body


@pytest.mark.parametrize(("folder", "name"), SCRIPTS)
def test_the_header_names_the_events(folder: str, name: str) -> None:
    """The header lists exactly the event types in the body."""
    script = Script(f"canhazgpu.{folder}", name)
    listed = set(script.header["Events"].split())
    body = script.body
    nouns = {kind.rpartition(".")[0] for kind in listed}
    written = set(re.findall(rf"'(?:canhazgpu\.)?((?:{NOUNS})\.[a-z]+)'", body))
    for function, event in PRELUDE.items():
        if re.search(rf"(?<![\w.]){function}\(", re.sub(r"--.*", "", body)):
            written |= set(event.split())
    if "violation" in nouns:
        written |= {f"violation.{verb}" for verb in re.findall(r"publish_violation\('([a-z]+)'", body)}
    assert written == listed


@pytest.mark.parametrize(("folder", "name"), SCRIPTS)
def test_a_scan_learns_of_every_change_of_a_gpu(folder: str, name: str) -> None:
    """A script that changes the state of GPUs publishes an event with each change, or deletes `settled`."""
    script = Script(f"canhazgpu.{folder}", name)
    changed = re.search(
        r"redis\.call\('H(?:SET|DEL|SETNX)', (?:gpu\.key|key|pending_key|open_key)\b", script.text
    )
    if changed and name != "observe":
        assert "redis.call('HDEL', KEYS[3], 'settled')" in script.body or script.header["Events"]
    if name in {"restore", "renumber", "forget"}:  # They change some of it without an event.
        assert "redis.call('HDEL', KEYS[3], 'settled')" in script.body


@pytest.mark.parametrize(("folder", "name"), SCRIPTS)
def test_every_function_that_is_called_exists(folder: str, name: str) -> None:
    """A script calls only functions of its own, of its preludes and of Lua, or those passed to it."""
    text = re.sub(r"--.*|'[^'\n]*'", "", Script(f"canhazgpu.{folder}", name).text)
    called = set(re.findall(r"(?<![\w.:])(\w+)\(", text)) - {
        "function",
        "and",
        "or",
        "not",
        "if",
        "return",
        "in",
    }
    known = {*re.findall(r"local function (\w+)", text), *re.findall(r"local (\w+) = function", text)}
    known |= {one for words in re.findall(r"local function \w+\((.*?)\)", text) for one in words.split(", ")}
    assert called <= known | LUA


@pytest.mark.anyio
@pytest.mark.parametrize(
    "moment",
    [
        "1970-01-01T00:00:00.000Z",
        "2000-02-29T23:59:59.999Z",
        "2026-11-24T09:15:47.123Z",
        "2100-03-01T00:00:00.001Z",
    ],
)
async def test_the_prelude_writes_dates_as_the_calendar_has_them(store: Store, moment: str) -> None:
    """The prelude converts milliseconds to RFC 3339, including leap years."""
    prelude = (ROOT / "events" / "lua" / "prelude.lua").read_text()
    ms = round(datetime.fromisoformat(moment).astimezone(UTC).timestamp() * 1000)
    answer = await store.redis.eval(f"{prelude}\nreturn rfc3339(tonumber(ARGV[1]))", 0, str(ms))
    assert answer.decode() == moment
