"""Pre-subscriptions: rules, limits, and that the arranged set answers as its entries do."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dispatcher import limits
from dispatcher.core.presubscriptions import Choosers, Matcher, any_matches, check, matches
from dispatcher.errors import ValidationError
from dispatcher.model import Presubscription


def entry(name: str | None = None, type_: str | None = None, *paths: str) -> Presubscription:
    return Presubscription(endpoint_name=name, endpoint_type=type_, resource_paths=paths or None)


def does_match(entries: Sequence[Presubscription], ep: str, ept: str | None, path: str) -> bool:
    choosers = Choosers()
    choosers.add(1, Matcher(entries))
    return any(any_matches(patterns, path) for _, patterns in choosers.paths_of(ep, ept))


@pytest.mark.parametrize(
    ("chosen", "ep", "ept", "path"),
    [
        (entry(), "a", None, "/1"),
        (entry("*", "*", "*"), "a", None, "/1"),
        (entry("node-1"), "node-1", None, "/1"),
        (entry("node-*"), "node-1", None, "/1"),
        (entry("node-*"), "node-", None, "/1"),
        (entry(None, "light"), "a", "light", "/1"),
        (entry(None, "li*"), "a", "light", "/1"),
        (entry(None, None, "/3/*"), "a", None, "/3/0"),
        (entry(None, None, "/3*"), "a", None, "/3303/0"),
        (entry(None, None, "3/0"), "a", None, "/3/0"),
        (entry(None, None, "3/*"), "a", None, "/3/0"),
        (entry(None, None, "/9", "/3/0"), "a", None, "/3/0"),
        (entry("n*", "t", "/1"), "n1", "t", "/1"),
    ],
)
def test_what_an_entry_asks_for_matches(chosen: Presubscription, ep: str, ept: str | None, path: str) -> None:
    assert matches(chosen, ep, ept, path)
    assert does_match([chosen], ep, ept, path)


@pytest.mark.parametrize(
    ("chosen", "ep", "ept", "path"),
    [
        (entry("node-1"), "node-12", None, "/1"),
        (entry("node-1"), "Node-1", None, "/1"),
        (entry("node-*"), "node", None, "/1"),
        (entry("ode*"), "node", None, "/1"),
        (entry(None, "light"), "a", None, "/1"),
        (entry(None, "li*"), "a", None, "/1"),
        (entry(None, "light"), "a", "lamp", "/1"),
        (entry(None, None, "/3/*"), "a", None, "/3"),
        (entry(None, None, "/3/*"), "a", None, "/33/0"),
        (entry(None, None, "/3/0"), "a", None, "/3/0/1"),
        (entry("n*", "t", "/1"), "n1", "t", "/2"),
        (entry("n*", "t", "/1"), "n1", "u", "/1"),
        (entry("n*", "t", "/1"), "m1", "t", "/1"),
    ],
)
def test_what_no_entry_asks_for_does_not_match(
    chosen: Presubscription, ep: str, ept: str | None, path: str
) -> None:
    assert not matches(chosen, ep, ept, path)
    assert not does_match([chosen], ep, ept, path)


def test_an_empty_set_matches_nothing() -> None:
    assert not does_match([], "a", "t", "/1")


def test_fields_of_different_entries_do_not_add_up() -> None:
    chosen = [entry("a", None, "/1"), entry("b", None, "/2")]
    assert not does_match(chosen, "a", None, "/2")
    assert not does_match(chosen, "b", None, "/1")


TEXTS = st.text("ab", max_size=3)
PATTERNS = st.one_of(st.none(), TEXTS.map(lambda text: text + "*"), TEXTS)
PATH_PATTERNS = st.one_of(TEXTS, TEXTS.map(lambda text: f"/{text}*"))
PATHS = st.one_of(st.none(), st.lists(PATH_PATTERNS, max_size=3).map(tuple))
ENTRIES = st.builds(Presubscription, endpoint_name=PATTERNS, endpoint_type=PATTERNS, resource_paths=PATHS)


@settings(max_examples=300)
@given(st.lists(ENTRIES, max_size=5), TEXTS, st.one_of(st.none(), TEXTS), TEXTS.map(lambda text: "/" + text))
def test_a_set_matches_when_one_of_its_entries_does(
    entries: list[Presubscription], ep: str, ept: str | None, path: str
) -> None:
    expected = any(matches(chosen, ep, ept, path) for chosen in entries)
    assert does_match(entries, ep, ept, path) == expected


@settings(max_examples=300)
@given(
    st.lists(st.tuples(st.integers(1, 4), st.lists(ENTRIES, max_size=4)), max_size=8),
    TEXTS,
    st.one_of(st.none(), TEXTS),
    TEXTS.map(lambda text: "/" + text),
)
def test_many_sets_in_one_answer_as_each_does(
    changes: list[tuple[int, list[Presubscription]]], ep: str, ept: str | None, path: str
) -> None:
    """Whatever applications had before: each change replaces an application's set."""
    sets: dict[int, list[Presubscription]] = {}
    arranged: dict[int, Matcher] = {}
    choosers = Choosers()
    for application_id, entries in changes:
        if application_id in arranged:
            choosers.remove(application_id, arranged[application_id])
        sets[application_id], arranged[application_id] = entries, Matcher(entries)
        choosers.add(application_id, arranged[application_id])
    expected = {id_ for id_, entries in sets.items() if any(matches(one, ep, ept, path) for one in entries)}
    found = choosers.paths_of(ep, ept)
    assert [id_ for id_, _ in found] == sorted(id_ for id_, _ in found)
    assert {id_ for id_, patterns in found if any_matches(patterns, path)} == expected


