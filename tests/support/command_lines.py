"""The command lines in README.md and docs/*.md: those in blocks, and those of canhazgpu inside the text.

The pages in docs/integrations have tests of their own, with the programs that they are about.
"""

import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INDENTED = re.compile(r"(?:(?<=\n\n)|(?<=```\n)|\A)((?: {4}.*\n)+)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
INLINE = re.compile(r"(?<!`)(`{1,2})(?!`)(.+?)(?<!`)\1(?!`)", re.DOTALL)
SHELLS = {"sh", "bash"}
NO_SHELL = {"toml", "python", "text", "json"}
PROGRAMS = {
    *("canhazgpu", "chg", "make", ".ci/run", "python", "python3", "pip", "pipx", "uv", "conda"),
    *("apt", "systemctl", "nvidia-smi", "redis-cli", "curl", "ln", "mkdir", "rm", "mandb"),
}
OURS = r"(?:\S*/)?(?:canhazgpu|chg)"
STARTS = re.compile(rf"(?:sudo |[A-Z_]+=\S+ )*{OURS} |(?:code=|set code |eval ).*{OURS} ")
OUTPUT = re.compile(r'GPU \d|Error: |\{"|.*[─│]', re.DOTALL)


@dataclass(frozen=True)
class Line:
    """A command line, or a whole script, as it stands on a page under a heading."""

    page: str
    heading: str
    text: str
    inline: bool = False

    @property
    def is_name(self) -> bool:
        """Tell whether it only names a command: `canhazgpu admin drain` in a sentence."""
        return self.inline and bool(re.fullmatch(rf"(?:sudo )?{OURS}(?: [a-z]+){{1,2}}", self.text))


def all_lines() -> list[Line]:
    """Return every command line, page by page, in the order of the page."""
    return [line for page in PAGES for line in lines(page)]


def lines(page: Path) -> list[Line]:
    """Return the command lines of one page; fail at a block of which nobody can tell what it is."""
    text = page.read_text()
    name = str(page.relative_to(ROOT))
    headings = [(found.start(), found[1]) for found in HEADING.finditer(_without_fences(text))]
    found = sorted([*_blocks(text), *_inside(text)], key=lambda one: one[0])  # One block has one place.

    def under(place: int) -> str:
        return next((title for start, title in reversed(headings) if start < place), "")

    return [Line(name, under(place), line, inline) for place, line, inline in found]


def _without_fences(text: str) -> str:
    """Blank the fenced blocks; every other character stays at its place."""
    return FENCE.sub(lambda found: re.sub(r"[^\n]", " ", found[0]), text)


def _blocks(text: str) -> Iterator[tuple[int, str, bool]]:
    for fence in FENCE.finditer(text):
        language, content = fence.groups()
        if language in SHELLS:
            yield fence.start(), content, False
        elif language == "console":
            yield from ((fence.start(), line, False) for line in _typed(content))
        elif language not in NO_SHELL:
            raise AssertionError(f"which language is this? {content[:200]}")
    for block in INDENTED.finditer(_without_fences(text)):
        content = re.sub(r"^ {4}", "", block[1], flags=re.MULTILINE)
        yield from ((block.start(), line, False) for line in _commands(content))


def _commands(content: str) -> list[str]:
    """Return the command lines in an indented block, none if it is something else."""
    if re.search(r"^\$ ", content, re.MULTILINE):
        return _typed(content)
    joined = _joined(content)
    if all(_program(line) in PROGRAMS for line in joined):
        return joined
    if not (
        OUTPUT.match(content) or content.startswith("#!/") or _is_settings(content) or _is_python(content)
    ):
        raise AssertionError(f"is this a command line, settings, a program or output?\n{content}")
    return []


def _typed(content: str) -> list[str]:
    """Return what stands after the prompt."""
    return [line.removeprefix("$ ") for line in _joined(content) if line.startswith("$ ")]


def _joined(content: str) -> list[str]:
    return [line.strip() for line in re.sub(r"\\\n\s*", "", content).splitlines()]


def _program(line: str) -> str:
    """Return the program that a line starts; its path matters only for a script of the checkout."""
    words = [word for word in line.split() if not re.match(r"[A-Z_]+=", word)]
    return words[0] if words[:1] == [".ci/run"] else "".join(words[:1]).rpartition("/")[2]


def _is_settings(content: str) -> bool:
    try:
        tomllib.loads(content)
    except tomllib.TOMLDecodeError:
        return content.startswith("[Service]\n")
    return True


def _is_python(content: str) -> bool:
    try:
        compile(content, "block", "exec")
    except SyntaxError:
        return False
    return True


def _inside(text: str) -> Iterator[tuple[int, str, bool]]:
    """Return the command lines of canhazgpu inside sentences and tables."""
    blank = INDENTED.sub(lambda found: re.sub(r"[^\n]", " ", found[0]), _without_fences(text))
    for span in INLINE.finditer(blank):
        line = " ".join(span[2].split())
        if STARTS.match(line):
            yield span.start(), line, True
