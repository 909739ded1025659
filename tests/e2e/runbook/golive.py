"""What is done before an insurer is on the bus."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import yaml

from tests import bif_sample
from tests.e2e.runbook.situation import Situation

AUTOPAY = """\
AccountNumber,PolicyNumber,CustomerName,EmailAddress,AutoPay,PaymentMethod,PaymentToken,EnrolledOn,BalanceDue
0000010042,HO-1,Ada Fields,ada@mail.example,T,CC,tok_1a,03/15/2024,120.50
0000010043,HO-2,Bo Dunmoor,bo@mail.example,T,EFT,tok_2b,04/02/2024,88.00
10-044,HO-3,Cleo Foxgate,cleo@mail.example,T,CC,tok_3c,04/03/2024,64.20
"""


class GoLive(Situation):
    """The files of an insurer's first day, one row of each not right."""

    page, biller = "go-live", "thyme"

    def plant(self) -> dict[str, str]:
        self.folder = Path(tempfile.mkdtemp(prefix="billbus-"))
        self.terminal.folder = self.folder
        rows = [self.sides.new_row(self.biller) for _ in range(3)]
        self._written([*rows[:2], rows[2] | {"BalanceDue": "seventy"}])
        (self.folder / "imt-autopay.csv").write_text(AUTOPAY)
        self.rows = rows
        return {"BILLER": self.biller}

    def imt_mends_the_row(self) -> None:
        self._written(self.rows)

    def _written(self, rows: list[dict[str, str]]) -> None:
        (self.folder / "first.bif").write_bytes(bif_sample.content(rows, self.biller.upper()))

    def clear(self) -> None:
        shutil.rmtree(self.folder)


class NewBiller(Situation):
    """A biller that the services have just been given, and the operator's folder has not."""

    page, biller = "new-biller", "tansy"

    def plant(self) -> dict[str, str]:
        self.folder = Path(tempfile.mkdtemp(prefix="billbus-"))
        (self.folder / "billers").mkdir()
        answers = yaml.safe_load((self.sides.processes.billers / f"{self.biller}.yaml").read_text())
        (self.folder / "answers.yaml").write_text(yaml.safe_dump(answers, sort_keys=False))
        self.terminal.folder = self.folder
        self.terminal.environment["BILLBUS_BILLERS"] = str(self.folder / "billers")
        self.terminal.masks[str(self.folder)] = "/etc/billbus"
        return {}

    def clear(self) -> None:
        shutil.rmtree(self.folder)
