"""Whom pre-subscriptions choose: what is remembered, and what is forgotten."""

from __future__ import annotations

import pytest

from dispatcher.core.chosen_audiences import ChosenAudiences
from dispatcher.core.route_table import RouteFinder, text_of
from dispatcher.model import Presubscription

EDGES_MAX = 10


def entry(name: str | None = None, type_: str | None = None, *paths: str) -> Presubscription:
    return Presubscription(endpoint_name=name, endpoint_type=type_, resource_paths=paths or None)


@pytest.fixture
def chosen(finder: RouteFinder) -> ChosenAudiences:
    return ChosenAudiences(finder.new_table, EDGES_MAX)


def ask(chosen: ChosenAudiences, ep: str, path: str, ept: str | None = None) -> tuple[int, ...]:
    number = chosen.number(text_of(ep), text_of(path), lambda _: ept)
    assert number > 0
    return chosen.audience(number)


def test_an_audience_is_who_has_a_matching_entry(chosen: ChosenAudiences) -> None:
    chosen.set(7, (entry("a*", None, "/1"), entry("b")))
    chosen.set(3, (entry(None, None, "/1*"),))
    assert ask(chosen, "a1", "/1") == (3, 7)
    assert ask(chosen, "a1", "/12") == (3,)
    assert ask(chosen, "b", "/2") == (7,)
    assert ask(chosen, "c", "/2") == ()


def test_names_and_paths_with_escapes_are_matched_as_they_are(chosen: ChosenAudiences) -> None:
    chosen.set(7, (entry('a"\\é*', None, '/"*'),))
    assert ask(chosen, 'a"\\é1', '/"1') == (7,)
    assert ask(chosen, "a\\1", '/"1') == ()


def test_devices_that_are_alike_share_what_is_remembered(chosen: ChosenAudiences) -> None:
    chosen.set(7, (entry("a*"), entry("b", None, "/1")))
    for ep in ("a1", "a2", "a3", "x", "y"):
        ask(chosen, ep, "/1")
    assert len(chosen.table) == 5 + 2


def test_while_no_entry_looks_at_devices_nothing_is_remembered_of_them(chosen: ChosenAudiences) -> None:
    chosen.set(7, (entry(None, None, "/1*"), entry("*", "*", "/2")))
    for index in range(100):
        assert ask(chosen, f"a{index}", "/1") == (7,)
    assert len(chosen.table) == 1


def test_a_type_is_asked_for_when_a_device_is_not_remembered(chosen: ChosenAudiences) -> None:
    chosen.set(7, (entry(None, "light"),))
    assert ask(chosen, "a", "/1", "light") == (7,)
    assert ask(chosen, "a", "/2", "lamp") == (7,)
    chosen.forget_device("a")
    assert ask(chosen, "a", "/2", "lamp") == ()
    chosen.forget_device("unknown")


def test_a_changed_set_forgets_everything_and_the_same_one_nothing(chosen: ChosenAudiences) -> None:
    chosen.set(7, (entry("a*"),))
    ask(chosen, "a", "/1")
    before = len(chosen.table)
    assert before == 2
    chosen.set(7, (entry("a*"),))
    assert (len(chosen.table), chosen.version) == (before, 1)
    chosen.set(7, (entry("b*"),))
    assert (len(chosen.table), chosen.version) == (0, 2)
    assert ask(chosen, "a", "/1") == ()
    chosen.set(7, ())
    assert not chosen
    assert ask(chosen, "b", "/1") == ()


def test_what_is_remembered_is_bounded_and_answers_stay_right(chosen: ChosenAudiences) -> None:
    chosen.set(7, (entry("a*", None, "/1*"),))
    for index in range(100):
        assert ask(chosen, f"a{index}", f"/1/{index}") == (7,)
        assert ask(chosen, f"b{index}", f"/1/{index}") == ()
        assert len(chosen.table) <= EDGES_MAX
    assert len(chosen.table) == EDGES_MAX
    chosen.make_room()
    assert len(chosen.table) == 0
    assert ask(chosen, "a1", "/1/1") == (7,)
    remembered = len(chosen.table)
    chosen.make_room()
    assert len(chosen.table) == remembered == 2
