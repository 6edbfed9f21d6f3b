"""The example settings file, generated from the settings: every key, its meaning and its default.

`canhazgpu config example` prints it. config/example.toml is its output; a test fails if they differ.
"""

import json
import re
import textwrap
import unicodedata
from typing import Any

from canhazgpu.config.load import Option, options, shown
from canhazgpu.config.settings import Settings

HEADER = """\
# Settings of canhazgpu: every key with its default. To change a setting, remove the # before its key.
# Each setting also has an environment variable, for example CANHAZGPU_MEMORY_THRESHOLD_MB=200.
# `canhazgpu config check FILE` checks a file.
"""
WIDTH = 100


def example() -> str:
    """Return the whole file; every key is commented out, so the file by itself changes nothing."""
    settings = Settings(host="gpu-host-1")
    parts, section = [HEADER], ""
    for option in options():
        here, _, name = option.key.rpartition(".")
        if here != section:
            section = here
            parts.append(f"[{here}]\n")
        parts.append(_entry(option, name, settings))
    return "\n".join(parts)


def _entry(option: Option, name: str, settings: Settings) -> str:
    about = textwrap.wrap(option.about, WIDTH, initial_indent="# ", subsequent_indent="# ")
    return "\n".join([*about, f"# {name} = {toml(shown(option, settings))}", ""])


def toml(value: Any) -> str:
    """Return a value in TOML syntax; a table is inline. What is not set (None) is left out of tables."""
    if isinstance(value, dict):
        pairs = [(key, one) for key, one in value.items() if one is not None]
        inner = ", ".join(f"{_key(key)} = {toml(one)}" for key, one in pairs)
        return f"{{ {inner} }}" if inner else "{}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    return _string(value) if isinstance(value, str) else json.dumps(value)


def _key(text: str) -> str:
    return text if _BARE.fullmatch(text) else _string(text)


def _string(text: str) -> str:
    return '"' + "".join(map(_character, text)) + '"'


def _character(one: str) -> str:
    if one in '"\\':
        return f"\\{one}"
    if unicodedata.category(one)[0] in "CZ" and one != " ":  # Controls, what is invisible, and line ends.
        return f"\\u{ord(one):04x}" if ord(one) <= _LAST_SHORT else f"\\U{ord(one):08x}"
    return one


_BARE = re.compile(r"[A-Za-z0-9_-]+")
_LAST_SHORT = 0xFFFF
