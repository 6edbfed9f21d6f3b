"""A reader of HTML pages: their tags, whether these are balanced, and the visible text."""

from html.parser import HTMLParser

VOID = {"meta", "br"}
INLINE = {"b", "span"}
TAGS = {
    *("html", "head", "meta", "title", "body", "div", "p", "h1", "h2", "b", "br", "span", "code"),
    *("table", "tr", "th", "td"),
}
ATTRIBUTES = {"lang", "charset", "name", "content", "style", "scope"}


class Page(HTMLParser):
    """One page, read to its end; `wrong` says what is not as it should be."""

    def __init__(self, text: str) -> None:
        """Read it."""
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.words: list[str] = []
        self.wrong: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        self.wrong += [f"<{tag}> is not closed" for tag in self._open]

    @property
    def text(self) -> str:
        """What a person reads, on one line."""
        return " ".join("".join(self.words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Take note of a tag."""
        self.tags.append(tag)
        self.words += [] if tag in INLINE else [" "]
        if tag not in TAGS:
            self.wrong.append(f"<{tag}>")
        self.wrong += [f"{tag} {name}={value}" for name, value in attrs if name not in ATTRIBUTES]
        self.wrong += [f"{tag} {name}={value}" for name, value in attrs if "url(" in (value or "")]
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        """Compare with the tag that was opened last."""
        self.words += [] if tag in INLINE else [" "]
        if not self._open or self._open.pop() != tag:
            self.wrong.append(f"</{tag}> closes nothing")

    def handle_data(self, data: str) -> None:
        """Keep the words."""
        self.words.append(data)

    def handle_comment(self, data: str) -> None:
        """Find fault: there is nothing to comment on."""
        self.wrong.append(f"<!--{data}-->")
