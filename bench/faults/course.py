"""The course of a cell, from a fresh host to the last look at what was promised."""

import json
import shutil
import subprocess
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.faults.asking import cards
from bench.faults.cell import Cell, Red
from bench.faults.driver import ROOT
from bench.faults.fault import Fault
from bench.faults.oracle import CHAIN, DETECTED, DOUBLED, ENDED, LOGGED, MAILED, RENAMED, TRACED, WORKS
from bench.faults.states import AFTER, LONG, State, closed, found
from bench.truth.real.people import Person

BRIEF = 5.0  # Seconds for a line in the log that is not promised.
KEPT = ROOT / "build" / "faults"
START = 40.0  # Seconds for a service to have its first picture.
DISKS = {"tmpfs": "size=6m", "ext4": "errors=remount-ro"}
IMAGE_MB = 24


@dataclass(frozen=True)
class Seen:
    """What was seen in a cell: what was wrong, what of it nobody had promised, and what is worth telling."""

    fault: str
    state: str
    wrong: Sequence[str]
    unpromised: Sequence[str]
    facts: Sequence[str]
    seconds: float
    recovered: float | None
    servers: Mapping[str, str]  # By name, the version that wrote the data.
    commit: str = "unknown"

    @property
    def green(self) -> bool:
        """Whether all that was promised was so."""
        return not self.wrong


def run(
    fault: Fault,
    state: State,
    people: Sequence[Person],
    parts: Mapping[str, str],
    more: Mapping[str, str] | None = None,
) -> Seen:
    """Run a cell in a folder of its own; `more` is put into the environment of the product."""
    began, recovered = time.monotonic(), None
    with tempfile.TemporaryDirectory(prefix="chg-f-", dir="/tmp", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o755)
        with disk(fault.disk, folder):
            environment = {"LD_LIBRARY_PATH": parts["nvml"], **fault.environment(name, parts), **(more or {})}
            cell = Cell(folder, people, environment, split=fault.split)
            try:
                recovered = _course(cell, fault, state)
            except Red as red:
                cell.oracle.fail(WORKS, str(red))
            except Exception:  # noqa: BLE001 - the other cells go on
                cell.oracle.fail(WORKS, traceback.format_exc())
            finally:
                state.abandon()
                cell.close()
            if cell.host.restarts:
                cell.oracle.fail(ENDED, f"{cell.host.restarts} times")
            if "Traceback" in (said := cell.host.output.read_text()):
                cell.oracle.fail(TRACED, f"in {said.count('Traceback')} places")
            wrong = [f"{kind}: {text}" for kind, text in cell.oracle.failures if kind not in fault.excuses]
            if wrong:
                KEPT.mkdir(parents=True, exist_ok=True)
                kept = KEPT / f"{fault.name} x {state.name}.log".replace(" ", "-")
                shutil.copy(cell.host.output, kept)
                cell.seen.append(f"the service's log is {kept.relative_to(ROOT)}")
    unpromised = [f"{kind}: {text}" for kind, text in cell.oracle.failures if kind in fault.excuses]
    seconds = time.monotonic() - began
    return Seen(
        fault.name,
        state.name,
        wrong,
        unpromised,
        cell.seen,
        seconds,
        recovered,
        cell.host.servers,
        parts["commit"],
    )


def _course(cell: Cell, fault: Fault, state: State) -> float:
    cell.host.start()
    cell.healthy(START)
    cell.host.ask_version()
    cell.base = _reserve(cell)
    ends = cell.caller.reserve()
    fault.prepare(cell)
    if ends:
        cell.caller.release(ends)
    state.begin(cell)
    fault.strike(cell)
    try:
        state.during(cell)
        _probe(cell)
        fault.hold(cell)
    finally:
        fault.lift(cell)
    recovered = cell.healthy(fault.patience)
    if not state.busy:
        cell.kept()
    state.finish(cell)
    cell.kept()
    _grants(cell)
    _detects(cell)
    _audit(cell, BRIEF if LOGGED in fault.excuses else AFTER)
    return recovered


def _reserve(cell: Cell) -> str:
    """Let the owner have a card by hand throughout."""
    asked = time.monotonic()
    words = ["reserve", "--gpus", "1", "--duration", "6h", "--json"]
    done = cell.host.command(*words, person=cell.owner)
    if done.status:
        raise Red(f"nothing can be reserved: {done.error}")
    answer = json.loads(done.out)
    cell.oracle.granted(answer["id"], cards(answer), cell.owner.name, asked)
    return str(answer["id"])


