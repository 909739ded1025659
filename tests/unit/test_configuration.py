"""Settings, secrets and billers' files: everything wrong is said at once, and no value is ever shown."""

import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from services.bus.billers import load_billers
from services.bus.secrets import Secrets
from services.bus.settings import ROOT, ConfigurationError, load_settings
from services.bus.support import SupportMatrix
from tests.unit.parts import FakeClock

SUPPORT = SupportMatrix.load(ROOT / "schemas" / "partners" / "support.yaml")
ACME = ROOT / "deploy" / "local" / "billers" / "acme.yaml"


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("BILLBUS_"):
            monkeypatch.delenv(name)


@pytest.fixture
def secrets(tmp_path: Path) -> Secrets:
    folder = tmp_path / "secrets"
    folder.mkdir()
    for kind in ("imt-token", "ic-key", "intake-password", "intake-bearer", "link-key"):
        (folder / f"acme-{kind}").write_text(f"hush-{kind}\n")
    return Secrets(folder)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    found = tmp_path / "billers"
    found.mkdir()
    return found


def write(folder: Path, **changes: Any) -> None:
    """acme's file with fields changed; a field set to ... is left out."""
    stated = yaml.safe_load(ACME.read_text()) | changes
    kept = {name: value for name, value in stated.items() if value is not ...}
    (folder / "acme.yaml").write_text(yaml.safe_dump(kept))


def problems_of(folder: Path, secrets: Secrets) -> list[str]:
    with pytest.raises(ConfigurationError) as raised:
        load_billers(folder, secrets, SUPPORT)
    return raised.value.problems


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BILLBUS_IN_FLIGHT", "7")
    settings = load_settings(service="payments")
    assert (settings.in_flight, settings.listen_port) == (7, 18103)


def test_every_wrong_setting_is_named_at_once_without_its_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BILLBUS_PORT", "hush")
    monkeypatch.setenv("BILLBUS_GRACE_S", "-1")
    with pytest.raises(ConfigurationError) as raised:
        load_settings()
    assert {problem.split(":")[0] for problem in raised.value.problems} == {"BILLBUS_GRACE_S", "BILLBUS_PORT"}
    assert "hush" not in str(raised.value)


def test_a_folder_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BILLBUS_BILLERS", "/nowhere")
    with pytest.raises(ConfigurationError, match="BILLBUS_BILLERS: /nowhere is not a folder"):
        load_settings()


def test_a_secret_that_changes_is_read_again(tmp_path: Path) -> None:
    clock = FakeClock()
    (tmp_path / "key").write_text("old")
    secrets = Secrets(tmp_path, clock)
    assert secrets.get("key") == "old"
    (tmp_path / "key").write_text("newer")
    clock.move(seconds=1)
    assert secrets.get("key") == "newer"


def test_a_secret_may_come_from_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("BILLBUS_SECRET_ACME_IMT_TOKEN", "hush")
    assert Secrets(tmp_path).get("acme-imt-token") == "hush"


@pytest.mark.parametrize("name", ["../shadow", "a/b", "A", ""])
def test_a_secret_has_a_plain_name(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="a name is made of"):
        Secrets(tmp_path).get(name)


