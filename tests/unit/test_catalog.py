"""What is derived from the catalog: names, settings on the broker, lanes."""

import json
import shutil
from pathlib import Path

import pytest

from services.bus.catalog import DAY_MS, Deprecation, find_topic, load_catalog
from services.bus.settings import ROOT
from services.bus.topics import LANES, wanted_topics

CATALOG = load_catalog(ROOT / "schemas")
PAYMENTS = "billing.payment.received.v1"


def test_a_topic_is_found_by_its_full_and_its_short_name() -> None:
    assert find_topic(CATALOG, "payment.received") is find_topic(CATALOG, PAYMENTS) is CATALOG[PAYMENTS]
    assert find_topic(CATALOG, "payment") is None


def test_a_file_that_does_not_fit_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "billing.some.thing.v1"
    folder.mkdir()
    (folder / "topic.yaml").write_text("title: only this\n")
    (folder / "v1.avsc").write_text("{}")
    with pytest.raises(ValueError, match=r"billing.some.thing.v1/topic.yaml"):
        load_catalog(tmp_path)


def test_a_deprecated_topic_says_what_replaces_it_and_each_version_stays(tmp_path: Path) -> None:
    old, new = tmp_path / PAYMENTS, tmp_path / "billing.payment.received.v2"
    for folder in (old, new):
        shutil.copytree(ROOT / "schemas" / PAYMENTS, folder)
    for number in (2, 10):
        (old / f"v{number}.avsc").write_text(json.dumps({"version": number}))
    stated = (old / "topic.yaml").read_text()
    ending = '{since: "2027-01-04", replaced_by: billing.payment.received.v2, ends: "2028-02-08"}'
    (old / "topic.yaml").write_text(stated.replace("deprecated: null", f"deprecated: {ending}"))

    catalog = load_catalog(tmp_path)

    assert catalog[PAYMENTS].deprecated == Deprecation(
        since="2027-01-04", replaced_by="billing.payment.received.v2", ends="2028-02-08"
    )
    assert catalog[PAYMENTS].schema == {"version": 10}
    assert catalog[PAYMENTS].versions[1:] == ({"version": 2}, {"version": 10})
    assert find_topic(catalog, "payment.received") is catalog[PAYMENTS]
    assert find_topic(catalog, "payment.received.v2") is catalog["billing.payment.received.v2"]


def test_every_lane_reads_a_topic_that_can_be_replayed_or_is_an_outcome() -> None:
    for name in LANES.values():
        assert CATALOG[name].replay or name.endswith(".outcome.v1")
        assert CATALOG[name].dlq


def test_facts_replays_and_dead_letters_are_kept_as_long_as_promised() -> None:
    wanted = wanted_topics(CATALOG, replication=3)
    kept = {suffix: wanted[PAYMENTS + suffix].settings["retention.ms"] for suffix in ("", ".replay", ".dlq")}
    assert kept == {"": str(400 * DAY_MS), ".replay": str(7 * DAY_MS), ".dlq": str(90 * DAY_MS)}


def test_a_view_is_compacted_and_kept_for_ever() -> None:
    settings = wanted_topics(CATALOG, replication=3)["billing.balance.current.v1"].settings
    assert (settings["cleanup.policy"], settings["retention.ms"]) == ("compact", "-1")


@pytest.mark.parametrize(("replication", "in_sync"), [(1, "1"), (2, "1"), (3, "2")])
def test_every_topic_is_stamped_by_the_broker_and_acknowledged_by_enough(
    replication: int, in_sync: str
) -> None:
    for topic in wanted_topics(CATALOG, replication).values():
        assert topic.settings["message.timestamp.type"] == "LogAppendTime"
        assert topic.settings["min.insync.replicas"] == in_sync
        assert topic.settings["unclean.leader.election.enable"] == "false"
        assert topic.partitions == 12


def test_only_topics_that_say_so_have_a_replay_or_a_dead_letter_topic() -> None:
    wanted = wanted_topics(CATALOG, replication=1)
    assert {name for name in wanted if name.endswith(".replay")} == {
        f"{topic.name}.replay" for topic in CATALOG.values() if topic.replay
    }
    assert {name for name in wanted if name.endswith(".dlq")} == {
        f"{topic.name}.dlq" for topic in CATALOG.values() if topic.dlq
    }


def test_what_a_lane_reads_is_never_compacted_so_a_record_in_doubt_stays_until_its_whole_log_goes() -> None:
    assert {CATALOG[topic].cleanup for topic in LANES.values()} == {"delete"}


def test_a_copy_of_the_largest_record_fits_with_its_origin() -> None:
    wanted = wanted_topics(CATALOG, 1)
    assert "max.message.bytes" not in wanted[PAYMENTS].settings
    for copy in (".replay", ".dlq"):
        assert int(wanted[PAYMENTS + copy].settings["max.message.bytes"]) > 1_048_588 + 16_384
