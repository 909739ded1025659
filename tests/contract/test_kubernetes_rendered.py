"""The overlays as a cluster gets them: what patches were to bring is there, every name leads somewhere."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from deploy.k8s.check.admission import template_of
from deploy.k8s.check.kubectl import Kubectl
from deploy.k8s.check.references import broken
from services.bus.rights import SERVICES
from services.bus.settings import ROOT
from services.bus.topics import wanted_topics
from tests.contract.test_kubernetes import CATALOG

Manifest = dict[str, Any]
COPIES = {"dev": 1, "prod": 3}


@pytest.fixture(scope="module", params=sorted(COPIES))
def overlay(request: pytest.FixtureRequest) -> tuple[str, list[Manifest]]:
    kubectl = shutil.which("kubectl")
    assert kubectl, "kubectl is missing; it renders the overlays"
    folder = ROOT / "deploy" / "k8s" / "overlays" / request.param
    return request.param, Kubectl(Path(kubectl), Path("/nonexistent")).rendered(folder)


def of_kind(objects: list[Manifest], *kinds: str) -> dict[str, Manifest]:
    return {each["metadata"]["name"]: each for each in objects if each["kind"] in kinds}


@pytest.mark.extra
def test_every_name_leads_somewhere(overlay: tuple[str, list[Manifest]]) -> None:
    assert broken(overlay[1]) == []


@pytest.mark.extra
def test_every_pod_is_hardened_and_limited(overlay: tuple[str, list[Manifest]]) -> None:
    _, objects = overlay
    pods = {each["metadata"]["name"]: found for each in objects if (found := template_of(each))}
    assert pods.keys() >= {*SERVICES, "topics-apply", "replay"}
    for template in pods.values():
        spec = template["spec"]
        assert spec["automountServiceAccountToken"] is False
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert template["metadata"]["labels"]["app.kubernetes.io/part-of"] == "billbus"
        for container in spec["containers"]:
            assert container["securityContext"]["readOnlyRootFilesystem"] is True
            assert container["resources"]["limits"].keys() == {"cpu", "memory"}
            assert not container["image"].endswith(":latest")
            assert ":" in container["image"].rpartition("/")[2]


@pytest.mark.extra
def test_every_service_is_asked_drained_and_spread(overlay: tuple[str, list[Manifest]]) -> None:
    found = of_kind(overlay[1], "Deployment", "StatefulSet")
    for service in SERVICES:
        spec = found[service]["spec"]["template"]["spec"]
        [container] = spec["containers"]
        assert {"startupProbe", "livenessProbe", "readinessProbe", "lifecycle"} <= container.keys()
        assert spec["terminationGracePeriodSeconds"] == 45
        assert len(spec["topologySpreadConstraints"]) == 2


@pytest.mark.extra
def test_every_topic_has_the_copies_of_its_cluster(overlay: tuple[str, list[Manifest]]) -> None:
    name, objects = overlay
    topics = of_kind(objects, "KafkaTopic")
    assert {topic: (each["spec"]["replicas"], each["spec"]["config"]) for topic, each in topics.items()} == {
        topic: (COPIES[name], wanted.settings)
        for topic, wanted in wanted_topics(CATALOG, COPIES[name]).items()
    }
    [settings] = [
        each for each in of_kind(objects, "ConfigMap").values() if "BILLBUS_REPLICATION" in each["data"]
    ]
    assert settings["data"]["BILLBUS_REPLICATION"] == str(COPIES[name])
