"""If one channel hangs (a terminal, a webhook, a program, mail), all others deliver in time."""

import json
import os
import socket
import termios
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from support.daemon import Daemon, gpu, until, use
from support.people import Person, Terminal

from canhazgpu.cli.demo.mail_sink import MailSink

CULPRITS = ("terminal", "webhook", "exec", "mail")
CONFIG = """
[[notices.steps]]
channels = ["wall", "email", "webhook", "exec", "log"]
to = ["offender"]
[notify.email]
enabled = true
host = "127.0.0.1"
port = {mail}
user_address = "{{user}}@example.com"
[notify.exec]
command = ["{program}"]
timeout = "100s"
[notify.webhook.chat]
url = "http://127.0.0.1:{hook}/"
timeout = "60s"
"""
IN_TIME = 20.0  # Seconds; less than what any channel waits for.


class Hook(BaseHTTPRequestHandler):
    """Records posts; hangs if the server says so."""

    def do_POST(self) -> None:
        """Accept a notice, or never answer."""
        server: Any = self.server
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if server.hangs:
            server.freed.wait()
            return
        server.taken.append(json.loads(body))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_words: Any) -> None:
        """Log nothing."""


class Scene:
    """A host with every channel enabled, one of which hangs."""

    def __init__(self, folder: Path, person: Person, culprit: str, closing: ExitStack) -> None:
        self.folder, self.culprit = folder, culprit
        (folder / "mail").mkdir()
        sink = closing.enter_context(MailSink(folder / "mail"))
        threading.Thread(target=sink.serve_forever, daemon=True).start()
        closing.callback(sink.shutdown)
        mail = sink.server_address[1]
        if culprit == "mail":  # It takes the connection and says nothing.
            silent = closing.enter_context(socket.create_server(("127.0.0.1", 0)))
            mail = silent.getsockname()[1]
        hook: Any = ThreadingHTTPServer(("127.0.0.1", 0), Hook)
        self.hook = hook
        self.hook.hangs, self.hook.taken, self.hook.freed = culprit == "webhook", [], threading.Event()
        threading.Thread(target=self.hook.serve_forever, daemon=True).start()
        closing.callback(self.hook.server_close)
        closing.callback(self.hook.shutdown)
        closing.callback(self.hook.freed.set)
        program = folder / "hook.sh"
        hang = "trap '' TERM INT HUP\nwhile :; do sleep 1; done\n" if culprit == "exec" else ""
        program.write_text(f"#!/bin/sh\n{hang}cat > {folder}/ran.tmp && mv {folder}/ran.tmp {folder}/ran\n")
        program.chmod(0o755)
        self.terminal = Terminal(person)
        closing.callback(self.terminal.close)
        self.stuck: Terminal | None = None
        if culprit == "terminal":  # Nobody reads it, and it is full.
            self.stuck = Terminal(person)
            closing.callback(self.stuck.close)
            self._fill(self.stuck.path)
        config = CONFIG.format(mail=mail, program=program, hook=self.hook.server_address[1])
        self.daemon = Daemon(folder, config).start()

    def _fill(self, path: str) -> None:

        terminal = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY)
        termios.tcflow(terminal, termios.TCOOFF)
        os.close(terminal)

    def seen(self) -> dict[str, bool]:
        """Return which channels have delivered."""
        log = self.folder / "violations.log"
        return {
            "terminal": "GPU 0" in self.terminal.text,
            "mail": bool(list((self.folder / "mail").glob("*.eml"))),
            "webhook": bool(self.hook.taken),
            "exec": (self.folder / "ran").exists(),
            "log": log.exists() and "notice.created" in log.read_text(),
        }


@pytest.fixture
def scene(request: pytest.FixtureRequest, folder: Path, people: list[Person]) -> Iterator[Scene]:
    """The host with the hanging channel that the test names."""
    with ExitStack() as closing:
        made = Scene(folder, people[0], request.param, closing)
        yield made
        began = time.monotonic()
        assert made.daemon.stop() == 0
        assert time.monotonic() - began < 25, "what hangs holds up the end"


@pytest.mark.parametrize("scene", CULPRITS, indirect=True)
def test_everything_else_is_on_time(scene: Scene) -> None:
    """All other channels deliver in time, and deliveries report the one that hangs."""
    scene.daemon.place(gpu(0, use(scene.terminal.leader.pid, 900)))
    others = {"terminal", "mail", "webhook", "exec", "log"} - {scene.culprit}
    if scene.culprit == "terminal":
        others.add("terminal")  # The person's other one.
    until(lambda: all(scene.seen()[name] for name in others), IN_TIME, "for the others")
    if scene.culprit in ("webhook", "exec", "mail"):
        assert not scene.seen()[scene.culprit]
    if scene.culprit == "terminal":
        until(lambda: "stuck" in scene.daemon.run("deliveries").stdout)
        assert scene.stuck
        assert scene.stuck.text == ""
    assert scene.daemon.run("status").returncode == 0
