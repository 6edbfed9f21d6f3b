"""The value types of settings, and the helper that attaches a description to a field."""

from typing import Annotated

from msgspec import Meta

# Mail addresses that need no quoting in a header.
ADDRESS = (
    r"[A-Za-z0-9_](?:[A-Za-z0-9_+-]|\.(?=[A-Za-z0-9_+-])){0,63}"
    r"@[A-Za-z0-9](?:(?:[A-Za-z0-9_-]|\.(?=[A-Za-z0-9_-])){0,251}[A-Za-z0-9])?"
)
Address = Annotated[str, Meta(pattern=f"^{ADDRESS}\\Z")]
Duration = Annotated[float, Meta(ge=0, extra={"duration": True})]


def about(text: str, **extra: object) -> Meta:
    """Return metadata with the description of a setting; `config/load.py` reads `extra`."""
    return Meta(description=text, extra=extra or None)
