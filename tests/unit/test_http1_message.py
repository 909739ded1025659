"""HTTP/1.1 as bytes: what is an answer, what is refused, and that how bytes are cut changes neither."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.bus.http1.address import BadAddress, read_address
from services.bus.http1.answer import (
    MOST_CHUNK_LINE,
    MOST_FIELDS,
    MOST_HEAD,
    MOST_INTERIM,
    Answer,
    BrokenAnswer,
    BrokenOff,
    Headers,
)
from services.bus.http1.request import BrokenRequest, write_request

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"


def read(*pieces: bytes, method: str = "POST", closed: bool = False) -> Answer:
    answer = Answer(method)
    for piece in pieces:
        answer.feed(piece)
    if closed:
        answer.end()
    return answer


def body(answer: Answer) -> bytes:
    assert answer.complete
    return b"".join(answer.pieces)


# -- what is an answer ---------------------------------------------------------------------------------


def test_a_counted_body() -> None:
    answer = read(OK + b"Content-Length: 5\r\nX-Y:  z \r\n\r\nhello")
    assert (answer.status, body(answer), answer.reusable) == (200, b"hello", True)
    assert Headers(answer.fields)["x-y"] == "z"


def test_a_chunked_body_with_extensions_and_trailers() -> None:
    answer = read(CHUNKED + b'5;name="a b"\r\nhello\r\n6 \r\n world\r\n0\r\nDigest: x\r\nB:\r\n\r\n')
    assert (body(answer), answer.reusable) == (b"hello world", True)


def test_a_body_to_the_end_of_the_connection() -> None:
    answer = read(OK + b"\r\nhello", b" world")
    assert not answer.complete
    answer.end()
    assert (body(answer), answer.reusable) == (b"hello world", False)


@pytest.mark.parametrize("framing", [b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n", b""])
def test_an_answer_to_head_has_no_body_whatever_it_says(framing: bytes) -> None:
    answer = read(OK + framing + b"\r\n", method="HEAD")
    assert (body(answer), answer.reusable) == (b"", True)


@pytest.mark.parametrize("status", [204, 304])
@pytest.mark.parametrize("framing", [b"Content-Length: 5\r\n", b""])
def test_statuses_without_a_body(status: int, framing: bytes) -> None:
    answer = read(b"HTTP/1.1 %d \r\n%b\r\n" % (status, framing))
    assert (answer.status, body(answer), answer.reusable) == (status, b"", True)


def test_what_comes_before_the_answer_is_passed_over() -> None:
    early = b"HTTP/1.1 100 Continue\r\n\r\n" + b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
    answer = read(early + OK + b"Content-Length: 2\r\n\r\n{}")
    assert (answer.status, body(answer), answer.fields) == (200, b"{}", [(b"content-length", b"2")])


def test_an_answer_in_http_1_0_ends_its_connection() -> None:
    kept = b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\n{}"
    assert not read(kept).reusable


@pytest.mark.parametrize("value", [b"close", b"Close", b"x, close"])
def test_a_connection_that_the_partner_gives_up_is_not_used_again(value: bytes) -> None:
    assert not read(OK + b"Connection: " + value + b"\r\nContent-Length: 0\r\n\r\n").reusable


@pytest.mark.parametrize(
    "whole",
    [OK + b"Content-Length: 2\r\n\r\n{}", CHUNKED + b"2\r\n{}\r\n0\r\n\r\n", b"HTTP/1.1 204 \r\n\r\n"],
)
@pytest.mark.parametrize("more", [b"x", b"\r\n", OK + b"Content-Length: 0\r\n\r\n"])
def test_what_follows_an_answer_belongs_to_nobody(whole: bytes, more: bytes) -> None:
    clean = read(whole)
    assert clean.reusable
    for answer in (read(whole + more), read(whole, more)):
        assert not answer.reusable
        assert body(answer) == body(clean)


# -- what is refused -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "broken",
    [
        b"220 mail.example ESMTP\r\n",
        b"\r\n" + OK + b"\r\n",
        b"HTTP/2.0 200 OK\r\n\r\n",
        b"HTTP/0.9 200 OK\r\n\r\n",
        b"RTSP/1.0 200 OK\r\n\r\n",
        b"HTTP/1.1 99 Low\r\n\r\n",
        b"HTTP/1.1 099 Low\r\n\r\n",
        b"HTTP/1.1 600 High\r\n\r\n",
        b"HTTP/1.1  200 OK\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" * (MOST_INTERIM + 1),
        b"HTTP/1.1 200 OK\nContent-Length: 0\n\n",
        OK + b"A: b\n\r\n",
        OK + b"A: b\r\n c\r\n\r\n",
        OK + b"A : b\r\n\r\n",
        OK + b": b\r\n\r\n",
        OK + b"no colon\r\n\r\n",
        OK + b"A: \x00\r\n\r\n",
        OK + b"A: b\rc\r\n\r\n",
        OK + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
        OK + b"Content-Length: 2, 2\r\n\r\n{}",
        OK + b"Content-Length: -2\r\n\r\n{}",
        OK + b"Content-Length: +2\r\n\r\n{}",
        OK + b"Content-Length: 0x2\r\n\r\n{}",
        OK + b"Content-Length: two\r\n\r\n{}",
        OK + b"Content-Length:\r\n\r\n{}",
        OK + b"Content-Length: 1" + b"0" * 15 + b"\r\n\r\n{}",
        OK + b"Content-Length: 9" + b"9" * 40 + b"\r\n\r\n{}",
        OK + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        OK + b"Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n",
        OK + b"Transfer-Encoding: identity\r\n\r\n",
        OK + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        CHUNKED + b"\r\n",
        CHUNKED + b"g\r\n",
        CHUNKED + b"-1\r\n",
        CHUNKED + b"0x1\r\n",
        CHUNKED + b" 1\r\n",
        CHUNKED + b"1\n{",
        CHUNKED + b"1\r\n{}\r\n",
        CHUNKED + b"1\r\n{\n",
        CHUNKED + b"1" * 13 + b"\r\n",
        CHUNKED + b"1;" + b"x" * MOST_CHUNK_LINE,
        CHUNKED + b"0\r\nno colon\r\n\r\n",
        CHUNKED + b"0\r\nA: b\r\n c\r\n\r\n",
        CHUNKED + b"0\r\nA: " + b"b" * MOST_HEAD,
        OK + b"A: " + b"b" * MOST_HEAD,
        OK + b"A: b\r\n" * (MOST_FIELDS + 1) + b"\r\n",
    ],
)
def test_what_is_no_answer_is_refused_at_once(broken: bytes) -> None:
    with pytest.raises(BrokenAnswer) as whole:
        read(broken)
    assert not isinstance(whole.value, BrokenOff)
    step = 1 + len(broken) // 1000
    with pytest.raises(BrokenAnswer):
        read(*(broken[at : at + step] for at in range(0, len(broken), step)))


@pytest.mark.parametrize(
    "half",
    [
        b"",
        OK,
        OK + b"Content-Length: 2\r\n\r\n{",
        CHUNKED + b"2\r\n{",
        CHUNKED + b"2\r\n{}\r\n",
        CHUNKED + b"2\r\n{}\r\n0\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n",
    ],
)
def test_half_an_answer_is_not_taken_for_a_whole_one(half: bytes) -> None:
    with pytest.raises(BrokenOff):
        read(half, closed=True)


# -- fuzz ----------------------------------------------------------------------------------------------

Outcome = tuple[int, list[tuple[bytes, bytes]], bytes] | str


def outcome(method: str, pieces: list[bytes]) -> Outcome:
    """What a peer's bytes come to when it closes after them."""
    try:
        answer = read(*pieces, method=method, closed=True)
    except BrokenAnswer:
        return "broken"
    return answer.status, answer.fields, body(answer)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    at = sorted({place % (len(data) + 1) for place in places} | {0, len(data)})
    return [data[start:end] for start, end in itertools.pairwise(at)] or [data]


