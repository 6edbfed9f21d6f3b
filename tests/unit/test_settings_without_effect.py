"""Settings that could do nothing, or would fail only when they are needed, are refused when they are read."""

import zoneinfo
from pathlib import Path

import pytest

from canhazgpu.config.load import ConfigError, load


def refusal(folder: Path, text: str) -> str:
    """Return what is said of a settings file, without its name: one line."""
    path = folder / "config.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as refused:
        load(str(path), {})
    said = str(refused.value)
    assert said.startswith(f"{path}: ")
    assert said.isprintable()
    return said.removeprefix(f"{path}: ")


@pytest.mark.parametrize("name", ["Mars/One", "../UTC", "Europe", "zone.tab", "a\\u0000b", "a\\nb"])
def test_a_time_zone_that_is_none_is_refused(name: str, tmp_path: Path) -> None:
    """Whatever a name may mean to the file system."""
    said = refusal(tmp_path, f'[notices.quiet]\ntimezone = "{name}"\n')
    assert said.startswith("notices.quiet.timezone: expected a time zone such as Europe/Berlin, not '")


def test_without_the_data_of_time_zones_none_is_accepted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is missing is named; a host that names no zone needs none."""

    def missing(name: str) -> zoneinfo.ZoneInfo:
        raise zoneinfo.ZoneInfoNotFoundError(name)

    monkeypatch.setattr(zoneinfo, "ZoneInfo", missing)
    said = refusal(tmp_path, '[notices.quiet]\ntimezone = "Europe/Berlin"\n')
    assert said.startswith("notices.quiet.timezone: expected no time zone on a host without their data")
    assert "tzdata" in said
    (tmp_path / "config.toml").write_text('[notices.quiet]\ntimezone = ""\n')
    assert load(str(tmp_path / "config.toml"), {}).settings.notices.quiet.timezone == ""