@pytest.mark.parametrize(
    ("chosen", "looks"),
    [
        (entry(), False),
        (entry("*", "*", "/1"), False),
        (entry("a*"), True),
        (entry("a"), True),
        (entry(None, "t"), True),
    ],
)
def test_a_set_knows_whether_it_looks_at_devices(chosen: Presubscription, looks: bool) -> None:
    assert Matcher([entry(None, None, "/9"), chosen]).looks_at_devices is looks


def refuse(entries: list[Presubscription]) -> str:
    with pytest.raises(ValidationError) as caught:
        check(entries)
    (field,) = caught.value.fields
    return field.name


def test_sets_at_the_limits_are_allowed() -> None:
    check([])
    check([entry("n" * 64, "t" * 64, "/" + "p" * 127)] * limits.PRESUBSCRIPTIONS_MAX)
    check([entry(None, None, f"/{index}", "/same") for index in range(limits.PRESUBSCRIPTION_PATHS_MAX - 1)])
    check([entry("*", "*", "*", "/*")])


def test_sets_over_the_limits_are_refused() -> None:
    assert refuse([entry()] * (limits.PRESUBSCRIPTIONS_MAX + 1)) == "presubscriptions"
    paths = map(str, range(limits.PRESUBSCRIPTION_PATHS_MAX + 1))
    assert refuse([entry(None, None, *paths)]) == "resource-path"
    assert refuse([entry(), entry("n" * 65)]) == "[1].endpoint-name"
    assert refuse([entry(None, "t" * 65)]) == "[0].endpoint-type"
    assert refuse([entry(None, None, "/1", "p" * 129)]) == "[0].resource-path[1]"


@pytest.mark.parametrize("pattern", ["", "a*b", "*a", "**", "a**"])
def test_a_star_stands_at_the_end_alone_and_nothing_is_empty(pattern: str) -> None:
    assert refuse([entry(pattern)]) == "[0].endpoint-name"
    assert refuse([entry(None, pattern)]) == "[0].endpoint-type"
    assert refuse([Presubscription(resource_paths=(pattern,))]) == "[0].resource-path[0]"


def test_an_empty_list_of_paths_is_refused() -> None:
    assert refuse([Presubscription(resource_paths=())]) == "[0].resource-path"
