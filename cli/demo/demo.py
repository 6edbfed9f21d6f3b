"""`canhazgpu demo`: a demonstration with simulated GPUs, explained step by step; everything else is real."""

import json
import time
from pathlib import Path
from typing import Annotated

import typer

from canhazgpu.cli.demo.host import DemoFailed, DemoHost
from canhazgpu.cli.output import examples

EPILOG = examples("canhazgpu demo", "canhazgpu demo --keep")
MEMORY = {2: 1024, 4: 2048}  # MiB that the offender uses, by GPU.
PATIENCE = 10.0  # Timeout of each step, in seconds.


def demo(
    *,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the service running afterwards.")] = False,
) -> None:
    """Show how violations are handled, with 8 simulated GPUs.

    A program uses two GPUs without a reservation, and its user is notified. Only the GPUs are simulated: the
    processes, Redis, the terminal, the mail server and the log are real. The demonstration takes less than 30
    seconds and removes everything it created.
    """
    host = DemoHost()
    try:
        _show(host)
        if keep:
            _print_next_steps(host)
    except DemoFailed as failure:
        typer.echo(f"Error: {failure}", err=True)
        raise typer.Exit(1) from None
    finally:
        host.close()


def _show(host: DemoHost) -> None:
    _headline("Starting a service with its own Redis, 8 simulated GPUs, a mail server and a log")
    began = time.monotonic()
    host.start()
    _wait_for_status(host, "GPU 7: ERROR")
    _print_paragraph(f"ready after {time.monotonic() - began:.1f} s")
    _status(host)
    _headline(f"{host.user} starts a program on GPUs 2 and 4 without a reservation")
    host.offend()
    host.set_gpu_use(MEMORY)
    took = host.wait(lambda: len(_facts(host)) >= len(MEMORY), PATIENCE, "the violations are seen")
    _print_paragraph(f"seen twice, a second apart, and confirmed {took:.1f} s after the program began")
    _status(host)
    _show_notices(host, 1)
    _headline("The audit log: one line per event")
    _print_paragraph(json.dumps(_facts(host)[0])[:700])
    _headline("The same on the event stream: canhazgpu events")
    _print_paragraph(host.command("events").stdout.rstrip())
    _headline("The program ends")
    host.stop_offending()
    host.wait(lambda: len(_facts(host)) >= 2 * len(MEMORY), PATIENCE, "the violations are closed")
    _status(host)
    _show_notices(host, 2)
    _print_paragraph(host.command("violations").stdout.rstrip())


def _show_notices(host: DemoHost, mails: int) -> None:
    took = host.wait(lambda: len(_mails(host)) >= mails, PATIENCE, f"mail {mails} has arrived")
    _headline(f"{host.user} is notified on the terminal, with one notice for both GPUs")
    if host.master is None:
        _print_paragraph("(it was written to this terminal)")
    else:
        _print_paragraph(
            "this terminal does not accept messages, so the program runs in another one, which shows:"
        )
        _print_paragraph(_quoted(_terminal(host)))
    _headline(f"and by email, {took:.1f} s later")
    _print_paragraph(_quoted(_read(_mails(host)[mails - 1])))


def _terminal(host: DemoHost) -> str:
    text: list[str] = []

    def arrived() -> bool:
        text.append(host.terminal_text())
        return "canhazgpu" in "".join(text)

    host.wait(arrived, PATIENCE, "the terminal shows the notice")
    return "".join(text)


def _mails(host: DemoHost) -> list[Path]:
    """Return the mails to the offender in order; administrators get some too."""
    found = sorted((host.folder / "mail").glob("*.eml"))
    return [mail for mail in found if f"\nTo: {host.user}@".encode() in mail.read_bytes()]


def _read(mail: Path) -> str:
    """Return a mail's headers and its text part."""
    from email import message_from_bytes  # noqa: PLC0415 - heavy, as are the next ones
    from email.message import EmailMessage  # noqa: PLC0415
    from email.policy import default  # noqa: PLC0415

    parsed = message_from_bytes(mail.read_bytes(), _class=EmailMessage, policy=default)
    text = parsed.get_body(("plain",))
    headers = "\n".join(f"{name}: {value}" for name, value in parsed.items())
    return f"{headers}\n\n{text.get_content() if text else ''}"


def _facts(host: DemoHost) -> list[dict[str, object]]:
    log = host.folder / "violations.log"
    lines = log.read_text().splitlines() if log.exists() else []
    return [fact for fact in map(json.loads, lines) if not str(fact["type"]).endswith("updated")]


def _wait_for_status(host: DemoHost, line: str) -> None:
    host.wait(lambda: line in host.command("status").stdout, PATIENCE, f"status shows '{line}'")


def _status(host: DemoHost) -> None:
    _headline("canhazgpu status")
    _print_paragraph(host.command("status").stdout.rstrip())


def _print_next_steps(host: DemoHost) -> None:
    pids = host.keep()
    _headline("The service keeps running. To use it:")
    _print_paragraph(f"export CANHAZGPU_CONFIG={host.config}")
    _print_paragraph("canhazgpu status\ncanhazgpu events --follow")
    _print_paragraph(f"edit {host.folder}/gpus.toml to change the simulated GPUs")
    _headline("To stop it:")
    # Until it has ended, the service, which is the last, writes into the folder.
    ended = f"tail --pid={pids[-1]} -f /dev/null"
    _print_paragraph(f"kill {' '.join(map(str, pids))}; {ended}; rm -r {host.folder}")


def _headline(text: str) -> None:
    typer.secho(f"\n== {text}", bold=True)


def _print_paragraph(text: str) -> None:
    typer.echo("\n".join("   " + line for line in text.splitlines()))


def _quoted(text: str) -> str:
    return "\n".join("| " + line for line in text.replace("\r", "").strip().splitlines())
