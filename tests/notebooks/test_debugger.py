"""docs/integrations/editors.md: a debugger attaches to the program that waits for it on a reserved GPU."""

import json
import re
import socket
import subprocess
from typing import Any

import pytest
from support.daemon import COMMAND, PATIENCE, Daemon, until
from support.notebook import PYTHON, ROOT, need_notebooks
from support.ports import free_port

pytestmark = [pytest.mark.notebook, pytest.mark.timeout(300)]  # A kernel is slow to start.
PAGE = (ROOT / "docs" / "integrations" / "editors.md").read_text()
TASKS, LAUNCH, _ = (json.loads(one) for one in re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL))


def connected(port: int) -> socket.socket | None:
    """Return a connection to the debugger, or None if it does not listen yet."""
    try:
        return socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
    except OSError:
        return None


def send(link: socket.socket, number: int, command: str, **arguments: Any) -> None:
    """Send a request of the Debug Adapter Protocol."""
    body = json.dumps({"seq": number, "type": "request", "command": command, "arguments": arguments}).encode()
    link.sendall(b"Content-Length: %d\r\n\r\n%s" % (len(body), body))


def test_a_debugger_attaches(host: Daemon) -> None:
    """The program waits with its GPU reserved, and goes on when the debugger is there."""
    need_notebooks()
    until(lambda: "AVAILABLE" in host.status())
    program = host.folder / "train.py"
    program.write_text("import os; print('sees', os.environ['CUDA_VISIBLE_DEVICES'])\n")
    (configuration,) = LAUNCH["configurations"]
    (task,) = [one for one in TASKS["tasks"] if one["label"] == configuration["preLaunchTask"]]
    port = free_port()
    changes = {"python3": str(PYTHON), "${file}": str(program), "127.0.0.1:5678": f"127.0.0.1:{port}"}
    words = [changes.get(word, word) for word in task["args"]]
    with subprocess.Popen(
        [*COMMAND, *words], env=host.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as job:
        with until(lambda: connected(port), 60) as link:
            assert "IN USE" in host.status()
            send(link, 1, "initialize", adapterID="test")
            send(link, 2, "attach", **configuration)
            received = b""
            while b'"initialized"' not in received:
                received += link.recv(65536)
            send(link, 3, "configurationDone")
            assert job.stdout
            assert job.stdout.readline() == "sees 0\n"
        assert job.wait(PATIENCE) == 0
    until(lambda: "AVAILABLE" in host.status())
