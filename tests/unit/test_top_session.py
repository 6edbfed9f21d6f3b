"""What the keys of `top` do."""

import pytest

from canhazgpu.cli.top.session import EXTEND, FILTERS, RELEASE, SORTS, Request, Session


def typed(session: Session, *keys: str) -> Request | None:
    """Press keys; return the request that the last one makes."""
    found = None
    for key in keys:
        assert found is None
        found = session.press(key)
    return found


def test_filters_and_orders_go_round() -> None:
    """Each press is the next one; after the last comes the first."""
    session = Session()
    seen = [session.filter]
    for _ in FILTERS:
        session.press("f")
        seen.append(session.filter)
    assert seen == [*FILTERS, FILTERS[0]]
    for order in (*SORTS[1:], SORTS[0]):
        session.press("s")
        assert session.order == order


def test_quitting_and_helping() -> None:
    """The key q quits; h shows the help, and the next key hides it and does nothing else."""
    session = Session()
    session.press("h")
    assert session.helping
    session.press("f")
    assert (session.helping, session.filter) == (False, FILTERS[0])
    session.press("q")
    assert session.has_quit


@pytest.mark.parametrize(
    ("keys", "request_"),
    [
        (["e", *"2h", "\n"], Request("extend", {"duration": "2h"})),
        (["e", *"1h30m 0,3", "enter"], Request("extend", {"duration": "1h30m", "gpus": [0, 3]})),
        (["r", *"3 1,1", "\r"], Request("release", {"gpus": [1, 3]})),
        (["r", *"all", "\n"], Request("release", {})),
        (["r", *"12", "backspace", "\n"], Request("release", {"gpus": [1]})),
        (["r", "\n"], None),
        (["e", "\n"], None),
        (["e", *"2h", "\x1b"], None),
        (["u", *"bob", "\n"], None),
    ],
)
def test_requests(keys: list[str], request_: Request | None) -> None:
    """Only a complete answer makes a request; Enter alone and Escape make none."""
    session = Session()
    assert typed(session, *keys) == request_
    assert (session.prompt, session.complaint) == ("", "")


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        (["e", *"soon", "\n"], "'soon' is not a duration"),
        (["e", *"2h x", "\n"], "'x' is not a list of GPUs"),
        (["r", *"everything", "\n"], "'everything' is not a list of GPUs"),
        (["r", *"99999", "\n"], "'99999' is not a list of GPUs"),
    ],
)
def test_a_wrong_answer_is_explained(keys: list[str], said: str) -> None:
    """Nothing is requested, and the next key removes the explanation."""
    session = Session()
    assert typed(session, *keys) is None
    assert session.complaint.startswith(said)
    session.press("g")
    assert session.complaint == ""


def test_keys_of_an_answer_do_nothing_else() -> None:
    """While an answer is typed, q is a letter, an arrow is nothing, and a control character is not typed."""
    session = Session()
    typed(session, "u", "q", "down", "\x07", "f")
    assert (session.answer, session.has_quit, session.filter) == ("qf", False, FILTERS[0])
    session.press("\n")
    assert session.user == "qf"
    typed(session, "u", "\n")
    assert session.user is None


def test_prompts() -> None:
    """The question says what can be answered, and begins empty."""
    session = Session()
    for key, prompt in (("e", EXTEND), ("r", RELEASE)):
        typed(session, key, "x")
        assert (session.prompt, session.answer) == (prompt, "x")
        session.press("\x1b")
        session.press(key)
        assert session.answer == ""
        session.press("\x1b")
