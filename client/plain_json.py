"""JSON by the C functions of the package `json`, which itself would load `re`: a third of a command's start.

They are not a public interface. Where one is missing or takes other arguments, `json` does the work.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

BLANKS = " \t\n\r"


class _Reading:
    """What the C scanner asks for."""

    strict = True
    object_hook = object_pairs_hook = None
    parse_float, parse_int, parse_constant = float, int, float
    memo: dict[str, str] = {}  # noqa: RUF012 - json.JSONDecoder has it like this


def loads(data: bytes) -> Any:
    """Return the value of a JSON text. Raises ValueError."""
    try:
        from _json import make_scanner  # noqa: PLC0415 - not every interpreter has it

        reading: Any = _Reading()
        scan = make_scanner(reading)
    except (ImportError, AttributeError, TypeError):
        import json  # noqa: PLC0415

        return json.loads(data)
    text = data.decode("utf-8", "surrogatepass")
    start = len(text) - len(text.lstrip(BLANKS))
    try:
        value, end = scan(text, start)
    except StopIteration:
        raise ValueError("not JSON") from None
    if text[end:].strip(BLANKS):
        raise ValueError("not JSON: something follows the value")
    return value


def dumps(value: Any) -> bytes:
    """Return a value as ASCII JSON, as json.dumps does. Raises TypeError and ValueError."""
    try:
        from _json import encode_basestring_ascii, make_encoder  # noqa: PLC0415 - not every interpreter has it

        quote, no, yes = encode_basestring_ascii, False, True
        encode = make_encoder({}, _refuse, quote, None, ": ", ", ", no, no, yes)
    except (ImportError, TypeError):
        import json  # noqa: PLC0415

        return json.dumps(value).encode()
    return "".join(encode(value, 0)).encode()


def _refuse(value: Any) -> Any:
    raise TypeError(f"{type(value).__name__} is not JSON")


def indented(value: Any, margin: str = "") -> str:
    """Return a value as json.dumps(value, indent=2) does."""
    if not value or not isinstance(value, dict | list):
        return dumps(value).decode()
    inner = margin + "  "
    if isinstance(value, dict):
        rows = [f"{dumps(str(name)).decode()}: {indented(one, inner)}" for name, one in value.items()]
        return "{\n" + inner + f",\n{inner}".join(rows) + f"\n{margin}}}"
    rows = [indented(one, inner) for one in value]
    return "[\n" + inner + f",\n{inner}".join(rows) + f"\n{margin}]"
