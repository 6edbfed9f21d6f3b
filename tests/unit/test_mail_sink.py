"""The mail server of the demonstration and of tests."""

from pathlib import Path

import pytest

from canhazgpu.cli.demo.mail_sink import MailSink


def test_mails_that_come_at_the_same_time_are_all_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mail that arrives while another is being written gets a file of its own."""
    write = Path.write_bytes
    with MailSink(tmp_path) as sink:

        def meanwhile(path: Path, data: bytes) -> int:
            monkeypatch.setattr(Path, "write_bytes", write)
            sink.keep([b"second"])
            return write(path, data)

        monkeypatch.setattr(Path, "write_bytes", meanwhile)
        sink.keep([b"first"])
    assert sorted(eml.read_bytes() for eml in tmp_path.glob("*.eml")) == [b"first", b"second"]
