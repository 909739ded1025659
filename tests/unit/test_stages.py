"""To which stage of the lane a moment of CPU is counted."""

from benchmarks.stages import stage_of

LANE = ("/x/services/bus/delivery.py", "_work")


def test_the_innermost_function_with_a_rule_decides() -> None:
    decoding = [("fastavro/_read.py", "read"), ("/x/services/bus/codec.py", "decode"), LANE]
    assert stage_of(decoding) == "decode"
    assert (
        stage_of([("/x/services/bus/codec.py", "encode"), ("/x/services/bus/publisher.py", "_send"), LANE])
        == "encode"
    )
    assert stage_of([LANE, ("asyncio/events.py", "_run")]) == "lane"


def test_what_the_index_calls_is_the_indexs() -> None:
    assert (
        stage_of([("/x/services/bus/codec.py", "decode"), ("/x/services/bus/outcomes.py", "_decoded")])
        == "index"
    )


def test_what_no_rule_knows_is_named_as_such() -> None:
    assert stage_of([("somewhere/else.py", "run")]) == "other"
