"""What onboard asks, writes, refuses and keeps, without a bus."""

import copy
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from deploy.local.processes import DEMO_BILLERS
from services.bus.biller import Biller
from services.bus.billers import read_biller
from services.bus.secrets import Secrets
from services.bus.settings import ROOT, Settings, load_settings
from services.bus.support import SupportMatrix
from services.cli.app import cli
from services.operations import onboard
from services.operations.bif import check_bif
from services.operations.onboard_file import as_yaml
from services.operations.onboard_questions import is_asked, questions
from services.operations.onboard_trial import NotTried, account_for, bif_text, require_sandbox

SUPPORT = SupportMatrix.load(ROOT / "schemas" / "partners" / "support.yaml")
ACME: dict[str, Any] = yaml.safe_load((DEMO_BILLERS / "acme.yaml").read_text())


def answers(**changed: Any) -> dict[str, Any]:
    """Of a biller that nobody has yet."""
    made = copy.deepcopy(ACME) | {"slug": "dune", "name": "Dune Mutual Insurance"}
    made["invoice_cloud"] |= {"biller_guid": "0f6f7c1e-0000-4c5e-9d52-7c1a2b3c4d99", "biller_code": "DUNE"}
    for service in ("payments_due", "datapump", "settings", "bills"):
        made["imt"][service] = made["imt"][service].replace("/acme/", "/dune/")
    return made | changed


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    (tmp_path / "secrets").mkdir()
    return load_settings(secrets=tmp_path / "secrets")


def acme() -> Biller:
    biller, _ = read_biller(DEMO_BILLERS / "acme.yaml", Secrets(), SUPPORT)
    assert biller is not None
    return biller


@pytest.mark.parametrize("slug", ["acme", "birch", "cedar"])
def test_a_file_that_is_written_says_what_the_answers_say(slug: str) -> None:
    stated = yaml.safe_load((DEMO_BILLERS / f"{slug}.yaml").read_text())
    text = as_yaml(stated)
    assert yaml.safe_load(text) == stated
    assert all(len(line) <= 100 for line in text.splitlines() if line.lstrip().startswith("#"))


def test_every_field_is_explained_in_the_file(settings: Settings, tmp_path: Path) -> None:
    text = onboard.prepare(settings, SUPPORT, answers(), tmp_path).text
    lines = text.splitlines()
    fields = {question.path.rpartition(".")[2]: question.text for question in questions()}
    for number, line in enumerate(lines):
        name = line.strip().partition(":")[0]
        if not line.lstrip().startswith("#") and name in fields and line.startswith(name):
            assert lines[number - 1].startswith("# "), line


def test_what_is_missing_is_filled_with_names_and_defaults(settings: Settings, tmp_path: Path) -> None:
    told = answers()
    del told["intake"], told["links"], told["rtdr"]
    made = onboard.prepare(settings, SUPPORT, told, tmp_path)
    assert made.problems == []
    written = yaml.safe_load(made.text)
    assert written["links"]["key"] == "dune-link-key"
    assert written["intake"] == {
        "user": "dune",
        "password": "dune-intake-password",
        "bearer": "dune-intake-bearer",
    }
    assert written["rtdr"] == {"deadline_s": 2.0, "on_outage": "error"}


def test_missing_secrets_are_named_with_their_place_and_hold_nothing_up(
    settings: Settings, tmp_path: Path
) -> None:
    made = onboard.prepare(settings, SUPPORT, answers(), tmp_path)
    assert (made.problems, len(made.missing)) == ([], 5)
    left = onboard.left_for_a_person(settings, made)
    assert f"{settings.secrets}/acme-imt-token" in " ".join(left)
    assert "BILLBUS_SECRET_ACME_IMT_TOKEN" in " ".join(left)


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"products": {"kiosk": True}}, "products.kiosk: Not supported"),
        ({"timezone": "America/Iowa"}, "timezone: 'America/Iowa' is not a timezone"),
        ({"colour": "red"}, "colour: Extra inputs"),
        ({"slug": "../etc/dune"}, "slug: String should match pattern"),
        ({"invoice_cloud": ACME["invoice_cloud"]}, "the same invoice_cloud.biller_guid"),
    ],
)
def test_what_the_services_would_refuse_is_refused_first(
    settings: Settings, tmp_path: Path, changed: dict[str, Any], problem: str
) -> None:
    made = onboard.prepare(settings, SUPPORT, answers(**changed), tmp_path)
    assert problem in " ".join(made.problems)
    assert made.path.parent == tmp_path


def test_the_same_answers_leave_the_file_alone_also_with_a_persons_comments(
    settings: Settings, tmp_path: Path
) -> None:
    made = onboard.prepare(settings, SUPPORT, answers(), tmp_path)
    onboard.write(made)
    made.path.write_text("# agreed with Dune on Monday\n" + made.path.read_text())
    assert onboard.prepare(settings, SUPPORT, answers(), tmp_path).state == "unchanged"
    assert onboard.prepare(settings, SUPPORT, answers(name="Dune"), tmp_path).state == "differs"


def test_every_question_says_what_it_is_about_and_checks_its_answer() -> None:
    asked = {question.path: question for question in questions() if is_asked(question)}
    assert all(question.text for question in asked.values())
    assert {"slug", "timezone", "batch.cut_off", "imt.datapump", "links.key"} <= set(asked)
    assert asked["invoice_cloud.margin_s"].assumed
    asked["timezone"].check("America/Denver")
    for path, answer in {
        "timezone": "Denver",
        "slug": "Dune Mutual",
        "imt.datapump": "ftp://imt.example",
        "invoice_cloud.invoice_type_id": "many",
        "links.key": "The Key!",
        "imt.looks_up_payments": "perhaps",
    }.items():
        with pytest.raises(ValueError, match=f"^{path}: "):
            asked[path].check(answer)


def test_nothing_is_tried_at_a_partner() -> None:
    with pytest.raises(NotTried, match="is not the sandbox at"):
        require_sandbox(acme(), "http://127.0.0.1:1")
    require_sandbox(acme(), "http://127.0.0.1:18090/")


def test_the_account_of_the_trial_fits_the_billers_rule() -> None:
    assert account_for(acme()) == "9990000001"
    assert account_for(acme(), "0000000042") == "0000000042"
    with pytest.raises(NotTried, match="--account"):
        account_for(acme(), "12")


def test_the_invoice_of_the_trial_is_one_that_the_intake_takes(tmp_path: Path) -> None:
    day = datetime.now(UTC).date()
    path = tmp_path / "trial.bif"
    partners = ROOT / "schemas" / "partners"
    path.write_text(bif_text(partners, acme(), "9990000001", "TRIAL-1", day))
    report = check_bif(path, [acme()], partners, SUPPORT, lambda *_: None)
    assert (report.accepted, report.refusals, report.refused_whole) == (1, [], None)


def test_without_yes_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BILLBUS_BILLERS", str(DEMO_BILLERS))
    (tmp_path / "to").mkdir()
    source = tmp_path / "answers.yaml"
    source.write_text(yaml.safe_dump(answers()))
    shown = CliRunner().invoke(cli, ["onboard", "--from", str(source), "--to", str(tmp_path / "to")])
    assert shown.exit_code == 1  # its secrets are missing
    assert "would be written; add --yes" in shown.output
    assert list((tmp_path / "to").iterdir()) == []


def test_nobody_is_asked_where_there_is_no_terminal() -> None:
    shown = CliRunner().invoke(cli, ["onboard"])
    assert shown.exit_code == 2
    assert "--from" in shown.output
