"""The manifests of deploy/k8s say what the code says; what an API server says is `make deploy-check`."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from services.bus import metrics
from services.bus.billers import load_billers
from services.bus.catalog import load_catalog
from services.bus.rights import SERVICES, rights_of
from services.bus.secrets import Secrets
from services.bus.settings import PORTS, ROOT, Settings, variable
from services.bus.support import SupportMatrix
from services.bus.topics import LANES, group_of
from tests.contract.definitions import DEFINITIONS, rules

K8S = ROOT / "deploy" / "k8s"
CATALOG = load_catalog(ROOT / "schemas")
SANDBOX = {"BILLBUS_SANDBOX_PORT", *(f"BILLBUS_{name.upper()}_URL" for name in SERVICES)}
FOR_DEMO_BILLERS = {"BILLBUS_SANDBOX_URL", "BILLBUS_DEMO_PLAIN_HTTP"}
Manifest = dict[str, Any]


def manifests(*parts: str) -> list[Manifest]:
    return [each for each in yaml.safe_load_all((K8S.joinpath(*parts)).read_text("utf-8")) if each]


def one(kind: str, *parts: str) -> Manifest:
    [found] = [each for each in manifests(*parts) if each["kind"] == kind]
    return found


def workload(service: str) -> Manifest:
    [found] = [each for each in manifests("base", f"{service}.yaml") if "template" in each.get("spec", {})]
    return found


def pod(of: Manifest) -> Manifest:
    spec = of["spec"]["jobTemplate"]["spec"] if of["kind"] == "CronJob" else of["spec"]
    template: Manifest = spec["template"]
    return template


def workloads() -> Iterator[Manifest]:
    for path in [*K8S.glob("base/*.yaml"), *K8S.glob("components/*/*.yaml")]:
        if path.parent.name not in ("hardened", "service"):
            kinds = ("Deployment", "StatefulSet", "Job", "CronJob")
            read = yaml.safe_load_all(path.read_text("utf-8"))
            yield from (each for each in read if isinstance(each, dict) and each["kind"] in kinds)


def environment(*parts: str) -> dict[str, str]:
    lines = K8S.joinpath(*parts).read_text("utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def literals(overlay: str) -> dict[str, str]:
    made = one("Kustomization", "overlays", overlay, "kustomization.yaml")["configMapGenerator"]
    return dict(line.split("=", 1) for each in made for line in each.get("literals", ()))


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_listens_where_the_code_says(service: str) -> None:
    [container] = pod(workload(service))["spec"]["containers"]
    [port] = one("Service", "base", f"{service}.yaml")["spec"]["ports"]
    assert container["args"] == ["run", service]
    assert container["ports"] == [{"name": "http", "containerPort": PORTS[service]}]
    assert port == {"name": "http", "port": PORTS[service], "targetPort": "http"}
    assert environment("base", "settings.env")["BILLBUS_PORT"] == "0"


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_logs_in_as_its_own_user(service: str) -> None:
    template = pod(workload(service))
    [secrets] = [each for each in template["spec"]["volumes"] if each["name"] == "secrets"]
    users = {source["secret"]["name"] for source in secrets["projected"]["sources"]}
    assert template["metadata"]["labels"]["app.kubernetes.io/name"] == service
    assert users == {"billers", service}
    assert service in rights_of(CATALOG)


def test_who_has_an_index_of_outcomes_keeps_it_on_a_volume_of_its_own() -> None:
    kept = {service for service in SERVICES if "volumeClaimTemplates" in workload(service)["spec"]}
    indexed = {name.partition(".")[0] for name in LANES if "writes=" in app_of(name.partition(".")[0])}
    assert kept == indexed


def app_of(service: str) -> str:
    return (ROOT / "services" / service / "app.py").read_text("utf-8")


def test_every_container_has_limits_and_is_hardened() -> None:
    reached = {"service", "job", "sandbox", "registry"}
    for each in workloads():
        template = pod(each)
        assert template["metadata"]["labels"]["app.kubernetes.io/component"] in reached
        for container in template["spec"]["containers"]:
            assert {"cpu", "memory"} <= container["resources"]["limits"].keys()
            assert {"cpu", "memory"} <= container["resources"]["requests"].keys()
    shared = pod(one("Deployment", "components", "hardened", "pod.yaml"))["spec"]
    assert shared == pod(one("CronJob", "components", "hardened", "cron.yaml"))["spec"]
    [container] = shared["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert shared["automountServiceAccountToken"] is False
    assert shared["securityContext"]["runAsNonRoot"] is True
    assert shared["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    labels = one("Namespace", "base", "namespace.yaml")["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"


def test_probes_ask_what_there_is_and_the_grace_covers_the_drain() -> None:
    spec = pod(one("Deployment", "components", "service", "service.yaml"))["spec"]
    [container] = spec["containers"]
    asked = {name: container[name]["httpGet"]["path"] for name in container if name.endswith("Probe")}
    assert asked == {"startupProbe": "/livez", "livenessProbe": "/livez", "readinessProbe": "/readyz"}
    before = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    grace = float(environment("base", "settings.env")["BILLBUS_GRACE_S"])
    in_doubt, last_spans = 5, 3  # services/bus/service.py, services/bus/telemetry.py
    assert before + grace + in_doubt + last_spans < spec["terminationGracePeriodSeconds"]


def test_every_variable_is_one_that_a_process_reads() -> None:
    known = {variable(field) for field in Settings.model_fields}
    shared = environment("base", "settings.env")
    assert shared.keys() <= known
    assert environment("components", "sandbox", "settings.env").keys() <= SANDBOX | FOR_DEMO_BILLERS
    for overlay in ("dev", "prod"):
        assert literals(overlay).keys() <= known
    paths = {"billers", "kafka_ca", "secrets", "schemas"}  # there in a pod only
    fields = {key.removeprefix("BILLBUS_").lower(): value for key, value in shared.items()}
    settings = Settings(**{key: value for key, value in fields.items() if key not in paths})  # type: ignore[arg-type]  # texts
    assert (settings.session_timeout_ms, settings.replication, settings.grace_s) == (3000, 3, 25)


def test_the_cluster_keeps_what_the_guarantees_need() -> None:
    kafka = one("Kafka", "components", "kafka-strimzi", "cluster.yaml")["spec"]["kafka"]
    config, shared = kafka["config"], environment("base", "settings.env")
    assert config["group.min.session.timeout.ms"] <= int(shared["BILLBUS_SESSION_TIMEOUT_MS"])
    longest = max(CATALOG[topic].retention_days for topic in LANES.values())
    assert config["offsets.retention.minutes"] >= longest * 24 * 60
    assert config["unclean.leader.election.enable"] is False
    assert config["auto.create.topics.enable"] is False
    assert (config["default.replication.factor"], config["min.insync.replicas"]) == (3, 2)
    assert config["log.message.timestamp.type"] == "LogAppendTime"
    assert kafka["authorization"] == {"type": "simple"}
    [listener] = kafka["listeners"]
    assert listener["tls"]
    assert listener["authentication"] == {"type": "scram-sha-512"}
    assert shared["BILLBUS_BOOTSTRAP"].endswith(f":{listener['port']}")


def test_each_lane_scales_by_its_own_group_up_to_its_partitions() -> None:
    found = {}
    for each in manifests("components", "autoscaling-keda", "scaled.yaml"):
        [trigger] = each["spec"]["triggers"]
        target = each["spec"]["scaleTargetRef"]
        assert target == {"kind": workload(target["name"])["kind"], "name": each["metadata"]["name"]}
        found[trigger["metadata"]["consumerGroup"]] = trigger["metadata"]["topic"]
        assert target["name"] == trigger["metadata"]["consumerGroup"].split(".")[1]
    assert found == {group_of(lane): topic for lane, topic in LANES.items()}
    pace = one("ScaledObject", "components", "autoscaling-keda", "pace.yaml")["spec"]
    assert pace["maxReplicaCount"] == min(CATALOG[topic].partitions for topic in LANES.values())


@pytest.mark.parametrize(
    "folder", [ROOT / "deploy" / "local" / "billers", K8S / "overlays" / "prod" / "billers"]
)
@pytest.mark.parametrize("plain", ["true", "false"])
def test_the_overlays_billers_are_whole(
    folder: Path, plain: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BILLBUS_DEMO_PLAIN_HTTP", plain)
    for path in folder.glob("*.yaml"):
        for kind in ("imt-token", "ic-key", "intake-password", "intake-bearer", "link-key"):
            (tmp_path / f"{path.stem}-{kind}").write_text("invented-" * 5 + kind)
    billers = load_billers(
        folder, Secrets(tmp_path), SupportMatrix.load(ROOT / "schemas" / "partners" / "support.yaml")
    )
    demo = folder.parent.name == "local"
    assert {each.plain_http for each in billers.values()} == {demo and plain == "true"}


def custom() -> list[Manifest]:
    """Every custom resource that stands whole in a file; patches are named `any`, or stand in an overlay."""
    return [
        each
        for path in K8S.glob("components/*/*.yaml")
        for each in yaml.load_all(path.read_bytes(), yaml.CSafeLoader)
        if isinstance(each, dict)
        and (each["apiVersion"].partition("/")[0], each["kind"]) in DEFINITIONS
        and each["metadata"]["name"] != "any"
    ]


def test_every_custom_resource_fits_its_definition() -> None:
    assert {each["kind"] for each in custom()} == {kind for _, kind in DEFINITIONS}
    for each in custom():
        assert [error.message for error in rules(each).iter_errors(each)] == [], each["metadata"]["name"]


def queries() -> Iterator[str]:
    for group in one("PrometheusRule", "components", "monitoring", "alerts.yaml")["spec"]["groups"]:
        yield from (rule["expr"] for rule in group["rules"])
    for path in (K8S / "components" / "monitoring" / "dashboards").glob("*.json"):
        for panel in json.loads(path.read_text("utf-8"))["panels"]:
            yield from (target["expr"] for target in panel["targets"])


def test_alerts_and_dashboards_ask_for_metrics_and_labels_that_there_are() -> None:
    ours = {
        next(iter(each.describe())).name: set(each._labelnames) | {"le"}
        for each in vars(metrics).values()
        if hasattr(each, "_labelnames")
    }
    added = {"namespace", "pod", "persistentvolumeclaim", "service"}  # by who scrapes
    for query in queries():
        names = set(re.findall(r"\b(billbus_\w+)", query.replace('"billbus_', '"')))
        for name in names:
            family = re.sub(r"_(total|bucket|sum|count)$", "", name)
            assert name in ours or family in ours, f"{name} in {query}"
            known = ours.get(name) or ours[family]
            labels = re.findall(rf"{name}\{{([^}}]*)\}}", query)
            asked = {each for text in labels for each in re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", text)}
            assert asked <= known | added, f"{asked - known - added} of {name} in {query}"
        by = {each.strip() for text in re.findall(r"by \(([^)]*)\)", query) for each in text.split(",")}
        assert by <= {label for labels in ours.values() for label in labels} | added, query


def test_every_alert_says_where_it_is_said_what_to_do() -> None:
    for group in one("PrometheusRule", "components", "monitoring", "alerts.yaml")["spec"]["groups"]:
        for rule in group["rules"]:
            path, _, anchor = rule["annotations"]["runbook"].partition("#")
            text = (ROOT / path).read_text("utf-8")
            headings = {anchor_of(line) for line in text.splitlines() if line.startswith("#")}
            assert not anchor or anchor in headings, rule["alert"]
            assert rule["labels"]["severity"] in ("page", "ticket")


def anchor_of(heading: str) -> str:
    words = re.sub(r"[^\w\- ]", "", heading.lstrip("#").strip().lower())
    return words.replace(" ", "-")
