"""A SOAP stack that is not ours calls the sandbox by its WSDL alone: Eclipse Metro (JAX-WS) from Maven.

The other one is zeep, in tests/integration/test_sandbox.py.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from deploy.local.processes import ROOT
from tests.sandbox_process import ACME_GUID, running_sandbox, secret

pytestmark = pytest.mark.extra  # a JDK, Maven, and its repository

OWN = ROOT / "tests" / "integration" / "soap"
LIMIT_S = 240
NUMBER = "INV-FROM-JAVA"


def run(folder: Path, *command: str, **environment: str) -> str:
    assert shutil.which(command[0]), f"{command[0]} is not here, and this test needs it"
    done = subprocess.run(
        command, cwd=folder, env=os.environ | environment, capture_output=True, text=True, timeout=LIMIT_S
    )
    assert done.returncode == 0, f"{command[0]}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with Metro's jars in lib, in the versions of pom.xml."""
    folder = tmp_path_factory.mktemp("java")
    for name in ("pom.xml", "Call.java"):
        shutil.copy(OWN / name, folder)
    run(folder, "mvn", "-q", "-B", "dependency:copy-dependencies")
    return folder


def test_what_java_uploads_is_in_the_ledger_and_comes_back(stack: Path, tmp_path: Path) -> None:
    with running_sandbox(tmp_path) as sandbox:
        wsdl = f"{sandbox.url}/ic/CloudInvoicing.asmx?wsdl"
        generate = (
            "com.sun.tools.ws.WsImport",
            "-quiet",
            "-keep",
            "-Xnocompile",
            "-s",
            ".",
            "-p",
            "partner",
            wsdl,
        )
        run(stack, "java", "-cp", "lib/*", *generate)
        made = [str(path.relative_to(stack)) for path in (stack / "partner").glob("*.java")]
        run(stack, "javac", "-encoding", "UTF-8", "-cp", "lib/*", "-d", "classes", "Call.java", *made)
        key = secret("acme", "ic-key")
        call = ("java", "-Dfile.encoding=UTF-8", "-Dstdout.encoding=UTF-8", "-cp", "classes:lib/*", "Call")
        said = run(stack, *call, wsdl, ACME_GUID, NUMBER, WEB_SERVICE_KEY=key)
        (row,) = sandbox.ledger("invoices")["rows"]

    answers = dict(line.split("=", 1) for line in said.splitlines())
    assert (row["natural_id"], row["account"], row["amount"]) == (NUMBER, "0000001001", "120.50")
    assert answers.pop("reference") == answers.pop("shown_reference") != ""
    assert answers == {
        "address": wsdl.removesuffix("?wsdl"),
        "uploaded": "true",
        "shown": "true",
        "balance": "120.50",
        "due": "2026-12-01",
        "collected": "0001-01-01",
        "account": "0000001001",
        "name": "Zoë O'<Hara> & Sons",
        "paper": "false",
        "fault": "Invalid BillerGUID or WebServiceKey",
    }
