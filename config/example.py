"""The example settings file, generated from the settings: every key, its meaning and its default.

`canhazgpu config example` prints it. config/example.toml is its output; a test fails if they differ.
"""

import json
import textwrap
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
    return "\n".join([*about, f"# {name} = {_toml(shown(option, settings))}", ""])


def _toml(value: Any) -> str:
    """Return a value in TOML syntax, which is the same as JSON for everything but tables."""
    if isinstance(value, dict):
        inner = ", ".join(f"{key} = {_toml(one)}" for key, one in value.items())
        return f"{{ {inner} }}" if inner else "{}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value)
