"""Settings: every key has a default and a variable, and an error says what was expected."""

import functools
import json
import tomllib
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.settings import BESIDE, LISTS, REDIS_FILES

from canhazgpu.config.example import example
from canhazgpu.config.load import ConfigError, Option, load, options, shown
from canhazgpu.config.settings import Settings

OPTIONS = list(options())
KEYS = [option.key for option in OPTIONS]


def write(folder: Path, text: str) -> str:
    """Write a settings file; return its path."""
    path = folder / "config.toml"
    path.write_text(text)
    return str(path)


def line(key: str, value: object) -> str:
    """Return the lines of TOML that set one key."""
    section, _, name = key.rpartition(".")
    return (f"[{section}]\n" if section else "") + f"{name} = {inline(value)}\n"


def inline(value: object) -> str:
    """Return a value as TOML writes it on one line."""
    if isinstance(value, list):
        return "[" + ", ".join(map(inline, value)) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name} = {inline(one)}" for name, one in value.items()) + "}"
    return json.dumps(value)


def get(found: Settings, key: str) -> Any:
    """Return the value of a dotted key."""
    return functools.reduce(getattr, key.split("."), found)


TABLES: dict[str, Any] = {
    "limits.users": {"alice": {"max_gpus": 8, "max_duration": "2d"}, "bob": {"max_gpus": 0}},
    "notices.steps": [{"after": "5m", "channels": ["wall", "webhook"], "to": ["offender", "a@b"]}],
    "notify.webhook": {"chat": {"url": "https://chat.example.com/x", "body": "slack", "timeout": "3s"}},
    **{key: {"pager": {"key": "value", "levels": [1, 2]}} for key in ("notify.plugins", "gpus.options")},
    "notify.email.addresses": {"bob": "robert@example.com"},
}


def other(option: Option) -> tuple[str, Any, Any]:
    """Return a valid value that is not the default: as a variable, as TOML, and as it is stored."""
    if option.is_duration:
        return "33s", "33s", 33.0
    if isinstance(option.default, bool):
        return str(not option.default).lower(), not option.default, not option.default
    if isinstance(option.default, int):
        return ("43", 43, 43) if option.key.endswith(("_factor", "_utilization")) else ("4321", 4321, 4321)
    if option.key in TABLES:
        value = TABLES[option.key]
        return json.dumps(value), value, msgspec.convert(value, option.annotation)
    if isinstance(option.default, list):
        some = LISTS.get(option.key, ["one@a", "b@c"] if option.key.endswith("admins") else ["email", "exec"])
        return ", ".join(some), some, some
    chosen = {
        "gpus.provider": "simulated",
        "notices.quiet.hours": "22:00-07:00",
        "notices.quiet.timezone": "Europe/Berlin",
        "notices.digest.every": "weekly",
        "notices.digest.at": "09:30",
        "notices.digest.weekday": "fri",
        "allocation.policy": "mru-per-user",
        "allocation.vendor": "amd",
        "run.device_ids": "uuid",
        "slurm.unreachable": "drain",
        "pbs.unreachable": "requeue",
        "exporter.listen": "[::1]:9000",
        "kubernetes.resource": "example.com/gpu",
        "kubernetes.device_list_strategy": "cdi-cri",
        "containers.mode": "enforce",
        "containers.unreachable": "refuse",
        "notify.wall.audience": "everyone",
        "notify.email.tls": "starttls",
        "notify.email.sender": "gpus@example.com",
        "enforcement.on_stop": "restore",
        **dict.fromkeys(["redis.url", "fleet.url"], "unix:///run/redis.sock"),
        **dict.fromkeys([*REDIS_FILES, "enforcement.directory"], "/etc/canhazgpu/something-else"),
        "notify.email.user_address": "{user}@example.com",
    }
    return (chosen.get(option.key, "something-else"),) * 3


def wrong(option: Option) -> Any:
    """Return a value of a type that this key never accepts."""
    return [1] if isinstance(option.default, list) else {"a": 1}


def test_an_empty_file_is_all_defaults(tmp_path: Path) -> None:
    """An empty file is valid, and the origin of every key is `default`."""
    loaded = load(write(tmp_path, ""), {})
    assert loaded.settings == Settings()
    assert loaded.origins == dict.fromkeys(KEYS, "default")


def test_every_key_explains_itself() -> None:
    """Keys and variables are unique, and each key has a help text."""
    assert len(set(KEYS)) == len(KEYS) == len({option.variable for option in OPTIONS})
    assert all(option.about.endswith(".") for option in OPTIONS)


