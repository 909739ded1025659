"""A partner that takes another key from now on."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from tests.e2e.runbook.situation import Situation


class KeyChanges(Situation):
    """IMT has given the biller another token; the operator's folder of secrets has the old one."""

    page, biller = "certificate-or-key-changes", "acme"

    def plant(self) -> dict[str, str]:
        self.right = self.sides.processes.secrets
        self.folder = Path(tempfile.mkdtemp(prefix="billbus-"))
        shutil.copytree(self.right, self.folder / "secrets")
        (self.folder / "secrets" / "acme-imt-token").write_text("the-old-token")
        self.terminal.environment["BILLBUS_SECRETS"] = str(self.folder / "secrets")
        return {}

    def the_new_token_is_put_in_place(self) -> None:
        shutil.copy(self.right / "acme-imt-token", self.folder / "secrets")

    def clear(self) -> None:
        shutil.rmtree(self.folder)
