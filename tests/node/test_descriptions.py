"""The machine-readable descriptions of events and routes, read by tools that others use."""

import json
from pathlib import Path

import pytest
from support.node import INSTALLED, MODULES, ROOT, need_node, node

pytestmark = pytest.mark.node
ASYNCAPI, OPENAPI = ROOT / "docs" / "asyncapi.json", ROOT / "docs" / "openapi.json"
PARSER = Path(__file__).parent / "asyncapi.mjs"
NEWER = "asyncapi-latest-version: "  # 3.0 is meant: nothing of a later version is used.


@pytest.fixture(autouse=True)
def _node() -> None:
    need_node()


def parsed(document: Path) -> tuple[int, list[str]]:
    """Return the exit code of the parser of AsyncAPI, and what it says."""
    done = node(str(PARSER), f"{INSTALLED}/x", str(document))
    assert done.stderr == ""
    return done.returncode, [line for line in done.stdout.splitlines() if not line.startswith(NEWER)]


def linted(document: Path) -> tuple[int, str]:
    """Return the exit code of the linter of OpenAPI, and what it says."""
    config = Path(__file__).parent / "redocly.yaml"
    words = ["lint", f"--config={config}", "--format=json", str(document)]
    done = node(str(MODULES / "@redocly" / "cli" / "bin" / "cli.js"), *words)
    return done.returncode, done.stdout + done.stderr


def test_the_document_of_the_events_is_valid(tmp_path: Path) -> None:
    """AsyncAPI's own parser has nothing to say; it refuses a message that does not exist."""
    assert parsed(ASYNCAPI) == (0, [])
    document = json.loads(ASYNCAPI.read_text())
    document["channels"]["events"]["messages"]["canhazgpu.gpu.failed"]["$ref"] = "#/components/messages/none"
    (tmp_path / "bad.json").write_text(json.dumps(document))
    code, said = parsed(tmp_path / "bad.json")
    assert (code, any(line.startswith("invalid-ref") for line in said)) == (1, True)


def test_the_document_of_the_routes_passes_a_linter(tmp_path: Path) -> None:
    """Redocly's recommended rules find nothing, not even a warning; they find a route without a name."""
    code, said = linted(OPENAPI)
    assert code == 0, said
    document = json.loads(OPENAPI.read_text())
    del document["paths"]["/v1/status"]["get"]["operationId"]
    (tmp_path / "bad.json").write_text(json.dumps(document))
    code, said = linted(tmp_path / "bad.json")
    assert (code, "operation-operationId" in said) == (1, True)
