"""Reads settings from a TOML file and the environment, and rejects unknown keys.

`CANHAZGPU_<SECTION>_<KEY>` overrides the file, and the file overrides the default. Every error names the
file (or variable), the key, and what was expected.
"""

import difflib
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

import msgspec
from msgspec import inspect

from canhazgpu.config.routing import ineffective_keys
from canhazgpu.config.settings import Settings
from canhazgpu.config.validation import conflicting_keys, expected_instead
from canhazgpu.events.default_paths import CONFIG
from canhazgpu.events.durations import EXAMPLES, format_duration, parse_duration

PREFIX = "CANHAZGPU_"
_PASSWORD = re.compile(r"(://[^/:@]*:).*@|([?&]password=)[^&#]*")
_WHOLE = re.compile(r"-?[0-9]{1,18}")


class ConfigError(Exception):
    """A setting is not valid; the message says where, which one, and what was expected."""


class Option(msgspec.Struct, frozen=True):
    """One setting."""

    key: str  # notify.email.port
    annotation: Any
    about: str
    extra: dict[str, Any]
    default: Any

    @property
    def variable(self) -> str:
        """Its environment variable."""
        return PREFIX + self.key.replace(".", "_").upper()

    @property
    def is_duration(self) -> bool:
        """Whether it is a duration, written as `30s` and stored in seconds."""
        return bool(self.extra.get("duration"))

    @property
    def has_tables(self) -> bool:
        """Whether it is a list of tables."""
        return isinstance(self.default, list) and any(isinstance(one, msgspec.Struct) for one in self.default)

    @property
    def is_secret(self) -> bool:
        """Whether its value may contain a password."""
        return bool(self.extra.get("secret"))


class Loaded(msgspec.Struct, frozen=True):
    """The settings in force, and the origin of each key (file, variable or `default`)."""

    settings: Settings
    origins: dict[str, str]


@cache
def options() -> tuple[Option, ...]:
    """Return every setting in the order of `settings.py`."""
    return tuple(_options(Settings, ""))


def _options(struct: type[msgspec.Struct], prefix: str) -> Iterator[Option]:
    defaults = struct()
    hints = inspect.type_info(struct)
    if not isinstance(hints, inspect.StructType):
        raise TypeError(struct)
    for entry in hints.fields:
        key = prefix + entry.name
        default = getattr(defaults, entry.name)
        if isinstance(default, msgspec.Struct):
            yield from _options(type(default), key + ".")
            continue
        annotation = struct.__annotations__[entry.name]
        about, extra = _meta(annotation)
        yield Option(key, annotation, about, extra, default)


def _meta(annotation: Any) -> tuple[str, dict[str, Any]]:
    about, extra = "", {}
    if get_origin(annotation) is Annotated:
        for part in get_args(annotation)[1:]:
            if isinstance(part, msgspec.Meta):
                about = part.description or about
                extra.update(part.extra or {})
    return about, extra


def load(path: str | None = None, environ: Mapping[str, str] = os.environ) -> Loaded:
    """Return the settings of `path`, else of `$CANHAZGPU_CONFIG`, else of the host's file, if it exists.

    An empty variable is ignored. Raises ConfigError, also if a named file does not exist.
    """
    named = path or environ.get("CANHAZGPU_CONFIG")
    source = named or CONFIG
    known = {option.key: option for option in options()}
    values = _read(source, must_be=bool(named))
    origins = dict.fromkeys(known, "default")
    chosen: dict[str, Any] = {}
    for key, value in _flatten(values, known, source):
        chosen[key] = _convert(known[key], value, f"{source}: {key}")
        origins[key] = source
    for variable, text in environ.items():
        option = _by_variable(variable, known)
        if option:
            chosen[option.key] = _convert(option, _from_text(option, text), variable)
            origins[option.key] = variable
    settings = _build(chosen)
    for key, expected in (*ineffective_keys(settings), *conflicting_keys(settings)):
        where = origins[key] if origins[key] == known[key].variable else f"{origins[key]}: {key}"
        raise ConfigError(f"{where}: expected {expected}")
    return Loaded(settings, origins)


def _read(source: str, *, must_be: bool) -> dict[str, Any]:
    try:
        return tomllib.loads(Path(source).read_text(encoding="utf-8"))
    except OSError as error:
        if isinstance(error, FileNotFoundError) and not must_be:
            return {}
        message = f"{source}: cannot be read: {error.strerror}"
        raise ConfigError(message) from error
    except (ValueError, RecursionError) as error:  # Also for huge numbers and deep nesting.
        message = f"{source}: is not valid TOML: {error}"
        raise ConfigError(message) from error


def _flatten(
    values: Mapping[str, Any], known: Mapping[str, Option], source: str, prefix: str = ""
) -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        key = prefix + name
        if key in known:
            yield key, value
        elif any(other.startswith(key + ".") for other in known):
            if not isinstance(value, dict):
                message = f"{source}: {key}: expected a table, [{key}]"
                raise ConfigError(message)
            yield from _flatten(value, known, source, key + ".")
        else:
            message = f"{source}: {key}: no such key{_guess(key, known)}"
            raise ConfigError(message)


