"""What others can no longer rely on: a description of events or routes, compared with the released one.

`PYTHONPATH=tests .venv/bin/python -m support.schema_changes` records both descriptions, after a release.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from canhazgpu.events.schemas import asyncapi
from canhazgpu.service.routes.openapi import openapi

RELEASED = Path(__file__).parents[1] / "contract" / "released"
DOCUMENTS = {"asyncapi.json": asyncapi, "openapi.json": openapi}
WORDS = {"description", "summary", "title", "examples"}  # For people; they may change.
NAMES = {"properties", "schemas", "messages", "paths"}  # What is in these is named by us.
Json = dict[str, Any]


class Comparison:
    """Two versions of a document."""

    def __init__(self, old: Json, new: Json) -> None:
        self._old, self._new = old, new
        self._seen: set[tuple[str, str, bool]] = set()

    def events(self) -> Iterator[str]:
        """Yield what a consumer of events can no longer rely on."""
        for name, channel in self._old["channels"].items():
            now = self._new["channels"].get(name)
            if now is None or now["address"] != channel["address"]:
                yield f"{name}: the stream is gone, or has another key"
                continue
            for kind in channel["messages"].keys() - now["messages"].keys():
                yield f"{name}: {kind} is no longer on this stream"
        for kind, message in self._old["components"]["messages"].items():
            now = self._new["components"]["messages"].get(kind)
            if now is None:
                yield f"{kind} is gone"
                continue
            for part in ("headers", "payload"):
                yield from self.schema(message[part], now[part], f"{kind} {part}", sent=True)

    def routes(self) -> Iterator[str]:
        """Yield what a client of the API can no longer rely on."""
        for path, methods in self._old["paths"].items():
            for method, old in methods.items():
                new = self._new["paths"].get(path, {}).get(method)
                where = f"{method.upper()} {path}"
                if new is None:
                    yield f"{where} is gone"
                    continue
                yield from self._parameters(old, new, where)
                yield from self._bodies(old, new, where)

    def _parameters(self, old: Json, new: Json, where: str) -> Iterator[str]:
        before = {(one["in"], one["name"]): one for one in old.get("parameters", ())}
        now = {(one["in"], one["name"]): one for one in new.get("parameters", ())}
        for key, one in before.items():
            if key not in now:
                yield f"{where}: the parameter {key[1]} is gone"
            else:
                yield from self.schema(one["schema"], now[key]["schema"], f"{where} {key[1]}", sent=False)
        for key, one in now.items():
            if one.get("required") and not before.get(key, {}).get("required"):
                yield f"{where}: the parameter {key[1]} is required now"

    def _bodies(self, old: Json, new: Json, where: str) -> Iterator[str]:
        if "requestBody" in new and "requestBody" not in old:
            yield f"{where}: a body is required now"
        elif "requestBody" in new:
            yield from self._contents(old["requestBody"], new["requestBody"], f"{where} body", sent=False)
        for code, response in old["responses"].items():
            if code not in new["responses"]:
                yield f"{where}: there is no response {code} any more"
            else:
                yield from self._contents(response, new["responses"][code], f"{where} {code}", sent=True)

    def _contents(self, old: Json, new: Json, where: str, *, sent: bool) -> Iterator[str]:
        for kind, content in old["content"].items():
            if kind not in new["content"]:
                yield f"{where}: {kind} is gone"
            else:
                yield from self.schema(content["schema"], new["content"][kind]["schema"], where, sent=sent)

    def schema(self, old: Json, new: Json, where: str, *, sent: bool) -> Iterator[str]:
        """Yield what differs in values that the service has `sent`, or else that it accepts."""
        pair = (old.get("$ref", ""), new.get("$ref", ""), sent)
        if all(pair[:2]):
            if pair in self._seen:
                return
            self._seen.add(pair)
        before, now = _kinds(self._old, old), _kinds(self._new, new)
        for kind in (now.keys() - before.keys()) if sent else (before.keys() - now.keys()):
            if not (kind == "integer" and "number" in (before if sent else now)):
                yield f"{where}: may be {kind} now" if sent else f"{where}: {kind} is no longer accepted"
        for kind in before.keys() & now.keys():
            yield from self._values(before[kind], now[kind], where, sent=sent)

    def _values(self, old: Json, new: Json, where: str, *, sent: bool) -> Iterator[str]:
        wide, narrow = (new, old) if sent else (old, new)
        if (allowed := _enum(narrow)) is not None and not (_enum(wide) or {None}) <= allowed:
            yield f"{where}: other values than {sorted(allowed)}" if sent else f"{where}: fewer values"
        required = (old if sent else new).get("required", ())
        for name in set(required) - set((new if sent else old).get("required", ())):
            yield f"{where}.{name}: may be missing now" if sent else f"{where}.{name}: is required now"
        for name, one in old.get("properties", {}).items():
            if name not in new.get("properties", {}):
                yield f"{where}.{name} is gone"
            else:
                yield from self.schema(one, new["properties"][name], f"{where}.{name}", sent=sent)
        for name in ("items", "additionalProperties"):
            if isinstance(old.get(name), dict) and isinstance(new.get(name), dict):
                yield from self.schema(old[name], new[name], f"{where}[]", sent=sent)


def _kinds(document: Json, schema: Json) -> dict[str, Json]:
    """Return the alternatives of a schema by their type."""
    if "$ref" in schema:
        found: Any = document
        for name in schema["$ref"].removeprefix("#/").split("/"):
            found = found[name]
        return _kinds(document, found)
    if "anyOf" in schema:
        return {kind: one for each in schema["anyOf"] for kind, one in _kinds(document, each).items()}
    types = schema.get("type", "string" if _enum(schema) else "any")
    return dict.fromkeys([types] if isinstance(types, str) else types, schema)


def _enum(schema: Json) -> set[Any] | None:
    return {schema["const"]} if "const" in schema else set(schema["enum"]) if "enum" in schema else None


def without_words(value: Any, *, named: bool = False) -> Any:
    """Return a document without what is only for people."""
    if isinstance(value, list):
        return [without_words(one) for one in value]
    if not isinstance(value, dict):
        return value
    kept = {name: one for name, one in value.items() if named or name not in WORDS}
    return {name: without_words(one, named=name in NAMES and not named) for name, one in kept.items()}


def released(name: str) -> Json:
    """Return the recorded document."""
    return dict(msgspec.json.decode((RELEASED / name).read_bytes()))


if __name__ == "__main__":
    for name, made in DOCUMENTS.items():
        text = msgspec.json.format(msgspec.json.encode(without_words(made())), indent=1)
        (RELEASED / name).write_bytes(text + b"\n")
