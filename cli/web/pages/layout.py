"""What every page has: head, navigation, and a line about how current it is."""

from datetime import UTC, datetime

from msgspec import Struct

from canhazgpu.cli.web.markup import Child, Element, el, moment, to_html
from canhazgpu.cli.web.pages.now import State
from canhazgpu.cli.web.spelling import spell_time
from canhazgpu.cli.web.static_files import address
from canhazgpu.cli.web.viewer import Viewer

PAGES = {
    "/": "Now",
    "/timeline": "Timeline",
    "/violations": "Violations",
    "/report": "Report",
    "/deliveries": "Deliveries",
}
HOSTS = {"/hosts": "Hosts"}


class LiveAt(Struct, frozen=True):
    """Where the changes of a page's content come from, and which version of it the page has."""

    path: str
    version: str


def page(  # noqa: PLR0917 - each is a part of the page
    path: str, title: str, state: State, content: Element, viewer: Viewer, live: LiveAt | None = None
) -> str:
    """Return a whole page. If there is a `live` stream of its content, the page keeps it current."""
    now = datetime.now(viewer.zone or UTC)
    name = f"{title} - {state.host}" if state.host else title
    root = el("html", _head(name), _body(path, title, state, content, viewer, live, now), lang="en")
    return "<!DOCTYPE html>\n" + to_html(root, lambda at, form: spell_time(at, form, now))


def _head(title: str) -> Element:
    return el(
        "head",
        el("meta", charset="utf-8"),
        el("meta", name="viewport", content="width=device-width, initial-scale=1"),
        el("meta", name="color-scheme", content="light dark"),
        el("title", title),
        el("link", rel="icon", href=address("icon.svg"), type="image/svg+xml"),
        el("link", rel="stylesheet", href=address("page.css")),
        el("script", src=address("page.js"), defer=""),
    )


def _body(  # noqa: PLR0917 - each is a part of the page
    path: str, title: str, state: State, content: Element, viewer: Viewer, live: LiveAt | None, now: datetime
) -> Element:
    pages = {**PAGES, **HOSTS} if state.fleet else PAGES
    return el(
        "body",
        el("a", "Skip to the content", href="#content", class_="skip"),
        el(
            "header",
            el("p", state.host or "canhazgpu", class_="host"),
            el("nav", el("ul", *(_link(to, name, path) for to, name in pages.items())), aria_label="Pages"),
            _user(viewer) if viewer.user else None,
        ),
        el("main", el("h1", title), _currency(path, now), content, id="content", tabindex="-1"),
        data_version=live and live.version,
        data_live=live and live.path,
        data_now=round(now.timestamp() * 1000),
        data_me=viewer.user,
        class_="only-mine" if viewer.only_mine else None,
    )


def _link(to: str, name: str, path: str) -> Element:
    return el("li", el("a", name, href=to, aria_current="page" if to == path else None))


def _user(viewer: Viewer) -> Element:
    other = el("a", "show all", href="/") if viewer.only_mine else el("a", "show only mine", href="/?mine=1")
    return el("p", "You are ", el("strong", viewer.user), "; ", other, class_="me")


def _currency(path: str, now: datetime) -> Element:
    """Return the line that says when this was read. On a live page the script changes it."""
    at = now.astimezone(UTC).isoformat(timespec="seconds")
    return el(
        "p",
        el("span", "As of ", moment(at), id="state"),
        " ",
        el("a", "Reload", href=path, id="reload"),
        class_="currency",
    )


def problem(words: str, remedy: str) -> Element:
    """Return the content of a page that cannot be shown."""
    said: list[Child] = [words, f"; {remedy}" if remedy else None, "."]
    return el("p", *said, class_="notice", role="alert")
