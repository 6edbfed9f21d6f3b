"""The address of Redis: the URL, and settings that conflict with it."""

from pathlib import Path

import pytest

from canhazgpu.config.load import ConfigError, load
from canhazgpu.events.redis_client.endpoint import BadUrl, Endpoint, check


@pytest.mark.parametrize(
    "url",
    [
        "redis://h",
        "rediss://u@h:1/3",
        "unix:///r",
        "redis+sentinel://a,b:2,[::1]:3/gpus",
        "rediss+sentinel://u@a/gpus/4",
        "redis+cluster://a:1,b",
    ],
)
def test_good_urls(url: str) -> None:
    """Every supported form of a URL is accepted."""
    check(url)


@pytest.mark.parametrize(
    "url",
    [
        "http://h",
        "redis://:secret@",
        "redis://h:99999",
        "redis+sentinel://a:1,b:2",
        "redis+sentinel://a/gpus/x",
        "redis+sentinel:///gpus",
        "redis+sentinel://a,,b/gpus",
        "redis+sentinel://a:0/gpus",
        "redis+cluster://a/1",
        "redis+other://a",
        "unix+cluster://a",
    ],
)
def test_bad_urls(url: str) -> None:
    """A bad URL is rejected, and no part of it is repeated."""
    with pytest.raises(BadUrl) as raised:
        check(url)
    assert url not in str(raised.value)


def test_what_sentinels_are_asked(tmp_path: Path) -> None:
    """A Sentinel URL gives the Sentinels, the master's name, the database and the two passwords."""
    (tmp_path / "p").write_text("data\n")
    (tmp_path / "s").write_text("watch\n")
    one = Endpoint(
        url="rediss+sentinel://u@a,b:2/gpus/4",
        password_file=str(tmp_path / "p"),
        sentinel_password_file=str(tmp_path / "s"),
        ca_file="/ca",
    )
    assert (one.kind, one.is_encrypted, one.master) == ("sentinel", True, "gpus")
    assert one.seeds == (("a", 26379), ("b", 2))
    assert (one.options()["db"], one.options()["ssl_ca_certs"]) == (4, "/ca")
    assert one.options()["credential_provider"].get_credentials() == ("u", "data")
    assert one.sentinel_options()["credential_provider"].get_credentials() == ("watch",)


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ('ca_file = "/c"', "ca_file"),
        ('url = "redis://h"\nca_file = "/c"', "ca_file"),
        ('url = "rediss://h"\ncert_file = "/c"', "cert_file"),
        ('url = "rediss://h"\nkey_file = "/c"', "key_file"),
        ('url = "redis://h"\nsentinel_password_file = "/c"', "sentinel_password_file"),
        ('url = "rediss://h"\nca_file = "c"', "ca_file"),
    ],
)
@pytest.mark.parametrize("section", ["redis", "fleet"])
def test_what_is_of_no_use_is_refused(tmp_path: Path, section: str, settings: str, key: str) -> None:
    """A file that no connection would use is rejected, and the message names its key."""
    file = tmp_path / "config.toml"
    file.write_text(f"[{section}]\n{settings}\n")
    with pytest.raises(ConfigError, match=f"{section}.{key}"):
        load(str(file), {})
