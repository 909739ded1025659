"""What an operator sets for a process: environment variables with the prefix BILLBUS_, checked at start."""

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

ROOT = Path(__file__).resolve().parents[2]
PREFIX = "BILLBUS_"
MIB = 1024 * 1024
PORTS = {
    "invoices": 18101,
    "balances": 18102,
    "payments": 18103,
    "settings": 18104,
    "bills": 18105,
    "sandbox": 18090,
}


def _folder(path: Path) -> Path:
    if not path.is_dir():
        raise ValueError(f"{path} is not a folder")
    return path


def _file(path: Path) -> Path:
    if not path.is_file():
        raise ValueError(f"{path} is not a file")
    return path


def parse_addresses(text: str) -> dict[str, tuple[str, ...]]:
    """Addresses by service, of `payments=http://host:port, payments=..., bills=...`; those not named have
    their own default. Raises ValueError."""
    found: dict[str, tuple[str, ...]] = {}
    for item in filter(None, (part.strip() for part in text.split(","))):
        name, _, url = item.partition("=")
        if name not in PORTS or name == "sandbox":
            raise ValueError(f"{name!r} is no service; write payments=http://host:port, separated by commas")
        if not re.fullmatch(r"https?://[^\s/=]+(/\S*)?", url):
            raise ValueError(f"{name} has no address; write {name}=http://host:port")
        found[name] = (*found.get(name, ()), url)
    return found


def _addresses(text: str) -> str:
    parse_addresses(text)
    return text


Folder = Annotated[Path, AfterValidator(_folder)]
File = Annotated[Path, AfterValidator(_file)]


class ConfigurationError(Exception):
    """Everything that is wrong in settings, secrets or billers' files; one line each in `problems`."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        super().__init__("\n".join(problems))


class Settings(BaseSettings):
    """Settings of one process. Read them with `load_settings`, which says everything wrong at once."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, validate_default=True)

    service: Literal["", "invoices", "balances", "payments", "settings", "bills", "sandbox"] = Field(
        "", description="Which service this process is; `billbus run` sets it."
    )
    bootstrap: str = Field(
        "127.0.0.1:19092", min_length=3, description="Kafka brokers, host:port separated by commas."
    )
    kafka_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", description="How the brokers let clients in: with TLS, with a user, or both."
    )
    kafka_mechanism: Literal["SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN"] = Field(
        "SCRAM-SHA-512", description="How the user proves itself, where the protocol is a SASL one."
    )
    kafka_user: str = Field("", description="The user of this process, where the protocol is a SASL one.")
    kafka_password_secret: str = Field(
        "kafka-password",
        pattern=r"^[a-z0-9][a-z0-9-]{0,62}$",
        description="Name of the secret that is the user's password; read when the process starts.",
    )
    kafka_ca: File | None = Field(
        None,
        description="PEM file of the authorities that vouch for the brokers' certificates; "
        "without it, those of the machine.",
    )
    registry: str = Field(
        "http://127.0.0.1:18081/apis/ccompat/v7",
        pattern=r"^https?://",
        description="Address of the Confluent-compatible schema registry.",
    )
    services: Annotated[str, AfterValidator(_addresses)] = Field(
        "",
        description="Where `billbus status` finds the services: `payments=http://host:port`, separated by "
        "commas, a service also several times; each address behind a name is a replica. One that is not "
        "named: 127.0.0.1 and its default port.",
    )
    replication: int = Field(
        1, ge=1, le=9, description="Copies of each partition that `billbus topics` asks for; 3 in production."
    )
    billers: Folder = Field(
        ROOT / "deploy" / "local" / "billers", description="Folder with one YAML file a biller."
    )
    secrets: Folder | None = Field(
        None,
        description="Folder with one file a secret. Without it, and for a secret that is not there: "
        "environment BILLBUS_SECRET_<NAME>.",
    )
    schemas: Folder = Field(ROOT / "schemas", description="Folder of the topics' contracts.")
    state: Path = Field(
        Path(".local/state"),
        description="Folder for what a process keeps on disk (index of outcomes, tables); rebuilt when lost.",
    )
    host: str = Field("127.0.0.1", description="Address on which the process listens.")
    port: int = Field(
        0, ge=0, le=65535, description="Port on which the process listens; 0: the service's own default."
    )
    public_bills_url: str = Field(
        "http://127.0.0.1:18105",
        pattern=r"^https?://",
        description="Address of `bills` as customers reach it; the bill links begin with it.",
    )
    drop_folder: Path | None = Field(
        None, description="Folder watched by `invoices` for BIF files, one sub-folder a biller."
    )
    in_flight: int = Field(
        200, ge=1, le=10_000, description="Deliveries to partners at the same time, per process."
    )
    session_timeout_ms: int = Field(
        6000,
        ge=1000,
        le=300_000,
        description="Milliseconds after which a silent group member is taken for dead; "
        "3000 where the broker's group.min.session.timeout.ms allows it.",
    )
    grace_s: float = Field(25, ge=0, le=600, description="Seconds at shutdown to finish what is in flight.")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO", description="Lowest level that is logged."
    )
    operator: str = Field(
        "", description="Name under which `billbus` records what you do; without it, that of the login."
    )
    personal_data: bool = Field(
        False,
        description="Whether `--pii` of `billbus tail`, `export` and `trace` may show what is marked as "
        "personal data; `true` only for who may see it.",
    )
    body_limit_bytes: int = Field(MIB, ge=1024, description="Largest body of a request, in bytes.")
    bif_limit_bytes: int = Field(2048 * MIB, ge=1024, description="Largest BIF file, in bytes.")
    concurrency_limit: int = Field(
        256, ge=1, description="Requests at the same time; further ones get 429 and Retry-After."
    )
    partner_connections: int = Field(
        200, ge=1, description="Connections to partners at the same time, per process."
    )

    @property
    def listen_port(self) -> int:
        """The port to listen on: the one set, else the service's default."""
        return self.port or PORTS[self.service]

    @property
    def service_addresses(self) -> dict[str, tuple[str, ...]]:
        """Where each service answers, by its name."""
        default = {name: (f"http://127.0.0.1:{port}",) for name, port in PORTS.items() if name != "sandbox"}
        return default | parse_addresses(self.services)

    @property
    def partners(self) -> Path:
        """Folder of what is known or assumed about the partners."""
        return self.schemas / "partners"


def variable(field: str) -> str:
    """The environment variable of a field."""
    return f"{PREFIX}{field.upper()}"


def load_settings(**overrides: object) -> Settings:
    """Settings from the environment; `overrides` (field names) win.

    Raises ConfigurationError with one line for everything wrong, naming the variable, never its value.
    """
    try:
        return Settings(**overrides)  # type: ignore[arg-type]  # pydantic checks the types at run time
    except ValidationError as error:
        raise ConfigurationError(
            [
                f"{variable(str(item['loc'][0]))}: {item['msg'].removeprefix('Value error, ')}"
                for item in error.errors()
            ]
        ) from None