@pytest.mark.parametrize("option", OPTIONS, ids=KEYS)
def test_every_key_is_read_from_the_file(option: Option, tmp_path: Path) -> None:
    """A value in the file is in force, and its origin is the file."""
    _, value, kept = other(option)
    path = write(tmp_path, line(option.key, value) + BESIDE.get(option.key, ""))
    loaded = load(path, {})
    assert get(loaded.settings, option.key) == kept != option.default
    assert loaded.origins[option.key] == path


@pytest.mark.parametrize("option", OPTIONS, ids=KEYS)
def test_every_variable_wins_over_the_file(option: Option, tmp_path: Path) -> None:
    """A variable overrides the file, and is shown as the origin."""
    text, _, kept = other(option)
    path = write(tmp_path, line(option.key, shown(option, Settings())) + BESIDE.get(option.key, ""))
    loaded = load(path, {option.variable: text})
    assert get(loaded.settings, option.key) == kept
    assert loaded.origins[option.key] == option.variable


@pytest.mark.parametrize("option", OPTIONS, ids=KEYS)
def test_a_wrong_type_is_refused_with_file_key_and_expectation(option: Option, tmp_path: Path) -> None:
    """A value of a wrong type is rejected with one line: the file, the key and what was expected."""
    path = write(tmp_path, line(option.key, 7 if isinstance(option.default, str) else "no"))
    if isinstance(option.default, str | bool | int | float | list | dict):
        with pytest.raises(ConfigError) as refusal:
            load(path, {})
        text = str(refusal.value)
        assert text.startswith(f"{path}: {option.key}: ")
        assert "expected" in text or "is not a duration: write" in text
        assert "\n" not in text


@pytest.mark.parametrize("option", OPTIONS, ids=KEYS)
def test_a_wrong_shape_is_refused(option: Option, tmp_path: Path) -> None:
    """A table or a list of numbers is rejected for a key that has a single value."""
    section, _, name = option.key.rpartition(".")
    value = "[1]" if isinstance(wrong(option), list) or option.key == "gpus.options" else "{a = 1}"
    head = f"[{section}]\n" if section else ""
    path = write(tmp_path, f"{head}{name} = {value}\n")
    with pytest.raises(ConfigError, match="expected"):
        load(path, {})


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("[memory]\nthreshold = 1\n", "memory.threshold: no such key; did you mean memory.threshold_mb?"),
        ("zzzzzzzz = 1\n", "zzzzzzzz: no such key; `canhazgpu config show` lists all keys"),
        ("[notify.sms]\nenabled = true\n", "notify.sms: no such key"),
        ("memory = 5\n", "memory: expected a table, [memory]"),
        ("[memory]\nthreshold_mb = -1\n", "expected a whole number of at least 0, not -1"),
        ("[notify.email]\nport = 70000\n", "expected a whole number from 1 to 65535, not 70000"),
        ('[notify.email]\ntls = "ssl"\n', "expected one of none, starttls, tls, not 'ssl'"),
        ("[gpus]\nscan_interval = 5\n", "expected a duration in quotes such as 30s"),
        ('[gpus]\nscan_interval = "1ms"\n', "expected a duration of at least 0.02s, not 1ms"),
        ('[notices]\nrepeat_interval = "0s"\n', "expected a duration of at least 1s"),
        ('[violations]\nconfirm = "soon"\n', "'soon' is not a duration"),
        ('host = "a b"\n', "expected a host name"),
        ('host = ""\n', "expected a host name"),
        ('host = "a}b"\n', "expected a host name"),
        ("host = \n", "is not valid TOML"),
        ("[memory]\n[memory]\n", "is not valid TOML"),
        ('[limits.users]\nbob = { max_duration = "soon" }\n', "expected a table such as { alice ="),
        ("[limits.users]\nbob = { gpus = 8 }\n", "expected a table such as { alice ="),
        ("[limits.users]\nbob = { max_gpus = -1 }\n", "expected a table such as { alice ="),
    ],
)
def test_what_is_wrong_is_said(text: str, part: str, tmp_path: Path) -> None:
    """An error suggests the nearest known key, or states the limits and choices."""
    path = write(tmp_path, text)
    with pytest.raises(ConfigError) as refusal:
        load(path, {})
    assert str(refusal.value).startswith(path)
    assert part in str(refusal.value)


