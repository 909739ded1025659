"""What the sandbox is told by its environment, and what it reads of the partners' contracts."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import AliasChoices, Field
from pydantic_settings import BaseSettings, SettingsConfigDict

ROOT = Path(__file__).resolve().parents[2]


def _either(name: str) -> AliasChoices:
    """The sandbox's own variable, else the one that every process of billbus gets."""
    return AliasChoices(name, f"BILLBUS_SANDBOX_{name.upper()}", f"BILLBUS_{name.upper()}")


class SandboxSettings(BaseSettings):
    """Settings of the sandbox; BILLBUS_SANDBOX_<NAME> goes before BILLBUS_<NAME>."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore")

    host: str = Field(
        default="127.0.0.1", validation_alias=_either("host"), description="Address it listens on."
    )
    port: int = Field(
        default=18090, validation_alias=_either("port"), ge=0, le=65535, description="Port; 0: any."
    )
    state: Path = Field(
        default=Path(".local/state"),
        validation_alias=_either("state"),
        description="Folder of sandbox.sqlite.",
    )
    db: Path | None = Field(default=None, validation_alias=_either("db"), description="The ledger's file.")
    billers: Path = Field(
        default=ROOT / "deploy" / "local" / "billers",
        validation_alias=_either("billers"),
        description="Folder with one YAML file a biller: its GUID, and the names of its secrets.",
    )
    secrets: Path | None = Field(
        default=None,
        validation_alias=_either("secrets"),
        description="Folder with one file a secret; else environment BILLBUS_SECRET_<NAME>.",
    )
    schemas: Path = Field(
        default=ROOT / "schemas", validation_alias=_either("schemas"), description="The contracts."
    )
    unknown_accounts: Literal["refuse", "open"] = Field(
        default="refuse",
        validation_alias=_either("unknown_accounts"),
        description="What IMT does with an account it does not know: refuse, or open it with a zero balance.",
    )
    payments_url: str = Field(default="http://127.0.0.1:18103", validation_alias=_either("payments_url"))
    balances_url: str = Field(default="http://127.0.0.1:18102", validation_alias=_either("balances_url"))
    settings_url: str = Field(default="http://127.0.0.1:18104", validation_alias=_either("settings_url"))
    bills_url: str = Field(default="http://127.0.0.1:18105", validation_alias=_either("bills_url"))

    @property
    def ledger_file(self) -> Path:
        """Where the ledger is kept between runs."""
        return self.db or self.state / "sandbox.sqlite"

    def our_service(self, name: str) -> str:
        """The address of one of our services, without a slash at the end."""
        return str(getattr(self, f"{name}_url")).rstrip("/")


@dataclass(frozen=True)
class Contracts:
    """The partners' contracts, read where they are first needed."""

    folder: Path

    @cached_property
    def imt(self) -> dict[str, Any]:
        return self._read("imt.yaml")

    @cached_property
    def invoicecloud(self) -> dict[str, Any]:
        return self._read("invoicecloud.yaml")

    @cached_property
    def bank_file(self) -> dict[str, Any]:
        return self._read("bank_file.yaml")

    @cached_property
    def changes(self) -> dict[str, Any]:
        return self._read("changes.yaml")

    @cached_property
    def wsdl(self) -> bytes:
        return (self.folder / "partners" / str(self.invoicecloud["soap"]["wsdl"])).read_bytes()

    def _read(self, name: str) -> dict[str, Any]:
        return dict(yaml.safe_load((self.folder / "partners" / name).read_text(encoding="utf-8")))
