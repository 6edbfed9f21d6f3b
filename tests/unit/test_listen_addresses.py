"""The address and the port on which a server listens."""

import pytest

from canhazgpu.config.addresses import BadAddress, split_address


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("127.0.0.1:9836", ("127.0.0.1", 9836)),
        ("[::1]:1", ("::1", 1)),
        ("localhost:65535", ("localhost", 65535)),
        ("[::]:9836", ("::", 9836)),
    ],
)
def test_an_address_and_a_port(text: str, expected: tuple[str, int]) -> None:
    """IPv4, IPv6 in brackets, or a name."""
    assert split_address(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "9836",
        ":9836",
        "127.0.0.1",
        "127.0.0.1:",
        "host:0",
        "host:65536",
        "host:9836x",
        "::1:9836",
        "[x]:1",
        "[::1]",
    ],
)
def test_what_is_none_is_refused(text: str) -> None:
    """With what was expected; all interfaces have to be asked for by address."""
    with pytest.raises(BadAddress, match=r"such as 127\.0\.0\.1"):
        split_address(text)