def test_a_file_that_was_named_must_be_there(tmp_path: Path) -> None:
    """A file named by argument or variable must exist, must be a file, and must be UTF-8."""
    (tmp_path / "bad.toml").write_bytes(b'host = "\xff"')
    for name in ("none.toml", ".", "bad.toml"):
        with pytest.raises(ConfigError, match=r"cannot be read|is not valid TOML"):
            load(str(tmp_path / name), {})
        with pytest.raises(ConfigError, match=r"cannot be read|is not valid TOML"):
            load(None, {"CANHAZGPU_CONFIG": str(tmp_path / name)})


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("CANHAZGPU_MEMORY_THRESHOLD_MB", "many"),
        ("CANHAZGPU_MEMORY_THRESHOLD_MB", "-1"),
        ("CANHAZGPU_MEMORY_THRESHOLD_MB", "--5"),
        ("CANHAZGPU_MEMORY_THRESHOLD_MB", "²"),
        ("CANHAZGPU_MEMORY_THRESHOLD_MB", "1" * 5000),
        ("CANHAZGPU_NOTIFY_LOG_ENABLED", "perhaps"),
        ("CANHAZGPU_NOTICES_GROUP_WAIT", "5"),
        ("CANHAZGPU_MEMORY_TRESHOLD_MB", "5"),
        ("CANHAZGPU_X", "5"),
    ],
)
def test_a_bad_variable_is_refused_by_name(variable: str, text: str, tmp_path: Path) -> None:
    """A bad value in a variable, or an unknown variable, is rejected by its name."""
    with pytest.raises(ConfigError, match=f"^{variable}: "):
        load(write(tmp_path, ""), {variable: text})


@pytest.mark.parametrize("text", [f"host = {'9' * 5000}", f"host = {'[' * 5000}"], ids="9[")
def test_what_is_too_long_or_too_deep_for_the_parser_is_refused(text: str, tmp_path: Path) -> None:
    """A number with thousands of digits, and nesting without end, are bad files; they cause no crash."""
    with pytest.raises(ConfigError):
        load(write(tmp_path, text), {})


def test_the_example_is_good_and_complete(tmp_path: Path) -> None:
    """The example file changes nothing as it is, and is valid with every comment removed."""
    assert load(write(tmp_path, example()), {}).settings == Settings()
    bare = "\n".join(
        row.removeprefix("# ")
        if " = " in row and row.removeprefix("# ").split(" = ")[0].isidentifier()
        else row
        for row in example().splitlines()
    )
    assert set(KEYS) == {
        key for key, origin in load(write(tmp_path, bare), {}).origins.items() if origin != "default"
    }


SCALARS = (
    st.text(max_size=20)
    | st.integers()
    | st.booleans()
    | st.floats(allow_nan=True)
    | st.dates().map(lambda day: day.isoformat())
    | st.sampled_from(["5s", "1h30m", "-1s", "simulated", "{user}@example.com", "redis://:x@h"])
)
VALUES = SCALARS | st.lists(SCALARS | st.lists(SCALARS, max_size=2), max_size=3)


def toml(value: Any) -> str:
    """Return a value in TOML syntax."""
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    if isinstance(value, float):
        return repr(value)
    return json.dumps(value)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    values=st.dictionaries(
        st.sampled_from([*KEYS, "nonsense", "notify.email.x", "memory"]), VALUES, max_size=4
    )
)
def test_no_values_do_anything_but_load_or_be_refused(values: dict[str, Any], tmp_path: Path) -> None:
    """Random values of any key are either loaded or rejected with a ConfigError that names the file."""
    text = "".join(f"{key} = {toml(value)}\n" for key, value in values.items())
    path = write(tmp_path, text)
    try:
        loaded = load(path, {})
    except ConfigError as refusal:
        assert str(refusal).startswith(path)  # noqa: PT017 - both ends are right
    else:
        assert {key for key, origin in loaded.origins.items() if origin == path} == set(tomllib_keys(text))


def tomllib_keys(text: str) -> list[str]:
    """Return the dotted keys of a file in which every line sets one."""
    assert tomllib.loads(text) is not None
    return [row.partition(" = ")[0] for row in text.splitlines() if row]


@given(st.sampled_from(OPTIONS), st.text(max_size=20))
def test_no_variable_does_anything_but_load_or_be_refused(option: Option, text: str) -> None:
    """Random text in any variable is either loaded or rejected with a ConfigError that names the variable."""
    try:
        load("/dev/null", {option.variable: text})
    except ConfigError as refusal:
        assert str(refusal).startswith(option.variable + ": ")  # noqa: PT017 - both ends are right
