"""One file per channel: each renders and delivers one notice, without policy and without Redis."""
