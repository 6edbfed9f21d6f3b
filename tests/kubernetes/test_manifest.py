"""The DaemonSet of the documentation is valid YAML, and starts the plugin on the host."""

from pathlib import Path
from typing import Any

import pytest
import yaml

pytestmark = pytest.mark.kubernetes
DOCS = Path(__file__).parents[2] / "docs" / "integrations"


def test_the_manifest_starts_the_plugin_on_the_host() -> None:
    """Its privileged pod enters the mount namespace of PID 1, and has systemd run the shipped program."""
    manifest: Any = yaml.safe_load((DOCS / "canhazgpu-kubernetes.yaml").read_text())
    assert (manifest["apiVersion"], manifest["kind"]) == ("apps/v1", "DaemonSet")
    template = manifest["spec"]["template"]
    assert manifest["spec"]["selector"]["matchLabels"] == template["metadata"]["labels"]
    assert template["spec"]["hostPID"] is True
    (container,) = template["spec"]["containers"]
    assert container["securityContext"] == {"privileged": True}
    assert container["command"][:3] == ["nsenter", "--target=1", "--mount"]
    (script,) = container["args"]
    assert "systemd-run --unit=canhazgpu-plugin" in script
    assert script.rstrip().endswith("/opt/canhazgpu/bin/canhazgpu kubernetes")
    assert container["lifecycle"]["preStop"]["exec"]["command"][-2:] == ["stop", "canhazgpu-plugin"]


def test_the_pod_of_the_page_requests_the_resource() -> None:
    """The example requests a GPU under the default name."""
    text = (DOCS / "kubernetes.md").read_text().split("```yaml\n")[1].split("```")[0]
    pod: Any = yaml.safe_load(text)
    assert pod["spec"]["containers"][0]["resources"]["limits"] == {"canhazgpu.io/gpu": 1}
