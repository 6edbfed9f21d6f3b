"""`canhazgpu redis`: move this host's state to another Redis (root only), and the rights of a host."""

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from canhazgpu.cli.arguments import non_empty
from canhazgpu.cli.completion import candidates
from canhazgpu.cli.exit_codes import REFUSED, USAGE
from canhazgpu.cli.operations.offline_access import Progress, on_state
from canhazgpu.cli.operations.redis import acl as redis_acl
from canhazgpu.cli.output import examples, fail, print_json
from canhazgpu.events.sanitize import printable

if TYPE_CHECKING:
    from canhazgpu.events.redis_client.endpoint import Endpoint
    from canhazgpu.events.redis_client.store import Store

app = typer.Typer(
    help="Move this host's state to another Redis, or print its rights on the fleet's Redis.",
    no_args_is_help=False,
    epilog=examples(
        "canhazgpu redis migrate --to redis://redis.example.com", "canhazgpu redis acl --host gpu-host-1"
    ),
)
MIGRATE_EPILOG = examples(
    "systemctl stop canhazgpu",
    "canhazgpu redis migrate --to unix:///run/redis/redis.sock",
    "canhazgpu redis migrate --to rediss://gpu@redis.example.com --password-file /etc/canhazgpu/redis",
)
File = Annotated[
    str | None,
    typer.Option(
        help="Like the redis setting of this name, for the new Redis.",
        metavar="FILE",
        callback=non_empty,
        autocompletion=candidates.files,
    ),
]


app.command("acl", epilog=redis_acl.EPILOG)(redis_acl.acl)


@app.callback(invoke_without_command=True)
def redis(context: typer.Context) -> None:
    """Require a command."""
    if context.invoked_subcommand is None:
        fail("no command given; `canhazgpu redis --help` lists them", USAGE)


@app.command("migrate", epilog=MIGRATE_EPILOG)
def migrate(
    *,
    to: Annotated[
        str, typer.Option("--to", metavar="URL", help="The new Redis, as in redis.url.", callback=non_empty)
    ],
    password_file: File = None,
    sentinel_password_file: File = None,
    ca_file: File = None,
    cert_file: File = None,
    key_file: File = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Replace this host's data in the new Redis.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Copy this host's state to another Redis and verify the copy (root only).

    Stop the service first. The old data is not changed. Afterwards, change the settings as printed and start
    the service.
    """
    from canhazgpu.events.redis_client.endpoint import Endpoint  # noqa: PLC0415 - heavy

    files = {
        "password_file": password_file,
        "sentinel_password_file": sentinel_password_file,
        "ca_file": ca_file,
        "cert_file": cert_file,
        "key_file": key_file,
    }
    named = {name: path for name, path in files.items() if path}
    there = Endpoint(url=to, **named)
    _refuse_slips(there)
    done = on_state(lambda store: _copy(store, there, replace=replace), alone=True, about="--to")
    done |= {"settings": {"redis": {"url": to, **named}}}
    if as_json:
        print_json(done)
        return
    lines = "".join(f'{name} = "{value}"\n' for name, value in done["settings"]["redis"].items())
    said = f"Copied and compared {done['keys']} keys, {done['reservations']} reservations."
    sys.stdout.write(f"{said} Set this, then start the service:\n\n[redis]\n{printable(lines[:-1], 4000)}\n")


def _refuse_slips(there: "Endpoint") -> None:
    from canhazgpu.events.redis_client.endpoint import BadUrl, check  # noqa: PLC0415 - heavy

    try:
        check(there.url)
    except BadUrl as bad:
        fail(f"--to: expected {bad}", USAGE)
    if there.has_password:
        fail("--to: every user can see a password on the command line: use --password-file", USAGE)
    unreadable = there.unreadable()
    if unreadable:
        option = unreadable.removeprefix("redis.").replace("_", "-", unreadable.partition(":")[0].count("_"))
        fail(f"--{option}", USAGE)


async def _copy(store: "Store", there: "Endpoint", *, replace: bool) -> dict[str, Any]:
    from canhazgpu.events.redis_client.store import Store  # noqa: PLC0415 - heavy, as are the next ones
    from canhazgpu.service.backup.state_copy import CopyFailed, Stage, names, read_snapshot, sizes  # noqa: PLC0415
    from canhazgpu.service.redis_server.durability import weaknesses  # noqa: PLC0415

    target = Store(there, store.keys.host)
    try:
        await target.ready(10.0)
        if await _is_same(store, target):
            fail("--to: the state is already there: nothing to do", REFUSED)
        if await names(target) and not replace:
            fail(f"--to: it has data of host {store.keys.host}: use --replace to overwrite it", REFUSED)
        for weakness in await weaknesses(target):
            sys.stderr.write(f"Warning: {weakness}\n")
        stage = Stage(target)
        await stage.clear()
        with Progress("copied") as progress:
            async for record in read_snapshot(store):
                await stage.put(record)
                progress.at(len(stage.names))
        await stage.commit()
        before, after = await sizes(store), await sizes(target)
        if before != after:
            wrong = sorted(name for name in before if before[name] != after.get(name))
            raise CopyFailed(
                f"the copy differs in {', '.join(wrong[:5])}: keep the old settings, and try again"
            )
        held: Any = await target.ask(target.redis.hlen(target.keys.reservations))
    finally:
        await target.close()
    return {"host": store.keys.host, "keys": len(after), "reservations": held}


async def _is_same(one: "Store", other: "Store") -> bool:
    facts = [await store.ask(store.redis.info("server")) for store in (one, other)]
    databases = [store.redis.connection_pool.connection_kwargs.get("db") or 0 for store in (one, other)]
    return facts[0].get("run_id") == facts[1].get("run_id") and databases[0] == databases[1]
