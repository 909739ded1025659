"""Is everything that billbus stands on all right, and if not, what to do: the checks behind `doctor`."""

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from confluent_kafka import KafkaException
from confluent_kafka.admin import ConfigResource
from confluent_kafka.schema_registry.error import SchemaRegistryError

from services.bus import topics
from services.bus.billers import Biller, Billers, read_biller
from services.bus.catalog import Topic, load_catalog
from services.bus.clock import Clock
from services.bus.connection import kafka_of
from services.bus.place import BROKER_DEADLINE_S
from services.bus.secrets import Secrets
from services.bus.settings import ConfigurationError, Settings
from services.bus.support import SupportMatrix
from services.operations.broker_clock import skew_s
from services.operations.partner_checks import Trouble, ask_partners

State = Literal["fine", "note", "wrong", "unreachable"]
PROMPT_SESSION_MS = 3000
SKEW_LIMIT_S = 1.0
APPLY = "Run: billbus topics apply --yes"


@dataclass(frozen=True)
class Finding:
    """What one check found; `advice` says what to do where it is not fine."""

    check: str
    state: State
    what: str
    advice: str = ""


async def examine(settings: Settings, clock: Clock, *, operator: str, read_only: bool) -> list[Finding]:
    """Runs every check. The clock check writes an audit record, so `read_only` leaves it out."""
    findings: list[Finding] = []
    billers, found = check_billers(settings)
    findings += found
    catalog = load_catalog(settings.schemas)
    broker = await asyncio.to_thread(check_broker, settings, catalog)
    findings += broker
    if not any(finding.state == "unreachable" for finding in broker):
        topic_findings = await asyncio.to_thread(check_topics, settings, catalog)
        findings += topic_findings
        if not read_only and all(finding.state == "fine" for finding in topic_findings):
            findings.append(await check_clock(settings, catalog, clock, operator))
    return findings + await check_partners(settings, billers)


def check_billers(settings: Settings) -> tuple[Billers, list[Finding]]:
    """The billers whose files are right, and what is wrong with the others."""
    secrets, findings, good = Secrets(settings.secrets), [], {}
    try:
        support = SupportMatrix.load(settings.partners / "support.yaml")
    except ConfigurationError as error:
        return Billers({}), [Finding("support table", "wrong", p, "Mend the file.") for p in error.problems]
    for path in sorted(settings.billers.glob("*.yaml")):
        biller, problems = read_biller(path, secrets, support)
        advice = f"Mend {path}, or put the secret in its place; docs/configuration.md explains both."
        findings += [Finding("biller", "wrong", f"{path.stem}: {problem}", advice) for problem in problems]
        if biller is not None and not problems:
            good[biller.slug] = biller
            what = f"{path.stem}: file and {len(biller.secret_names())} secrets are right"
            findings.append(Finding("biller", "fine", what))
    if not findings:
        advice = "Put a YAML file for each biller there, or set BILLBUS_BILLERS to the folder that has them."
        findings.append(Finding("biller", "wrong", f"no biller's file in {settings.billers}", advice))
    return Billers(good), findings


def check_broker(settings: Settings, catalog: Mapping[str, Topic]) -> list[Finding]:
    """Whether the broker answers and its own settings fit what billbus promises."""
    try:
        brokers, stated = _ask_brokers(settings)
    except KafkaException as error:
        what = f"Kafka at {settings.bootstrap} does not answer: {error.args[0].str()}"
        advice = "Start it (`make up` on a laptop), or set BILLBUS_BOOTSTRAP to where it is."
        return [Finding("broker", "unreachable", what, advice)]
    findings = [Finding("broker", "fine", f"{brokers} broker(s) at {settings.bootstrap}")]
    for number, values in stated.items():
        findings += _broker_settings(number, values, settings, catalog)
    if brokers > 2 and settings.replication < 3:
        what = f"{brokers} brokers, but BILLBUS_REPLICATION is {settings.replication}"
        advice = "Set BILLBUS_REPLICATION=3: with less, an acknowledged event is lost with one disk."
        findings.append(Finding("broker", "wrong", what, advice))
    return findings


def _ask_brokers(settings: Settings) -> tuple[int, dict[str, dict[str, str]]]:
    """How many brokers there are, and each one's own settings."""
    with topics.Place(kafka_of(settings), settings.registry) as place:
        brokers = place.admin.list_topics(timeout=BROKER_DEADLINE_S).brokers
        resources = [ConfigResource(ConfigResource.Type.BROKER, str(number)) for number in brokers]
        answers = place.admin.describe_configs(resources, request_timeout=10)
        return len(brokers), {
            r.name: {e.name: e.value for e in f.result(15).values()} for r, f in answers.items()
        }


