"""Where each command line of the pages is executed: who types it, in which folder, and what has to be there.

The lines under one heading are typed one after the other, on a system that tests/packaging boots.
"""

import re
from dataclasses import dataclass

ROOT, ALICE = "root", "alice"
HOME, CHECKOUT = "/home/alice", "/home/alice/canhazgpu"
TRIAL = "/tmp/trial"  # noqa: S108 - the page says so
TRIAL_SOCKET = f"{TRIAL}/socket"
ADMINISTRATORS, USERS = "docs/administrators.md", "docs/users.md"
INTEGRATORS, SCRIPTS = "docs/integrators.md", "docs/from-scripts.md"
WEB = "docs/web.md"
INSTALL = ("README.md", "Install it on a host")

REST = "canhazgpu admin release --all >/dev/null"
# The checkout, the environment in it and the virtual environment are those of alice.
RUNNING = "systemctl restart canhazgpu"
WAITER = (
    f"{REST}; runuser -u {{0}} -- canhazgpu reserve --gpus 6 --short;"
    " systemd-run -q --uid={1} --unit=waiter-{1} --collect canhazgpu run --gpus 4 --wait -- true;"
    " timeout 30 sh -c 'until canhazgpu queue --json | grep -q {1}; do :; done'"
)


@dataclass(frozen=True)
class Situation:
    """Who types the lines under a heading, and where; `before` and `after` are typed by root."""

    user: str = ALICE
    folder: str = HOME
    before: str = REST
    after: str = ""
    installs: bool = False  # As the README says, once more.


ADMINISTRATOR = Situation(ROOT, "/root")
IN_THE_CHECKOUT = Situation(ROOT, "/root/canhazgpu")
SITUATIONS = {
    INSTALL: Situation(ROOT, "/root/canhazgpu", before=""),
    ("README.md", "canhazgpu"): Situation(),
    ("README.md", "Try it"): Situation(folder=CHECKOUT),
    ("README.md", "Everyday use"): Situation(),
    (ADMINISTRATORS, "Try it without GPUs"): Situation(folder=CHECKOUT, after="systemctl stop endless"),
    (ADMINISTRATORS, "Without root"): Situation(folder=TRIAL, after="systemctl stop endless"),
    (ADMINISTRATORS, "Notices in a separate process"): Situation(
        ROOT,
        "/root",
        after="systemctl is-active canhazgpu-worker && systemctl disable --now canhazgpu-worker"
        " && rm /etc/systemd/system/canhazgpu-worker.service && canhazgpu install systemd"
        f" && systemctl daemon-reload && {RUNNING}",
    ),
    (ADMINISTRATORS, "Settings"): ADMINISTRATOR,
    (ADMINISTRATORS, "GPU-hours"): ADMINISTRATOR,
    (ADMINISTRATORS, "Notices"): ADMINISTRATOR,
    (ADMINISTRATORS, "Upgrade"): IN_THE_CHECKOUT,
    (ADMINISTRATORS, "Monitoring"): ADMINISTRATOR,
    (ADMINISTRATORS, "Maintenance"): ADMINISTRATOR,
    (ADMINISTRATORS, "Back up and restore"): ADMINISTRATOR,
    (ADMINISTRATORS, "Start afresh"): ADMINISTRATOR,
    (ADMINISTRATORS, "GPUs"): ADMINISTRATOR,
    ("docs/architecture.md", "Runs"): Situation(),
    ("docs/containers.md", "GPUs in containers"): Situation(),
    ("docs/containers.md", "How to mark a container as yours"): Situation(),
    ("docs/events.md", "Reading events"): ADMINISTRATOR,
    ("docs/events.md", "Retention and gaps"): ADMINISTRATOR,
    **{
        (SCRIPTS, heading): ADMINISTRATOR
        for heading in (
            "1. A gentle reminder",
            "2. A notification to each user",
            "3. An automated response",
            "4. Monitoring",
            "5. Reading a mixed status",
        )
    },
    **{
        (INTEGRATORS, heading): ADMINISTRATOR
        for heading in ("For integrators", "HTTP API", "Read", "Reserve", "Administer", "Events")
    },
    (
        "docs/measurements.md",
        "Compared with the version before containers, the journal and Valkey",
    ): Situation(),
    ("docs/notifiers.md", "A notifier of your own"): ADMINISTRATOR,
    ("docs/redis.md", "Move to another Redis"): Situation(ROOT, "/root", after="systemctl start canhazgpu"),
    (WEB, "The host in a browser"): Situation(),
    (WEB, "Run it permanently"): Situation(
        ROOT,
        "/root",
        after="systemctl is-active canhazgpu-web && systemctl disable --now canhazgpu-web"
        " && rm /etc/systemd/system/canhazgpu-web.service && systemctl daemon-reload",
    ),
    (WEB, "Who can read it"): Situation(
        before="install -d -o alice /run/canhazgpu-web", after="rmdir /run/canhazgpu-web"
    ),
    (USERS, "Your first reservation"): Situation(),
    (USERS, "How to write GPUs and times"): Situation(),
    (USERS, "MIG instances"): Situation(),
    (USERS, "When nothing is free"): Situation(),
    (USERS, "Booking GPUs for later"): Situation(),
    (USERS, "What did I use?"): Situation(),
    (USERS, "In a script"): Situation(),
    (USERS, "In Python"): Situation(folder=CHECKOUT),
    (USERS, "In containers"): Situation(),
    (USERS, "If you get a notice"): Situation(),
    (USERS, "Commands"): Situation(),
    (ADMINISTRATORS, "Other ways to install"): IN_THE_CHECKOUT,
    (ADMINISTRATORS, "Uninstall"): Situation(
        ROOT,
        "/root",
        before="apt-get purge -qq -y canhazgpu; rm -r /usr/local/lib/canhazgpu /var/backups/canhazgpu.backup",
        after="test -z \"$(find /etc /lib /opt /run /usr /var -xdev -name '*canhazgpu*')\"",
        installs=True,
    ),
}

