"""Checks of the brokers: whether they let us in, their own settings, and the copies of our topics."""

import time
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient, ConfigResource

from services.bus import topics
from services.bus.catalog import Topic
from services.bus.connection import Kafka, confluent_client, kafka_of
from services.bus.own_rights import missing_rights
from services.bus.place import BROKER_DEADLINE_S
from services.bus.rights import rights_of
from services.bus.settings import ConfigurationError, Settings
from services.operations.doctor_finding import Finding

PROMPT_SESSION_MS = 3000
ANSWER_S, LOOK_S = 15.0, 1.0
REFUSED = (KafkaError._AUTHENTICATION, KafkaError.SASL_AUTHENTICATION_FAILED, KafkaError._SSL)
GRANT = (
    "`billbus topics rights` shows what each user needs; an administrator runs: billbus topics grant --yes"
)
FORBIDDEN = frozenset(
    {
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.GROUP_AUTHORIZATION_FAILED,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    }
)


def check_broker(settings: Settings, catalog: Mapping[str, Topic]) -> list[Finding]:
    """Whether the brokers answer, and whether they and the topics' copies fit what billbus promises."""
    heard: list[KafkaError] = []
    try:
        client = confluent_client(kafka_of(settings))
    except ConfigurationError as error:
        advice = "Set it right; docs/configuration.md explains each setting."
        return [Finding("broker", "wrong", problem, advice) for problem in error.problems]
    # a refused login is told to the callback alone; the call itself only times out
    admin = AdminClient({**client, "log_level": 0, "error_cb": heard.append})
    try:
        cluster = _cluster(admin, heard)
        findings = [Finding("broker", "fine", f"{len(cluster.brokers)} broker(s) at {settings.bootstrap}")]
        for number, values in _stated(admin, ConfigResource.Type.BROKER, map(str, cluster.brokers)).items():
            findings += broker_settings(number, values, settings, catalog)
        findings += _copies_wanted(len(cluster.brokers), settings)
        ours = {name: t for name, t in cluster.topics.items() if name in topics.wanted_topics(catalog, 1)}
        stated = _stated(admin, ConfigResource.Type.TOPIC, ours)
        least = {name: int(values.get("min.insync.replicas", 1)) for name, values in stated.items()}
        return [*findings, *copies(ours, least), *_rights(admin, settings, catalog)]
    except KafkaException as error:
        return [not_answered("broker", settings, error, heard)]


def _cluster(admin: AdminClient, heard: Collection[KafkaError]) -> Any:
    """The cluster's metadata; a refused login ends the question at once, what is away only in time."""
    deadline = time.monotonic() + BROKER_DEADLINE_S
    while True:
        try:
            return admin.list_topics(timeout=LOOK_S)
        except KafkaException:
            admin.poll(0)
            if time.monotonic() >= deadline or any(each.code() in REFUSED for each in heard):
                raise


def not_answered(
    check: str, settings: Settings, error: KafkaException, heard: Collection[KafkaError] = ()
) -> Finding:
    """What it means that a question to the brokers failed; `heard` are errors told beside it."""
    codes = {error.args[0].code(), *(each.code() for each in heard)}
    if KafkaError._AUTHENTICATION in codes or KafkaError.SASL_AUTHENTICATION_FAILED in codes:
        what = f"Kafka at {settings.bootstrap} does not let user {settings.kafka_user} in"
        advice = (
            f"Check BILLBUS_KAFKA_USER, and that secret {settings.kafka_password_secret} holds the password "
            "that the broker has for it; a password that was changed there is needed here too."
        )
        return Finding(check, "wrong", what, advice)
    if KafkaError._SSL in codes:
        what = f"Kafka at {settings.bootstrap}: its certificate is not trusted, or it speaks no TLS"
        advice = "Check BILLBUS_KAFKA_CA, BILLBUS_KAFKA_PROTOCOL, and when the brokers' certificate runs out."
        return Finding(check, "wrong", what, advice)
    if codes & FORBIDDEN:
        return Finding(
            check, "wrong", f"Kafka refuses user {settings.kafka_user}: {error.args[0].str()}", GRANT
        )
    what = f"Kafka at {settings.bootstrap} does not answer: {error.args[0].str()}"
    advice = "Start it (`make up` on a laptop), or set BILLBUS_BOOTSTRAP to where it is."
    return Finding(check, "unreachable", what, advice)


def _stated(
    admin: AdminClient, kind: Any, names: Collection[str] | Iterator[str]
) -> dict[str, dict[str, str]]:
    """The settings of brokers or topics, by name."""
    asked = [ConfigResource(kind, name) for name in names]
    answers = admin.describe_configs(asked, request_timeout=10) if asked else {}
    return {
        resource.name: {entry.name: entry.value for entry in future.result(ANSWER_S).values()}
        for resource, future in answers.items()
    }