def _broker_settings(
    number: str, values: Mapping[str, str], settings: Settings, catalog: Mapping[str, Topic]
) -> Iterator[Finding]:
    name = f"broker {number}"
    # the setting was removed in Kafka 4, the oldest version that billbus is tested with
    old = values.get("inter.broker.protocol.version")
    yield (
        Finding(name, "note", f"Kafka {old}", "billbus is tested with Kafka 4.3; take 4.0 or newer.")
        if old
        else Finding(name, "fine", "Kafka 4 or newer")
    )
    least, session = int(values.get("group.min.session.timeout.ms", 0)), settings.session_timeout_ms
    if least > session:
        what = (
            f"group.min.session.timeout.ms is {least}, BILLBUS_SESSION_TIMEOUT_MS {session}: nobody can join"
        )
        yield Finding(name, "wrong", what, f"Lower the broker's to {session}, or raise ours to {least}.")
    elif session > PROMPT_SESSION_MS:
        what = f"sessions of {session} ms: an account stalls up to 10 s after a crash instead of 5"
        advice = "Set group.min.session.timeout.ms and BILLBUS_SESSION_TIMEOUT_MS to 3000 for 5 s."
        yield Finding(name, "note", what, advice)
    else:
        yield Finding(name, "fine", f"sessions of {session} ms")
    kept = int(values.get("offsets.retention.minutes", 0))
    needed = max(catalog[topic].retention_days for topic in topics.LANES.values()) * 24 * 60
    if kept < needed:
        what = f"offsets.retention.minutes is {kept}, the lanes' topics are kept {needed} minutes"
        advice = f"Set it to {needed}: a quiet lane would lose its place and stop."
        yield Finding(name, "wrong", what, advice)
    else:
        yield Finding(name, "fine", f"offsets are kept {kept // 1440} days")
    if values.get("auto.create.topics.enable") == "true":
        advice = "Set auto.create.topics.enable=false: a misspelt topic would be made with wrong settings."
        yield Finding(name, "note", "topics are created on first use", advice)


def check_topics(settings: Settings, catalog: Mapping[str, Topic]) -> list[Finding]:
    """Whether topics, subjects and first offsets are as the catalog says."""
    try:
        changes = topics.plan(
            kafka_of(settings), settings.registry, catalog, replication=settings.replication
        )
    except topics.Unreachable as error:
        advice = "Start it (`make up` on a laptop), or set BILLBUS_REGISTRY to where it is."
        return [Finding("registry", "unreachable", str(error), advice)]
    except SchemaRegistryError as error:
        return [Finding("registry", "wrong", f"it said no: {error}", "Read the registry's log.")]
    except KafkaException as error:
        return [Finding("topics", "unreachable", error.args[0].str(), "Run doctor again when Kafka is up.")]
    if not changes:
        what = f"{len(topics.wanted_topics(catalog, settings.replication))} topics, {len(catalog)} subjects "
        return [Finding("topics", "fine", f"{what}and the lanes' offsets are as the catalog says")]
    return [
        Finding(c.kind, "wrong", f"{c.name}: {c.detail}", APPLY if c.possible else "See the text.")
        for c in changes
    ]


async def check_clock(
    settings: Settings, catalog: Mapping[str, Topic], clock: Clock, operator: str
) -> Finding:
    """Whether this machine's clock and the broker's agree: the broker's ends the business day."""
    try:
        skew, doubt = await skew_s(settings, catalog, clock, operator)
    except Exception as error:  # whatever the client raises, doctor goes on with the other checks
        advice = "Allow writing to the audit topic, or add --read-only."
        return Finding("clock", "note", f"could not be compared: {type(error).__name__}", advice)
    what = f"{abs(skew):.3f} s {'ahead of' if skew > 0 else 'behind'} the broker's (to {doubt:.3f} s)"
    if abs(skew) - doubt > SKEW_LIMIT_S:
        return Finding("clock", "wrong", what, "Synchronise both by NTP: the broker's clock ends the day.")
    return Finding("clock", "fine", what)


async def check_partners(settings: Settings, billers: Mapping[str, Biller]) -> list[Finding]:
    """Whether every partner service answers a call that changes nothing, with the biller's own key."""
    answers = await ask_partners(settings, Billers(dict(billers)))
    return [_partner(name, answer) for name, answer in answers.items()]


def _partner(name: str, trouble: Trouble | None) -> Finding:
    if trouble is None:
        return Finding("partner", "fine", f"{name} answers")
    what = f"{name}: {trouble.reason}"
    if trouble.reached:
        return Finding("partner", "wrong", what, "Check the key's secret and the address.")
    advice = "Check the address in the biller's file and the network; ask the partner if both are right."
    return Finding("partner", "unreachable", what, advice)
