"""Reads which GPUs a container gets from its configuration, and takes GPUs away from it.

There are several ways to get one: variables, annotations and mounts that NVIDIA's programs read; device
files; and permission for any device. CDI devices have become device files before a runtime sees them.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Spec = dict[str, Any]
    FindDevices = Callable[[str], tuple[list[int], bool]]

MAJOR = 195  # Of NVIDIA's device files, fixed in the kernel's list of devices.
FIRST_CONTROL = 254  # nvidia-modeset; 255 is nvidiactl. Those below are GPUs.
VARIABLE, TOKEN, RESERVATION = "NVIDIA_VISIBLE_DEVICES", "CANHAZGPU_TOKEN", "CANHAZGPU_RESERVATION"
NOTHING = ("", "none", "void")
READERS = ("nvidia-container-runtime-hook", "nvidia-container-toolkit")  # They read the variable.
RUNTIME = "nvidia-container-runtime"  # So does this one, with any suffix.
CDI = "cdi.k8s.io/"
VENDOR = "nvidia.com/"
MOUNTS = ("/var/run/nvidia-container-devices", "/run/nvidia-container-devices")


class Gpus(msgspec.Struct, frozen=True, kw_only=True):
    """The GPUs that a container gets, as the service's `ContainerRequest` has them.

    `narrow`: the variable and the device files are all there is, so that GPUs can be taken away.
    """

    names: tuple[str, ...] = ()
    devices: tuple[int, ...] = ()
    every: bool = False
    narrow: bool = False

    def __bool__(self) -> bool:
        """Whether it gets any."""
        return bool(self.names or self.devices or self.every)


def gpus_of(spec: Spec, runtime: str, find: FindDevices | None = None) -> Gpus:
    """Return the GPUs that a container gets; `runtime` is the program that starts it next.

    `find` returns the GPUs' device files at or in a path, and whether it is a directory.
    """
    named = _from_variable(spec) if _reads_variable(spec, runtime) else []
    fixed = [*_from_annotations(spec), *_from_mounts(spec)]
    allowed, every = _from_rules(spec)
    bound = _from_binds(spec, find or device_files)
    nodes = [one["minor"] for one in _devices(spec) if _is_gpu(one)]
    return Gpus(
        names=tuple(dict.fromkeys([*named, *fixed])),
        devices=tuple(sorted({*nodes, *allowed, *bound})),
        every=every,
        narrow=not (fixed or bound or every),
    )


def narrow(spec: Spec, uuids: list[str], devices: list[int]) -> None:
    """Take all GPUs away from a container except these."""
    if variable(spec, VARIABLE) is not None:
        set_variable(spec, VARIABLE, ",".join(uuids))
    linux = _linux(spec)
    linux["devices"] = [one for one in _devices(spec) if not _is_gpu(one) or one["minor"] in devices]
    resources = _table(linux.get("resources"))
    if rules := _rows(resources.get("devices")):
        resources["devices"] = [
            one for one in rules if not (one.get("allow") and _is_gpu(one) and one["minor"] not in devices)
        ]


def variable(spec: Spec, name: str) -> str | None:
    """Return the value of a variable of a container; of several, the last counts."""
    found = [entry.partition("=")[2] for entry in _environment(spec) if entry.partition("=")[0] == name]
    return found[-1] if found else None


def set_variable(spec: Spec, name: str, value: str | None) -> None:
    """Set a variable of a container, or with None remove it."""
    kept = [entry for entry in _environment(spec) if entry.partition("=")[0] != name]
    spec["process"]["env"] = kept if value is None else [*kept, f"{name}={value}"]


def device_files(path: str) -> tuple[list[int], bool]:
    """Return the numbers of the GPUs whose files are at or in a path, and whether it is a directory."""
    try:
        if not Path(path).is_dir():
            return _numbers([path]), False
        folder = Path(path, "dev") if Path(path).resolve() == Path("/") else Path(path)
        return _numbers(str(one) for one in folder.glob("nvidia*")), True
    except OSError:
        return [], False


def _numbers(paths: Any) -> list[int]:
    found = []
    for path in paths:
        facts = os.stat(path)  # noqa: PTH116 - paths of mounts as they are
        major, minor = os.major(facts.st_rdev), os.minor(facts.st_rdev)
        if stat.S_ISCHR(facts.st_mode) and major == MAJOR and minor < FIRST_CONTROL:
            found.append(minor)
    return found


def _reads_variable(spec: Spec, runtime: str) -> bool:
    """Return whether a program of NVIDIA's reads the variable; without one, it is only text of the image."""
    hooks = [
        PurePath(str(hook.get("path", ""))).name
        for stage in _table(spec.get("hooks")).values()
        for hook in _rows(stage)
    ]
    return PurePath(runtime).name.startswith(RUNTIME) or any(name in READERS for name in hooks)


