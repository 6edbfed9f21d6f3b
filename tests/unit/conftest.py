"""Fixtures of unit tests."""

from support.hint_lab import lab

__all__ = ["lab"]
