"""How `make demo` speaks to a person who asks for what does not go together."""

import pytest

from deploy.local import demo


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (["--keep", "--docker"], "KEEP=1 does not go with DOCKER=1"),
        (["--keep", "--runs", "2"], "KEEP=1 goes with one run"),
    ],
)
def test_what_does_not_go_together_is_said_in_one_sentence(
    asked: list[str], said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["demo", *asked])
    assert demo.main() == 1
    told = capsys.readouterr().err
    assert said in told
    assert len(told.splitlines()) == 1
