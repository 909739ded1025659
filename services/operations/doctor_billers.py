"""Checks of the billers' files, of the secrets they name, and of what two billers must not share."""

import stat
from collections.abc import Iterator, Mapping
from pathlib import Path

from services.bus.billers import Biller, Billers, read_biller
from services.bus.secrets import Secrets
from services.bus.settings import ConfigurationError, Settings
from services.bus.support import SupportMatrix
from services.operations.doctor_finding import Finding
from services.operations.doctor_machine import has_timezones

READ_BY_ALL = stat.S_IROTH
ENTERED_BY_ALL = stat.S_IXOTH


def check_billers(settings: Settings) -> tuple[Billers, list[Finding]]:
    """The billers whose files are right, and what is wrong with the others."""
    secrets, findings, good = Secrets(settings.secrets), [], {}
    try:
        support = SupportMatrix.load(settings.partners / "support.yaml")
    except ConfigurationError as error:
        return Billers({}), [Finding("support table", "wrong", p, "Mend the file.") for p in error.problems]
    for path in sorted(settings.billers.glob("*.yaml")):
        biller, problems = read_biller(path, secrets, support)
        findings += [_problem(path, problem) for problem in problems]
        if biller is not None and not problems:
            good[biller.slug] = biller
            what = f"{path.stem}: file and {len(biller.secret_names())} secrets are right"
            findings.append(Finding("biller", "fine", what))
    if not findings:
        advice = "Put a YAML file for each biller there, or set BILLBUS_BILLERS to the folder that has them."
        findings.append(Finding("biller", "wrong", f"no biller's file in {settings.billers}", advice))
    return Billers(good), [*findings, *shared(good), *_open_secrets(settings, good)]


def _problem(path: Path, problem: str) -> Finding:
    if "is not a timezone" in problem and not has_timezones():
        advice = "Install the timezone database first: pip install tzdata."
    elif "secret " in problem:
        advice = "Put the secret in its place (docs/configuration.md), one line, nothing else in the file."
    else:
        advice = f"Mend {path}; docs/configuration.md explains each field."
    return Finding("biller", "wrong", f"{path.stem}: {problem}", advice)


def shared(billers: Mapping[str, Biller]) -> Iterator[Finding]:
    """What belongs to one biller alone: with another's, money would go into the wrong insurer's books."""
    owners: dict[tuple[str, str], list[str]] = {}
    for biller in billers.values():
        imt, cloud = biller.imt, biller.invoice_cloud
        own = {
            "invoice_cloud.biller_guid": cloud.biller_guid.lower(),
            "invoice_cloud.biller_code": cloud.biller_code,
            "imt.payments_due": imt.payments_due.rstrip("/"),
            "imt.datapump": imt.datapump.rstrip("/"),
            "imt.settings": imt.settings.rstrip("/"),
            "imt.bills": imt.bills.rstrip("/"),
        }
        for field, value in own.items():
            owners.setdefault((field, value), []).append(biller.slug)
    for (field, value), slugs in owners.items():
        if len(slugs) > 1:
            what = f"{' and '.join(slugs)} have the same {field}: {value}"
            advice = "Give each its own: as it is, one insurer's payments reach another's books."
            yield Finding("biller", "wrong", what, advice)


def _open_secrets(settings: Settings, billers: Mapping[str, Biller]) -> Iterator[Finding]:
    """Files of secrets that every user of this machine can read."""
    folder = settings.secrets
    if folder is None or not folder.stat().st_mode & ENTERED_BY_ALL:
        return
    names = {name for biller in billers.values() for name in biller.secret_names().values()}
    for path in sorted(folder / name for name in names | {settings.kafka_password_secret}):
        if path.is_file() and path.stat().st_mode & READ_BY_ALL:
            advice = f"Run: chmod o-r {path} (on Kubernetes: defaultMode 0440 where it is mounted)."
            what = f"everybody on this machine can read the file of secret {path.name}"
            yield Finding("secret", "wrong", what, advice)
