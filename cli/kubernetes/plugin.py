"""The device plugin: what runs, in which order, and what wakes it. Other modules decide."""

from __future__ import annotations

import contextlib
import signal
import sys
import time
from threading import Event, Lock, Thread
from typing import TYPE_CHECKING

from canhazgpu.cli.kubernetes import held
from canhazgpu.cli.kubernetes.devices import only_held, without
from canhazgpu.cli.kubernetes.endpoint import Endpoint
from canhazgpu.cli.kubernetes.inventory import Inventory
from canhazgpu.cli.kubernetes.pods import KubeletAway, pods
from canhazgpu.cli.kubernetes.reconcile import Plan, Reconciliation
from canhazgpu.cli.kubernetes.servicer import Servicer
from canhazgpu.client.connection import WAITING, WARNED, Client, Refused, Unreachable
from canhazgpu.events.sanitize import LONGEST_WORDS, printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from canhazgpu.config.integrations.kubernetes import Kubernetes

TURN = 1.0  # Seconds between looks at the kubelet's sockets.
CALM = 5.0  # Seconds between looks at the service and at the pods, if nothing is known to change.
RETRY = 0.5  # Seconds between looks at the pods while the kubelet does not list a GPU that one should have.
BACKOFF = 20.0  # Seconds for which a GPU is unhealthy if it looks free and cannot be reserved.
SILENCE = 45.0  # Seconds; a quiet stream of events sends a keep-alive every 15 s.
EVENTS = "/v1/events?follow=1&n=1&type=gpu&type=reservation"
FORBIDDEN = 403
ON_HOST = "run the plugin as root on the host, and not in a container"


class Plugin:
    """Offers the GPUs to the kubelet, and makes the reservations those of its pods.

    GPUs that pods hold stay healthy while the service is away. The others are offered again as soon as it is
    back.
    """

    def __init__(self, settings: Kubernetes) -> None:
        """Connect nothing yet."""
        self._settings = settings
        self._client = Client(patience=held.PATIENCE)
        self._inventory = Inventory()
        self._pods = Reconciliation()
        self._allocating = Lock()  # An allocation and the release of the same GPU exclude each other.
        self._endpoint: Endpoint | None = None
        self._wake, self._changed, self._ended = Event(), Event(), Event()
        self._seen, self._listed = -CALM, -CALM
        self._away_since: float | None = None
        self._refused: dict[str, float] = {}
        self._complaints: dict[str, str] = {}

    def run(self) -> None:
        """Serve until `stop`. Raises Refused if the service does not let this process reserve for pods."""
        Thread(target=self._follow_events, daemon=True).start()
        try:
            while not self._ended.is_set():
                self._wake.clear()
                self._read_gpus()
                if self._inventory.is_known:
                    self._serve()
                    self._reconcile()
                self._wake.wait(TURN)
        finally:
            self._inventory.end()
            if self._endpoint:
                self._endpoint.close()

    def stop(self) -> None:
        """End `run`."""
        self._ended.set()
        self._wake.set()

    def _read_gpus(self) -> None:
        now = time.monotonic()
        if not self._changed.is_set() and now - self._seen < CALM:
            return
        self._changed.clear()
        try:
            if not self._inventory.is_known:
                held.check_rights(self._client)
            found = held.devices(self._client)
        except (Refused, Unreachable) as trouble:
            if isinstance(trouble, Refused) and trouble.status == FORBIDDEN:
                raise Refused(trouble.status, trouble.kind, trouble.detail, ON_HOST) from None
            self._away(now, trouble)
            return
        late = [uuid for uuid, refused in self._refused.copy().items() if now - refused < BACKOFF]
        self._inventory.put(without(found, late))
        self._seen, self._away_since = now, None
        self._is_well("service", "the service answers again")

    def _away(self, now: float, trouble: Exception) -> None:
        """After longer than a restart takes, offer only what pods have already."""
        self._complain("service", str(trouble))
        self._away_since = now if self._away_since is None else self._away_since
        if self._inventory.is_known and now - self._away_since >= held.PATIENCE:
            self._inventory.put(only_held(self._inventory.devices))

    def _serve(self) -> None:
        if self._endpoint and not self._endpoint.is_current():
            self._endpoint.close()
            self._endpoint = None
        if self._endpoint:
            return
        cdi = self._settings.device_list_strategy == "cdi-cri"
        servicer = Servicer(self._inventory, self._allocate, cdi=cdi)
        try:
            self._endpoint = Endpoint(self._settings.plugin_dir, self._settings.resource, servicer)
        except (KubeletAway, OSError) as away:
            self._complain("kubelet", f"not registered with the kubelet: {away}")
            return
        self._complaints.pop("kubelet", None)
        _say(f"registered {self._settings.resource} with the kubelet")

    def _allocate(self, uuids: Sequence[str]) -> None:
        try:
            with self._allocating:
                self._pods.allocated(uuids)
                held.reserve_patiently(Client(self._client.socket), uuids, held.PATIENCE)
        except Refused:  # A controller would make pod after pod, because waiting requests claim a free GPU.
            self._refused |= dict.fromkeys(uuids, time.monotonic())
            raise
        finally:
            self._listed = -CALM
            self._changed.set()
            self._wake.set()

    def _reconcile(self) -> None:
        now = time.monotonic()
        if now - self._listed < (CALM if self._pods.is_settled() else RETRY):
            return
        self._listed = now
        try:
            found = pods(self._settings.pod_resources, self._settings.resource)
        except KubeletAway as away:
            self._complain("pods", f"the kubelet does not report which pods have GPUs: {away}")
            return
        self._is_well("pods", "the kubelet reports again which pods have GPUs")
        with self._allocating:
            try:
                plan = self._pods.plan(held.devices(self._client), found, time.monotonic())
                self._carry_out(plan)
            except (Refused, Unreachable) as trouble:
                self._complain("service", str(trouble))
                return
        if not plan.is_empty:
            self._changed.set()
            self._wake.set()

    def _carry_out(self, plan: Plan) -> None:
        held.release(self._client, [device.held for device in plan.release if device.held])
        for one, pod in plan.label:
            held.label(self._client, one, pod)
        for device, pod in plan.reserve:
            try:
                held.label(self._client, held.reserve(self._client, device), pod)
            except Refused as refused:
                self._complain(f"pod {pod}", f"pod {pod} runs without a reservation: {refused}")

    def _follow_events(self) -> None:
        """Wake this plugin whenever a GPU or a reservation has changed."""
        while not self._ended.is_set():
            with contextlib.suppress(Unreachable, Refused):
                for _ in Client(self._client.socket).lines(EVENTS, silence=SILENCE):
                    self._changed.set()
                    self._wake.set()
            self._changed.set()
            self._ended.wait(TURN)

    def _complain(self, about: str, text: str) -> None:
        """Say what is wrong, once."""
        if self._complaints.get(about) != text:
            self._complaints[about] = text
            _say(text)

    def _is_well(self, about: str, text: str) -> None:
        if self._complaints.pop(about, None):
            _say(text)


def run(settings: Kubernetes) -> None:
    """Run the plugin until SIGTERM or SIGINT."""
    WAITING[:] = WARNED[:] = []  # What is wrong is said once, not with every answer.
    plugin = Plugin(settings)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: plugin.stop())
    plugin.run()


def _say(text: str) -> None:
    sys.stderr.write(f"canhazgpu kubernetes: {printable(' '.join(text.split()), 2 * LONGEST_WORDS)}\n")
    sys.stderr.flush()