def _guess(key: str, known: Mapping[str, Option]) -> str:
    near = difflib.get_close_matches(key, known, n=1)
    return f"; did you mean {near[0]}?" if near else "; `canhazgpu config show` lists all keys"


# Our variables that are not settings.
_OTHER_VARIABLES = frozenset({"CONFIG", "RESERVATION", "COMPLETE"})


def _by_variable(variable: str, known: Mapping[str, Option]) -> Option | None:
    if not variable.startswith(PREFIX) or variable.removeprefix(PREFIX) in _OTHER_VARIABLES:
        return None
    for option in known.values():
        if option.variable == variable:
            return option
    near = difflib.get_close_matches(variable, [option.variable for option in known.values()], n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    message = f"{variable}: no such setting{hint}"
    raise ConfigError(message)


def _from_text(option: Option, text: str) -> Any:
    if isinstance(option.default, bool):
        return {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}.get(
            text.strip().lower(), text
        )
    if isinstance(option.default, dict) or option.has_tables:
        try:
            return msgspec.json.decode(text)
        except (msgspec.DecodeError, RecursionError):
            return text
    if isinstance(option.default, list):
        return [part.strip() for part in text.split(",") if part.strip()]
    if isinstance(option.default, int) and _WHOLE.fullmatch(text.strip()):
        return int(text)
    return text


def _convert(option: Option, value: Any, where: str) -> Any:
    if option.is_duration:
        return _duration(option, value, where)
    try:
        result = msgspec.convert(value, option.annotation)
    except msgspec.ValidationError as error:
        message = f"{where}: {_expected(option)}, not {_shown(option, value)}"
        if isinstance(value, list | dict):
            message += f" ({_detail(error)})"
        raise ConfigError(message) from error
    expected = expected_instead(option.key, result)
    if expected:
        message = f"{where}: expected {expected}"
        raise ConfigError(message)
    return result


def _duration(option: Option, value: Any, where: str) -> float:
    if not isinstance(value, str):
        message = f"{where}: expected a duration in quotes such as {EXAMPLES}, not {_shown(option, value)}"
        raise ConfigError(message)
    try:
        seconds = parse_duration(value)
    except ValueError as error:
        message = f"{where}: {error}"
        raise ConfigError(message) from error
    least, most = option.extra.get("least", 0.0), option.extra.get("most", seconds)
    if not least <= seconds <= most:
        bound = f"at least {least:g}s" if seconds < least else f"at most {most:g}s"
        raise ConfigError(f"{where}: expected a duration of {bound}, not {value}")
    return seconds


def _expected(option: Option) -> str:
    if "kind" in option.extra:
        return f"expected {option.extra['kind']}"
    kind = inspect.type_info(option.annotation)
    while isinstance(kind, inspect.Metadata):
        kind = kind.type
    if isinstance(kind, inspect.LiteralType):
        return "expected one of " + ", ".join(map(str, kind.values))
    if isinstance(kind, inspect.IntType):
        return "expected a whole number" + _range(kind)
    names = {inspect.BoolType: "true or false", inspect.StrType: "a string in quotes"}
    return "expected " + names.get(type(kind), "a list of strings")


def _detail(error: msgspec.ValidationError) -> str:
    """Return the error of a nested value, without the value."""
    text, _, where = str(error).partition(" - at ")
    return " ".join(f"{text} in {where}".split())[:200] if where else text[:200]


def _range(kind: inspect.IntType) -> str:
    if kind.le is not None:
        return f" from {kind.ge} to {kind.le}"
    return f" of at least {kind.ge}" if kind.ge is not None else ""


def _shown(option: Option, value: Any) -> str:
    return "the given value" if option.is_secret else repr(value)[:60]


def _build(chosen: Mapping[str, Any]) -> Settings:
    tree: dict[str, Any] = {}
    for key, value in chosen.items():
        *sections, name = key.split(".")
        branch = tree
        for section in sections:
            branch = branch.setdefault(section, {})
        branch[name] = value
    return msgspec.convert(tree, Settings)


def shown(option: Option, settings: Settings) -> Any:
    """Return the value of `option` in `settings` in the syntax of the file, with passwords masked."""
    value: Any = settings
    for name in option.key.split("."):
        value = getattr(value, name)
    if option.is_duration:
        return format_duration(value)
    if isinstance(value, str):
        return _PASSWORD.sub(_masked, value) if option.is_secret else value
    plain = msgspec.to_builtins(value)
    return _without_urls(plain) if option.is_secret else plain


def _without_urls(value: Any) -> Any:
    """Return it with all URLs masked, because the URL of a webhook may be a secret."""
    if isinstance(value, dict):
        return {name: "***" if name == "url" else _without_urls(inner) for name, inner in value.items()}
    return value


def _masked(found: re.Match[str]) -> str:
    return f"{found[1]}***@" if found[1] else f"{found[2]}***"
