"""Look-ups in the support table: what partners write leads to the row, however they write it."""

from pathlib import Path

import pytest

from services.bus.settings import ROOT, ConfigurationError
from services.bus.support import SupportMatrix, Unsupported

MATRIX = SupportMatrix.load(ROOT / "schemas" / "partners" / "support.yaml")


@pytest.mark.parametrize("written", ["CloudPay", "cloud pay", "CLOUD-PAY", "cloud_pay"])
def test_a_product_is_known_in_whatever_case_and_punctuation(written: str) -> None:
    assert MATRIX.product(written) == MATRIX.row("cloud_pay")


def test_products_that_begin_alike_are_told_apart() -> None:
    assert MATRIX.product("CloudPayWebServices") == MATRIX.row("cloud_pay_web_services")


def test_a_product_nobody_knows_has_no_row() -> None:
    assert MATRIX.product("Teleport") is None


def test_a_device_nobody_knows_is_another_emv_device() -> None:
    assert MATRIX.device("Verifone P400") == MATRIX.row("other_emv_devices")
    assert MATRIX.device(" ") is None


def test_a_place_does_not_answer_for_another() -> None:
    assert MATRIX.change("CloudPay") is None
    assert MATRIX.asked("bif_column", "AllowPartialPayments=TRUE") == MATRIX.row("partial_payments")
    assert MATRIX.asked("bif_column", "AllowPartialPayments=false") is None


def test_a_refusal_carries_name_and_sentence() -> None:
    row = MATRIX.row("void")
    assert str(Unsupported(row)) == f"Not supported: Void. {row.sentence}"
    assert row.problem_type == "urn:billbus:unsupported:void"


def test_everything_wrong_in_the_table_is_said_at_once(tmp_path: Path) -> None:
    path = tmp_path / "support.yaml"
    path.write_text(
        "rows:\n"
        "  - {slug: a, name: A, kind: product, status: supported, sentence: S., enforced_at: [], test: t}\n"
        "  - {slug: a, name: A, kind: product, status: supported, sentence: S., enforced_at: [], test: t}\n"
        "  - {slug: b, name: B, kind: gadget, status: supported, sentence: S., enforced_at: [], test: t}\n"
    )
    with pytest.raises(ConfigurationError) as raised:
        SupportMatrix.load(path)
    assert [problem.split(": ")[1] for problem in raised.value.problems] == ["row 3", "a twice"]
