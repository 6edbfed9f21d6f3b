"""What settings are made of: kinds of values, and how a field says what it is for."""

from typing import Annotated

from msgspec import Meta

# Addresses as a mail's header takes them without quoting; empty where there need be none.
ADDRESS = (
    r"[A-Za-z0-9_](?:[A-Za-z0-9_+-]|\.(?=[A-Za-z0-9_+-])){0,63}"
    r"@[A-Za-z0-9](?:(?:[A-Za-z0-9_-]|\.(?=[A-Za-z0-9_-])){0,251}[A-Za-z0-9])?"
)
Address = Annotated[str, Meta(pattern=f"^{ADDRESS}\\Z")]
Duration = Annotated[float, Meta(ge=0, extra={"duration": True})]


def about(text: str, **extra: object) -> Meta:
    """Return what a setting is for; `extra` is for `config/load.py`."""
    return Meta(description=text, extra=extra or None)
