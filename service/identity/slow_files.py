"""Questions to file systems that may never answer, as those of a network: in threads, with a deadline."""

import threading
import time
from collections.abc import Callable
from typing import TypeVar

PATIENCE = 0.5  # Seconds for one question.
MOST = 4  # Questions that hang; with so many nothing is asked any more until one is answered.

T = TypeVar("T")
Key = tuple[str, str]


class SlowFiles:
    """Asks; what hangs is not asked again meanwhile, and never keeps the process from ending."""

    def __init__(self) -> None:
        """Nothing hangs yet."""
        self._lock = threading.Lock()
        self._asking: dict[object, tuple[Key, float]] = {}  # What was asked, and when.

    def ask(self, question: Callable[[str], T], path: str, until: float) -> T | None:
        """Return the answer; None where the question raises OSError, or takes too long. Blocks."""
        key, now, mine = (question.__name__, path), time.monotonic(), object()
        with self._lock:
            hanging = [one for one, began in self._asking.values() if began + PATIENCE <= now]
            if key in hanging or len(hanging) >= MOST:
                return None
            self._asking[mine] = key, now
        answers: list[T] = []
        done = threading.Event()

        def work() -> None:
            try:
                answers.append(question(path))
            except OSError:
                pass
            finally:
                with self._lock:
                    del self._asking[mine]
                done.set()

        threading.Thread(target=work, name="slow-files", daemon=True).start()
        done.wait(max(0.0, min(until - now, PATIENCE)))
        return answers[0] if answers else None
