"""Who gets which events, remembered: a bounded table that forgets what it must, exactly."""

from __future__ import annotations

RouteKey = str | tuple[str, str]
"""A path, or a device and a path."""


class Audience:
    """A set of applications that get the same events.  Compared by identity."""

    __slots__ = ("applications",)

    def __init__(self, applications: tuple[int, ...]) -> None:
        self.applications = applications

    def __repr__(self) -> str:
        return f"<Audience {self.applications}>"


class RouteCache:
    """Remembered audiences, at most a fixed number.

    Two tables: when the recent one is half of the bound, it becomes the older one, and
    what was in that one and not asked for since is forgotten.  Every step is O(1).
    """

    def __init__(self, entries_max: int) -> None:
        self._half = max(1, entries_max // 2)
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        self.recent: dict[object, Audience] = {}
        self._older: dict[object, Audience] = {}
        self._recent_paths: dict[str, set[str]] = {}  # by device, for forgetting it
        self._older_paths: dict[str, set[str]] = {}

    def find(self, key: RouteKey) -> Audience | None:
        """What is remembered under a key, and remember it anew."""
        audience = self.recent.get(key)
        if audience is None:
            audience = self._older.get(key)
            if audience is not None:
                self.add(key, audience)
        return audience

    def add(self, key: RouteKey, audience: Audience) -> None:
        """Remember something; what was not asked for the longest may be forgotten for it."""
        if len(self.recent) >= self._half:
            self._older, self._older_paths = self.recent, self._recent_paths
            self.recent, self._recent_paths = {}, {}
        self.recent[key] = audience
        if isinstance(key, tuple):
            self._recent_paths.setdefault(key[0], set()).add(key[1])

    def forget_device(self, ep: str) -> None:
        """Forget all resources of a device."""
        for routes, paths in ((self.recent, self._recent_paths), (self._older, self._older_paths)):
            for path in paths.pop(ep, ()):
                routes.pop((ep, path), None)
