"""The seam of routing by bytes: tables of edges, and what is found in them.  Run for every finder."""

from __future__ import annotations

from array import array

import pytest
from support.routing import FINDERS, Request

from dispatcher.core.route_table import ROOT, RouteFinder, RouteTable, name_of, text_of
from dispatcher.core.routes import Route
from dispatcher.model import Kind


@pytest.fixture(params=FINDERS)
def finder(request: pytest.FixtureRequest) -> RouteFinder:
    return FINDERS[request.param]()


@pytest.fixture
def table(finder: RouteFinder) -> RouteTable:
    return finder.new_table()


def never(ep: bytes, path: bytes) -> int:
    raise AssertionError("nothing was to be resolved")


def device_table(finder: RouteFinder, *edges: tuple[int, str, int]) -> RouteTable:
    table = finder.new_table()
    for node, name, to in edges:
        table.put(node, text_of(name), to)
    return table


@pytest.mark.parametrize("name", ["a", "", 'a"b', "a\\", "\\", "äöü€😀", "x" * 255, "😀" * 64, "\x7f"])
def test_a_name_comes_back_from_its_text(name: str) -> None:
    assert name_of(text_of(name)) == name


def test_an_edge_leads_where_it_was_put_last(table: RouteTable) -> None:
    assert (len(table), table.get(ROOT, b"a")) == (0, 0)
    table.put(ROOT, b"a", 7)
    table.put(ROOT, b"a", 2**32 - 1)
    assert (len(table), table.get(ROOT, b"a")) == (1, 2**32 - 1)
    table.remove(ROOT, b"a")
    table.remove(ROOT, b"a")
    assert (len(table), table.get(ROOT, b"a")) == (0, 0)


def test_edges_differ_by_node_and_by_every_byte_of_the_text(table: RouteTable) -> None:
    texts = [b"x" * length for length in range(70)] + [b"x" * 30 + bytes([c]) + b"x" * 9 for c in range(99)]
    edges = [(node, text) for node in (ROOT, 1, 2**32 - 1) for text in texts]
    for number, edge in enumerate(edges, 1):
        table.put(*edge, number)
    assert [table.get(*edge) for edge in edges] == list(range(1, len(edges) + 1))
    for edge in edges[::2]:
        table.remove(*edge)
    assert [table.get(*edge) for edge in edges[::2]] == [0] * len(edges[::2])
    assert [table.get(*edge) for edge in edges[1::2]] == list(range(2, len(edges) + 1, 2))


def test_an_audience_has_its_channels_until_all_are_forgotten(finder: RouteFinder) -> None:
    audiences = finder.new_audiences()
    assert audiences.get(0) is None
    many = array("Q", range(2**64 - 300, 2**64))
    for key, channels in ((0, array("Q")), (2**64 - 1, array("Q", [7])), (1, many)):
        audiences.put(key, channels)
    assert [audiences.get(key) for key in (0, 2**64 - 1, 1, 2)] == [array("Q"), array("Q", [7]), many, None]
    audiences.clear()
    assert [audiences.get(key) for key in (0, 2**64 - 1, 1)] == [None] * 3
    audiences.put(1, array("Q", [8]))
    assert audiences.get(1) == array("Q", [8])


def test_many_edges_come_and_go(table: RouteTable) -> None:
    for number in range(1, 20_001):
        table.put(ROOT, b"device-%d" % number, number)
    assert len(table) == 20_000
    for number in range(1, 20_001):
        assert table.get(ROOT, b"device-%d" % number) == number
        table.remove(ROOT, b"device-%d" % number)
    assert len(table) == 0
    table.put(ROOT, b"a", 1)
    assert table.get(ROOT, b"a") == 1


def test_events_are_found_by_ep_and_path(finder: RouteFinder) -> None:
    manual = device_table(finder, (ROOT, "a", 1), (1, "/1", 5), (1, "/2", 6), (ROOT, "b", 2), (2, "/1", 5))
    request = Request([("a", "/1"), ("a", "/3"), ("c", "/1"), ("b", "/1"), ("a", "/2")])
    groups = finder.find(manual, None, ROOT, request.block, request.meta, never)
    assert list(groups.pairs) == [(5, 0), (0, 0), (6, 0)]
    assert groups.of == array("I", [0, 1, 1, 0, 2])


def test_events_that_are_all_alike_are_one_group(finder: RouteFinder) -> None:
    manual = device_table(finder, (ROOT, "a", 1), (1, "/1", 5))
    request = Request([("a", "/1")] * 100)
    groups = finder.find(manual, None, ROOT, request.block, request.meta, never)
    assert (list(groups.pairs), len(groups.of)) == ([(5, 0)], 0)
    groups = finder.find(None, None, ROOT, request.block, request.meta, never)
    assert (list(groups.pairs), len(groups.of)) == ([(0, 0)], 0)


def test_with_a_node_to_begin_from_devices_do_not_matter(finder: RouteFinder) -> None:
    chosen = device_table(finder, (4, "/1", 8), (4, "/2", 9))
    request = Request([("a", "/1"), ("b", "/2"), ("c", "/1")])
    groups = finder.find(None, chosen, 4, request.block, request.meta, never)
    assert list(groups.pairs) == [(0, 8), (0, 9)]


