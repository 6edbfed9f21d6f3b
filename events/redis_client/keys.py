"""The names of all Redis keys; no other file has any. A host's keys share one hash tag (Redis Cluster)."""

HOSTS = "canhazgpu:hosts"  # zset: host names, by their last sign of life
# hash: machine id -> the name its state is kept under; the hash tag puts it into the slot of HOSTS
MACHINES = "canhazgpu:{canhazgpu:hosts}:machines"
ANY_KEY = "canhazgpu:*"  # Matches the keys of all hosts.

GROUP_DISPATCHER = "dispatcher"
GROUP_LOG = "log"
GROUP_WALL = "wall"
GROUP_EMAIL = "email"
GROUP_FLEET = "fleet"


class Keys:
    """The names of the keys of one host."""

    def __init__(self, host: str) -> None:
        """Prefix every key with `canhazgpu:{host}:`."""
        self.host = host
        prefix = f"canhazgpu:{{{host}}}:"
        self.prefix = prefix
        self.sequence = prefix + "sequence"  # string: number of the last event of this host
        self.gpus = prefix + "gpus"  # zset: index of every GPU, missing ones too, scored by itself
        self.removed = (
            prefix + "gpus:removed"
        )  # hash: UUID -> the state of a GPU that is no longer listed, JSON
        self.scan = (
            prefix + "scan"
        )  # hash: the last scan (at_ms, began_ms; stalled: ms, reason, remedy), owner, alive_ms, windows
        self.reservations = prefix + "reservations"  # hash: id -> a live reservation, JSON
        self.queue = prefix + "queue"  # hash: id -> a waiting request, JSON
        self.bookings = prefix + "bookings"  # hash: id -> a booking that has not begun, JSON
        self.affinity = prefix + "affinity"  # hash: "uid/GPU" -> when that user had it last, in ms
        self.ledger = prefix + "ledger"  # stream: finished reservations, kept by time
        self.usage = (
            prefix + "usage"
        )  # hash: the log of use and what reports add up from it, by hour and by day, kept by time
        self.pending = prefix + "violations:pending"  # hash: "GPU/user key" -> first seen, in ms
        self.open = prefix + "violations:open"  # hash: "GPU/user key" -> the open violation, JSON
        self.events = prefix + "events"  # stream: everything that happened
        self.violations = prefix + "violations"  # stream: violation facts, kept by time
        self.notices = prefix + "notices"  # stream: notices to deliver
        self.groups = prefix + "notices:groups"  # hash: group -> the dispatcher's state, JSON
        self.due = prefix + "notices:due"  # zset: group, scored by the time of its next check, in ms
        self.silences = prefix + "silences"  # hash: id -> a live silence, JSON
        self.acks = (
            prefix + "silences:acks"
        )  # hash: uid -> when that user's last one of their own ends, in ms
        self.terminations = prefix + "notices:terminations"  # zset: episodes ended lately, scored by when
        self.deliveries = prefix + "deliveries"  # stream: every attempt of every channel
        self.consumers = prefix + "consumers"  # hash: "stream/group" -> its position and since when, JSON
        self.deadletters = prefix + "deadletters"  # stream: notices that could not be delivered

        # On the fleet's Redis. hash: what the host has to know of its copy, such as `missing:STREAM` (entries
        # that were removed before they were copied)
        self.fleet = prefix + "fleet"
        self.fleet_state = prefix + "fleet:state"  # string: the state of the host, MessagePack
        self.fleet_ended = prefix + "fleet:ended"  # string: the newest ended reservations, MessagePack
        self.fleet_held = prefix + "fleet:held"  # string: how many GPUs each user holds, MessagePack
        self.fleet_hours = prefix + "fleet:hours"  # string: the sums of the last days, compressed MessagePack

    @property
    def streams(self) -> dict[str, str]:
        """The public streams by name. Their retention takes consumer groups into account."""
        return {
            "events": self.events,
            "violations": self.violations,
            "ledger": self.ledger,
            "notices": self.notices,
            "deliveries": self.deliveries,
        }

    def gpu(self, index: int) -> str:
        """Return the hash of GPU `index`: usage, holder, last_released, drained."""
        return f"{self.prefix}gpu:{index}"

    def operation(self, uid: int, name: str) -> str:
        """Return the string with the result of a user's operation `name`; it is a cache and expires."""
        return f"{self.prefix}operation:{uid}:{name}"

    def retries(self, channel: str) -> str:
        """Return the zset of `channel`: stream ids of notices to retry, scored by the time in ms."""
        return f"{self.prefix}retries:{channel}"

    def progress(self, channel: str) -> str:
        """Return the hash of `channel`: stream id -> the attempts for that notice so far, JSON."""
        return f"{self.prefix}progress:{channel}"

    def delivered(self, channel: str) -> str:
        """Return the hash of `channel`: "episode recipient" -> notice id of the last delivery."""
        return f"{self.prefix}told:{channel}"


FLEET_HOSTS = Keys("*").fleet_state  # Matches the key that every host of a fleet has.


def host_of(key: str) -> str:
    """Return the host to whose keys `key` belongs."""
    return key.partition("{")[2].partition("}")[0]
