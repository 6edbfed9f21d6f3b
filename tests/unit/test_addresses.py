"""Addresses and URLs in the settings: refused where they are read, not where they are used."""

from pathlib import Path

import msgspec
import pytest

from canhazgpu.config.load import ConfigError, load


def _file(folder: Path, key: str, value: object) -> str:
    path = folder / "config.toml"
    path.write_text(f"{key} = {msgspec.json.encode(value).decode()}\n")
    return str(path)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("sender", "a@b\nBcc: x@y"),
        ("sender", "<<>>@"),
        ("sender", "a@b\n"),
        ("admins", ["root@localhost", "nobody"]),
        ("user_address", "everyone@example.com"),
        ("user_address", "{user}@example.com\nBcc: x@y"),
    ],
)
def test_what_is_no_mail_address_is_refused(key: str, value: object, tmp_path: Path) -> None:
    """Before a mail is built of it."""
    with pytest.raises(ConfigError, match=f"notify.email.{key}: expected a .*mail address"):
        load(_file(tmp_path, f"notify.email.{key}", value), {})


@pytest.mark.parametrize(
    "url",
    ["foo", "redis://", "redis://:secret@h:99999", "redis://:secret@h:x", "unix://", "redis-sentinel://h"],
)
def test_what_is_no_redis_url_is_refused_without_its_password(url: str, tmp_path: Path) -> None:
    """Before anything connects, and in words of ours."""
    with pytest.raises(ConfigError, match=r"redis\.url: expected redis://") as refusal:
        load(_file(tmp_path, "redis.url", url), {})
    assert "secret" not in str(refusal.value)
