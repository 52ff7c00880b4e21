"""Pre-subscriptions: patterns that an application chooses devices and resources by.

An entry's fields are ANDed, entries are ORed.  A pattern is a text, or a
beginning followed by one ``*``.  They are matched when an event arrives, not
expanded into rows, so a set may be replaced at any time at the cost of its size.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Generic, TypeVar

from dispatcher import limits
from dispatcher.errors import FieldError, ValidationError
from dispatcher.model import Presubscription

_T = TypeVar("_T")

_ANY = "*"


def check(entries: Sequence[Presubscription]) -> None:
    """Raise ``ValidationError`` unless a set keeps the rules and limits."""
    if len(entries) > limits.PRESUBSCRIPTIONS_MAX:
        raise _invalid("presubscriptions", f"there are more than {limits.PRESUBSCRIPTIONS_MAX} entries")
    for index, entry in enumerate(entries):
        name_max = limits.PRESUBSCRIPTION_NAME_CHARS_MAX
        _check_pattern(entry.endpoint_name, f"[{index}].endpoint-name", name_max)
        _check_pattern(entry.endpoint_type, f"[{index}].endpoint-type", name_max)
        if entry.resource_paths is not None:
            _check_paths(entry.resource_paths, f"[{index}].resource-path")
    paths = {path for entry in entries for path in entry.resource_paths or ()}
    if len(paths) > limits.PRESUBSCRIPTION_PATHS_MAX:
        raise _invalid(
            "resource-path", f"there are more than {limits.PRESUBSCRIPTION_PATHS_MAX} different paths"
        )


def _check_paths(paths: Sequence[str], field: str) -> None:
    if not paths:
        raise _invalid(field, "must hold at least one path; leave it out to match all")
    for index, path in enumerate(paths):
        _check_pattern(path, f"{field}[{index}]", limits.PRESUBSCRIPTION_PATH_CHARS_MAX)


def _check_pattern(pattern: str | None, field: str, chars_max: int) -> None:
    if pattern is None:
        return
    if not pattern:
        raise _invalid(field, "must not be empty; leave it out to match all")
    if len(pattern) > chars_max:
        raise _invalid(field, f"is longer than {chars_max} characters")
    if _ANY in pattern[:-1]:
        raise _invalid(field, "may hold one * only, as its last character")


def _invalid(field: str, message: str) -> ValidationError:
    return ValidationError(f"{field}: {message}", fields=(FieldError(name=field, message=message),))


def matches(entry: Presubscription, ep: str, ept: str | None, path: str) -> bool:
    """Whether one entry asks for a resource of a device; ``ept`` None: its type is not known.

    A device of unknown type matches only entries that ask for no type, or for any.
    """
    paths = entry.resource_paths
    type_pattern = _or_any(entry.endpoint_type)
    return (
        _pattern_matches(_or_any(entry.endpoint_name), ep)
        and (type_pattern == _ANY or (ept is not None and _pattern_matches(type_pattern, ept)))
        and (paths is None or any(_pattern_matches(_with_slash(pattern), path) for pattern in paths))
    )


def _or_any(pattern: str | None) -> str:
    return _ANY if pattern is None else pattern


def _pattern_matches(pattern: str, text: str) -> bool:
    return text.startswith(pattern[:-1]) if pattern.endswith(_ANY) else text == pattern


def _with_slash(pattern: str) -> str:
    """A path as it stands in events: applications write ``3/*`` as well as ``/3/*``."""
    return pattern if pattern.startswith("/") else f"/{pattern}"


class Matcher:
    """An application's whole set, arranged so that a match costs by what it meets.

    Three levels of look-up (name, type, path); at each one probe for the exact
    text and one for each length of beginning in use.
    """

    def __init__(self, entries: Sequence[Presubscription]) -> None:
        self.names: _Names = _Patterns()
        for entry in entries:
            types = self.names.at(_or_any(entry.endpoint_name), _Patterns)
            paths = types.at(_or_any(entry.endpoint_type), _Patterns)
            for path in (_ANY,) if entry.resource_paths is None else entry.resource_paths:
                paths.at(_with_slash(path), bool)
        self.looks_at_devices = any(
            _or_any(entry.endpoint_name) != _ANY or _or_any(entry.endpoint_type) != _ANY for entry in entries
        )


class Choosers:
    """The sets of many applications in one: a search costs by who matches, not by how many there are."""

    def __init__(self) -> None:
        self._names: _Patterns[dict[int, _Types]] = _Patterns()

    def add(self, application_id: int, matcher: Matcher) -> None:
        """An application has this set now."""
        for pattern, types in matcher.names.items():
            self._names.at(pattern, dict[int, _Types])[application_id] = types

    def remove(self, application_id: int, matcher: Matcher) -> None:
        """It has this set no more."""
        for pattern, _ in matcher.names.items():
            behind = self._names.at(pattern, dict[int, _Types])
            del behind[application_id]
            if not behind:
                self._names.remove(pattern)

    def paths_of(self, ep: str, ept: str | None) -> tuple[tuple[int, DevicePatterns], ...]:
        """Of each application that may want something of a device, by its number: the path patterns.

        The same objects for devices that are alike.  ``any_matches`` then answers as ``matches`` would for
        any entry of the application's set.
        """
        found: dict[int, DevicePatterns] = {}
        for behind in self._names.find(ep):
            for application_id, types in behind.items():
                found[application_id] = found.get(application_id, ()) + tuple(types.of(ept))
        return tuple(sorted([(id_, patterns) for id_, patterns in found.items() if patterns], key=_number))


def _number(found: tuple[int, DevicePatterns]) -> int:
    return found[0]


def any_matches(patterns: DevicePatterns, path: str) -> bool:
    """Whether any of a device's path patterns matches."""
    return any(True for each in patterns for _ in each.find(path))


class _Patterns(Generic[_T]):
    """A table from patterns to values, searched with a text."""

    def __init__(self) -> None:
        self._exact: dict[str, _T] = {}
        self._by_beginning: dict[int, dict[str, _T]] = {}  # outer key: its length

    def at(self, pattern: str, make: type[_T]) -> _T:
        """The value of a pattern, made when there is none."""
        if not pattern.endswith(_ANY):
            return self._exact.setdefault(pattern, make())
        beginning = pattern[:-1]
        return self._by_beginning.setdefault(len(beginning), {}).setdefault(beginning, make())

    def items(self) -> Iterator[tuple[str, _T]]:
        """All patterns and their values."""
        yield from self._exact.items()
        for table in self._by_beginning.values():
            for beginning, value in table.items():
                yield beginning + _ANY, value

    def remove(self, pattern: str) -> None:
        """Forget a pattern that is there."""
        if not pattern.endswith(_ANY):
            del self._exact[pattern]
            return
        beginning = pattern[:-1]
        del self._by_beginning[len(beginning)][beginning]
        if not self._by_beginning[len(beginning)]:
            del self._by_beginning[len(beginning)]

    def of(self, text: str | None) -> Iterator[_T]:
        """As ``find``; of a text that is not known, what matches any."""
        return self.find_any() if text is None else self.find(text)

    def find(self, text: str) -> Iterator[_T]:
        """The values of all patterns that match a text."""
        if text in self._exact:
            yield self._exact[text]
        for length, table in self._by_beginning.items():
            beginning = text[:length]
            if beginning in table:  # never for a text shorter than ``length``
                yield table[beginning]

    def find_any(self) -> Iterator[_T]:
        """The value of the pattern that matches everything."""
        table = self._by_beginning.get(0)
        if table is not None:
            yield table[""]


_Types = _Patterns[_Patterns[bool]]
_Names = _Patterns[_Types]
DevicePatterns = tuple[_Patterns[bool], ...]
"""The path patterns that hold for a device."""