# What is executed elsewhere, or nowhere, and why: the beginning of the line, without its comment.
THIS_TEST = "runs this very test; .ci/run begins with it"
LONG = "calculates for minutes or hours: .ci/run and tests/model run short ones"
DIVIDED = "needs a GPU that is divided: tests/acceptance/test_mig_page.py has a host with one"
BOTH_VENDORS = "needs GPUs of both vendors: tests/acceptance/test_amd_page.py has a host with them"
BOOKED = "is about a booking of all GPUs: tests/acceptance/test_bookings_page.py has a host of two"
FLEET = "needs a fleet: test_fleet_acl.py and tests/acceptance/test_fleet.py have one of their own"
CONSUMER = "needs a program of the site: tests/acceptance/test_events_group.py has some"
EXEMPT = {
    "canhazgpu find --mig 1g.10gb": "needs a fleet: tests/acceptance/test_mig_fleet.py has one of its own",
    "canhazgpu run --gpus 2 -- ./evaluate.sh": BOOKED,
    "canhazgpu cancel b1796017013625-8": BOOKED,
    'canhazgpu reserve --gpus 2 --begin "tomorrow 14:00" --duration 2h --every day --until +6d': BOOKED,
    "canhazgpu cancel b1796017013625-9": BOOKED,
    "canhazgpu cancel b1796017013625-9.2": BOOKED,
    **dict.fromkeys(
        (
            (
                "canhazgpu events --follow --group tickets --stream violations --type violation.opened"
                " --exec /usr/local/bin/open-ticket --dead-letters /var/lib/tickets/dead-letters.jsonl"
            ),
            "canhazgpu events --follow --group NAME",
            "canhazgpu --config /etc/billing/canhazgpu.toml events --follow --group billing",
        ),
        CONSUMER,
    ),
    "canhazgpu events conformance -- node docs/examples/echo.mjs": "needs a package of npm: make test-node",
    "canhazgpu reserve --vendor amd --duration 4h": BOTH_VENDORS,
    "canhazgpu run --vendor nvidia --gpus 2 -- python train.py": BOTH_VENDORS,
    **dict.fromkeys(
        (
            "canhazgpu run --mig 1g.10gb -- python small.py",
            "canhazgpu reserve --mig 1g.10gb:2 --duration 4h",
            "canhazgpu reserve --gpu-ids 0:2 --note 'one by its name'",
            "canhazgpu release 0:2",
            "canhazgpu reserve --gpu-ids 0 --wait 30m",
        ),
        DIVIDED,
    ),
    **dict.fromkeys(
        (
            "canhazgpu redis acl --host gpu-host-1 >> /etc/redis/users.acl",
            "canhazgpu status --all",
            "canhazgpu status --host H",
            "canhazgpu find --gpus 4 --model H100",
            "canhazgpu queue --all",
            "canhazgpu reservations --all",
            "canhazgpu history --all",
            "canhazgpu report --all",
            "canhazgpu violations --all",
        ),
        FLEET,
    ),
    "make test": THIS_TEST,
    "make lint": THIS_TEST,
    ".ci/run": THIS_TEST,
    "make deb": "the fixture `package` of tests/packaging has run its only command",
    "make truth": LONG,
    "make truth STEPS=1000000": LONG,
    "python -m bench.truth --real 60 --seed 1234": LONG,
    "python -m bench.truth --replay steps.json": LONG,
    "python -m bench.truth --replay 1234": LONG,
    "make faults": LONG,
    'make faults ONLY="wiped,disk" STATE=runs': LONG,
    "nvidia-smi --gpu-reset -i 3": "needs a GPU that may be reset",
    "canhazgpu redis migrate --to rediss://USER@redis.example.com"
    " --password-file /etc/canhazgpu/redis-password": (
        "needs the Redis of a site, with TLS: tests/acceptance/test_backup.py has one of its own"
    ),
}

