"""Addresses, programs and URLs in the settings are validated when the settings are read."""

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
    """Text that is not an email address is rejected before a mail is built from it."""
    with pytest.raises(ConfigError, match=f"notify.email.{key}: expected an? .*email address"):
        load(_file(tmp_path, f"notify.email.{key}", value), {})


@pytest.mark.parametrize("address", ["a..b@x", "a.@x", ".a@x", "a@x..y", "a@x.", "a@.x", "a@"])
def test_the_settings_refuse_what_no_header_takes(address: str, tmp_path: Path) -> None:
    """An address with a dot at its end, or with two dots in a row, is rejected."""
    path = tmp_path / "config.toml"
    path.write_text(f'[notify.email]\nadmins = ["{address}"]\n')
    with pytest.raises(ConfigError, match=r"notify\.email\.admins: expected a list of email addresses"):
        load(str(path), {})


@pytest.mark.parametrize("key", ["notify.exec.command", "notify.email.address_command"])
def test_the_settings_refuse_a_program_without_its_path(key: str, tmp_path: Path) -> None:
    """A program must be given with its absolute path, because PATH decides nothing."""
    path = tmp_path / "config.toml"
    for command in ('["tell"]', '["./tell"]', '[""]', '["~/tell", "/x"]'):
        path.write_text(f"{key} = {command}\n")
        with pytest.raises(ConfigError, match=f"{key}: expected the absolute path") as refusal:
            load(str(path), {})
        assert "\n" not in str(refusal.value)
    path.write_text(f'{key} = ["/usr/bin/tell", "--all"]\n')
    load(str(path), {})


@pytest.mark.parametrize(
    "url",
    ["foo", "redis://", "redis://:secret@h:99999", "redis://:secret@h:x", "unix://", "redis-sentinel://h"],
)
def test_what_is_no_redis_url_is_refused_without_its_password(url: str, tmp_path: Path) -> None:
    """A bad Redis URL is rejected before anything connects, and the message contains no part of the URL."""
    with pytest.raises(ConfigError, match=r"redis\.url: expected redis://") as refusal:
        load(_file(tmp_path, "redis.url", url), {})
    assert "secret" not in str(refusal.value)
