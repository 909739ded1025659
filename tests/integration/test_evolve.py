"""docs/evolve.md, step by step: its blocks run in a copy of the project, on a real broker and registry."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer
from confluent_kafka.serialization import MessageField, SerializationContext

from deploy.local import Stack
from deploy.local.progress import fetch_with_progress
from services.bus.catalog import load_catalog
from services.bus.settings import ROOT
from tests.integration.evolving import raw_values

PAGE = ROOT / "docs" / "evolve.md"
TOPIC, NEXT = "billing.payment.received.v1", "billing.payment.received.v2"
COPIED = ["schemas", "services", "tools", "deploy", "Makefile", "pyproject.toml", "README.md"]
COPIED += ["tests/contract/examples.py", "tests/integration/evolving.py"]
BLOCK = re.compile(r"^```(\w+) ?([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A block of the page: `about` is what stands behind its language."""

    kind: str
    about: str
    text: str


def sections() -> dict[str, list[Block]]:
    """The blocks of the page by the heading that they stand under."""
    parts = re.split(r"^## (.*)\n", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {
        heading: [Block(*found) for found in BLOCK.findall(body)]
        for heading, body in zip(parts[1::2], parts[2::2], strict=True)
    }


class Tree:
    """A copy of the project in which the page is followed, and its code run, against one stack."""

    def __init__(self, folder: Path, stack: Stack) -> None:
        self.folder = folder
        self.stack = stack
        self.environment = os.environ | {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(folder),
            "PYTHON": "true",  # `make` finds its environment ready
            "BILLBUS_BOOTSTRAP": stack.bootstrap,
            "BILLBUS_REGISTRY": stack.registry,
        }

    def follow(self, blocks: list[Block]) -> None:
        """Does what the blocks say; a text is what the command before it has to print."""
        told = ""
        for block in blocks:
            if block.kind == "sh":
                told = self.shell(block.text, 1 if block.about == "refused" else 0)
            elif block.kind == "diff":
                self.run(["git", "apply", "-"], given=block.text)
            elif block.kind == "python":
                (self.folder / block.about).write_text(block.text)
            else:
                assert_printed(block.text, told.replace(f"{self.folder}/", ""))

    def shell(self, commands: str, code: int) -> str:
        return self.run(["bash", "-e", "-c", commands], code)

    def run(self, command: list[str], code: int = 0, given: str = "") -> str:
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=self.environment,
            input=given,
            text=True,
            capture_output=True,
            timeout=60,
        )
        assert done.returncode == code, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    def events(self, topic: str, *values: dict[str, Any], bridge: str = "") -> list[dict[str, Any]]:
        """Publishes as this tree's code does, and says what it reads of the whole topic, oldest first."""
        command = [sys.executable, "-m", "tests.integration.evolving"]
        command += [self.stack.bootstrap, self.stack.registry, topic, *([bridge] if bridge else [])]
        found: list[dict[str, Any]] = json.loads(self.run(command, given=json.dumps(values)))
        return sorted(found, key=lambda record: str(record["payment_guid"]))


def assert_printed(wanted: str, told: str) -> None:
    """Each line of the page is one that was printed, `…` standing for anything."""
    lines = told.splitlines()
    for line in wanted.splitlines():
        pattern = ".*".join(re.escape(part) for part in line.split("…"))
        assert any(re.fullmatch(pattern, each) for each in lines), f"{line}\nis not in\n{told}"


def copied(folder: Path) -> Path:
    for name in COPIED:
        source, target = ROOT / name, folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)
    shutil.copytree(ROOT / "docs", folder / "docs")
    (folder / ".venv").symlink_to(sys.prefix)
    return folder


def payment(number: int, **more: Any) -> dict[str, Any]:
    """The values of a payment; its GUID begins with the number, so that payments sort by it."""
    path = ROOT / "schemas" / TOPIC / "examples" / "valid-portal.json"
    guid = f"{number:08d}-7a51-4a58-9d0b-0d8b6a1f0c11"
    value: dict[str, Any] = json.loads(path.read_text())["value"] | {"payment_guid": guid} | more
    return value


