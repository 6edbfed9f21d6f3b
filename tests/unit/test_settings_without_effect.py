"""Settings that have no effect, or would fail later, are rejected when they are read."""

import zoneinfo
from pathlib import Path

import pytest

from canhazgpu.config.load import ConfigError, load


def refusal(folder: Path, text: str) -> str:
    """Return the error about a settings file, without its name."""
    path = folder / "config.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as refused:
        load(str(path), {})
    said = str(refused.value)
    assert said.startswith(f"{path}: ")
    assert said.isprintable()
    return said.removeprefix(f"{path}: ")


def toml(key: str, value: str) -> str:
    """Return the lines of a settings file that set one key."""
    section, _, name = key.rpartition(".")
    return (f"[{section}]\n" if section else "") + f"{name} = {value}\n"


@pytest.mark.parametrize(
    ("key", "value", "why"),
    [
        ("socket", '""', "the path of a file, not ''"),
        ("socket", r'"/tmp/x/\u0000s.sock"', r"the path of a file, not '/tmp/x/\x00s.sock'"),
        ("state_dir", '""', "the path of a directory, not ''"),
        ("state_dir", r'"/tmp/\u0000"', r"the path of a directory, not '/tmp/\x00'"),
        ("notify.log.path", '""', "the path of a file, not ''"),
        ("notify.log.path", '"/"', "the path of a file, not '/'"),
        ("notify.log.path", '"."', "the path of a file, not '.'"),
        ("notify.log.path", '"/var/log/.."', "the path of a file, not '/var/log/..'"),
        ("notify.log.path", r'"/tmp/a\u0000b"', r"the path of a file, not '/tmp/a\x00b'"),
        ("gpus.scenario", r'"/tmp/a\u0000b"', "text without a NUL character"),
        ("admin_group", r'"a\u0000b"', "text without a NUL character"),
        ("redis.url", r'"unix:///tmp/a\u0000b"', "text without a NUL character"),
        ("notify.email.ca_file", r'"/tmp/a\u0000b"', "text without a NUL character"),
        ("notify.email.password_file", r'"/tmp/a\u0000b"', "text without a NUL character"),
        ("notify.exec.command", r'["/bin/echo", "a\u0000b"]', "text without a NUL character"),
        ("notify.email.address_command", r'["/bin/a\u0000b"]', "text without a NUL character"),
        ("notify.webhook.x", r'{ url_file = "/tmp/a\u0000b" }', "text without a NUL character"),
        (
            "notify.webhook.x",
            r'{ url = "http://y/", secret_file = "/\u0000" }',
            "text without a NUL character",
        ),
        ("notify.plugins.x", r'{ program = "/tmp/a\u0000b" }', "text without a NUL character"),
        ("limits.users", r'{ "a\u0000b" = { max_gpus = 1 } }', "text without a NUL character"),
    ],
)
def test_what_no_file_can_be_called_is_refused(key: str, value: str, why: str, tmp_path: Path) -> None:
    """An empty path, or one with a NUL character, is rejected."""
    said = refusal(tmp_path, toml(key, value))
    assert said.partition(": ")[2] == f"expected {why}"
    assert key.startswith(said.partition(": ")[0])


@pytest.mark.parametrize("name", ["Mars/One", "../UTC", "Europe", "zone.tab", "a\\u0000b", "a\\nb"])
def test_a_time_zone_that_is_none_is_refused(name: str, tmp_path: Path) -> None:
    """A name that is no time zone is rejected, whatever it means to the file system."""
    said = refusal(tmp_path, f'[notices.quiet]\ntimezone = "{name}"\n')
    assert said.startswith("notices.quiet.timezone: expected a time zone such as Europe/Berlin, not '")


