"""Enabled channels, and notifiers from other packages: installed, created, used, or refused."""

import importlib
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest
from support.daemon import Daemon
from support.eventually import eventually
from support.receiver import receiving

from canhazgpu.config.channels import Email, Exec, Notify, Webhook
from canhazgpu.config.load import load
from canhazgpu.config.settings import Settings
from canhazgpu.events.notices import Notice
from canhazgpu.events.outbox import deadletters, deliveries, send_test
from canhazgpu.events.redis_client.store import Store
from canhazgpu.notifiers.channel import Channel
from canhazgpu.notifiers.plugins import PluginFailed
from canhazgpu.notifiers.registry import channels
from canhazgpu.workers.delivery import DeliveryWorker

DOCUMENT = Path(__file__).parents[2] / "docs" / "notifiers.md"
GOOD = """
class Channel:
    name = "pager"
    def __init__(self, own, settings): self.own, self.settings = own, settings
    async def recipients(self, notice): return []
    async def deliver(self, notice, recipients, first): return []
"""
Package = Callable[..., Settings]


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Package]:
    """Install a package with one module and one entry point; return settings that turn it on."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def make(
        module: str, name: str = "pager", point: str = "site_pager:Channel", number: int = 0
    ) -> Settings:
        (tmp_path / "site_pager.py").write_text(module)
        facts = tmp_path / f"site_pager{number}-1.0.dist-info"
        facts.mkdir()
        (facts / "METADATA").write_text(f"Metadata-Version: 2.1\nName: site-pager{number}\nVersion: 1.0\n")
        (facts / "entry_points.txt").write_text(f"[canhazgpu.notifiers]\n{name} = {point}\n")
        importlib.invalidate_caches()
        return Settings(notify=Notify(plugins={name: {"key": "value"}}))

    yield make
    sys.modules.pop("site_pager", None)


def refusal(settings: Settings) -> str:
    """Return why the channels cannot be created."""
    with pytest.raises(PluginFailed) as failed:
        channels(settings)
    return str(failed.value)


def test_every_channel_that_is_on_is_made() -> None:
    """Every enabled channel is created under its name, and no other."""
    assert [channel.name for channel in channels(Settings())] == ["wall"]
    notify = Notify(
        email=Email(enabled=True),
        webhook={"chat": Webhook(url="http://a"), "b": Webhook(url="http://b")},
        exec=Exec(command=["/bin/true"]),
    )
    made: list[Channel] = channels(Settings(notify=notify))
    assert [channel.name for channel in made] == ["wall", "email", "webhook:chat", "webhook:b", "exec"]


def test_what_a_channel_needs_is_loaded_with_it() -> None:
    """Without mail and webhooks, their libraries are not imported."""
    code = (
        "import sys; from canhazgpu.notifiers.registry import channels;"
        "from canhazgpu.config.settings import Settings; channels(Settings());"
        "assert not {'httpx', 'aiosmtplib'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_notifier_gets_its_own_settings_and_all(package: Package) -> None:
    """A notifier gets its own settings and all settings."""
    settings = package(GOOD)
    made: Any = channels(settings)[-1]
    assert (made.name, made.own, made.settings) == ("pager", {"key": "value"}, settings)


@pytest.mark.parametrize(
    ("module", "facts", "reason"),
    [
        (GOOD, {"name": "wall"}, "this name is already in use"),
        (GOOD, {"name": "webhook"}, "this name is already in use"),
        (GOOD, {"name": "terminate"}, "this name is already in use"),
        (GOOD, {"point": "site_pager:Missing"}, "AttributeError: module 'site_pager' has no attribute"),
        (GOOD, {"point": "site_missing:Channel"}, "ModuleNotFoundError: No module named 'site_missing'"),
        (GOOD, {"name": "sms"}, "its channel is named 'pager' instead of 'sms'"),
        ("raise OSError('a\\nb\\x1b[2J')", {}, "OSError: a b\\x1b[2J"),
        ("Channel = 5", {}, "TypeError: 'int' object is not callable"),
        (GOOD.replace("own, settings)", "own)"), {}, "TypeError: "),
        (GOOD.replace("async def deliver", "def deliver"), {}, "its channel has no `async def deliver`"),
        (GOOD.replace("async def recipients", "def others"), {}, "its channel has no `async def recipients`"),
        ("Channel = lambda own, settings: None", {}, "its channel is named None"),
    ],
)
def test_one_that_is_broken_is_refused(
    package: Package, module: str, facts: dict[str, str], reason: str
) -> None:
    """A broken notifier is refused on one line that names it and says why."""
    said = refusal(package(module, **facts))
    assert said.startswith(f"notify.plugins.{facts.get('name', 'pager')}: {reason}")
    assert said.isprintable()


def test_one_that_two_packages_offer_is_refused(package: Package) -> None:
    """A name that two packages offer is refused."""
    package(GOOD)
    settings = package(GOOD, point="site_other:Channel", number=1)
    assert "several packages have it: site_other:Channel, site_pager:Channel" in refusal(settings)


@pytest.mark.parametrize("command", ["serve", "worker"])
def test_without_its_package_nothing_starts(folder: Path, command: str) -> None:
    """If a plugin is not installed, nothing starts, and `doctor` says the same."""
    host = Daemon(folder, "[notify.plugins.pager]\n")
    done = host.run(command)
    assert done.returncode == 1
    assert done.stderr == (
        "Error: notify.plugins.pager: no installed package has an entry point of this name in"
        " canhazgpu.notifiers\n"
    )
    assert "no installed package has an entry point" in host.run("doctor").stdout


@pytest.mark.parametrize(("page", "count"), [("notifiers.md", 3), ("administrators.md", 2), ("redis.md", 1)])
def test_the_settings_of_the_documents_are_good(tmp_path: Path, page: str, count: int) -> None:
    """Each block of settings in these pages is valid."""
    text = DOCUMENT.with_name(page).read_text()
    blocks = re.findall(r"(?:^    (?:\[[a-z]|\w+ = ).*\n|(?<=\n)\n(?=    \[[a-z]))+", text, re.MULTILINE)
    settings = [block for block in blocks if re.match(r"\s*\[[a-z.]+\]\n", block)]
    assert len(settings) == count
    for block in settings:
        path = tmp_path / "config.toml"
        path.write_text(block)
        load(str(path), {})


@pytest.mark.anyio
async def test_the_example_of_the_documents_works(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The example of the page, installed as described, delivers a notice and retries."""
    text = DOCUMENT.read_text()
    source, installed, spool = tmp_path / "canhazgpu-spool", tmp_path / "installed", tmp_path / "spool"
    source.mkdir()
    for name, code in re.findall(r"^`([\w.]+)`:\n\n```\w+\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        (source / name).write_text(code)
    pip = [sys.executable, "-m", "pip", "install", "-qq", "--disable-pip-version-check", "--no-index"]
    options = ["--no-deps", "--no-build-isolation", "--root-user-action=ignore", "--target", str(installed)]
    subprocess.run([*pip, *options, str(source)], check=True)
    monkeypatch.syspath_prepend(str(installed))
    settings = Settings(notify=Notify(plugins={"spool": {"folder": str(spool)}}))
    made = channels(settings)[-1]
    async with anyio.create_task_group() as tasks:
        await tasks.start(DeliveryWorker(store, made, "test").run)
        notice = await send_test(store, "spool", "bob", "bob", None)

        async def rows() -> list[str]:
            return [row.outcome for row in await deliveries(store) if row.channel == "spool"]

        async def tried() -> bool:
            return (await rows())[:1] == ["retry"]

        async def done() -> bool:
            return (await rows())[-1] == "delivered"

        await eventually(tried)
        spool.mkdir()
        await eventually(done)
        tasks.cancel_scope.cancel()
    sys.modules.pop("canhazgpu_spool")
    (file,) = spool.iterdir()
    assert file.name == f"{notice}.txt"
    assert file.read_text().startswith("[canhazgpu ")


@pytest.mark.anyio
async def test_a_webhook_and_a_program_deliver_from_the_stream(store: Store, tmp_path: Path) -> None:
    """A webhook and a program use the same worker: recorded, retried, and moved to the dead letters."""
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\necho no such pager >&2; exit 1\n")
    program.chmod(0o755)
    with receiving() as receiver:
        notify = Notify(webhook={"chat": Webhook(url=receiver.url)}, exec=Exec(command=[str(program)]))
        async with anyio.create_task_group() as tasks:
            for channel in channels(Settings(notify=notify)):
                await tasks.start(DeliveryWorker(store, channel, "test").run)
            notice = await send_test(store, "webhook:chat", "bob", "bob", None)
            await send_test(store, "exec", "bob", "bob", None)

            async def both() -> bool:
                return len(await deliveries(store)) == 2

            await eventually(both)
            found = {row.channel: (row.recipient, row.outcome) for row in await deliveries(store)}
            (letter,) = await deadletters(store)
            tasks.cancel_scope.cancel()
        (request,) = receiver.taken
    assert found == {"webhook:chat": ("chat", "delivered"), "exec": ("program", "failed")}
    assert letter.reason == "exit status 1: no such pager"
    assert msgspec.json.decode(request.body, type=Notice).notice == notice
