"""What `Consumer` and `follow` refuse at once, before they connect to anything."""

from typing import Any

import pytest

from canhazgpu.events import Consumer, Endpoint, follow

URL = "unix:///nonexistent/redis.sock"


def refusal(call: Any, **choices: Any) -> str:
    """Return why it is refused, which is one line."""
    with pytest.raises(ValueError, match=r"\w") as caught:
        call(choices.pop("where", URL), **{"host": "h", **choices})
    said = str(caught.value)
    assert "\n" not in said
    return said


@pytest.mark.parametrize(
    "after",
    ["yesterday", "", "$", "-", "5-", "5-x", " 5", "5\n", "٣", "18446744073709551616", "1-" + "9" * 21],
)
def test_follow_refuses_what_is_no_stream_id(after: str) -> None:
    """When it is called, not when Redis refuses it; the message shows a valid one."""
    assert "is not a stream_id: use 1795600000000-17" in refusal(follow, after=after)


@pytest.mark.parametrize("after", [None, "0", "5", "5-0", "18446744073709551615-18446744073709551615"])
def test_follow_takes_every_stream_id(after: str | None) -> None:
    """Also a time alone, and the greatest id."""
    assert follow(URL, host="h", after=after)


@pytest.mark.parametrize(
    ("choices", "said"),
    [
        ({"host": ""}, "host: the name is empty"),
        ({"where": "http://h"}, "the URL of Redis: expected redis://"),
        ({"where": Endpoint(url="redis+sentinel://h")}, "the URL of Redis: expected redis://"),
        ({"stream": "event"}, "there is no stream 'event'"),
        ({"types": "violation"}, "types: 'violation' is one text: use a list"),
    ],
)
def test_both_refuse(choices: dict[str, Any], said: str) -> None:
    """An address, a host, a stream or types that cannot be right."""
    assert said in refusal(follow, **choices)
    assert said in refusal(Consumer, **{"group": "g", **choices})


@pytest.mark.parametrize(
    ("choices", "said"),
    [
        ({"group": ""}, "group: the name is empty"),
        ({"group": "a\x1b[2J"}, "group: 'a\\x1b[2J' has a character that cannot be printed"),
        ({"group": "a" * 201}, "group: the name has 201 characters; the limit is 200"),
        ({"group": "dispatcher"}, "the service itself uses the name 'dispatcher'"),
        ({"group": "log", "stream": "violations"}, "the service itself uses the name 'log'"),
        ({"group": "fleet"}, "the service itself uses the name 'fleet'"),
        ({"group": "email", "stream": "notices"}, "the service itself uses the name 'email'"),
        ({"group": "webhook:chat", "stream": "notices"}, "the service itself uses the name"),
        ({"name": "a\nb"}, "name: 'a\\nb' has a character that cannot be printed"),
        ({"attempts": 0}, "attempts: 0 is out of range: use 1 or more"),
        ({"batch": -1}, "batch: -1 is out of range: use 1 or more"),
        ({"claim_after": 0}, "claim_after: 0 is out of range"),
        ({"claim_after": float("inf")}, "claim_after: inf is out of range"),
        ({"claim_after": float("nan")}, "claim_after: nan is out of range"),
        ({"begin": "latest"}, "begin: 'latest' is not known: use oldest or newest"),
    ],
)
def test_a_consumer_refuses(choices: dict[str, Any], said: str) -> None:
    """Names, counts and times that cannot be right, and the groups of the service."""
    assert said in refusal(Consumer, **{"group": "g", **choices})


def test_a_message_does_not_repeat_a_password() -> None:
    """A URL is never quoted."""
    assert "secret" not in refusal(follow, where="http://user:secret@h")


def test_a_channel_name_is_free_where_no_channel_reads() -> None:
    """The service's channels read the stream of notices only."""
    assert Consumer(URL, host="h", group="email", stream="violations")
