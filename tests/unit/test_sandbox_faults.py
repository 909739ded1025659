"""Which calls a fault hits."""

import pytest

from services.sandbox.faults import Fault, FaultKind, Faults, FaultSpec, Operation, UnknownOperation

POST = "imt.datapump.post_payment"
READ = "imt.datapump.read_payment"
BILL = "imt.bills.read_bill"
UPLOAD = "ic.soap.upload_invoice"


@pytest.fixture
def faults() -> Faults:
    return Faults((Operation(POST, True), Operation(READ), Operation(BILL), Operation(UPLOAD, True)))


def hit(faults: Faults, operation: str = POST, biller: str = "acme", *subjects: str) -> Fault | None:
    return faults.pick(operation, biller, subjects)


def test_without_a_fault_all_goes_well(faults: Faults) -> None:
    assert hit(faults) is None


def test_a_fault_of_a_service_hits_all_its_operations_and_no_other(faults: Faults) -> None:
    faults.add(FaultSpec(service="imt.datapump", kind="maintenance"))
    assert hit(faults, POST)
    assert hit(faults, READ)
    assert hit(faults, BILL) is None


def test_a_prefix_is_a_whole_name(faults: Faults) -> None:
    with pytest.raises(UnknownOperation, match=r"there are imt\.datapump\.post_payment"):
        faults.add(FaultSpec(service="imt.data", kind="slow"))


@pytest.mark.parametrize("written", ["imt.data-pump", "IMT.Datapump"])
def test_dashes_and_case_do_not_matter(faults: Faults, written: str) -> None:
    scope = written.replace("data-pump", "datapump")
    assert faults.add(FaultSpec(service=scope, kind="slow")).operations == {POST, READ}


def test_a_fault_after_the_effect_leaves_look_ups_alone_unless_they_are_named(faults: Faults) -> None:
    faults.add(FaultSpec(service="imt.datapump", kind="apply_then_hang"))
    assert hit(faults, POST)
    assert hit(faults, READ) is None
    faults.add(FaultSpec(service="imt.datapump", operation="read_payment", kind="apply_then_hang"))
    assert hit(faults, READ)


def test_where_nothing_has_an_effect_such_a_fault_hits_all(faults: Faults) -> None:
    faults.add(FaultSpec(service="imt.bills", kind="truncated"))
    assert hit(faults, BILL)


def test_count_and_skip(faults: Faults) -> None:
    fault = faults.add(FaultSpec(service="imt", kind="error", skip=2, count=3))
    assert [hit(faults) is not None for _ in range(7)] == [False, False, True, True, True, False, False]
    assert (fault.matched, fault.hits) == (5, 3)


def test_a_fraction_draws_the_same_calls_for_the_same_seed(faults: Faults) -> None:
    def drawn(seed: int) -> list[bool]:
        faults.clear()
        faults.add(FaultSpec(service="imt", kind="error", fraction=0.3, seed=seed))
        return [hit(faults) is not None for _ in range(1000)]

    first = drawn(7)
    assert drawn(7) == first
    assert drawn(8) != first
    assert 240 < sum(first) < 360


def test_only_one_biller(faults: Faults) -> None:
    faults.add(FaultSpec(service="imt", kind="error", biller="birch"))
    assert hit(faults, POST, "acme") is None
    assert hit(faults, POST, "birch")


def test_only_one_subject_whatever_its_case(faults: Faults) -> None:
    faults.add(FaultSpec(service="imt", kind="error", subject="GUID-1"))
    assert hit(faults, POST, "acme", "guid-2", "0001") is None
    assert hit(faults, POST, "acme", "guid-1", "0001")


def test_the_first_that_fires_is_the_one(faults: Faults) -> None:
    faults.add(FaultSpec(service="imt", kind="error", count=1))
    faults.add(FaultSpec(service="imt", kind="slow"))
    kinds = [fault.kind for _ in range(2) if (fault := hit(faults)) is not None]
    assert kinds == ["error", "slow"]


@pytest.mark.parametrize("kind", ["reject", "omit_result"])
def test_of_a_call_of_many_items_some_kinds_hit_items_alone(faults: Faults, kind: FaultKind) -> None:
    faults.add(FaultSpec(service="ic.soap", kind=kind, subject="I-2"))
    assert faults.pick(UPLOAD, "acme", ("I-1", "I-2"), each=False) is None
    assert faults.pick(UPLOAD, "acme", ("I-1",), whole=False) is None
    assert faults.pick(UPLOAD, "acme", ("I-2",), whole=False)


def test_a_call_is_refused_whole_for_one_of_its_items(faults: Faults) -> None:
    faults.add(FaultSpec(service="ic.soap", kind="refuse_whole", subject="I-2"))
    assert faults.pick(UPLOAD, "acme", ("I-1", "I-2"), each=False)
    assert faults.pick(UPLOAD, "acme", ("I-1",), each=False) is None
    assert faults.pick(UPLOAD, "acme", ("I-2",), whole=False) is None


def test_defaults_of_a_kind(faults: Faults) -> None:
    hangs = faults.add(FaultSpec(service="imt", kind="hang_then_apply"))
    resets = faults.add(FaultSpec(service="imt", kind="reset"))
    proxy = faults.add(FaultSpec(service="imt", kind="wrong_content_type"))
    assert (hangs.delay_s, resets.after_effect, proxy.after_effect) == (30, True, False)


def test_remove_and_clear(faults: Faults) -> None:
    first = faults.add(FaultSpec(service="imt", kind="error"))
    faults.add(FaultSpec(service="imt", kind="slow"))
    assert faults.remove(first.id)
    assert not faults.remove(first.id)
    assert faults.clear() == 1
    assert hit(faults) is None