def broker_settings(
    number: str, values: Mapping[str, str], settings: Settings, catalog: Mapping[str, Topic]
) -> Iterator[Finding]:
    """What a broker's own settings mean for us."""
    name = f"broker {number}"
    # the setting was removed in Kafka 4, the oldest version that billbus is tested with
    old = values.get("inter.broker.protocol.version")
    yield (
        Finding(name, "note", f"Kafka {old}", "billbus is tested with Kafka 4.3; take 4.0 or newer.")
        if old
        else Finding(name, "fine", "Kafka 4 or newer")
    )
    yield _sessions(name, int(values.get("group.min.session.timeout.ms", 0)), settings.session_timeout_ms)
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
    if values.get("unclean.leader.election.enable") == "true":
        advice = "Set unclean.leader.election.enable=false: acknowledged events can be lost with it."
        yield Finding(name, "wrong", "unclean leader election is on", advice)


def _sessions(name: str, least: int, session: int) -> Finding:
    if least > session:
        what = (
            f"group.min.session.timeout.ms is {least}, BILLBUS_SESSION_TIMEOUT_MS {session}: nobody can join"
        )
        return Finding(name, "wrong", what, f"Lower the broker's to {session}, or raise ours to {least}.")
    if session > PROMPT_SESSION_MS:
        what = f"sessions of {session} ms: an account stalls up to 10 s after a crash instead of 5"
        advice = "Set group.min.session.timeout.ms and BILLBUS_SESSION_TIMEOUT_MS to 3000 for 5 s."
        return Finding(name, "note", what, advice)
    return Finding(name, "fine", f"sessions of {session} ms")


def _copies_wanted(brokers: int, settings: Settings) -> Iterator[Finding]:
    asked = settings.replication
    if brokers > 2 and asked < 3:
        advice = "Set BILLBUS_REPLICATION=3: with less, an acknowledged event is lost with one disk."
        yield Finding("broker", "wrong", f"{brokers} brokers, but BILLBUS_REPLICATION is {asked}", advice)
    elif brokers < asked:
        what = f"BILLBUS_REPLICATION is {asked}, but only {brokers} broker(s) are there"
        yield Finding("broker", "wrong", what, "Start the brokers that are missing; look at their logs.")


def copies(ours: Mapping[str, Any], least: Mapping[str, int]) -> Iterator[Finding]:
    """Partitions without a leader, with fewer copies in step than they have, or than a write needs.

    Args:
        ours: of each topic what the cluster's metadata says.
        least: of each topic min.insync.replicas.
    """
    advice = "Look which broker is down or full and bring it back; nothing has to be done to the topic."
    for name, topic in sorted(ours.items()):
        partitions = topic.partitions.values()
        leaderless = [p.id for p in partitions if p.leader < 0]
        refusing = [p.id for p in partitions if p.leader >= 0 and len(p.isrs) < least.get(name, 1)]
        behind = [p.id for p in partitions if p.leader >= 0 and len(p.isrs) < len(p.replicas)]
        if leaderless:
            what = f"{name}: {_named(leaderless)} has no leader: nothing is read or written there"
            yield Finding("copies", "wrong", what, advice)
        if refusing:
            what = (
                f"{name}: {_named(refusing)} has fewer copies in step than min.insync.replicas "
                f"({least[name]}): nothing is written there"
            )
            more = "Bring the missing brokers back, or set min.insync.replicas: billbus topics apply --yes"
            yield Finding("copies", "wrong", what, more)
        elif behind:
            yield Finding("copies", "wrong", f"{name}: {_named(behind)} has a copy that is behind", advice)


def _named(partitions: Collection[int]) -> str:
    first, *others = sorted(partitions)
    return f"partition {first}" + (f" and {len(others)} more" if others else "")


def _rights(admin: AdminClient, settings: Settings, catalog: Mapping[str, Topic]) -> Iterator[Finding]:
    """What the user of this process may not do; where the brokers do not ask who we are, nothing is asked."""
    kafka = kafka_of(settings)
    if not isinstance(kafka, Kafka) or not kafka.sasl:
        return
    needed = rights_of(catalog).get(kafka.user)
    if needed is None:
        what = f"user {kafka.user} is nobody of the catalog, so what it needs is not known"
        yield Finding("rights", "note", what, "Run doctor as `operations`, or as the service it is about.")
        return
    missing = missing_rights(admin, needed)
    for right in missing:
        yield Finding("rights", "wrong", f"user {kafka.user} lacks: {right}", GRANT)
    if not missing:
        yield Finding("rights", "fine", f"user {kafka.user} has its {len(needed)} rights")
