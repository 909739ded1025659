"""billbus doctor against faults planted for real: on a broker, a registry, files and partners of its own."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from confluent_kafka import ConsumerGroupTopicPartitions, Producer, TopicPartition
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)
from confluent_kafka.schema_registry import SchemaRegistryClient

from deploy.local import Stack
from deploy.local.ports import HOST, free_port
from deploy.local.processes import ROOT, Processes
from deploy.local.progress import fetch_with_progress
from services.bus import topics
from services.bus.catalog import load_catalog
from services.bus.clock import Clock
from services.bus.settings import Settings, load_settings
from services.operations.doctor import Finding, examine
from services.operations.doctor_brokers import check_broker
from tests.deadline import until
from tests.e2e.topic_reader import Read, TopicReader

LIMIT_S = 30.0
AHEAD = timedelta(minutes=5)
KNOWN, PASSWORD = "operations", "the-password-of-operations"  # a user without any right
UNREAD = "billing.setting.changed.v1"
LOST = "billing.invoice.issued.v1"
OVER = "billing.payment.received.v1"


class FastClock(Clock):
    """This machine's clock, were it five minutes ahead."""

    def now(self) -> datetime:
        return super().now() + AHEAD


@dataclass
class Planted:
    """What doctor found on the healthy stack with a fast clock, and then with everything planted."""

    settings: Settings
    logins: str
    before: list[Finding]
    audited: list[Read]
    after: list[Finding]


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Planted]:
    folder = tmp_path_factory.mktemp("doctor")
    logins = free_port()
    stack = Stack(
        folder / "stack",
        parts=fetch_with_progress(),
        broker_settings=lambda ports: careless(ports["kafka"], ports["kafka-controller"], logins),
    )
    catalog = load_catalog(ROOT / "schemas")
    with stack, Processes(folder, bootstrap=stack.bootstrap, registry=stack.registry) as running:
        running.launch("sandbox")
        topics.apply(stack.bootstrap, stack.registry, catalog)
        running.wait_ready("sandbox")
        settings = settings_of(running, folder)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("BILLBUS_SANDBOX_URL", running.url("sandbox"))
            before = look(settings, FastClock())
            reader = TopicReader(stack.bootstrap, stack.registry, "operation.audited")
            until(lambda: len(reader.all()) > 1, LIMIT_S, "the audit records")  # a new leader may be moving
            audited = list(reader.all())
            reader.close()
            plant_on_the_broker(AdminClient({"bootstrap.servers": stack.bootstrap}), stack.bootstrap)
            plant_in_the_registry(stack.registry)
            plant_in_files(running, folder)
            wrong = {
                "schemas": folder / "schemas",
                "state": folder / "a-file" / "state",
                "secrets": folder / "our-secrets",
            }
            after = look(settings.model_copy(update=wrong), Clock())
        yield Planted(settings, f"{HOST}:{logins}", before, audited, after)


def careless(kafka: int, controller: int, logins: int) -> Mapping[str, str]:
    """A broker as one is without thought, with a second door that asks who comes."""
    login = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
    return {
        "listeners": f"PLAINTEXT://{HOST}:{kafka},LOGIN://{HOST}:{logins},CONTROLLER://{HOST}:{controller}",
        "advertised.listeners": f"PLAINTEXT://{HOST}:{kafka},LOGIN://{HOST}:{logins}",
        "listener.security.protocol.map": ("PLAINTEXT:PLAINTEXT,LOGIN:SASL_PLAINTEXT,CONTROLLER:PLAINTEXT"),
        "inter.broker.listener.name": "PLAINTEXT",
        "sasl.enabled.mechanisms": "SCRAM-SHA-512",
        "listener.name.login.scram-sha-512.sasl.jaas.config": login,
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:ANONYMOUS",
        "auto.create.topics.enable": "true",
        "unclean.leader.election.enable": "true",
        "group.min.session.timeout.ms": "6000",
        "offsets.retention.minutes": "10080",
    }


def settings_of(running: Processes, folder: Path) -> Settings:
    return load_settings(
        bootstrap=running.bootstrap,
        registry=running.registry,
        billers=running.billers,
        secrets=running.secrets,
        state=folder / "state",
        session_timeout_ms=3000,
    )


def look(settings: Settings, clock: Clock) -> list[Finding]:
    return asyncio.run(examine(settings, clock, operator="jdoe", read_only=False))


