"""The settings in force as a TOML file that can be used again, with the origin of each value."""

from typing import Any

from canhazgpu.config.example import toml
from canhazgpu.config.load import Loaded, Option, options, shown

HIDDEN = "***"


def effective(loaded: Loaded) -> str:
    """Return the whole file. A value with a secret is masked and is a comment: it would be wrong."""
    parts, section = [], ""
    for option in options():
        here, _, name = option.key.rpartition(".")
        if here != section:
            section = here
            parts.append(f"\n[{here}]")
        parts.append(_line(option, name, loaded))
    return "\n".join(parts) + "\n"


def _line(option: Option, name: str, loaded: Loaded) -> str:
    value: Any = shown(option, loaded.settings)
    text = toml(value)
    origin = toml(loaded.origins[option.key])[1:-1]
    masked = option.is_secret and HIDDEN in text
    return f"{'# ' if masked else ''}{name} = {text}  # {'secret, from ' if masked else ''}{origin}"
