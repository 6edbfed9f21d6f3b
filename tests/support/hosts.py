"""Changes to a host that end with a block."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support.daemon import Daemon


@contextmanager
def changed_setting(daemon: Daemon, before: str, after: str) -> Iterator[None]:
    """Change the settings for a while: commands read them each time."""
    config = daemon.folder / "config.toml"
    text = config.read_text()
    assert before in text
    _replace(config, text.replace(before, after))
    try:
        yield
    finally:
        _replace(config, text)


def _replace(path: Path, text: str) -> None:
    """Write a file at once: others read it at any time."""
    new = path.with_suffix(".new")
    new.write_text(text)
    new.rename(path)