methods = st.sampled_from(["GET", "HEAD", "POST"])
places = st.lists(st.integers(0, 4000), max_size=12)
field_lines = st.lists(
    st.sampled_from(
        [
            b"Content-Type: application/json\r\n",
            b"Connection: close\r\n",
            b"Connection: keep-alive\r\n",
            b"Content-Length: 3\r\n",
            b"Transfer-Encoding: chunked\r\n",
            b"Retry-After: 3\r\n",
            b"X: \xe9\t~\r\n",
        ]
    ),
    max_size=4,
)
chunks = st.lists(st.binary(min_size=1, max_size=40), max_size=4).map(
    lambda parts: b"".join(b"%x;e=1\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\nT: v\r\n\r\n"
)
heads = st.builds(
    lambda version, status, lines: b"HTTP/1.%d %d Said\r\n%b\r\n" % (version, status, b"".join(lines)),
    st.integers(0, 1),
    st.sampled_from([100, 103, 200, 204, 304, 404, 503]),
    field_lines,
)
nearly_answers = st.lists(st.one_of(heads, chunks, st.binary(max_size=20)), min_size=1, max_size=5).map(
    b"".join
)
edits = st.lists(
    st.tuples(
        st.integers(0, 600),
        st.integers(0, 3),
        st.sampled_from([b"", b"\r", b"\n", b"\x00", b":", b"0", b"\xff"]),
    ),
    max_size=3,
)


@given(methods, st.binary(max_size=300), places)
def test_any_bytes_come_to_the_same_however_they_are_cut(method: str, data: bytes, at: list[int]) -> None:
    assert outcome(method, cut(data, at)) == outcome(method, [data])


@given(methods, nearly_answers, edits, places)
def test_what_nearly_is_an_answer_comes_to_the_same_however_it_is_cut(
    method: str, data: bytes, changes: list[tuple[int, int, bytes]], at: list[int]
) -> None:
    for place, gone, put in changes:
        start = place % (len(data) + 1)
        data = data[:start] + put + data[start + gone :]
    assert outcome(method, cut(data, at)) == outcome(method, [data])
    assert outcome(method, [data[i : i + 1] for i in range(len(data))]) == outcome(method, [data])


@given(st.lists(st.binary(min_size=1, max_size=200), max_size=5), places)
def test_a_body_is_the_same_in_every_framing(parts: list[bytes], at: list[int]) -> None:
    sent = b"".join(parts)
    chunked = b"".join(b"%X\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
    for whole in (
        OK + b"Content-Length: %d\r\n\r\n" % len(sent) + sent,
        CHUNKED + chunked,
        OK + b"\r\n" + sent,
    ):
        assert body(read(*cut(whole, at), closed=True)) == sent


# -- what we send --------------------------------------------------------------------------------------


def test_a_request_as_it_leaves() -> None:
    sent = write_request("POST", "/a?b=c", "imt.example:81", {"A": "b"}, b"{}")
    assert sent == b"POST /a?b=c HTTP/1.1\r\nHost: imt.example:81\r\nA: b\r\nContent-Length: 2\r\n\r\n{}"
    assert b"Content-Length: 0\r\n" in write_request("POST", "/", "a", {}, None)
    assert b"Content-Length" not in write_request("GET", "/", "a", {}, None)


@pytest.mark.parametrize("value", ["a\r\nB: c", "a\n", "a\r", "a\x00", "\x7f", "caf\u00e9", "\u010a"])
def test_a_header_cannot_smuggle_another(value: str) -> None:
    with pytest.raises(BrokenRequest):
        write_request("POST", "/", "a", {"A": value}, None)


@pytest.mark.parametrize(
    "name", ["", "A B", "A:", "A\r\nB", "\u0100", "Host", "content-length", "Transfer-Encoding"]
)
def test_a_headers_name_is_one_and_none_of_the_framing(name: str) -> None:
    with pytest.raises(BrokenRequest):
        write_request("POST", "/", "a", {name: "b"}, None)


@pytest.mark.parametrize("method", ["", "GET /", "POST\r\nA: b", "PO\u0160T"])
def test_a_method_is_one_word(method: str) -> None:
    with pytest.raises(BrokenRequest):
        write_request(method, "/", "a", {}, None)


@pytest.mark.parametrize(
    "url",
    [
        "http://imt.example/a b",
        "http://imt.example/a\r\nX: y",
        "http://imt.example\r\n/a",
        "http://user:word@imt.example/",
        "http://imt.example:0/",
        "http://imt.example:99999/",
        "http://imt.example:x/",
        "http://b\u00fccher.example/",
        "http://imt.example/\u00e9",
        "http:/a",
        "//imt.example/",
    ],
)
def test_an_address_that_cannot_be_asked_is_none(url: str) -> None:
    with pytest.raises(BadAddress):
        read_address(url)


def test_an_address_is_sent_as_it_is_given() -> None:
    address = read_address("https://IMT.example/a%2Fb/?c=%20#part")
    assert (address.origin.host, address.origin.port, address.target) == ("imt.example", 443, "/a%2Fb/?c=%20")
    six = read_address("http://[::1]:81?q")
    assert (six.origin.host, six.host, six.target, six.here) == ("::1", "[::1]:81", "/?q", True)


def test_headers_are_read_without_regard_to_case_and_shown_without_values() -> None:
    headers = Headers([(b"set-cookie", b"secret"), (b"a", b"1"), (b"a", b"2")])
    assert (headers["A"], list(headers), len(headers)) == ("1", ["set-cookie", "a"], 2)
    assert "missing" not in headers
    assert "secret" not in repr(headers)
