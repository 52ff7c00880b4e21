"""What clients offer, and what they are answered."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wsproto.extensions import PerMessageDeflate

from dispatcher.wire.ws_extensions import DeflateTerms, ExtensionOffer, agree_on_deflate, parse_extensions

LEAN = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
OURS = DeflateTerms()


@pytest.mark.parametrize(
    "offer",
    [
        "permessage-deflate",
        "permessage-deflate; client_max_window_bits",  # Node ws, Chromium, Firefox, websockets
        'permessage-deflate; client_max_window_bits="15"',
        "permessage-deflate; client_max_window_bits=8",
        "permessage-deflate;server_no_context_takeover",
        "permessage-deflate ;\tclient_no_context_takeover ; server_no_context_takeover",
        "x-webkit-deflate-frame, permessage-deflate",
        ", ,permessage-deflate,,",
        'other; a="b"; d=e, permessage-deflate',
    ],
)
def test_an_offer_is_taken_and_no_side_keeps_anything(offer):
    terms = agree_on_deflate(offer)
    assert terms == OURS
    assert terms.answer() == LEAN


@pytest.mark.parametrize("bits", range(9, 16))
@pytest.mark.parametrize("spelling", ["{}", '"{}"', '"\\{}"', " {} "])
def test_a_window_that_the_client_asks_for_is_promised(bits, spelling):
    terms = agree_on_deflate(f"permessage-deflate; server_max_window_bits={spelling.format(bits)}")
    assert terms == DeflateTerms(bits, is_window_named=True)
    assert terms.answer() == f"{LEAN}; server_max_window_bits={bits}"


@pytest.mark.parametrize(
    "declined",
    [
        "permessage-deflate; server_max_window_bits=8",  # RFC 7692 allows it; zlib cannot
        "permessage-deflate; server_max_window_bits",
        "permessage-deflate; server_max_window_bits=7",
        "permessage-deflate; server_max_window_bits=16",
        "permessage-deflate; server_max_window_bits=010",
        "permessage-deflate; server_max_window_bits=ten",
        "permessage-deflate; client_max_window_bits=7",
        "permessage-deflate; client_max_window_bits=016",
        "permessage-deflate; client_no_context_takeover=true",
        "permessage-deflate; server_no_context_takeover=1",
        "permessage-deflate; server_no_context_takeover; server_no_context_takeover",
        "permessage-deflate; client_max_window_bits; client_max_window_bits=10",
        "permessage-deflate; something_else",
        "permessage-deflate; Server_No_Context_Takeover",
        "Permessage-Deflate",
        "permessage-deflate2",
        "permessage-bzip2",
    ],
)
def test_an_offer_that_cannot_be_served_is_declined_and_the_next_one_tried(declined):
    assert agree_on_deflate(declined) is None
    assert agree_on_deflate(f"{declined}, permessage-deflate; client_max_window_bits") == OURS


@pytest.mark.parametrize(
    "value",
    [
        None,
        "",
        " , ",
        "permessage-deflate;",
        "permessage-deflate; =10",
        "permessage-deflate; server_max_window_bits=",
        'permessage-deflate; server_max_window_bits="10',
        'permessage-deflate; server_max_window_bits=""',
        'permessage-deflate; server_max_window_bits="1 0"',
        "permessage-deflate server_no_context_takeover",
        "permessage deflate",
        "permessage-deflate, =",
        "permessage-d\u00e9flate",
        "permessage-deflate\r\nX-Other: 1",
    ],
)
def test_nothing_is_agreed_on_without_an_offer_or_with_a_header_that_is_no_list(value):
    assert agree_on_deflate(value) is None


def test_the_first_offer_that_can_be_served_wins():
    offers = "permessage-deflate; server_max_window_bits=8, permessage-deflate; server_max_window_bits=10"
    assert agree_on_deflate(f"{offers}, permessage-deflate") == DeflateTerms(10, is_window_named=True)


def test_items_are_read_as_they_were_offered():
    assert list(parse_extensions('a, b; c; d=e; f="g\\h" ,i')) == [
        ExtensionOffer("a"),
        ExtensionOffer("b", (("c", None), ("d", "e"), ("f", "gh"))),
        ExtensionOffer("i"),
    ]


@given(st.text(alphabet='permsag-dflt;=,"\\ \t10_x', max_size=60))
def test_any_text_is_an_offer_or_none_and_never_a_failure(text):
    terms = agree_on_deflate(text)
    assert terms is None or "permessage-deflate" in text


@given(
    bits=st.integers(9, 15),
    client_bits=st.integers(9, 15),
    takes_over=st.booleans(),
)
def test_what_wsproto_offers_is_answered_so_that_it_takes_the_answer(bits, client_bits, takes_over):
    client = PerMessageDeflate(
        client_max_window_bits=client_bits,
        server_max_window_bits=bits,
        server_no_context_takeover=not takes_over,
    )
    terms = agree_on_deflate(f"permessage-deflate; {client.offer()}")
    client.finalize(terms.answer())
    assert client.server_max_window_bits == terms.window_bits == bits
    assert client.server_no_context_takeover
    assert client.client_no_context_takeover


@pytest.mark.parametrize("tail", [";", ";x", '="', ';x="\\', ",", "; a=b", ' ;x="a'])
def test_a_header_as_long_as_a_head_may_be_is_read_in_no_time(tail):
    started_s = time.perf_counter()
    agree_on_deflate("permessage-deflate" + tail * (65_536 // len(tail)))
    assert time.perf_counter() - started_s < 1.0
