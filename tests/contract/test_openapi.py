"""The OpenAPI document, compared with the code and with the running service."""

import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from requests.adapters import HTTPAdapter
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from support.daemon import Daemon, gpu, until
from urllib3.connection import HTTPConnection
from urllib3.connectionpool import HTTPConnectionPool

from canhazgpu.service.routes.openapi import document, openapi
from canhazgpu.service.routes.operations import OPERATIONS

pytestmark = pytest.mark.heavy
ROOT = Path(__file__).parents[2]
TIMEOUT = 120  # Seconds for an answer.
schema = schemathesis.openapi.from_dict(openapi())
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]


class Adapter(HTTPAdapter):
    """An HTTP adapter for a Unix socket."""

    def __init__(self, path: str) -> None:
        self.path = path
        super().__init__()

    def get_connection_with_tls_context(self, *_: Any, **__: Any) -> Any:
        """Return a pool of connections to the socket, for any URL."""
        path = self.path

        class Connection(HTTPConnection):
            def _new_conn(self) -> socket.socket:
                link = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
                link.settimeout(TIMEOUT)
                link.connect(path)
                return link

        class Pool(HTTPConnectionPool):
            ConnectionCls = Connection

        return Pool("localhost")

    get_connection = get_connection_with_tls_context


@pytest.fixture(scope="module")
def session() -> Iterator[requests.Session]:
    """A session with a service on four GPUs."""
    with tempfile.TemporaryDirectory(prefix="chg-", dir="/tmp") as folder:
        daemon = Daemon(Path(folder))
        daemon.place(*(gpu(index) for index in range(4)))
        daemon.start()
        until(lambda: daemon.status().count("AVAILABLE") == 4)
        with requests.Session() as made:
            made.mount("http://", Adapter(f"{folder}/s"))
            yield made
        daemon.stop()


def test_the_document_is_what_the_code_says() -> None:
    """docs/openapi.json is up to date; `python -m canhazgpu.service.routes.openapi` writes it."""
    assert (ROOT / "docs" / "openapi.json").read_text() == document()


def test_every_route_is_in_the_document() -> None:
    """The document has exactly the routes of the service."""
    written = set()
    for file in (ROOT / "service" / "routes").rglob("*.py"):
        for line in file.read_text().splitlines():
            if "Route(" in line and '"/v1/' in line:
                path = line.split('"')[1]
                methods = line.partition("methods=[")[2].strip('"])').split('"')[0] or "GET"
                written.add((methods.lower(), path))
    assert written == {(one.method, one.path) for one in OPERATIONS}


@schema.parametrize()
@settings(
    max_examples=12,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_the_service_keeps_its_word(case: Any, session: requests.Session) -> None:
    """For any request, status, type and shape of the response are as documented, and never 5xx."""
    if isinstance(case.body, dict):
        case.body = {**case.body, "wait": False} if "wait" in case.body else case.body
        if case.path == "/v1/reservations":
            case.body["wait"] = False  # A wait would last.
    if isinstance(case.query, dict):
        case.query.pop("follow", None)  # So would this.
    case.call_and_validate(base_url="http://localhost", session=session, checks=CHECKS, timeout=TIMEOUT)
