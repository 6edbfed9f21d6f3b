"""The relevant lines of a server's log: why it ended, and what it lost of its file."""

from canhazgpu.service.redis_server.server_log import cut_at, is_broken, last_words

BANNER = b"""\
1435:C 30 Nov 2026 03:23:31.623 # oO0OoO0OoO0Oo Redis is starting oO0OoO0OoO0Oo
1435:C 30 Nov 2026 03:23:31.623 # Redis version=6.2.14, bits=64, modified=0, pid=1435, just started
1435:C 30 Nov 2026 03:23:31.623 # Configuration loaded
1435:M 30 Nov 2026 03:23:31.626 # Server initialized
1435:M 30 Nov 2026 03:23:31.626 # WARNING Memory overcommit must be enabled! A save may fail.
"""
FULL = b"""\
1435:M 30 Nov 2026 03:23:31.626 # Error writing to the AOF file: No space left on device
1435:M 30 Nov 2026 03:23:31.6 # Can't recover from AOF write error when fsync is 'always'. Exiting...
"""
CRASH = b"""\
1435:M 30 Nov 2026 03:23:31.626 # === ASSERTION FAILED ===
1435:M 30 Nov 2026 03:23:31.626 # ==> aof.c:1514 'sdslen(argv) > 0' is not true


=== REDIS BUG REPORT START: Cut & paste starting from here ===
1435:M 30 Nov 2026 03:23:31.626 # Redis 6.2.14 crashed by signal: 11, si_code: 1
------ STACK TRACE ------
""" + b"".join(b"redis-server(+0x%x)[0x55]\n" % number for number in range(200))
MORE = b"=== REDIS BUG REPORT END. Make sure to include it. ===\n\n       Please report the crash\n\n"


def test_a_full_disk_is_in_the_last_words() -> None:
    """After a full disk, the line with the reason is included."""
    assert last_words(BANNER + FULL) == (
        "Error writing to the AOF file: No space left on device; "
        "Can't recover from AOF write error when fsync is 'always'. Exiting..."
    )


def test_a_crash_is_told_by_its_first_lines() -> None:
    """After a crash, the first lines are used, not the registers at the end."""
    words = last_words(BANNER + CRASH + MORE)
    assert "'sdslen(argv) > 0' is not true" in words
    assert "crashed by signal: 11" in words
    assert "0x55" not in words.replace("STACK TRACE", "")


def test_silence_is_called_so() -> None:
    """A log with only the banner counts as empty."""
    assert last_words(BANNER) == "it printed nothing"
    assert last_words(b"") == "it printed nothing"


def test_a_cut_end_is_told_with_its_place() -> None:
    """The offset of a truncated file is found in the wording of every server."""
    old = b"1435:M 30 Nov 2026 03:23:31.626 # !!! Truncating the AOF at offset 3581 !!!\n"
    new = (
        b"1493:M 30 Nov 2026 03:23:31.8 # !!! Truncating the AOF appendonly.aof.1.incr.aof at offset 0 !!!\n"
    )
    assert (cut_at(BANNER + old), cut_at(new), cut_at(BANNER)) == (3581, 0, None)


def test_a_broken_file_is_told_from_other_failures() -> None:
    """Only messages about the format of the file count as a damaged file."""
    said = b"1450:M 30 Nov 2026 03:23:31.648 # Bad file format reading the append only file: make a backup\n"
    assert is_broken(BANNER + said)
    assert not is_broken(BANNER + FULL)