def stock(tree: Tree, topic: str, version: Path) -> list[dict[str, Any]]:
    """The topic as another team reads it that took this version of the schema: nothing of ours."""
    with SchemaRegistryClient({"url": tree.stack.registry, "timeout": 10}) as registry:
        read = AvroDeserializer(
            registry, schema_str=version.read_text(), conf={"subject.name.strategy.type": "TOPIC"}
        )
        context = SerializationContext(topic, MessageField.VALUE)
        found = [read(value, context) for value in raw_values(tree.stack.bootstrap, topic)]
    return sorted(found, key=lambda record: str(record["payment_guid"]))


def column(records: list[dict[str, Any]], name: str) -> list[Any]:
    return [record[name] for record in records]


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack of its own: what is registered here would meet the other tests."""
    with Stack(tmp_path_factory.mktemp("evolve"), parts=fetch_with_progress()) as found:
        yield found


def test_the_page_is_true_to_the_letter(stack: Stack, tmp_path: Path) -> None:
    page = sections()
    assert all(page.values())
    old, tree = Tree(copied(tmp_path / "old"), stack), Tree(copied(tmp_path / "new"), stack)
    schemas = tree.folder / "schemas" / TOPIC
    old.shell("billbus topics apply --yes", 0)
    old.events(TOPIC, payment(1, schedule_kind="fixed"))

    tree.follow(page["Add a field"])
    assert column(tree.events(TOPIC, payment(2, wallet="apple")), "wallet") == [None, "apple"]
    assert [record.keys() for record in old.events(TOPIC)] == [payment(0).keys()] * 2

    tree.follow(page["Rename a field"])
    both = payment(3, wallet=None, schedule_kind="fixed", schedule_type="fixed")
    assert column(tree.events(TOPIC, both), "schedule_type") == [None, None, "fixed"]
    assert column(old.events(TOPIC), "schedule_kind") == ["fixed", None, "fixed"]

    tree.follow(page["Retire a field"])
    newest = payment(4, wallet=None, schedule_type="pay_in_full")
    assert column(tree.events(TOPIC, newest), "schedule_type") == [None, None, "fixed", "pay_in_full"]
    assert column(old.events(TOPIC, payment(5)), "schedule_kind") == ["fixed", None, "fixed", None, None]
    for number in (1, 2, 3, 4):
        assert len(stock(tree, TOPIC, schemas / f"v{number}.avsc")) == 5
    assert column(stock(tree, TOPIC, schemas / "v2.avsc"), "wallet") == [None, "apple", None, None, None]

    *move, retire_the_topic = page["Move to `.v2`"]
    tree.follow(move)
    assert_both_topics_say_the_same(old, tree, schemas)

    tree.follow([retire_the_topic])
    assert NEXT in load_catalog(tree.folder / "schemas")


def assert_both_topics_say_the_same(old: Tree, tree: Tree, schemas: Path) -> None:
    """New events reach readers of either topic, the old ones with whichever version they have."""
    card = payment(6, wallet=None, schedule_type=None, tender="card", tender_as_sent="card")
    token = payment(7, wallet=None, schedule_type=None, tender="other", tender_as_sent="token")
    written = tree.events(NEXT, card, token, bridge="services.payments.bridge:as_v1")
    assert column(written, "tender") == ["card", "other"]

    before = old.events(TOPIC)
    assert column(before, "tender")[-2:] == ["card", "token"]
    assert column(before, "payment_guid")[-2:] == column(written, "payment_guid")
    assert column(before, "amount")[-2:] == column(written, "amount")
    for number in (1, 2, 3, 4):
        assert column(stock(tree, TOPIC, schemas / f"v{number}.avsc"), "tender")[-2:] == ["card", "token"]
    newer = stock(tree, NEXT, tree.folder / "schemas" / NEXT / "v1.avsc")
    assert column(newer, "tender") == ["card", "other"]
    assert len(before) == len(tree.events(TOPIC)) == 7
