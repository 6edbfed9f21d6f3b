"""What `config show` prints is a settings file with the same meaning."""

import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from canhazgpu.config.effective import effective
from canhazgpu.config.example import toml
from canhazgpu.config.load import load, options

RICH = """\
host = "gpu-host-7"
admin_group = "\\u00e9\\U0001f600 gpu \\\\ \\"admins\\"\\t"
[gpus]
scan_interval = "1m30s"
[violations]
exempt_users = ["monitor", "b\\u202eb"]
[limits]
users = { alice = { max_gpus = 8, max_duration = "48h" }, "jo.doe" = { max_gpus = 0 } }
[notices]
steps = [{ channels = ["wall"], to = ["offender"] }, { channels = ["log"], to = ["admins"], after = "2h" }]
[notify.exec]
command = ["/usr/local/bin/tell", "--to", "{user}"]
"""


@pytest.mark.parametrize("text", ["", RICH], ids=["defaults", "rich"])
def test_what_is_shown_can_be_pasted(text: str, tmp_path: Path) -> None:
    """The printed file gives the same settings, every key is in it, and printing it again is the same."""
    before, after = tmp_path / "before.toml", tmp_path / "after.toml"
    before.write_text(text)
    loaded = load(str(before), {"CANHAZGPU_MEMORY_THRESHOLD_MB": "200"})
    after.write_text(effective(loaded))
    again = load(str(after), {})
    assert again.settings == loaded.settings
    assert effective(again).count(f"  # {after}") == len(list(options()))
    assert "threshold_mb = 200  # CANHAZGPU_MEMORY_THRESHOLD_MB\n" in effective(loaded)


def test_a_secret_is_masked_and_is_no_setting(tmp_path: Path) -> None:
    """A masked value is a comment: a pasted file does not set it to something wrong."""
    file = tmp_path / "config.toml"
    file.write_text(
        '[redis]\nurl = "redis://:hunter2@h:1/0"\n[notify.webhook.chat]\nurl = "https://x.example/hunter2"\n'
    )
    text = effective(load(str(file), {}))
    assert "hunter2" not in text
    assert f'# url = "redis://:***@h:1/0"  # secret, from {file}\n' in text
    values = tomllib.loads(text)
    assert "url" not in values["redis"]
    assert "webhook" not in values["notify"]


@given(st.recursive(st.text() | st.integers(-(2**62), 2**62) | st.booleans(), st.lists))
def test_any_value_is_read_as_it_was(value: object) -> None:
    """Text, numbers and lists are written so that TOML reads the same."""
    assert tomllib.loads(f"x = {toml(value)}")["x"] == value


@given(st.dictionaries(st.text(), st.text() | st.dictionaries(st.text(), st.integers(0, 9))))
def test_any_table_is_read_as_it_was(value: dict[str, object]) -> None:
    """Any text can be a key."""
    text = f"x = {toml(value)}"
    assert tomllib.loads(text)["x"] == value
    assert len(text.splitlines()) == 1
