"""The example settings file, made from the settings themselves: every key, its meaning, its default.

`canhazgpu config example` prints it; config/example.toml is its output, and a test says when they
differ.
"""

import json
import textwrap
from typing import Any

from canhazgpu.config.load import Option, options, shown
from canhazgpu.config.settings import Settings

HEADER = """\
# Settings of canhazgpu: every key, with its default. Remove the # before those you change.
# Each can also be set in the environment: CANHAZGPU_<SECTION>_<KEY>, as CANHAZGPU_MEMORY_THRESHOLD_MB=200.
# `canhazgpu config check FILE` tells whether a file is good.
"""
WIDTH = 100


def example() -> str:
    """Return the whole file; every key is commented out, so that it changes nothing as it stands."""
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
    """Return a value as TOML writes it; what is not a table JSON writes alike."""
    if isinstance(value, dict):
        inner = ", ".join(f"{key} = {_toml(one)}" for key, one in value.items())
        return f"{{ {inner} }}" if inner else "{}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value)