def test_an_empty_secret_is_missing(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(" \n")
    with pytest.raises(ConfigurationError, match="secret key: missing or empty"):
        Secrets(tmp_path).get("key")


def test_the_demo_billers_are_right(monkeypatch: pytest.MonkeyPatch) -> None:
    for slug in ("ACME", "BIRCH", "CEDAR"):
        for kind in ("IMT_TOKEN", "IC_KEY", "INTAKE_PASSWORD", "INTAKE_BEARER", "LINK_KEY"):
            monkeypatch.setenv(f"BILLBUS_SECRET_{slug}_{kind}", "hush")
    monkeypatch.setenv("BILLBUS_SANDBOX_URL", "http://127.0.0.1:4711")
    billers = load_billers(ACME.parent, Secrets(), SUPPORT)
    assert list(billers) == ["acme", "birch", "cedar"]
    assert billers["birch"].imt.datapump == "http://127.0.0.1:4711/imt/birch/datapump"
    assert [b.accounts.alphanumeric for b in billers.values()] == [False, False, True]
    assert len({b.timezone.key for b in billers.values()}) == 3


def test_all_that_is_wrong_in_all_files_is_one_message(folder: Path, secrets: Secrets) -> None:
    write(folder, timezone="Iowa", batch={"cut_off": 1020}, colour="blue", poll={"every_s": 0})
    (folder / "birch.yaml").write_text("slug: [")
    found = problems_of(folder, secrets)
    assert {problem.split(": ")[1] for problem in found} == {
        "timezone",
        "batch.cut_off",
        "colour",
        "poll.every_s",
        "cannot be read",
    }
    assert all(f"{folder}/acme.yaml" in problem or f"{folder}/birch.yaml" in problem for problem in found)


def test_missing_secrets_are_named_and_present_ones_never_shown(folder: Path, tmp_path: Path) -> None:
    write(folder)
    (tmp_path / "acme-imt-token").write_text("hush")
    found = problems_of(folder, Secrets(tmp_path))
    assert sum("missing or empty" in problem for problem in found) == 4
    assert "hush" not in "".join(found)


def test_a_variable_that_is_not_set_is_named(folder: Path, secrets: Secrets) -> None:
    write(folder, name="${NO_SUCH_NAME}")
    assert problems_of(folder, secrets) == [
        f"{folder}/acme.yaml: name: NO_SUCH_NAME is not set in the environment"
    ]


def test_the_slug_is_the_files_name(folder: Path, secrets: Secrets) -> None:
    write(folder, slug="birch")
    assert "slug: birch does not match the file's name" in problems_of(folder, secrets)[0]


def test_a_biller_needs_a_credential_for_our_intakes(folder: Path, secrets: Secrets) -> None:
    write(folder, intake={"user": "acme"})
    assert problems_of(folder, secrets)[0].endswith("intake: needs a bearer, or a user and a password")


def test_balance_forward_is_required(folder: Path, secrets: Secrets) -> None:
    write(folder, features={})
    assert "features.balance_forward: required" in problems_of(folder, secrets)[0]


def test_balance_forward_cannot_be_switched_off(folder: Path, secrets: Secrets) -> None:
    write(folder, features={"balance_forward": False})
    assert "Balance Forward belongs to every biller" in problems_of(folder, secrets)[0]


@pytest.mark.parametrize(
    ("field", "value", "slug"),
    [
        ("billing", "open_item", "open_item_billing"),
        ("bill_images", "pdf_extraction", "pdf_extraction"),
        ("bill_images", "template", "template"),
    ],
)
def test_a_way_of_working_that_is_not_supported_is_refused_by_name(
    folder: Path, secrets: Secrets, field: str, value: str, slug: str
) -> None:
    write(folder, **{field: value})
    row = SUPPORT.row(slug)
    assert problems_of(folder, secrets) == [
        f"{folder}/acme.yaml: {field}: Not supported: {row.name}. {row.sentence}"
    ]


@pytest.mark.parametrize("row", [row for row in SUPPORT.rows if not row.supported], ids=lambda r: r.slug)
def test_a_switch_that_is_not_supported_is_refused_with_the_rows_sentence(
    folder: Path, secrets: Secrets, row: Any
) -> None:
    section = row.surfaces[-1].value.split(".")[0]
    kept = {"balance_forward": True} if section == "features" else {}
    write(folder, **{section: kept | {row.slug: True}})
    assert problems_of(folder, secrets) == [
        f"{folder}/acme.yaml: {section}.{row.slug}: Not supported: {row.name}. {row.sentence}"
    ]
    write(folder, **{section: kept | {row.slug: False}})
    assert list(load_billers(folder, secrets, SUPPORT)) == ["acme"]


def test_an_unknown_switch_is_named_with_the_known_ones(folder: Path, secrets: Secrets) -> None:
    write(folder, products={"kiosks": True})
    assert "products.kiosks: unknown; known are agent_connect" in problems_of(folder, secrets)[0]


def test_a_product_is_off_until_it_is_switched_on(folder: Path, secrets: Secrets) -> None:
    write(folder, products={"ivr": True})
    biller = load_billers(folder, secrets, SUPPORT)["acme"]
    assert biller.offers("ivr")
    assert not biller.offers("agent_connect")
