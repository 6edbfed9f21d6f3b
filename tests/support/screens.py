"""A program on a terminal of its own, with a size, whose screen can be read and whose keys can be pressed."""

import shlex
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from shutil import rmtree


class Screen:
    """A program in tmux, which is the terminal; its text is what a person sees."""

    def __init__(
        self, words: Sequence[str], environment: Mapping[str, str], width: int = 100, height: int = 30
    ) -> None:
        """Start it; the terminal stays when it has ended, with its exit status in `status`."""
        self._folder = Path(tempfile.mkdtemp(prefix="chg-screen-", dir="/tmp"))
        self._base = ["tmux", "-S", str(self._folder / "socket"), "-f", "/dev/null"]
        self._status = self._folder / "status"
        unset = "-u COLUMNS -u LINES -u TMUX"
        variables = " ".join(
            f"{name}={shlex.quote(value)}"
            for name, value in environment.items()
            if name.isidentifier() and name not in ("COLUMNS", "LINES", "TERM", "TMUX")
        )
        command = f"env {unset} LC_ALL=C.UTF-8 {variables} {shlex.join(words)}; echo $? > {self._status}; cat"
        self._tmux("-u", "new-session", "-d", "-x", str(width), "-y", str(height), command)

    def _tmux(self, *words: str) -> str:
        done = subprocess.run([*self._base, *words], capture_output=True, text=True, check=True)
        return done.stdout

    @property
    def text(self) -> str:
        """What is on the screen."""
        return self._tmux("capture-pane", "-p")

    @property
    def status(self) -> int | None:
        """The exit status of the program, or None while it runs."""
        text = self._status.read_text() if self._status.exists() else ""
        return int(text) if text.strip() else None

    @property
    def is_alternate(self) -> bool:
        """Whether the program has the whole screen."""
        return self._tmux("display-message", "-p", "#{alternate_on}").strip() == "1"

    def press(self, *keys: str) -> None:
        """Press keys, by tmux's names; anything else is typed."""
        self._tmux("send-keys", *keys)

    def resize(self, width: int, height: int) -> None:
        """Change the size of the terminal."""
        self._tmux("resize-window", "-x", str(width), "-y", str(height))

    def close(self) -> None:
        """End the program."""
        subprocess.run([*self._base, "kill-server"], check=False, capture_output=True)
        rmtree(self._folder, ignore_errors=True)
