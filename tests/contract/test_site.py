"""The catalog's site says what schemas/ says of every topic, and what is wrong in it ends its build."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from lxml import html

from services.bus.catalog import Topic, load_catalog, read_topic
from services.bus.settings import ROOT
from tests.contract.examples import SCHEMAS, examples
from tests.contract.test_schemas import all_fields
from tools.site.__main__ import build
from tools.site.content import Content
from tools.site.flowchart import draw_charts
from tools.site.links import broken
from tools.site.pages import lead_links
from tools.site.topic_page import topic_page

CATALOG = load_catalog(SCHEMAS)
ALL_TOPICS = pytest.mark.parametrize("topic", CATALOG.values(), ids=lambda topic: topic.name)


def words(element: Any) -> str:
    return " ".join(element.text_content().split())


def rows(page: Any, heading: str) -> list[list[str]]:
    """The cells of the table under a heading."""
    [table] = page.xpath(f"(//h2[@id='{heading}']/following::table)[1]")
    return [[words(cell) for cell in row.xpath("td")] for row in table.xpath(".//tr[td]")]


def page_of(site: Path, topic: Topic) -> Any:
    return html.parse(str(site / "topics" / f"{topic.name}.html"))


@ALL_TOPICS
def test_every_field_is_on_its_topics_page_with_unit_origin_and_mark(site: Path, topic: Topic) -> None:
    told = [
        (name.split()[0].rsplit(".", 1)[-1], unit_of(kind), meaning, origin, "personal data" in name)
        for name, kind, meaning, origin in rows(page_of(site, topic), "fields")
    ]
    stated = [stated_of(field) for field in all_fields(topic.schema)]
    assert sorted(told) == sorted(stated)


def unit_of(kind: str) -> str:
    return next((unit for unit in ("USD", "UTC", "day") if unit in re.findall(r"\w+", kind)), "")


def stated_of(field: dict[str, Any]) -> tuple[str, str, str, str, bool]:
    meaning, _, origin = field["doc"].removesuffix(").").rpartition(" (")
    kinds = field["type"] if isinstance(field["type"], list) else [field["type"]]
    logical = next((kind["logicalType"] for kind in kinds if "logicalType" in kind), "")
    unit = {"decimal": "USD", "timestamp-millis": "UTC", "date": "day", "": ""}[logical]
    return field["name"], unit, f"{meaning}.", origin.removeprefix("seed: "), bool(field.get("pii"))


@ALL_TOPICS
def test_a_topics_page_says_who_writes_who_reads_and_how_it_is_kept(site: Path, topic: Topic) -> None:
    page = page_of(site, topic)
    glance = dict(rows(page, "at-a-glance"))
    assert glance["Who writes"] == ", ".join(topic.producers)
    assert glance["Key"].startswith(f"{topic.key},")
    assert glance["Partitions"] == str(topic.partitions)
    assert glance["Kept"].startswith(
        "the newest" if topic.cleanup == "compact" else f"{topic.retention_days} d"
    )
    assert {row[0]: row[1] for row in rows(page, "who-reads-it")} == {
        each.name: each.contact for each in topic.consumers
    }
    for row, consumer in zip(rows(page, "who-reads-it"), topic.consumers, strict=True):
        assert row[2] == ("whole events" if consumer.fields is None else ", ".join(consumer.fields))


@ALL_TOPICS
def test_every_example_is_on_its_topics_page(site: Path, topic: Topic) -> None:
    blocks = [block.text_content() for block in page_of(site, topic).xpath("//pre//code")]
    shown = [json.loads(block) for block in blocks if block.startswith("{")]
    stated = [each.value for each in (*examples("valid"), *examples("invalid")) if each.topic == topic.name]
    assert sorted(map(str, shown)) == sorted(map(str, stated))


@ALL_TOPICS
def test_a_topics_page_says_how_to_subscribe_to_it_in_four_languages(site: Path, topic: Topic) -> None:
    page = page_of(site, topic)
    assert page.xpath("//*[@class='tabbed-labels']/label/text()") == ["Python", "Go", "Java", "TypeScript"]
    commands = [
        block.text_content()
        for block in page.xpath("//*[@class='tabbed-block']//code")
        if "$DAY" in block.text_content()
    ]
    assert len(commands) == 4
    for command in commands:
        assert re.findall(r"billing\.\S+", command) == [topic.name]


def test_the_map_has_every_arrow_of_the_catalog(site: Path) -> None:
    [drawing] = html.parse(str(site / "map.html")).xpath("//*[name()='svg' and @class='drawing']")
    boxes = [words(box) for box in drawing.xpath(".//*[contains(@class, 'box')]")]
    assert {name for name in boxes if name in CATALOG} == CATALOG.keys()
    assert {each.name for topic in CATALOG.values() for each in topic.consumers} <= set(boxes)
    drawn = len(drawing.xpath(".//*[contains(@class, 'arrow')]"))
    assert drawn == sum(len(topic.producers) + len(topic.consumers) for topic in CATALOG.values())


@pytest.mark.parametrize("source", sorted((ROOT / "docs" / "flows").glob("*.md")), ids=lambda path: path.stem)
def test_every_arrow_of_a_flow_is_drawn(site: Path, source: Path) -> None:
    chart = source.read_text(encoding="utf-8").split("```mermaid")[1].split("```")[0]
    page = html.parse(str(site / "flows" / f"{source.stem}.html"))
    assert len(page.xpath("//*[contains(@class, 'arrow ')]")) == len(re.findall(r"-->|-\.->", chart))


def test_all_docs_and_the_asyncapi_document_are_in_the_site(site: Path) -> None:
    for path in (ROOT / "docs").rglob("*.md"):
        page = path.relative_to(ROOT / "docs")
        assert (site / page.with_name(page.name.replace("README", "index")).with_suffix(".html")).exists()
    assert (site / "asyncapi.json").read_bytes() == (ROOT / "docs" / "asyncapi.json").read_bytes()
    assert html.parse(str(site / "index.html")).xpath("//a[@href='asyncapi.json']")


def test_a_second_version_is_told_in_words_and_as_a_diff(tmp_path: Path) -> None:
    folder = tmp_path / "billing.payment.received.v1"
    shutil.copytree(SCHEMAS / folder.name, folder)
    schema = json.loads((folder / "v1.avsc").read_text())
    schema["fields"].append(
        {"name": "wallet", "type": ["null", "string"], "doc": "Wallet that paid (ours).", "default": None}
    )
    (folder / "v2.avsc").write_text(json.dumps(schema, indent=2) + "\n")
    page = topic_page(read_topic(folder / "topic.yaml"), folder, [])
    newest, first = page.split("## History of the schema")[1].split("### v1\n")
    assert "### v2\n\nNew: `wallet`." in newest
    assert '+      "name": "wallet",' in newest
    assert "```diff" not in first


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[a](gone.html)", "gone.html leads nowhere"),
        ('<a href="#gone">a</a>', "#gone: no such anchor"),
        ('<script src="https://cdn.example/a.js"></script>', "from a foreign host"),
        ('<link href="//fonts.example/a.css">', "from a foreign host"),
    ],
)
def test_the_link_check_says_what_is_wrong(text: str, problem: str, tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text('<h1 id="here">a</h1><a href="#here">b</a>' + _as_html(text))
    [found] = broken(tmp_path)
    assert problem in found


def _as_html(text: str) -> str:
    return re.sub(r"\[(.*)\]\((.*)\)", r'<a href="\2">\1</a>', text)


def test_a_style_sheet_may_not_fetch_from_a_foreign_host(tmp_path: Path) -> None:
    (tmp_path / "a.css").write_text(
        "body { background: url('https://cdn.example/a.png') } i { mask: url(data:x) }"
    )
    assert broken(tmp_path) == ["a.css: fetches https://cdn.example/a.png from a foreign host"]


@pytest.mark.parametrize("link", ["[a](gone.md)", "[a](#gone)"])
def test_a_broken_link_ends_the_build(link: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    content = Content({"index.md": f"# A\n\n{link}\n"}, [{"A": "index.md"}])
    assert build(content, tmp_path / "no-schemas", tmp_path, tmp_path / "site") != 0
    assert "gone" in capfd.readouterr().err


def test_a_link_to_what_the_repository_lacks_is_refused_and_to_what_the_site_lacks_is_named() -> None:
    with pytest.raises(ValueError, match=r"docs/gone\.md"):
        lead_links("[a](gone.md)", "docs/demo.md", "demo.md")
    led = lead_links("[a](../schemas/partners/imt.yaml) [b](../schemas)", "docs/demo.md", "demo.md")
    assert led.startswith("a (`schemas/partners/imt.yaml`) [b](topics/index.md)")


def test_a_chart_that_cannot_be_drawn_is_refused_by_its_line() -> None:
    with pytest.raises(ValueError, match="cannot be drawn: a ==> b"):
        draw_charts("```mermaid\nflowchart LR\n  a ==> b\n```\n", "A")
