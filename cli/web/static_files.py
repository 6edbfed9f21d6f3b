"""The files of the page, which come with the package: the style is in the page, browsers load the others."""

import base64
import gzip
import hashlib
from functools import cache
from importlib.resources import files

MEDIA = {"page.js": "text/javascript", "icon.svg": "image/svg+xml"}


@cache
def content(name: str) -> bytes:
    """Return a file."""
    return (files("canhazgpu.cli.web") / "static" / name).read_bytes()


@cache
def address(name: str) -> str:
    """Return the address of a file. It changes with the content, so that browsers can keep what they have."""
    return f"/static/{name}?v={hashlib.sha256(content(name)).hexdigest()[:8]}"


@cache
def packed(name: str) -> bytes:
    """Return a file, compressed."""
    return gzip.compress(content(name), 9, mtime=0)


@cache
def style() -> str:
    """Return the style sheet. In the page, it is there before anything can be painted."""
    return content("page.css").decode()


def style_source() -> str:
    """Return how the Content-Security-Policy allows the style sheet, and no other."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(content('page.css')).digest()).decode()}'"
