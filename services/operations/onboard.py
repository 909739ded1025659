"""A new biller: its file written and checked, each partner service asked, and what is left for a person."""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from services.bus.billers import Biller, Billers, read_biller
from services.bus.clock import Clock
from services.bus.secrets import Secrets, variable
from services.bus.settings import Settings
from services.bus.support import SupportMatrix
from services.operations.doctor_billers import shared
from services.operations.onboard_file import as_yaml
from services.operations.onboard_questions import filled
from services.operations.partner_checks import Answer, ask_partners

State = Literal["new", "unchanged", "differs"]
LONGEST_BYTES = 256 * 1024


@dataclass(frozen=True)
class Onboarding:
    """What is meant to be: `problems` have to be mended first, `missing` are secrets by field and name."""

    slug: str
    path: Path
    text: str
    state: State
    biller: Biller | None
    problems: list[str] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)


def read_answers(path: Path) -> dict[str, Any]:
    """Answers from a file in the shape of a biller's file; raises ValueError in one sentence."""
    try:
        if path.stat().st_size > LONGEST_BYTES:
            raise ValueError(f"{path} is longer than {LONGEST_BYTES} bytes")
        stated = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"{path} cannot be read: {' '.join(str(error).split())}") from None
    if not isinstance(stated, dict):
        raise ValueError(f"{path} is not a mapping of fields, as a biller's file is")
    return stated


def prepare(
    settings: Settings, support: SupportMatrix, answers: Mapping[str, Any], folder: Path
) -> Onboarding:
    """The file that the answers make, checked as the services check it; writes nothing there."""
    stated = filled(answers)
    slug, text = str(stated.get("slug", "")), as_yaml(stated)
    with tempfile.TemporaryDirectory() as aside:
        # the name must be no path: it came from a person
        draft = Path(aside) / f"{Path(slug).name or 'biller'}.yaml"
        draft.write_text(text, encoding="utf-8")
        biller, found = read_biller(draft, Secrets(settings.secrets), support)
    named = biller.secret_names() if biller else {}
    missing = {at: name for at, name in named.items() if any(p.startswith(f"{at}: secret ") for p in found)}
    problems = [each for each in found if each.partition(":")[0] not in missing]
    path = folder / f"{Path(slug).name}.yaml"
    if biller is not None:
        problems += _taken(settings, support, biller)
    return Onboarding(slug, path, text, _state(path, stated), biller, problems, missing)


def _state(path: Path, stated: Mapping[str, Any]) -> State:
    """Comments do not count: who has changed them by hand keeps them."""
    if not path.exists():
        return "new"
    try:
        return "unchanged" if filled(read_answers(path)) == stated else "differs"
    except ValueError:
        return "differs"


def _taken(settings: Settings, support: SupportMatrix, biller: Biller) -> list[str]:
    others = {}
    for path in sorted(settings.billers.glob("*.yaml")):
        if path.stem != biller.slug:
            other, _ = read_biller(path, Secrets(settings.secrets), support)
            if other is not None:
                others[other.slug] = other
    return [each.what for each in shared(others | {biller.slug: biller}) if biller.slug in each.what.split()]


def write(onboarding: Onboarding) -> None:
    """Writes the file, whole or not at all; raises OSError."""
    part = onboarding.path.with_name(f".{onboarding.path.name}.part")
    part.write_text(onboarding.text, encoding="utf-8")
    part.replace(onboarding.path)


async def ask_its_partners(settings: Settings, biller: Biller, clock: Clock) -> dict[str, Answer]:
    """What each partner service answers a call that changes nothing."""
    return await ask_partners(settings, Billers({biller.slug: biller}), clock)


def place_of(settings: Settings, name: str) -> str:
    """Where a secret is put."""
    by_file = f"file {settings.secrets / name}, or " if settings.secrets else ""
    return f"{by_file}{variable(name)} in the environment"


def left_for_a_person(settings: Settings, onboarding: Onboarding) -> list[str]:
    """The list for go-live, in the order in which it is done."""
    biller = onboarding.biller
    if biller is None:
        return []
    slug, address = biller.slug, "https://<your host>"
    cut_off = f"{biller.batch.cut_off:%H:%M} {biller.timezone}"
    return [
        *(
            f"Put secret {name} ({at}): {place_of(settings, name)}."
            for at, name in onboarding.missing.items()
        ),
        f"Ask InvoiceCloud to push payments to {address}/ic/{slug}/payments and changes to "
        f"{address}/ic/{slug}/changes, with the credential of `intake`.",
        f"Agree with IMT that the business day ends at {cut_off}, and how a late payment is dated "
        f"({biller.batch.late_payment}).",
        "Have both partners confirm what the file marks as assumed: deadlines, margins, look-ups, repeats.",
        f"Agree how BIF files come: POST {address}/imt/{slug}/bif, or the drop folder's sub-folder {slug}.",
        f"Convert autopay at go-live: billbus convert autopay IMT.csv --biller {slug} --out IC.csv",
        "Restart the services: they read the billers' files when they start.",
        "Run: billbus doctor",
        f"After the first day's enrolments: billbus drift --biller {slug}",
        f"After the first cut-off: billbus reconcile --biller {slug}, and compare it with the bank.",
    ]