# What root does before a line, and how root sees afterwards that it has worked.
NOTHING_INSTALLED = "rm -rf /usr/local/bin/canhazgpu /usr/local/bin/chg /opt/pipx /opt/uv"
FROM = "readlink -f /usr/local/bin/canhazgpu | grep -q ^{} && runuser -u alice -- canhazgpu status"
PIPX = "PIPX_HOME=/opt/pipx PIPX_BIN_DIR=/usr/local/bin pipx install '.[embedded]'"
UV = (
    "UV_TOOL_DIR=/opt/uv/tools UV_TOOL_BIN_DIR=/usr/local/bin UV_PYTHON_INSTALL_DIR=/opt/uv/python"
    " UV_COMPILE_BYTECODE=1 uv tool install '.[embedded]'"
)
PACKAGE = "apt install ./build/deb/canhazgpu_0.1.0-1_amd64.deb"
PLUGIN = "pip install --no-deps --target /usr/local/lib/canhazgpu YOUR_PACKAGE"
PLUGGED_IN = (
    "echo 'notify.plugins.spool.folder = \"/var/spool\"' > /srv/spool.toml;"
    " canhazgpu doctor --config /srv/spool.toml | grep -q '^ok *plugins *spool'"
)
BEFORE = {
    "canhazgpu reserve --gpus 4": f"{REST}; runuser -u bob -- canhazgpu reserve --gpus 6 --short",
    "canhazgpu run --gpus 4 --wait --duration 8h -- ./evaluate.sh": REST,
    "canhazgpu cancel": WAITER.format("bob", ALICE),
    "canhazgpu cancel --user bob": WAITER.format(ALICE, "bob"),
    "canhazgpu extend 0 30m": f"{REST}; runuser -u alice -- canhazgpu reserve --gpu-ids 0 --short",
    "canhazgpu silence ack --duration 1h": "/srv/use alice",
    "sudo canhazgpu run -- tini -s -- server": REST,
    PIPX: NOTHING_INSTALLED,
    UV: NOTHING_INSTALLED,
    PACKAGE: f"{NOTHING_INSTALLED}; systemctl disable -q --now canhazgpu;"
    " rm /etc/systemd/system/canhazgpu.service* /etc/logrotate.d/canhazgpu*",
}
BEFORE_IN = {
    (*INSTALL, "canhazgpu install logrotate"): "cp /srv/config.toml /etc/canhazgpu/config.toml",
    (USERS, "Your first reservation", "canhazgpu release 3"): (
        f"{REST}; runuser -u alice -- canhazgpu reserve --gpu-ids 3 --short"
    ),
    (USERS, "In a script", "canhazgpu check --exec -- python3 train.py"): (
        f"{REST}; /srv/idle; runuser -u alice -- canhazgpu reserve --gpus 8 --short"
    ),
}
# The booted system is a container, which is all that is wrong with it.
ONLY_THE_CONTAINER = "canhazgpu doctor | grep ^fail | grep -v ^fail.*PID.namespace && exit 1 || true"
AFTER = {
    "canhazgpu doctor": ONLY_THE_CONTAINER,
    "canhazgpu doctor --json": ONLY_THE_CONTAINER,
    PIPX: FROM.format("/opt/pipx"),
    UV: FROM.format("/opt/uv"),
    PACKAGE: "chg status",
}
# A command that reserves for a shell gets the GPUs of the one before.
FOR_A_SHELL = re.compile(
    r".+\(canhazgpu reserve --gpus 1\)|.+`canhazgpu reserve|canhazgpu reserve .+\| source"
)

# Only administrators, in sentences on a page for users.
BY_ROOT = {"canhazgpu cancel --user bob"}

CODES = {
    "canhazgpu run python3 train.py --lr 0.1": 125,
    "canhazgpu reserve --gpus 4": 1,
    "canhazgpu doctor": 1,
    "canhazgpu doctor --json": 1,
}

# These go on until they are ended.
ENDLESS = re.compile(r"canhazgpu (events .*--follow|top|web)|follow=1")
# These serve the lines below them.
SERVES = re.compile(r"canhazgpu serve ")


def without_comment(line: str) -> str:
    """Return a line as far as it is executed."""
    return re.sub(r"\s+#\s.*", "", line) if "\n" not in line else line
