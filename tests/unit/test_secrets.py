"""Secrets in files: looked at now and then, so that a rotated one is taken without a restart."""

from pathlib import Path

import pytest

from services.bus.secrets import LOOK_S, Secrets
from services.bus.settings import ConfigurationError
from tests.unit.parts import FakeClock


def test_a_rotated_secret_is_taken_within_a_second(tmp_path: Path) -> None:
    file, clock = tmp_path / "acme-bearer", FakeClock()
    secrets = Secrets(tmp_path, clock)
    file.write_text("first")
    assert secrets.get("acme-bearer") == "first"
    file.write_text("the second")
    clock.ticks += LOOK_S
    assert secrets.get("acme-bearer") == "the second"


def test_a_secret_that_was_taken_away_is_missing_and_one_that_comes_is_found_at_once(tmp_path: Path) -> None:
    file, clock = tmp_path / "acme-bearer", FakeClock()
    secrets = Secrets(tmp_path, clock)
    with pytest.raises(ConfigurationError, match="missing"):
        secrets.get("acme-bearer")
    file.write_text("first")
    assert secrets.get("acme-bearer") == "first"
    file.unlink()
    clock.ticks += LOOK_S
    with pytest.raises(ConfigurationError, match="missing"):
        secrets.get("acme-bearer")