def test_without_the_data_of_time_zones_none_is_accepted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the time zone data is missing, the error says so; without a zone none is needed."""

    def missing(name: str) -> zoneinfo.ZoneInfo:
        raise zoneinfo.ZoneInfoNotFoundError(name)

    monkeypatch.setattr(zoneinfo, "ZoneInfo", missing)
    said = refusal(tmp_path, '[notices.quiet]\ntimezone = "Europe/Berlin"\n')
    assert said.startswith("notices.quiet.timezone: expected no time zone, because this host has no data for")
    assert "tzdata" in said
    (tmp_path / "config.toml").write_text('[notices.quiet]\ntimezone = ""\n')
    assert load(str(tmp_path / "config.toml"), {}).settings.notices.quiet.timezone == ""


@pytest.mark.parametrize("key", ["admin_channels", "granted", "expiring", "idle", "released"])
@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("emial", "one of the channels wall, email, log, webhook, exec, webhook:NAME, pager, not emial"),
        ("email:x", "one of the channels wall, email, log, webhook, exec, webhook:NAME, pager, not email:x"),
        ("webhook:cat", "an existing webhook, not webhook:cat: there is no [notify.webhook.cat]"),
        ("terminate", "channels other than terminate, which is allowed only in [[notices.steps]]"),
    ],
)
def test_a_channel_that_there_is_not_is_refused(key: str, name: str, why: str, tmp_path: Path) -> None:
    """An unknown channel is rejected wherever it is named, with a list of the known ones."""
    text = f'[notices]\n{key} = ["wall", "{name}"]\n'
    assert refusal(tmp_path, text + SITE) == f"notices.{key}: expected {why}"
    text = f'[notices.quiet]\nchannels = ["{name}"]\n'
    assert refusal(tmp_path, text + SITE) == f"notices.quiet.channels: expected {why}"
    if name != "terminate":
        step = f'[[notices.steps]]\nchannels = ["log", "{name}"]\nto = ["offender"]\n'
        assert refusal(tmp_path, step + SITE) == f"notices.steps: expected {why}"


@pytest.mark.parametrize("name", ["wall", "log"])
def test_terminals_and_the_log_are_never_quiet(name: str, tmp_path: Path) -> None:
    """Terminals and the log cannot be quiet."""
    said = refusal(tmp_path, f'[notices.quiet]\nchannels = ["email", "{name}"]\n')
    assert said == (
        f"notices.quiet.channels: expected channels that can be delayed, not {name}:"
        " quiet hours never apply to wall and log"
    )
    with pytest.raises(ConfigError, match=f"^CANHAZGPU_NOTICES_QUIET_CHANNELS: expected .*, not {name}: "):
        load("/dev/null", {"CANHAZGPU_NOTICES_QUIET_CHANNELS": name})


@pytest.mark.parametrize("channels", ['"wall"', '"wall", "email"'])
def test_an_address_has_no_terminal(channels: str, tmp_path: Path) -> None:
    """A step that only writes to terminals of an email address is rejected."""
    step = f'[[notices.steps]]\nchannels = [{channels}]\nto = ["a@example.com"'
    said = refusal(tmp_path, f"{step}]\n")
    assert said == (
        f"notices.steps: expected offender, holder or admins as recipients of wall,"
        f' not [{channels}] to ["a@example.com"]'
    )
    (tmp_path / "config.toml").write_text(f'{step}, "admins"]\n')
    assert load(str(tmp_path / "config.toml"), {}).settings.notices.steps[0].to == ["a@example.com", "admins"]


@pytest.mark.parametrize(
    ("key", "value", "why"),
    [
        (
            "notices.quiet.hours",
            '"22:00-22:00"',
            "different start and end times, not 22:00-22:00",
        ),
        ("notices.repeat_factor", "101", "a whole number from 1 to 100, not 101"),
        ("notices.repeat_factor", "9" * 20, f"a whole number from 1 to 100, not {'9' * 20}"),
        ("notices.quiet.holidays", '["2026-12-25", "2026-02-31"]', "dates that exist, not 2026-02-31"),
        ("notices.quiet.holidays", '["0000-01-01"]', "dates that exist, not 0000-01-01"),
        ("notify.email.host", '""', "the name or address of a mail server, not ''"),
        ("notify.email.host", '"mail host"', "the name or address of a mail server, not 'mail host'"),
        ("notify.email.host", '" mail"', "the name or address of a mail server, not ' mail'"),
        ("notify.email.host", r'"mail\u0007"', r"the name or address of a mail server, not 'mail\x07'"),
        (
            "notify.email.username",
            '"gpu"',
            "notify.email.password_file to be set as well",
        ),
    ],
)
def test_what_could_not_work_is_refused(key: str, value: str, why: str, tmp_path: Path) -> None:
    """A setting that cannot work is rejected, and the error says why."""
    assert refusal(tmp_path, toml(key, value)) == f"{key}: expected {why}"


@pytest.mark.parametrize(
    "url",
    [
        "http://hunter2:99999/",
        "http://hunter2:0/",
        "http://hunter2:port/",
        "http://hunter2:-1/",
        "http://[::1/hunter2",
        "http://[hunter2]/",
        "http://[1::2::3]/hunter2",
        "http://:80/hunter2",
        "http:///hunter2",
        "http://hunter2..example.com/",
        r"http://y/hunter2\u0007",
        f"http://{'x' * 64}.example.com/hunter2",
    ],
)
def test_an_address_that_leads_nowhere_is_refused(url: str, tmp_path: Path) -> None:
    """An invalid URL of a webhook is rejected and not repeated, because it may be a secret."""
    said = refusal(tmp_path, f'[notify.webhook.chat]\nurl = "{url}"\n')
    assert said == "notify.webhook: expected a host name, and a valid port if one is given, in chat.url"


@pytest.mark.parametrize(
    "url",
    [
        "https://[::1]:8080/x",
        "http://127.0.0.1/",
        "https://u:p@chat.example.com:443/a?b=c#d",
        "http://bücher.de/",
        "http://my_host./",
    ],
)
def test_an_address_that_leads_somewhere_is_taken(url: str, tmp_path: Path) -> None:
    """Every valid form of a URL is accepted."""
    path = tmp_path / "config.toml"
    path.write_text(f'[notify.webhook.chat]\nurl = "{url}"\n', encoding="utf-8")
    assert load(str(path), {}).settings.notify.webhook["chat"].url == url


SITE = '[notify.webhook.chat]\nurl = "https://chat.example.com/x"\n[notify.plugins.pager]\n'


def test_a_channel_that_is_off_may_be_named(tmp_path: Path) -> None:
    """Disabled mail, webhooks by name, and plugins can be named as channels."""
    path = tmp_path / "config.toml"
    steps = '[[notices.steps]]\nchannels = ["terminate"]\nto = ["offender"]\nafter = "9d"\n'
    path.write_text('[notices]\ngranted = ["email", "webhook", "exec", "wall", "log"]\n' + steps)
    assert load(str(path), {}).settings.notify.on == ("wall", "log")
    path.write_text('[notices]\ngranted = ["webhook:chat", "pager"]\n' + SITE)
    assert load(str(path), {}).settings.notices.granted == ["webhook:chat", "pager"]


def test_a_variable_is_named_as_the_place_of_a_wrong_channel(tmp_path: Path) -> None:
    """If a variable names a wrong channel, the error names the variable, not the file."""
    (tmp_path / "config.toml").write_text("")
    with pytest.raises(
        ConfigError, match=r"^CANHAZGPU_NOTICES_GRANTED: expected one of the channels .* not fax$"
    ):
        load(str(tmp_path / "config.toml"), {"CANHAZGPU_NOTICES_GRANTED": "fax"})


@pytest.mark.parametrize(
    ("channels", "to"),
    [
        ('"wall", "terminate"', '"offender"'),
        ('"terminate", "terminate"', '"offender"'),
        ('"terminate"', '"holder"'),
        ('"terminate"', '"offender", "admins"'),
    ],
)
def test_a_step_that_terminates_does_nothing_else(channels: str, to: str, tmp_path: Path) -> None:
    """A step with `terminate` can contain no other channel, and the error shows how to write it."""
    said = refusal(tmp_path, f"[[notices.steps]]\nchannels = [{channels}]\nto = [{to}]\n")
    assert said == (
        "notices.steps: expected terminate in a step of its own,"
        ' with channels ["terminate"] and to ["offender"],'
        f" not [{channels}] to [{to}]"
    )


@pytest.mark.parametrize("name", ["wall", "email", "log", "webhook", "exec", "terminate"])
def test_a_notifier_of_the_sites_own_has_a_name_of_its_own(name: str, tmp_path: Path) -> None:
    """A plugin cannot have the name of a built-in channel."""
    said = refusal(tmp_path, f"[notify.plugins.pager]\n[notify.plugins.{name}]\n")
    assert said == f"notify.plugins: expected a name other than {name}, which is a built-in channel"


@pytest.mark.parametrize("key", ["url_file", "secret_file"])
def test_a_file_is_named_from_the_root(key: str, tmp_path: Path) -> None:
    """The path of a file must be absolute, and the value is not repeated, because it may be a secret."""
    address = "" if key == "url_file" else 'url = "https://chat.example.com/x"\n'
    said = refusal(tmp_path, f'[notify.webhook.chat]\n{address}{key} = "hunter2"\n')
    assert said.startswith(f"notify.webhook: expected the absolute path of a file as chat.{key}, such as /")
    assert "hunter2" not in said


@pytest.mark.parametrize(
    "text", ["room\\n214", "room\\r214", "\\u001b[2J", "a\\u2028b", "\\u202e412", "a\\tb"]
)
def test_a_contact_is_one_line_that_can_be_printed(text: str, tmp_path: Path) -> None:
    """The contact must be one printable line."""
    said = refusal(tmp_path, f'[notices]\ncontact = "{text}"\n')
    assert said.startswith("notices.contact: expected one line without control characters, not '")


def test_a_contact_may_be_in_any_language(tmp_path: Path) -> None:
    """The contact can be in any language."""
    path = tmp_path / "config.toml"
    path.write_text('[notices]\ncontact = "Büro 214, 管理者 <gpu@example.com>"\n', encoding="utf-8")
    assert "Büro" in load(str(path), {}).settings.notices.contact


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("[limits.fleet]\nmax_gpus_per_user = 4\n", "limits.fleet.max_gpus_per_user: expected fleet.url"),
        ("[limits.users]\nada = { max_gpus_in_fleet = 4 }\n", "limits.users: expected fleet.url to be set"),
    ],
)
def test_a_limit_of_the_fleet_needs_a_fleet(text: str, key: str, tmp_path: Path) -> None:
    """Without a fleet, a limit for all of its hosts has no effect."""
    assert refusal(tmp_path, text).startswith(key)
    (tmp_path / "config.toml").write_text('[fleet]\nurl = "redis://fleet:6379"\n' + text)
    assert load(str(tmp_path / "config.toml"), {}).settings.fleet.url
