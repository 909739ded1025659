"""The insurers that both partners know: from the billers' files, their keys and tokens from the secrets."""

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hmac import compare_digest
from pathlib import Path
from typing import Any

import yaml

_LOOK_AGAIN_S = 1.0


@dataclass(frozen=True, slots=True)
class Insurer:
    """What a partner's set-up of one insurer holds; keys, tokens and passwords by the names of secrets."""

    slug: str
    name: str
    timezone: str
    biller_guid: str
    invoice_type_id: str
    biller_code: str
    web_service_key: str
    imt_token: str
    intake_user: str
    intake_password: str
    intake_bearer: str


class Insurers:
    """Looks insurers up; a changed, new or removed file is seen within a second."""

    def __init__(
        self,
        billers: Path,
        secrets: Path | None,
        *,
        environ: Mapping[str, str] = os.environ,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._billers = billers
        self._secrets = secrets
        self._environ = environ
        self._monotonic = monotonic
        self._looked_at = -_LOOK_AGAIN_S
        self._stamp: tuple[tuple[str, int, int], ...] | None = None
        self._by_slug: dict[str, Insurer] = {}
        self._by_guid: dict[str, Insurer] = {}
        self._read_secrets: dict[Path, tuple[tuple[int, int], str]] = {}

    def all(self) -> list[Insurer]:
        """Every insurer, by slug."""
        self._look()
        return [self._by_slug[slug] for slug in sorted(self._by_slug)]

    def by_slug(self, slug: str) -> Insurer | None:
        """The insurer of an IMT address."""
        self._look()
        return self._by_slug.get(slug)

    def by_guid(self, guid: str) -> Insurer | None:
        """The insurer of a BillerGUID, whatever its case."""
        self._look()
        return self._by_guid.get(guid.strip().lower())

    def secret(self, name: str) -> str | None:
        """The value of a secret, None where there is none: then nothing is let in."""
        if not name or "/" in name or name.startswith("."):
            return None
        value = self._from_folder(self._secrets / name) if self._secrets else ""
        return value or self._environ.get(f"BILLBUS_SECRET_{name.upper().replace('-', '_')}") or None

    def knows(self, secret: str, given: str) -> bool:
        """Whether what was given is the secret of that name."""
        value = self.secret(secret)
        return value is not None and compare_digest(value.encode(), given.encode())

    def _from_folder(self, path: Path) -> str:
        try:
            found = path.stat()
            stamp = (found.st_mtime_ns, found.st_size)
            if self._read_secrets.get(path, ((0, 0), ""))[0] != stamp:
                self._read_secrets[path] = (stamp, path.read_text(encoding="utf-8").strip())
        except (OSError, UnicodeDecodeError):
            return ""
        return self._read_secrets[path][1]

    def _look(self) -> None:
        now = self._monotonic()
        if now - self._looked_at < _LOOK_AGAIN_S:
            return
        self._looked_at = now
        files = sorted(self._billers.glob("*.yaml"))
        stamp = tuple(_stamp(path) for path in files)
        if stamp != self._stamp:
            self._stamp = stamp
            found = [insurer for path in files if (insurer := _read(path)) is not None]
            self._by_slug = {insurer.slug: insurer for insurer in found}
            self._by_guid = {insurer.biller_guid.lower(): insurer for insurer in found if insurer.biller_guid}


def _stamp(path: Path) -> tuple[str, int, int]:
    try:
        found = path.stat()
    except OSError:  # gone since it was listed
        return path.name, 0, 0
    return path.name, found.st_mtime_ns, found.st_size


def _read(path: Path) -> Insurer | None:
    """An insurer of a biller's file; a file that does not read as one is nobody we know."""
    try:
        stated = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError, UnicodeDecodeError):
        return None
    if not isinstance(stated, Mapping):
        return None
    cloud, imt, intake = (_part(stated, name) for name in ("invoice_cloud", "imt", "intake"))
    return Insurer(
        slug=str(stated.get("slug") or path.stem),
        name=str(stated.get("name") or path.stem),
        timezone=str(stated.get("timezone") or "UTC"),
        biller_guid=str(cloud.get("biller_guid") or ""),
        invoice_type_id=str(cloud.get("invoice_type_id") or ""),
        biller_code=str(cloud.get("biller_code") or ""),
        web_service_key=str(cloud.get("web_service_key") or ""),
        imt_token=str(imt.get("token") or ""),
        intake_user=str(intake.get("user") or ""),
        intake_password=str(intake.get("password") or ""),
        intake_bearer=str(intake.get("bearer") or ""),
    )


def _part(stated: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    part = stated.get(name)
    return part if isinstance(part, Mapping) else {}
