"""The demo's script: as many of everything as it promises, and the same day for the same seed."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from random import Random

import yaml

from deploy.local.day.bills import read_files
from deploy.local.day.contract import Contract
from deploy.local.day.plan import REPEATS_AT_ONCE, REPEATS_LATER, Plan, plan_day, typed
from deploy.local.day.setup import move_cut_off
from deploy.local.processes import DEMO_BILLERS, ROOT

CONTRACT = Contract(ROOT / "schemas" / "partners")
FILES = read_files(CONTRACT)
PLAN = plan_day(FILES, CONTRACT, seed=1)


def test_the_day_has_as_many_of_everything_as_it_promises() -> None:
    assert sum(len(file.bills) for file in FILES) == 2000
    assert sum(bill.bad is not None for file in FILES for bill in file.bills) == 20
    assert len(PLAN.payments) == 600
    assert len(PLAN.refusals) == 12
    assert len(PLAN.unsupported) == 8
    assert (REPEATS_AT_ONCE, REPEATS_AT_ONCE + REPEATS_LATER) == (10, 40)
    assert len(PLAN.at_once) == REPEATS_AT_ONCE
    assert len(PLAN.changes) + len(PLAN.late_changes) == 150
    assert len(PLAN.rtdr) == 200
    assert len(PLAN.links) == 100


def test_every_bad_row_is_bad_in_its_own_way() -> None:
    ways = [(bill.bad.column, bill.bad.says) for file in FILES for bill in file.bills if bill.bad]
    assert len(set(ways)) == len(ways) == 20


def test_every_channel_and_every_tender_is_there() -> None:
    paid = [said.paid for said in PLAN.payments if said.paid]
    assert len(paid) == 600
    channels = Counter(each.channel for each in paid)
    assert channels.keys() == {"portal", "batch", "agent", "ivr", "bank", "fixed", "in_full", "autopay"}
    assert {each.tender for each in paid} == set(CONTRACT.cloud["payment_types"].values())
    assert {said.biller for said in PLAN.payments} == {"acme", "birch", "cedar"}


def test_no_two_payments_and_no_two_changes_have_one_id() -> None:
    ids = [said.id for said in [*PLAN.payments, *PLAN.unsupported, *PLAN.changes, *PLAN.late_changes]]
    assert len(set(ids)) == len(ids)


def test_the_same_seed_plays_the_same_day() -> None:
    def payments(plan: Plan) -> list[dict[str, object]]:
        return [said.wire for said in plan.payments]

    assert payments(plan_day(FILES, CONTRACT, seed=1)) == payments(PLAN)
    assert payments(plan_day(FILES, CONTRACT, seed=2)) != payments(PLAN)


def test_paperless_is_the_inverse_of_paper() -> None:
    papers = [said for said in PLAN.changes if "PaperInvoices" in said.wire]
    assert papers
    for said in papers:
        (effect,) = said.effects
        assert effect.value == {"True": "F", "False": "T"}[said.wire["PaperInvoices"]]


def test_a_number_is_typed_as_people_do_and_still_means_the_same() -> None:
    random = Random(1)
    written = {typed("0004700037", random) for _ in range(50)}
    assert len(written) > 3
    assert {"".join(sign for sign in each if sign.isdigit()).lstrip("0") for each in written} == {"4700037"}


def test_the_cut_off_is_the_same_instant_in_every_timezone(tmp_path: Path) -> None:
    for path in DEMO_BILLERS.glob("*.yaml"):
        (tmp_path / path.name).write_text(path.read_text(encoding="utf-8"), encoding="utf-8")
    day = move_cut_off(tmp_path, datetime(2026, 11, 21, 5, 30, 7, 999_999, tzinfo=UTC))
    assert day.cut_off == datetime(2026, 11, 21, 5, 30, 7, tzinfo=UTC)
    told = {path.stem: yaml.safe_load(path.read_text(encoding="utf-8")) for path in tmp_path.glob("*.yaml")}
    assert {slug: stated["batch"]["cut_off"] for slug, stated in told.items()} == {
        "acme": "23:30:07",
        "birch": "00:30:07",
        "cedar": "22:30:07",
    }
    assert {slug: str(date) for slug, date in day.days.items()} == {
        "acme": "2026-11-20",
        "birch": "2026-11-21",
        "cedar": "2026-11-20",
    }
    assert day.stale_allowed == {"cedar"}


def test_the_files_are_what_their_generator_writes() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "tools" / "generate_day.py"), "--check"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout
