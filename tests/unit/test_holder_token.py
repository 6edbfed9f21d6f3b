"""The token with which a run passes on whose container it is."""

import stat
from pathlib import Path

import msgspec
import pytest

from canhazgpu.config.integrations.containers import Containers
from canhazgpu.config.settings import Settings
from canhazgpu.events.reservations import MANUAL, Record
from canhazgpu.service.reservations.holder_token import KEY_FILE, HolderTokens, open_tokens

RECORD = Record(id="r7-1", kind=MANUAL, user="ada", uid=1000, gpus=(0, 2), started_ms=5)
TOKENS = HolderTokens(b"k" * 32)
TOKEN = TOKENS.issue(RECORD, (2,))


def changed(**facts: object) -> Record:
    """Return the reservation with other facts."""
    return msgspec.structs.replace(RECORD, **facts)


def test_a_token_proves_the_reservation_and_the_gpus_of_the_run() -> None:
    """A run that uses some GPUs of a reservation passes on only those."""
    proven = TOKENS.verify(TOKEN, [changed(id="r6-1"), RECORD])
    assert proven is not None
    assert (proven.record, set(proven.gpus)) == (RECORD, {2})


def test_a_token_of_other_gpus_is_forged() -> None:
    """The GPUs are part of what is signed, and so is every other part."""
    name, gpus, code = TOKEN.split(".")
    for forged in (f"{name}.0.{code}", f"{name}.{gpus}-0.{code}", f"{name}.{gpus}.{code[:-1]}", name, ""):
        assert TOKENS.verify(forged, [RECORD]) is None
    assert HolderTokens(b"K" * 32).verify(TOKEN, [RECORD]) is None


@pytest.mark.parametrize("facts", [{"id": "r8-1"}, {"ended_ms": 9}, {"started_ms": 6}, {"uid": 1001}])
def test_a_token_is_worth_nothing_after_its_reservation(facts: dict[str, object]) -> None:
    """It does not open a later reservation, nor one that got the same id after Redis was wiped."""
    assert TOKENS.verify(TOKEN, [changed(**facts)]) is None


def test_a_token_covers_only_what_the_reservation_still_has() -> None:
    """A GPU that the reservation has lost is not proven."""
    proven = TOKENS.verify(TOKEN, [changed(gpus=(0,))])
    assert proven is not None
    assert not proven.gpus


def test_the_key_is_the_services_own_and_lasts(tmp_path: Path) -> None:
    """Only the service can read the key, and tokens outlive a restart; without checks there is none."""
    settings = Settings(state_dir=str(tmp_path))
    first, second = open_tokens(settings), open_tokens(settings)
    assert first is not None
    assert second is not None
    assert second.verify(first.issue(RECORD, (0,)), [RECORD]) is not None
    assert stat.S_IMODE((tmp_path / KEY_FILE).stat().st_mode) == 0o600
    assert open_tokens(Settings(state_dir=str(tmp_path), containers=Containers(mode="off"))) is None


def test_without_a_key_the_service_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """If the key cannot be stored, no container is proven to be anybody's, and the log says so."""
    assert open_tokens(Settings(state_dir=str(tmp_path / "missing"))) is None
    assert "container-token-key" in capsys.readouterr().out
