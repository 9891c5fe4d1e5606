import contextlib

import hpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeport.runtimes.serve.rpc.frames import Code, ConnectionFault
from edgeport.runtimes.serve.rpc.headers import HeaderReader, literal

REQUEST = [(":method", "POST"), (":scheme", "http"), (":path", "/a/b"), (":authority", "h")]
FULL = [*REQUEST, ("content-type", "application/grpc"), ("te", "trailers"), ("user-agent", "me")]


def encoded(pairs: list[tuple[str, str]], encoder: hpack.Encoder | None = None) -> bytes:
    return (encoder or hpack.Encoder()).encode(pairs)


def test_a_request_is_read_the_first_time_and_again() -> None:
    reader, encoder = HeaderReader(), hpack.Encoder()
    first, *more = (reader.read(encoded(FULL, encoder)) for _ in range(4))
    assert first == {name.encode(): value.encode() for name, value in FULL}
    assert all(found == first for found in more)


def test_a_block_means_something_else_once_the_table_has_changed() -> None:
    reader, encoder = HeaderReader(), hpack.Encoder()
    for user in ("a", "a", "a", "b", "b", "b", "a", "b"):
        found = reader.read(encoded([*REQUEST, ("user", user)], encoder))
        assert found is not None
        assert found[b"user"] == user.encode()


@settings(max_examples=40)
@given(st.lists(st.lists(st.sampled_from("abcdefgh"), max_size=6), max_size=12))
def test_what_is_remembered_is_what_would_be_decoded(requests: list[list[str]]) -> None:
    reader, encoder = HeaderReader(), hpack.Encoder()
    encoder.header_table_size = 256  # so that entries fall out of the table
    for names in requests:
        pairs = [*REQUEST, *((f"x-{name}", name * 30) for name in dict.fromkeys(names))]
        found = reader.read(encoded(pairs, encoder))
        assert found == {name.encode(): value.encode() for name, value in pairs}


def test_a_name_given_twice_is_a_list() -> None:
    found = HeaderReader().read(encoded([*REQUEST, ("a", "1"), ("a", "2")]))
    assert found is not None
    assert found[b"a"] == b"1,2"


@pytest.mark.parametrize(
    "pairs",
    [
        REQUEST[1:],
        REQUEST[:2],
        [*REQUEST, (":method", "POST")],
        [*REQUEST, (":status", "200")],
        [("a", "1"), *REQUEST],
        [*REQUEST, ("Upper", "1")],
        [*REQUEST, ("connection", "close")],
        [*REQUEST, ("transfer-encoding", "chunked")],
        [*REQUEST, ("te", "gzip")],
        [*REQUEST, ("a", "1\r\nb: 2")],
        [(":method", "POST"), (":scheme", "http"), (":path", "")],
        [],
    ],
)
def test_what_breaks_a_rule_of_http_is_no_request(pairs: list[tuple[str, str]]) -> None:
    assert HeaderReader().read(encoded(pairs)) is None


@pytest.mark.parametrize(
    "block", [b"\xff", b"\x80", b"\xbe", b"\x40\x85\xff\xff\xff", b"\x3f\xff\xff\x7f"]
)
def test_what_cannot_be_decoded_ends_the_connection(block: bytes) -> None:
    with pytest.raises(ConnectionFault) as caught:
        HeaderReader().read(block)
    assert caught.value.code == Code.COMPRESSION_ERROR


def test_a_bomb_of_indices_is_not_unpacked() -> None:
    reader, encoder = HeaderReader(), hpack.Encoder()
    reader.read(encoded([*REQUEST, ("x", "y" * 3000)], encoder))
    with pytest.raises(ConnectionFault) as caught:
        reader.read(b"\xbe" * 10)
    assert caught.value.code == Code.ENHANCE_YOUR_CALM


@settings(max_examples=40)
@given(st.binary(max_size=60))
def test_noise_is_refused_in_an_orderly_way(block: bytes) -> None:
    with contextlib.suppress(ConnectionFault):
        HeaderReader().read(block)


@settings(max_examples=40)
@given(st.text("abc-", min_size=1), st.binary(max_size=20_000))
def test_a_literal_is_read_by_others(name: str, value: bytes) -> None:
    decoder = hpack.Decoder(max_header_list_size=2**20)
    pairs = decoder.decode(literal(name.encode(), value), raw=True)
    assert [tuple(pair) for pair in pairs] == [(name.encode(), value)]
