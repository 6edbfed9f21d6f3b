"""Secrets in settings are never shown, and never repeated in an error."""

from pathlib import Path

import pytest

from canhazgpu.config.load import ConfigError, load, options, shown

OPTIONS = {option.key: option for option in options()}


def write(folder: Path, text: str) -> str:
    """Write a settings file; return its path."""
    path = folder / "config.toml"
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize("password", ["hunter2", "p@ss", "p%2Fw", "p:w"])
def test_a_secret_is_never_shown(password: str, tmp_path: Path) -> None:
    """The password of the Redis URL is masked, and an error does not repeat it."""
    option = OPTIONS["redis.url"]
    found = load(write(tmp_path, f'[redis]\nurl = "redis://:{password}@h:1/0"'), {}).settings
    assert found.redis.url == f"redis://:{password}@h:1/0"
    assert shown(option, found) == "redis://:***@h:1/0"
    with pytest.raises(ConfigError) as refusal:
        load(write(tmp_path, f'[redis]\nurl = ["{password}"]'), {})
    assert password not in str(refusal.value)


def test_the_address_of_a_webhook_is_never_shown(tmp_path: Path) -> None:
    """The URL of a webhook is masked, and an error does not repeat it."""
    option = OPTIONS["notify.webhook"]
    found = load(write(tmp_path, '[notify.webhook.chat]\nurl = "https://hooks.example.com/hunter2"'), {})
    assert found.settings.notify.webhook["chat"].url.endswith("hunter2")
    assert "hunter2" not in str(shown(option, found.settings))
    with pytest.raises(ConfigError) as refusal:
        load(write(tmp_path, '[notify.webhook.chat]\nurl = "hooks.example.com/hunter2"'), {})
    assert "notify.webhook" in str(refusal.value)
    assert "hunter2" not in str(refusal.value)
