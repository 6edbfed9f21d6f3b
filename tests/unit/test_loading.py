"""The modules that a command loads before it does anything, which take most of its time."""

import subprocess
import sys

HEAVY = {"anyio", "asyncio", "httpx", "msgspec", "pydantic", "redis", "rich", "starlette", "structlog"}
OTHERS = {
    "canhazgpu.cli.reservations.admin",
    "canhazgpu.cli.demo.demo",
    "canhazgpu.cli.notices.notify",
    "canhazgpu.cli.reservations.run",
    "canhazgpu.cli.violations.listing",
}


def test_a_command_loads_what_it_needs_alone() -> None:
    """A command loads neither other commands nor the libraries of the service."""
    code = (
        "import sys; from canhazgpu.cli.commands import run\n"
        "try: run(['reserve', '--gpus', '0'])\n"
        "except SystemExit as error: assert error.code == 2\n"
        "print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "canhazgpu.cli.reservations.reserve" in loaded
    assert not loaded & (HEAVY | OTHERS)


def test_asking_the_service_loads_little() -> None:
    """`canhazgpu status` needs no framework, and no HTTP library with `email` and `ssl`."""
    code = "import sys; import canhazgpu.cli.main, canhazgpu.cli.status; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not set(done.stdout.split()) & (HEAVY | {"email", "http", "http.client", "ssl", "typer"})


def test_a_host_without_a_fleet_loads_nothing_of_it() -> None:
    """The service and its workers are imported without what copies and reads a fleet."""
    code = "import sys; import canhazgpu.service.daemon, canhazgpu.workers.run; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert {"canhazgpu.service.routes.fleet", "canhazgpu.workers.dispatch.dispatcher"} <= loaded
    assert not {
        name for name in loaded if name.startswith(("canhazgpu.workers.fleet", "canhazgpu.service.fleet"))
    }
