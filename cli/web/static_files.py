"""The files that browsers load beside the page: all of them come with the package."""

import hashlib
from functools import cache
from importlib.resources import files

MEDIA = {"page.css": "text/css", "page.js": "text/javascript", "icon.svg": "image/svg+xml"}


@cache
def content(name: str) -> bytes:
    """Return a file."""
    return (files("canhazgpu.cli.web") / "static" / name).read_bytes()


@cache
def address(name: str) -> str:
    """Return the address of a file. It changes with the content, so that browsers can keep what they have."""
    return f"/static/{name}?v={hashlib.sha256(content(name)).hexdigest()[:8]}"