@pytest.mark.parametrize("is_remembered", [True, False])
@pytest.mark.parametrize("start", [ROOT, 4])
def test_what_is_not_chosen_yet_is_resolved_in_order(
    finder: RouteFinder, is_remembered: bool, start: int
) -> None:
    manual = device_table(finder, (ROOT, "d3", 1), (1, "/1", 5))
    chosen = finder.new_table()
    asked: list[tuple[bytes, bytes]] = []

    def resolve(ep: bytes, path: bytes) -> int:
        asked.append((ep, path))
        if is_remembered:
            chosen.put(ROOT, ep, 4)
            chosen.put(4, path, 9)
        return 9

    pairs = [(f"d{index}", "/1") for index in range(100)]
    request = Request(pairs * 2)
    groups = finder.find(manual, chosen, start, request.block, request.meta, resolve)
    assert list(groups.pairs) == [(0, 9), (5, 9)]
    assert [index for index, group in enumerate(groups.of) if group] == [3, 103]
    expected = pairs[: 1 if start else 100] if is_remembered else pairs * 2
    assert asked == [(ep.encode(), path.encode()) for ep, path in expected]


def test_a_table_that_is_forgotten_while_it_is_walked_is_walked_to_the_end(finder: RouteFinder) -> None:
    chosen = [finder.new_table()]

    def resolve(ep: bytes, path: bytes) -> int:
        chosen[0] = finder.new_table()
        return 1

    request = Request([("a", "/1"), ("b", "/2")])
    groups = finder.find(None, chosen[0], ROOT, request.block, request.meta, resolve)
    assert list(groups.pairs) == [(0, 1)]


@pytest.mark.parametrize("name", ['a"b', 'a\\"b', "\\", '\\"', "äöü", "😀" * 64, '"', '","path":"/1'])
def test_escapes_and_other_alphabets_are_found(finder: RouteFinder, name: str) -> None:
    manual = device_table(finder, (ROOT, name, 1), (1, "/" + name, 5), (1, "/", 6))
    request = Request([(name, "/" + name), (name, "/"), ("x", "/")])
    groups = finder.find(manual, None, ROOT, request.block, request.meta, never)
    assert list(groups.pairs) == [(5, 0), (6, 0), (0, 0)]


def test_a_device_may_be_named_like_a_path(finder: RouteFinder) -> None:
    table = device_table(finder, (ROOT, "/1", 1), (1, "/1", 5))
    request = Request([("unknown", "/1"), ("/1", "/1")])
    groups = finder.find(table, None, ROOT, request.block, request.meta, never)
    assert list(groups.pairs) == [(0, 0), (5, 0)]
    groups = finder.find(None, table, ROOT, request.block, request.meta, lambda ep, path: 9)
    assert list(groups.pairs) == [(0, 9), (0, 5)]


def test_block_and_meta_may_be_views_of_somebody_s_memory(finder: RouteFinder) -> None:
    manual = device_table(finder, (ROOT, "a", 1), (1, "/1", 5))
    request = Request([("a", "/1"), ("b", "/1")])
    seen: list[tuple[bytes, bytes]] = []

    def resolve(ep: bytes, path: bytes) -> int:
        seen.append((ep, path))
        return 3

    for block in (bytearray(request.block), memoryview(request.block)):
        groups = finder.find(manual, finder.new_table(), ROOT, block, memoryview(request.meta), resolve)
        assert list(groups.pairs) == [(5, 3), (0, 3)]
    assert seen == [(b"a", b"/1"), (b"b", b"/1")] * 2


@pytest.mark.parametrize("kind", [Kind.REGISTRATION, Kind.DE_REGISTRATION])
def test_what_is_no_notification_is_refused(finder: RouteFinder, kind: Kind) -> None:
    request = Request([("a", "/1")]).change(kind, "a")
    with pytest.raises(ValueError, match="notifications"):
        finder.find(finder.new_table(), None, ROOT, request.block, request.meta, never)


@pytest.mark.parametrize("times", [1, 100])
def test_channels_get_the_events_of_all_their_groups_in_order(finder: RouteFinder, times: int) -> None:
    of = array("I", [0, 1, 2, 0, 1, 3] * times)
    plan = finder.fan_out(of, [array("Q", channels) for channels in ([70, 7], [7], [], [2**64 - 1, 70])])
    expected = {70: (0, 3, 5), 7: (0, 1, 3, 4), 2**64 - 1: (5,)}
    assert list(plan.routes) == [
        Route(channel, array("I", [6 * turn + index for turn in range(times) for index in indices]))
        for channel, indices in expected.items()
    ]
    assert plan.unrouted == times


@pytest.mark.parametrize("events", [3, 300])
def test_a_channel_of_all_groups_has_no_indices(finder: RouteFinder, events: int) -> None:
    of = array("I", [index % 3 for index in range(events)])
    plan = finder.fan_out(of, [array("Q", channels) for channels in ([5], [6, 5], [5, 6])])
    assert (plan.routes[0], plan.routes[1].channel, plan.unrouted) == (Route(5), 6, 0)
    assert plan.routes[1].indices == array("I", [index for index in range(events) if index % 3])


@pytest.mark.parametrize("events", [2, 200])
def test_events_of_groups_without_channels_go_nowhere(finder: RouteFinder, events: int) -> None:
    plan = finder.fan_out(array("I", [index % 2 for index in range(events)]), [array("Q"), array("Q")])
    assert (list(plan.routes), plan.unrouted) == ([], events)


@pytest.mark.parametrize("events", [1, 63, 64, 65, 1000, 20_000])
def test_requests_of_any_size_are_found_one_after_the_other(finder: RouteFinder, events: int) -> None:
    manual = finder.new_table()
    for index in range(events):
        manual.put(ROOT, b"d%d" % index, 1 + index % 3)
    for device in (1, 2, 3):
        manual.put(device, b"/1", device * 10)
    request = Request([(f"d{index}", "/1") for index in range(events)])
    for _ in range(2):
        groups = finder.find(manual, None, ROOT, request.block, request.meta, never)
        assert list(groups.pairs) == [(10, 0), (20, 0), (30, 0)][:events]
        assert list(groups.of) == ([index % 3 for index in range(events)] if events > 1 else [])
