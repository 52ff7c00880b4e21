"""The native scan may only say yes, and only to what the strict path says, byte for byte.

Texts are written token by token, with everything in them that a parser may get
wrong, and then damaged.  Each is parsed twice: by the native scan, and with each
message judged by the strict path.  Records, routing facts and errors must be the same.
"""

from __future__ import annotations

import json
from collections.abc import Callable

from hypothesis import event, example, given, settings
from hypothesis import strategies as st
from support.both_scans import SCANNER, agreed, outcome

from dispatcher import limits
from dispatcher.errors import BadRequest
from dispatcher.wire.canonical import unpack_meta
from dispatcher.wire.ingest import BodyForm, Parsed
from dispatcher.wire.staging import StrictStaging

EPS = ["a", "node-1", "日本", "é", "x" * 64, "😀" * 64, "\u2028", "°C", "a b"]
PATHS = ["/3303/0/5700", "/", "//", "/" + "p" * 254, "/ü", "/°"]
CTS = ["", "text/plain", '"', "\\", "ct", "notifications", "}\n{", "a\x7f"]
PAYLOADS = ["", "MQ==", "MjEuNQ==", "QR==", "QUJ=", "Q/==", "QUJDQUJD"]
NUMBERS = ["0", "60", "-0", "9007199254740992", '"60"', '"060"']
WRONG_EPS = ["x" * 65, "", "a\x7f", "a\x80", "\x9f", "a\n"]
WRONG_PATHS = ["3303", "", "/" + "p" * 255, "/\x85", "/\x7f"]
WRONG_PAYLOADS = ["MQ", "M", "M===", "MQ==\n", " MQ==", "-_==", "===="]
WRONG_NUMBERS = [
    *["1.0", "1e2", "1E400", "0.0", "5.5", "-1", "01", "9007199254740993", "18446744073709551616", "1" * 40],
    *["NaN", "true", '"6 0"', '"-1"', '""', '"9007199254740993"'],
]
DEEP = "[" * 17 + "1" + "]" * 17
STRANGE = ["null", "[]", "{}", '{"a":1,"a":2}', "1e999", '"\\ud800"', '"\\u00e9"', DEEP, "tru"]
PIECES = [b"", b'"', b",", b"{", b"}", b"]", b":", b"\\", b"\x00", b"\xff", b"\xc2\x85", b"\n", b" ", b"0"]
SPACES = st.sampled_from(["", "", "", "", "", " ", "  ", "\t", "\r", "\n"])