def plant_on_the_broker(admin: AdminClient, bootstrap: str) -> None:
    set_on(admin, "billing.balance.current.v1", "cleanup.policy", "delete")
    set_on(admin, "billing.invoice.outcome.v1", "retention.ms", "3600000")
    set_on(admin, "billing.operation.audited.v1", "message.timestamp.type", "CreateTime")
    set_on(admin, "billing.payment.outcome.v1", "unclean.leader.election.enable", "true")
    set_on(admin, OVER, "min.insync.replicas", "2")
    for done in admin.delete_topics(["billing.file.received.v1"]).values():
        done.result(LIMIT_S)
    for done in admin.create_partitions([NewPartitions("billing.batch.closed.v1", 13)]).values():
        done.result(LIMIT_S)
    producer = Producer({"bootstrap.servers": bootstrap, "acks": "1"})
    for topic in (LOST, UNREAD):
        producer.produce(topic, b"{}", b"acme/1", partition=0)
    assert producer.flush(LIMIT_S) == 0
    for done in admin.delete_records([TopicPartition(UNREAD, 0, 1)]).values():
        done.result(LIMIT_S)
    for done in admin.delete_consumer_groups(["billbus.bills.check"]).values():
        done.result(LIMIT_S)
    beyond = ConsumerGroupTopicPartitions("billbus.payments.post", [TopicPartition(OVER, 3, 1000)])
    for done in admin.alter_consumer_group_offsets([beyond]).values():
        done.result(LIMIT_S)
    user = UserScramCredentialUpsertion(
        KNOWN, ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096), PASSWORD.encode()
    )
    for done in admin.alter_user_scram_credentials([user]).values():
        done.result(LIMIT_S)


def set_on(admin: AdminClient, topic: str, name: str, value: str) -> None:
    entry = ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ConfigResource.Type.TOPIC, topic, incremental_configs=[entry])
    for done in admin.incremental_alter_configs([resource]).values():
        done.result(LIMIT_S)


def plant_in_the_registry(address: str) -> None:
    registry = SchemaRegistryClient({"url": address})
    registry.set_compatibility("billing.setting.outcome.v1-value", "NONE")
    registry.close()


def plant_in_files(running: Processes, folder: Path) -> None:
    """A newer schema than the registry has; a file for a folder; secrets and billers' files gone wrong."""
    shutil.copytree(ROOT / "schemas", folder / "schemas")
    newer = folder / "schemas" / "billing.bill.linked.v1"
    told = json.loads((newer / "v1.avsc").read_text())
    told["fields"].append({"name": "seen", "type": ["null", "string"], "default": None, "doc": "By whom."})
    (newer / "v2.avsc").write_text(json.dumps(told))
    (folder / "a-file").write_text("not a folder")
    secrets, billers = folder / "our-secrets", running.billers  # the sandbox keeps its own
    shutil.copytree(running.secrets, secrets)
    (secrets / "acme-imt-token").write_text("expired-last-night")
    acme, birch = (billers / "acme.yaml").read_text(), (billers / "birch.yaml").read_text()
    # dune has birch's GUID, code and secrets, and its partner is at a port where nobody listens
    away = birch.replace("${BILLBUS_SANDBOX_URL:-http://127.0.0.1:18090}/imt/birch", "http://127.0.0.1:1")
    (billers / "dune.yaml").write_text(away.replace("slug: birch", "slug: dune"))
    (secrets / "fen-own").write_text("")
    (secrets / "gale-own").write_text("\n")
    for slug, name in {"elm": "acme-imt-token", "fen": "acme-ic-key", "gale": "acme-link-key"}.items():
        changed = acme.replace("slug: acme", f"slug: {slug}").replace(f" {name}", f" {slug}-own")
        (billers / f"{slug}.yaml").write_text(changed)
    (billers / "hill.yaml").write_text(acme.replace("slug: acme", "slug: hill").replace("Chicago", "Iowa"))
    (secrets / "birch-ic-key").chmod(0o644)
    secrets.chmod(0o755)


def test_a_healthy_stack_shows_only_what_the_careless_broker_has(planted: Planted) -> None:
    wrong = [each for each in planted.before if each.state != "fine" and each.check != "clock"]
    assert {each.check for each in wrong} == {"broker 1", "partner clock"}


def test_a_clock_that_is_off(planted: Planted) -> None:
    (clock,) = [each for each in planted.before if each.check == "clock"]
    assert (clock.state, "NTP" in clock.advice) == ("wrong", True)
    seconds = float(clock.what.partition(" ")[0])
    assert abs(seconds - AHEAD.total_seconds()) < 2
    assert "ahead of" in clock.what
    partners = [each.what for each in planted.before if each.check == "partner clock"]
    assert len(partners) == 12
    assert all("its clock is 30" in told or "its clock is 29" in told for told in partners), partners


def test_who_asked_the_brokers_clock_is_an_event_like_any_other(planted: Planted) -> None:
    """The reader is another team's: it takes no record without the CloudEvents headers."""
    told = [(each.value["operator"], each.value["action"], each.value["result"]) for each in planted.audited]
    assert told == [("jdoe", "doctor", "begun"), ("jdoe", "doctor", "compared")]
    assert len({each.ce_id for each in planted.audited}) == 2


