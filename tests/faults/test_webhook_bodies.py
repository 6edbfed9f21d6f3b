"""The bodies for chat services: complete, short enough, and without active text from users."""

import html
import json
import re
from collections.abc import Iterator
from email.header import decode_header, make_header
from typing import Any

import pytest
from markdown_it import MarkdownIt
from support.hostile import harm
from support.notices import notice
from support.receiver import Receiver, Request, receiving

from canhazgpu.config.channels import BODIES
from canhazgpu.config.channels import Webhook as Target
from canhazgpu.events.notices import Notice
from canhazgpu.notifiers.channels.chat import KINDS, MORE, harmless
from canhazgpu.notifiers.channels.webhook import Webhook

pytestmark = pytest.mark.anyio
NAMES = [
    "@everyone",
    "(@here)",
    "x.@all",
    "<!channel>",
    "<@U012AB3CD>",
    "<!subteam^S1|x>",
    "&lt;!here&gt;",
    "```",
    "`id`",
    "\n```\n@channel",
    "[click](https://evil.example)",
    "<https://evil.example|click>",
    "https://evil.example/x",
    "![](http://evil.example/x.png)",
    "**bold** _it_ ~~s~~ ||s||",
    "# head",
    "\r\nPriority: 5\r\n\r\nbody",
    "</pre><script>",
    "\u202egpj.exe\x1b[2J",
    "=?UTF-8?B?QGV2ZXJ5b25l?=",
]


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    """A receiver that accepts everything."""
    monkeypatch.setenv("NO_PROXY", "*")
    with receiving() as made:
        yield made


async def sent(receiver: Receiver, body: Any, told: Notice) -> Request:
    """Return the request for a notice."""
    (outcome,) = await Webhook("chat", Target(url=receiver.url, body=body)).deliver(told, ["chat"], None)
    assert outcome.verdict == "delivered"
    return receiver.taken.pop()


def shown(request: Request, body: str) -> str:
    """Return the text that people see, after checking that the service treats it as text."""
    text = json.loads(request.body)["content" if body == "discord" else "text"]
    assert isinstance(text, str)
    (fence,) = MarkdownIt().parse(text)
    assert (fence.type, fence.info) == ("fence", ""), "it is more than one block of code"
    if body != "slack":
        return fence.content
    assert not re.search(r"[<>]|&(?!amp;|lt;|gt;)", text), "a control sequence of Slack's"
    return html.unescape(fence.content)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("body", ["slack", "mattermost", "discord"])
async def test_a_name_in_a_chat_is_only_a_name(receiver: Receiver, body: str, name: str) -> None:
    """Names of users and processes mention nobody, link nowhere, and end no code block."""
    for told in (notice(name), notice("python3", user=name)):
        request = await sent(receiver, body, told)
        text = shown(request, body)
        assert harm(text, "\n") == set()
        assert not re.search(r"(?<![A-Za-z0-9])@\w|://|`", text)
        assert text.startswith("[canhazgpu gpu-host-1] ")
        assert "canhazgpu status" in text
        assert len(text.splitlines()) < 15
        if body == "discord":
            assert json.loads(request.body)["allowed_mentions"] == {"parse": []}


@pytest.mark.parametrize("name", NAMES)
async def test_a_name_in_ntfy_is_only_a_name(receiver: Receiver, name: str) -> None:
    """The service ntfy gets plain text with a title, without links or own headers."""
    request = await sent(receiver, "ntfy", notice(name, user=name, person=None, audience="admins"))
    title = str(make_header(decode_header(request.headers["Title"])))
    text = request.body.decode()
    assert request.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert request.headers["Priority"] == "4"
    assert request.headers["Tags"] == "warning"
    assert not {"Markdown", "Actions", "Click", "Attach"} & set(request.headers)
    assert title.startswith("[canhazgpu gpu-host-1] ")
    for part in (title, text):
        assert harm(part, "\n") == set()
        assert not re.search(r"(?<![A-Za-z0-9])@\w|://|`", part)
    if name.startswith("=?"):
        assert name in title, "the server would have decoded it"


async def test_a_title_in_any_writing_arrives(receiver: Receiver) -> None:
    """Headers are ASCII; other characters are encoded and read back."""
    request = await sent(receiver, "ntfy", notice("python3", user="日本語 ü", person=None, audience="admins"))
    assert "日本語 ü" in str(make_header(decode_header(request.headers["Title"])))
    assert (
        (await sent(receiver, "ntfy", notice("x"))).headers["Title"].startswith("[canhazgpu gpu-host-1] you")
    )


@pytest.mark.parametrize(
    ("body", "most"), [("slack", 4000), ("mattermost", 16383), ("discord", 2000), ("ntfy", 4096)]
)
@pytest.mark.parametrize("letter", ["&", "😀", "a"], ids=["markup", "astral", "plain"])
async def test_a_long_notice_is_cut_at_a_line(receiver: Receiver, body: str, most: int, letter: str) -> None:
    """A long text is cut as the service counts, and its last line says so."""
    many = tuple(notice(letter * 64, letter * 64, letter * 64).violations * 60)
    request = await sent(receiver, body, notice(violations=many))
    if body == "ntfy":
        text, size = request.body.decode(), len(request.body)
    else:
        text = shown(request, body)
        raw = json.loads(request.body)["content" if body == "discord" else "text"]
        size = len(raw.encode("utf-16-le")) // 2 if body == "discord" else len(raw)
    assert most - 900 < size <= most
    assert text.rstrip("\n").endswith(MORE)
    assert MORE not in (await sent(receiver, body, notice("python3"))).body.decode()


async def test_every_body_and_every_kind_can_be_sent(receiver: Receiver) -> None:
    """Every kind of notice has a body in every format."""
    for body in BODIES:
        for kind in ("opened", "changed", "reminder", "resolved", "test"):
            request = await sent(receiver, body, notice("python3", kind=kind))
            assert request.headers["X-Canhazgpu-Notice"] == "01NOTICE"
    assert {priority for priority, _ in KINDS.values()} <= set("12345")


async def test_the_contact_stays_as_it_was_written(receiver: Receiver) -> None:
    """The configured contact stays active, and nothing else does."""
    contact = "https://wiki.example.com/gpu or @gpu-help"
    assert harmless(f"a@b.org `x` {contact} @all https://x", contact) == (
        f"a@b.org \\x60x\\x60 {contact} \\x40all https\\x3a//x"
    )
    assert harmless("@all", "") == "\\x40all"
    request = await sent(receiver, "discord", notice("python3", contact=contact))
    assert shown(request, "discord")
