"""Who can see which email address."""

import pytest
from support.attempts import attempt

from canhazgpu.service.api.redaction import Viewer, redact
from canhazgpu.service.identity.peer import Peer


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("bob@example.com", "b…@example.com"),
        ("b@example.com", "b…@example.com"),
        ("550 <bob.jones+gpu@mail.example.com>: unknown", "550 <b…@mail.example.com>: unknown"),
        ("bob@a.example, ann@b.example", "b…@a.example, a…@b.example"),
        ("bob:pts/3", "bob:pts/3"),
        ("webhook:chat", "webhook:chat"),
        ("@example.com", "@example.com"),
        ("", ""),
    ],
)
def test_a_masked_address_keeps_its_first_letter_and_its_domain(text: str, seen: str) -> None:
    """A redacted address keeps its first letter and its domain; other text is unchanged."""
    assert redact(text) == seen


def test_who_sees_an_address() -> None:
    """Administrators see every address, users those of their own notices, container callers none."""
    admin = Viewer(admin=True, user="root", key="uid:0")
    bob = Viewer(admin=False, user="bob", key="uid:1001")
    ann = Viewer(admin=False, user="ann", key="uid:1002")
    contained = Viewer(admin=False, user=None, key=None)
    one = attempt(detail="for bob@example.com", group="uid:1001")
    assert [who.delivery(one, "bob").recipient for who in (admin, bob)] == ["bob@example.com"] * 2
    for who in (ann, contained):
        assert (who.delivery(one, "bob").recipient, who.delivery(one, "bob").detail) == (
            "b…@example.com",
            "for b…@example.com",
        )
        assert who.deliveries([one])[0].recipient == "b…@example.com"
    assert contained.delivery(one, None).recipient == "b…@example.com"
    assert bob.deliveries([one]) == [one]
    assert bob.deliveries([attempt(group="uid:1001", audience="admins")])[0].recipient == "b…@example.com"
    data = {"person": None, "to": "ops@example.com", "incident": {"reason": "email: ops@example.com"}}
    assert admin.notice(data) == data
    assert ann.notice(data) == {
        "person": None,
        "to": "o…@example.com",
        "incident": {"reason": "email: o…@example.com"},
    }
    assert ann.notice({"person": "ann", "to": "ann@example.com"})["to"] == "ann@example.com"


def test_a_caller_from_a_container_is_nobody_here() -> None:
    """A caller from a container is nobody here, because root inside can take any uid."""

    def of(*, on_host: bool | None) -> Viewer:
        return Viewer.of(Peer(1, 1, 7, frozenset({1}), on_host, "daemon"), None)

    assert of(on_host=True) == Viewer(admin=False, user="daemon", key="uid:1")
    assert of(on_host=None) == of(on_host=True)
    assert of(on_host=False) == Viewer(admin=False, user=None, key=None)
    assert Viewer.of(Peer(1, 1, 7, frozenset({1}), None), 1).admin