def _probe(cell: Cell) -> None:
    """Ask for a card while the fault is there; it may be refused."""
    asked = time.monotonic()
    done = cell.look("reserve", "--nonblock", "--duration", "6h", "--json")
    if done.status == 0:
        answer = json.loads(done.out)
        cell.oracle.granted(answer["id"], cards(answer), "root", asked)
        cell.seen.append("a reservation meanwhile was granted")
    else:
        cell.seen.append(f"meanwhile: {done.error.strip()}")


def _grants(cell: Cell) -> None:
    """Reserve every card that is free; each is granted once, and none that is not."""
    free = set(cell.free_cards())
    names: list[str] = []
    deadline = time.monotonic() + AFTER
    while len(names) < len(free) and time.monotonic() < deadline:
        name = cell.caller.reserve()
        names += [name] if name else []
        time.sleep(0 if name else 0.2)
    extra = cell.caller.reserve()
    if len(names) != len(free) or extra:
        cell.oracle.fail(WORKS, f"{len(free)} cards are free, {len(names) + bool(extra)} were granted")
    for name in names:
        cell.caller.release(name)
    cell.kept()


def _detects(cell: Cell) -> None:
    """Let somebody use a card without right: it is found, told, logged, and so is its end."""
    name = cell.late.name
    began = time.monotonic()
    agent = cell.use(cell.late, cell.free_cards()[0])
    violation = found(cell, name, AFTER)
    cell.seen.append(f"use without right was found after {time.monotonic() - began:.1f} s")
    try:
        cell.until(lambda: cell.mailbox.to(name), LONG, "the mail about it")
    except Red as red:
        cell.oracle.fail(MAILED, str(red))
    if violation is None:
        cell.oracle.fail(DETECTED, "nothing to close")
    cell.stop_using(agent)
    closed(cell, name, AFTER)
    cell.violations_known |= {*filter(None, [violation])}


def _audit(cell: Cell, seconds: float) -> None:
    """See that each fact is in the log once, and that the log verifies."""
    wanted = Counter((name, verb) for name in cell.violations_known for verb in ("opened", "closed"))

    def there() -> bool:
        return all(lines[key] for key in wanted) if (lines := _lines(cell)) is not None else False

    try:
        cell.until(there, seconds, "every fact in the audit log")
    except Red:
        missing = [key for key in wanted if not _lines(cell)[key]]
        cell.oracle.fail(LOGGED, f"not in the log: {missing}")
    for key, count in _lines(cell).items():
        if count > 1 and key[1] in ("opened", "closed"):
            cell.oracle.fail(DOUBLED, f"{count} times in the log: {key}")
    ids = Counter(str(fact["id"]) for fact in cell.host.facts())
    if twice := [name for name, count in ids.items() if count > 1]:
        cell.oracle.fail(DOUBLED, f"twice in the log: {twice}")
    done = cell.host.command("log", "verify")
    if done.status:
        cell.oracle.fail(CHAIN, done.out + done.error)
    if renamed := cell.mailbox.with_changed_ids():
        cell.oracle.fail(RENAMED, str(renamed))
    if repeats := cell.mailbox.repeats():
        cell.seen.append(f"{repeats} mails came twice")


def _lines(cell: Cell) -> Counter[tuple[str, str]]:
    rows = cell.host.facts()
    return Counter((str(row["violation"]), str(row["type"]).rpartition(".")[2]) for row in rows)


@contextmanager
def disk(kind: str, folder: Path) -> Iterator[None]:
    """Give the state and the log a small file system of their own, where the fault is about that."""
    place = folder / "disk"
    place.mkdir()
    if not kind:
        yield
        return
    what = ["-t", "tmpfs", "-o", DISKS["tmpfs"], "tmpfs"]
    if kind == "ext4":
        image = folder / "image"
        with image.open("wb") as file:
            file.truncate(IMAGE_MB << 20)
        make = ["mke2fs", "-q", "-t", "ext4", "-O", "^has_journal", "-m", "0", str(image)]
        subprocess.run(make, check=True, capture_output=True)
        what = ["-o", f"loop,{DISKS['ext4']}", str(image)]
    subprocess.run(["mount", *what, str(place)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=False)