def rarely(unusual: st.SearchStrategy[str], usual: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.integers(0, 39).flatmap(lambda dice: unusual if dice == 0 else usual)


def plain(texts: list[str]) -> st.SearchStrategy[str]:
    return st.sampled_from([json.dumps(text, ensure_ascii=False) for text in texts])


def escaped(texts: list[str]) -> st.SearchStrategy[str]:
    """The same strings in other spellings, some of them wrong."""
    return st.sampled_from(
        [
            spelling
            for text in texts
            for spelling in (
                json.dumps(text),
                json.dumps(text).replace("/", "\\/"),
                '"' + "".join(f"\\u{ord(char) & 0xFFFF:04x}" for char in text) + '"',
                f'"{text}"',
            )
        ]
    )


def strings(right: list[str], wrong: list[str]) -> st.SearchStrategy[str]:
    unusual = st.one_of(plain(wrong), escaped(right + wrong), st.sampled_from(STRANGE))
    return rarely(unusual, st.one_of(plain(right), plain(right), escaped(right)))


def numbers() -> st.SearchStrategy[str]:
    return rarely(st.sampled_from(WRONG_NUMBERS + STRANGE), st.sampled_from(NUMBERS))


VALUES: dict[str, st.SearchStrategy[str]] = {
    "ep": strings(EPS, WRONG_EPS),
    "path": strings(PATHS, WRONG_PATHS),
    "ct": strings(CTS, ["c" * 256]),
    "payload": strings(PAYLOADS, WRONG_PAYLOADS),
    "max-age": numbers(),
    "original-ep": strings(EPS, WRONG_EPS),
    "uid": strings(EPS, WRONG_EPS),
    "timestamp": numbers(),
    "max_age": st.just("1"),
    "x": st.one_of(plain(CTS), st.sampled_from(STRANGE)),
}
FULL = ["ep", "path", "ct", "payload", "max-age"]
SPARSE = ["ep", "path", "original-ep", "uid", "timestamp"]


@st.composite
def spaced(draw: st.DrawFn, tokens: list[str]) -> str:
    """Tokens with white space between them, usually none."""
    if draw(st.integers(0, 3)):
        return "".join(tokens)
    return "".join(token + draw(SPACES) for token in tokens)


@st.composite
def objects(draw: st.DrawFn, members: list[tuple[str, str]]) -> str:
    tokens = ["{"]
    for number, (key, value) in enumerate(members):
        tokens += [",", key, ":", value] if number else [key, ":", value]
    return draw(spaced([*tokens, "}"]))


def keys(name: str) -> st.SearchStrategy[str]:
    odd = st.sampled_from([f'"\\u{ord(name[0]):04x}{name[1:]}"', f'"{name.upper()}"', f'"{name}\x7f"'])
    return rarely(odd, st.just(f'"{name}"'))


@st.composite
def notifications(draw: st.DrawFn) -> str:
    """A full or a sparse notification; now and then a member is missing, twice, or misspelt."""
    names = list(draw(st.sampled_from([FULL, FULL, ["ep", "path"], SPARSE])))
    change = draw(st.integers(0, 19))
    if change == 0:
        names.remove(draw(st.sampled_from(names)))
    elif change < 3:
        names.append(draw(st.sampled_from(list(VALUES))))
    elif change < 6:
        names = draw(st.permutations(names))
    members = [(draw(keys(name)), draw(VALUES[name])) for name in names]
    return draw(objects(members))


OTHERS = st.sampled_from(
    [
        ("de-registrations", '["a",{"ep":"b"}]'),
        ("reg-updates", '[{"ep":"a","ept":"t","resources":[{"path":"/1"}]}]'),
        ("registrations", '[{"ep":"a","ep":"b"}]'),
        ("async-responses", '[{"id":"notifications","status":200}]'),
        ("message-id", '"m"'),
        ("message-id", '""'),
        ("message-id", '"é"'),
        ("notifications", "null"),
        ("nothing", "[]"),
    ]
)


@st.composite
def messages(draw: st.DrawFn) -> str:
    members = []
    for _ in range(draw(st.sampled_from([1] * 18 + [0, 2]))):
        events = draw(st.lists(notifications(), max_size=4))
        array = ["[", *[token for item in events for token in (",", item)][1:], "]"]
        members.append((draw(keys("notifications")), draw(spaced(array))))
    if not draw(st.integers(0, 9)):
        name, value = draw(OTHERS)
        members.insert(draw(st.integers(0, len(members))), (f'"{name}"', value))
    return draw(objects(members))


@st.composite
def damaged(draw: st.DrawFn, text: bytes) -> bytes:
    """A few bytes taken out, put in or changed."""
    for _ in range(draw(st.sampled_from([0] * 8 + [1, 3]))):
        at = draw(st.integers(0, len(text)))
        piece = draw(st.sampled_from(PIECES))
        text = text[:at] + piece + text[at + draw(st.integers(0, 2)) :]
    return text


BODIES = messages().map(lambda text: text.encode("utf-8", "surrogatepass")).flatmap(damaged)
NDJSON_BODIES = (
    st.lists(st.one_of(messages(), st.sampled_from(["", " ", "{}", "[]"])), max_size=6)
    .flatmap(lambda lines: st.sampled_from(["\n", "\r\n"]).map(lambda newline: newline.join(lines)))
    .map(lambda text: text.encode("utf-8", "surrogatepass"))
    .flatmap(damaged)
)


def one_outcome(text: bytes, form: BodyForm) -> Parsed | None:
    """What comes of a text by both paths; None: it is refused by both, in the same words."""
    try:
        return agreed(outcome(text, form, SCANNER.staging), outcome(text, form, StrictStaging))
    except BadRequest:
        return None


def is_taken_natively(text: bytes, form: BodyForm) -> bool:
    may_be_named = form is BodyForm.SOCKET
    return (
        SCANNER.staging()
        .take_message(text, limits.EVENTS_PER_REQUEST_MAX, may_be_named=may_be_named)
        .messages
        == 1
    )


@settings(max_examples=500)
@given(BODIES, st.sampled_from([BodyForm.JSON, BodyForm.SOCKET]))
@example(b'{"notifications":[{"ep":"a","path":"/","ct":"","payload":"","max-age":1e3,"x":1}]}', BodyForm.JSON)
@example(b'{"notifications":[{"ep":"a","path":"/1","ct":"","payload":"QR==","max-age":-0}]}', BodyForm.JSON)
@example(b'{"notifications":[{"ep":"a\\u007f","path":"\\/","payload":"","max-age":1}]}', BodyForm.JSON)
@example(b'{"notifications":[{"ep":"a\\"","path":"/","ct":"","payload":"","ct":"\\\\"}]}', BodyForm.JSON)
@example(b'{"notifications":[{"ep":"a\x7f","path":"/1","ct":"","payload":"","max-age":0}]}', BodyForm.JSON)
@example(b'{"notifications":[{"ep":"a","path":"/\xc2\x9f","ct":"","payload":"","max-age":0}]}', BodyForm.JSON)
@example(b'{"notifications":[{"ep":"a","path":"/","max-age":9007199254740993}]}', BodyForm.JSON)
@example(b'{"notifications":[{"ep":"a","path":"/","timestamp":5.5}]}', BodyForm.JSON)
@example(b'{"notifications":[{"ep":"a","path":"/","timestamp":9007199254740993}]}', BodyForm.JSON)
def test_a_message_has_one_outcome_by_either_path(text: bytes, form: BodyForm) -> None:
    event("taken" if one_outcome(text, form) is not None else "refused")
    event("natively" if is_taken_natively(text, form) else "strictly")


@settings(max_examples=250)
@given(NDJSON_BODIES)
def test_lines_have_one_outcome_by_either_path(text: bytes) -> None:
    event("taken" if one_outcome(text, BodyForm.NDJSON) is not None else "refused")


@settings(max_examples=200)
@given(BODIES)
def test_what_is_stored_is_canonical_and_parses_to_itself(text: bytes) -> None:
    found = one_outcome(text, BodyForm.JSON)
    if found is None:
        return
    at = 0
    for number, packed in enumerate(found.meta):
        meta = unpack_meta(packed)
        body = bytes(found.block[at : at + meta.body_bytes])
        at += meta.body_bytes
        if found.paths[number] is not None:
            again = one_outcome(b'{"notifications":[' + body + b"]}", BodyForm.JSON)
            assert again is not None
            assert (again.block, list(again.meta)) == (body, [packed])
            assert list(json.loads(body))[:5] == ["ep", "path", "ct", "payload", "max-age"]
    assert at == len(found.block)


def _shares(bodies: st.SearchStrategy[bytes], examples: int, judge: Callable[[bytes], str]) -> dict[str, int]:
    counts: dict[str, int] = {}

    @settings(max_examples=examples, database=None, derandomize=True)
    @given(bodies)
    def count(text: bytes) -> None:
        verdict = judge(text)
        counts[verdict] = counts.get(verdict, 0) + 1

    count()
    return counts


def test_the_texts_reach_all_of_both_paths() -> None:
    """The properties above mean nothing if every text is refused at once."""

    def judge(text: bytes) -> str:
        if is_taken_natively(text, BodyForm.JSON):
            return "natively"
        return "refused" if one_outcome(text, BodyForm.JSON) is None else "strictly"

    counts = _shares(BODIES, 300, judge)
    assert counts.get("natively", 0) >= 60, counts
    assert counts.get("refused", 0) >= 60, counts
    assert counts.get("strictly", 0) >= 5, counts
