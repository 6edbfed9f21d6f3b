"""Refusals as RFC 9457 problems: a stable type, a sentence for people, and what to do."""

import msgspec
from starlette.responses import Response

MEDIA_TYPE = "application/problem+json"


class Problem(Exception):
    """A request that cannot be done; becomes the response."""

    def __init__(self, status: int, kind: str, detail: str, remedy: str = "") -> None:
        """`kind` ends the problem's type; `detail` is what was wrong, `remedy` what to do."""
        super().__init__(detail)
        self.status, self.kind, self.detail, self.remedy = status, kind, detail, remedy

    def response(self) -> Response:
        """Return it as a response."""
        body = {
            "type": f"urn:canhazgpu:problem:{self.kind}",
            "title": self.kind.replace("-", " "),
            "status": self.status,
            "detail": self.detail,
            "remedy": self.remedy,
        }
        return Response(msgspec.json.encode(body), self.status, media_type=MEDIA_TYPE)
