"""The outcome of one attempt to reach one recipient."""

import msgspec


class Outcome(msgspec.Struct, frozen=True):
    """The outcome of an attempt.

    `verdict`: delivered · retry (later) · failed (permanently) · refused (messages are off) · stuck (the
    terminal accepts no output) · gone · skipped · unproven (sent, arrival unknown) · nobody · dry-run.
    `recipient` is an address, a user, or `user:terminal`.
    """

    recipient: str
    verdict: str
    detail: str = ""
