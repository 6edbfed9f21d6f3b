"""Refusals as RFC 9457 problems: a stable type, a sentence for people, and what to do."""

from typing import Any

import msgspec
from starlette.responses import Response

MEDIA_TYPE = "application/problem+json"


class Problem(Exception):
    """A request that cannot be done; becomes the response."""

    def __init__(
        self, status: int, kind: str, detail: str, remedy: str = "", *, counts: dict[str, int] | None = None
    ) -> None:
        """`kind` ends the problem's type; `detail` is what was wrong, `remedy` what to do.

        `counts`: of a request for GPUs, how many are what to the user.
        """
        super().__init__(detail)
        self.status, self.kind, self.detail, self.remedy = status, kind, detail, remedy
        self.counts = counts

    def body(self) -> dict[str, Any]:
        """Return it as JSON's values."""
        return {
            "type": f"urn:canhazgpu:problem:{self.kind}",
            "title": self.kind.replace("-", " "),
            "status": self.status,
            "detail": self.detail,
            "remedy": self.remedy,
            **({} if self.counts is None else {"counts": self.counts}),
        }

    def line(self) -> dict[str, Any]:
        """Return it as the last line of an answer that had begun."""
        return {"state": "refused", **self.body()}

    def response(self) -> Response:
        """Return it as a response."""
        return Response(msgspec.json.encode(self.body()), self.status, media_type=MEDIA_TYPE)