FAULTS = {
    "topics are made on first use": ("broker 1", "note", "created on first use", "auto.create.topics.enable"),
    "unclean election is on at the broker": ("broker 1", "wrong", "unclean leader election is on", "false"),
    "sessions shorter than the broker allows": ("broker 1", "wrong", "nobody can join", "Lower the broker's"),
    "offsets are forgotten too soon": ("broker 1", "wrong", "offsets.retention.minutes is 10080", "576000"),
    "a topic is missing": ("topic", "wrong", "billing.file.received.v1: create", "topics apply --yes"),
    "wrong cleanup policy": (
        "setting",
        "wrong",
        "balance.current.v1: cleanup.policy: delete -> compact",
        "apply",
    ),
    "wrong partition count": ("partitions", "wrong", "batch.closed.v1: has 13 partitions", "docs/evolve.md"),
    "retention is too short": ("setting", "wrong", "invoice.outcome.v1: retention.ms: 3600000", "replayed"),
    "stamps are the writer's": ("setting", "wrong", "message.timestamp.type: CreateTime", "business days"),
    "unclean election is on for a topic": ("setting", "wrong", "payment.outcome.v1: unclean", "can be lost"),
    "more copies needed than there are": (
        "copies",
        "wrong",
        "min.insync.replicas (2): nothing is written",
        "topics apply",
    ),
    "wrong compatibility of a subject": (
        "compatibility",
        "wrong",
        "setting.outcome.v1-value: set to FULL_TRANSITIVE",
        "apply",
    ),
    "a subject lacks the newest schema": (
        "subject",
        "wrong",
        "bill.linked.v1-value: register version 2",
        "topics apply",
    ),
    "a lane lost its first offset": (
        "first offset",
        "wrong",
        "billbus.bills.check: has no offset",
        "docs/runbook/lost-offsets.md",
    ),
    "an offset is beyond the log": (
        "place",
        "wrong",
        "stands at 1000 of billing.payment.received.v1 partition 3",
        "truncated",
    ),
    "an offset is below the log": (
        "place",
        "wrong",
        "billbus.settings.apply stands at 0 of billing.setting.changed.v1",
        "Ask the partners",
    ),
    "the state folder cannot be": ("machine", "wrong", "a-file is no folder", "BILLBUS_STATE"),
    "a secret is missing": ("biller", "wrong", "elm: imt.token: secret elm-own: missing", "Put the secret"),
    "a secret's file is empty": (
        "biller",
        "wrong",
        "fen: invoice_cloud.web_service_key: secret fen-own: missing or empty",
        "one line",
    ),
    "a secret's file has a newline only": (
        "biller",
        "wrong",
        "gale: links.key: secret gale-own: missing or empty",
        "one line",
    ),
    "a secret can be read by all": ("secret", "wrong", "read the file of secret birch-ic-key", "chmod o-r"),
    "a biller's file is wrong": ("biller", "wrong", "hill: timezone: 'America/Iowa'", "Mend"),
    "two billers with one GUID": (
        "biller",
        "wrong",
        "birch and dune have the same invoice_cloud.biller_guid",
        "Give each",
    ),
    "a partner refuses the credentials": (
        "partner",
        "wrong",
        "acme Settings",
        "secret acme-imt-token is the partner's newest",
    ),
    "a partner cannot be reached": ("partner", "unreachable", "dune DataPump Payments", "network"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_doctor_finds_it_and_says_what_to_do(planted: Planted, fault: str) -> None:
    check, state, what, advice = FAULTS[fault]
    said = [each for each in planted.after if each.check == check and what in each.what]
    assert [each.state for each in said] == [state], listed(planted.after)
    assert advice in said[0].what + said[0].advice


def test_nothing_is_told_of_what_is_right(planted: Planted) -> None:
    wrong = [each.what for each in planted.after if each.state in ("wrong", "unreachable")]
    assert not [each for each in wrong if each.startswith(("birch Inv", "birch pay", "cedar"))]
    assert not [
        each for each in planted.after if each.check == "clock"
    ]  # the audit topic is not as it should be
    assert "expired-last-night" not in listed(planted.after)


def logged_in(planted: Planted, tmp_path: Path, user: str, password: str) -> list[Finding]:
    (tmp_path / "kafka-password").write_text(password)
    door = {
        "bootstrap": planted.logins,
        "kafka_protocol": "SASL_PLAINTEXT",
        "kafka_user": user,
        "secrets": tmp_path,
    }
    return check_broker(planted.settings.model_copy(update=door), load_catalog(ROOT / "schemas"))


@pytest.mark.parametrize(("user", "password"), [(KNOWN, "last-years"), ("nobody", PASSWORD)])
def test_a_wrong_kafka_user_or_password(planted: Planted, tmp_path: Path, user: str, password: str) -> None:
    (finding,) = logged_in(planted, tmp_path, user, password)
    assert (finding.check, finding.state) == ("broker", "wrong")
    assert f"does not let user {user} in" in finding.what
    assert "secret kafka-password" in finding.advice


def test_a_kafka_user_without_its_rights(planted: Planted, tmp_path: Path) -> None:
    findings = logged_in(planted, tmp_path, KNOWN, PASSWORD)
    wrong = [each for each in findings if each.state == "wrong"]
    assert wrong
    assert all("billbus topics grant" in each.advice for each in wrong)


def listed(findings: list[Finding]) -> str:
    return "\n".join(f"{each.check} {each.state}: {each.what} -> {each.advice}" for each in findings)
