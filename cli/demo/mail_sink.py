"""A mail server for the demonstration: stores every mail as a file and forwards nothing."""

import itertools
import socketserver
import sys
from pathlib import Path

LONGEST_LINE = 8192


class MailSink(socketserver.ThreadingTCPServer):
    """Listens on a free loopback port and stores mails as `0001.eml`, `0002.eml`, … in `folder`."""

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        """Bind; `folder` must exist."""
        super().__init__(("127.0.0.1", 0), _Session)
        self.folder = folder
        self._numbers = itertools.count(1)

    def keep(self, lines: list[bytes]) -> None:
        """Write one mail atomically."""
        name = f"{next(self._numbers):04}"
        part = self.folder / f".{name}.part"
        part.write_bytes(b"".join(lines))
        part.rename(self.folder / f"{name}.eml")


class _Session(socketserver.StreamRequestHandler):
    timeout = 10
    server: MailSink

    def handle(self) -> None:
        self._reply("220 demonstration")
        while line := self.rfile.readline(LONGEST_LINE):
            verb = line[:4].upper().strip()
            if verb == b"DATA":
                self._reply("354 go on")
                self.server.keep(self._message())
            elif verb == b"QUIT":
                self._reply("221 bye")
                return
            self._reply("250 ok")

    def _message(self) -> list[bytes]:
        lines: list[bytes] = []
        while (line := self.rfile.readline(LONGEST_LINE)) not in (b"", b".\r\n"):
            lines.append(line.removeprefix(b".") if line.startswith(b"..") else line)
        return lines

    def _reply(self, answer: str) -> None:
        self.wfile.write(answer.encode() + b"\r\n")


def main() -> None:
    """Serve until killed. `python -m canhazgpu.cli.demo.mail_sink FOLDER` prints the port first."""
    with MailSink(Path(sys.argv[1])) as sink:
        sys.stdout.write(f"{sink.server_address[1]}\n")
        sys.stdout.flush()
        sink.serve_forever()


if __name__ == "__main__":
    main()
