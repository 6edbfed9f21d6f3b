"""Changes to a host that end with a block."""

from collections.abc import Iterator
from contextlib import contextmanager

from support.daemon import Daemon


@contextmanager
def changed_setting(daemon: Daemon, before: str, after: str) -> Iterator[None]:
    """Change the settings for a while: commands read them each time."""
    config = daemon.folder / "config.toml"
    text = config.read_text()
    config.write_text(text.replace(before, after))
    assert config.read_text() != text
    try:
        yield
    finally:
        config.write_text(text)
