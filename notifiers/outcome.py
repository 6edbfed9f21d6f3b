"""What became of one attempt to reach one recipient."""

import msgspec


class Outcome(msgspec.Struct, frozen=True):
    """The end of an attempt.

    `verdict`: delivered · retry (later) · failed (never) · refused (messages are off) · stuck (the
    terminal takes nothing) · gone · skipped · unproven (handed on, nobody knows) · nobody ·
    dry-run. `recipient` is an address, a user, or `user:terminal`.
    """

    recipient: str
    verdict: str
    detail: str = ""
