"""Errors as RFC 9457 problems: a stable type, a sentence for people, and a remedy."""

from typing import Any

import msgspec
from starlette.responses import Response

MEDIA_TYPE = "application/problem+json"


class Problem(Exception):
    """A request that cannot be fulfilled; it becomes the response."""

    def __init__(  # noqa: PLR0913 - each is a part of the response
        self,
        status: int,
        kind: str,
        detail: str,
        remedy: str = "",
        *,
        counts: dict[str, int] | None = None,
        hosts: dict[str, int] | None = None,
    ) -> None:
        """`kind` is the last part of the problem's type, `detail` says what is wrong, `remedy` what to do.

        `counts`: for a request for GPUs, the number of GPUs in each state. `hosts`: at the limit of the
        fleet, how many GPUs the user holds on other hosts.
        """
        super().__init__(detail)
        self.status, self.kind, self.detail, self.remedy = status, kind, detail, remedy
        self.counts, self.hosts = counts, hosts

    def body(self) -> dict[str, Any]:
        """Return it as a JSON object."""
        return {
            "type": f"urn:canhazgpu:problem:{self.kind}",
            "title": self.kind.replace("-", " "),
            "status": self.status,
            "detail": self.detail,
            "remedy": self.remedy,
            **({} if self.counts is None else {"counts": self.counts}),
            **({} if self.hosts is None else {"hosts": self.hosts}),
        }

    def line(self) -> dict[str, Any]:
        """Return it as the last line of a stream that has already started."""
        return {"state": "refused", **self.body()}

    def response(self) -> Response:
        """Return it as a response."""
        return Response(msgspec.json.encode(self.body()), self.status, media_type=MEDIA_TYPE)