def _from_variable(spec: Spec) -> list[str]:
    return _names((variable(spec, VARIABLE) or "").split(","))


def _from_annotations(spec: Spec) -> list[str]:
    found = _table(spec.get("annotations")).items()
    words = [word for key, value in found if key.startswith(CDI) for word in str(value).split(",")]
    return _names(word for word in words if VENDOR in word)


def _from_mounts(spec: Spec) -> list[str]:
    """Return the names that a mount stands for, if NVIDIA's programs are told by mounts."""
    found = []
    for mount in _rows(spec.get("mounts")):
        place = PurePath(str(mount.get("destination", "")))
        if any(place.is_relative_to(folder) and str(place) != folder for folder in MOUNTS):
            found.append(place.name)
    return _names(found)


def _from_rules(spec: Spec) -> tuple[list[int], bool]:
    """Return the GPUs that the rules of the device cgroup open, and whether they open all of them."""
    every, opened = False, dict[int, bool]()
    for rule in _rules(spec):
        major, minor, allow = _number(rule, "major"), _number(rule, "minor"), bool(rule.get("allow"))
        if (rule.get("type") or "a") == "a":  # Runtimes ignore the numbers and the access then.
            every, opened = allow, {}
        elif rule["type"] != "c" or not set("rw") & set(str(rule.get("access") or "rwm")):
            continue
        elif major in {None, MAJOR} and minor is None:
            every, opened = allow, {}
        elif major in {None, MAJOR} and minor is not None and minor < FIRST_CONTROL:
            opened[minor] = allow
    return [minor for minor, allow in opened.items() if allow], every


def _from_binds(spec: Spec, find: FindDevices) -> list[int]:
    """Return the GPUs whose files are mounted. Those in a directory count if no rule closes them."""
    closed = any(
        not rule.get("allow") and rule.get("type", "a") == "a" and _number(rule, "major") is None
        for rule in _rules(spec)
    )
    found = []
    for mount in _rows(spec.get("mounts")):
        options = _list(mount.get("options"))
        if mount.get("type") == "bind" or "bind" in options or "rbind" in options:
            numbers, is_folder = find(str(mount.get("source", "")))
            found += [] if is_folder and closed else numbers
    return found


def _names(words: Any) -> list[str]:
    """Return what names of GPUs mean: of a CDI name such as nvidia.com/gpu=0, the part after the sign."""
    stripped = [str(word).strip().rpartition("=")[2] for word in words]
    return [word for word in stripped if word not in NOTHING]


def _is_gpu(device: Spec) -> bool:
    minor = _number(device, "minor")
    if str(device.get("type")) not in {"c", "u"} or _number(device, "major") != MAJOR:
        return False
    return minor is not None and minor < FIRST_CONTROL


def _number(table: Spec, name: str) -> int | None:
    """Return a number of a device; None, like -1, means any."""
    found = table.get(name)
    return found if isinstance(found, int) and found >= 0 else None


def _linux(spec: Spec) -> Spec:
    found: Spec = spec.setdefault("linux", {})
    return found


def _devices(spec: Spec) -> list[Spec]:
    return _rows(_table(spec.get("linux")).get("devices"))


def _rules(spec: Spec) -> list[Spec]:
    return _rows(_table(_table(spec.get("linux")).get("resources")).get("devices"))


def _environment(spec: Spec) -> Iterator[str]:
    yield from map(str, _list(_table(spec.get("process")).get("env")))


def _table(value: Any) -> Spec:
    return value if isinstance(value, dict) else {}


def _rows(value: Any) -> list[Spec]:
    return [one for one in _list(value) if isinstance(one, dict)]


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
