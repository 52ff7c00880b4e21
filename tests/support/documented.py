"""Holds answers against ``/openapi.json``: status and media type must be in it."""

from __future__ import annotations

import json
import re
from typing import Any


class Documented:
    """A document, as a judge of answers."""

    def __init__(self, document: bytes) -> None:
        paths: dict[str, Any] = json.loads(document)["paths"]
        self._rows = [(_path_pattern(path), item) for path, item in sorted(paths.items(), key=_rank)]

    def check(self, method: str, path: str, status: int, content_type: str | None) -> None:
        """Fail unless the row of this path names the status, and the media type with it."""
        item = next((item for pattern, item in self._rows if pattern.fullmatch(path)), None)
        operation = item and item.get("get" if method == "HEAD" else method.lower())
        if operation is None:
            assert status >= 400, f"{method} {path} answers {status} and is not in the document"
            return
        response = operation["responses"].get(str(status))
        assert response is not None, f"{method} {path} answers {status}, which its row does not name"
        media_type = (content_type or "").partition(";")[0]
        named = set(response.get("content", {})) or {""}
        assert media_type in named or "*/*" in named, (
            f"{method} {path} answers {status} with {media_type or 'no body'}, its row names {sorted(named)}"
        )


def _rank(path: tuple[str, Any]) -> tuple[int, str]:
    """Literal paths before those with parameters, which may take them too."""
    return path[0].count("{"), path[0]


def _path_pattern(path: str) -> re.Pattern[str]:
    pieces = re.split(r"(\{[^}]*\})", path)
    texts = [_parameter(piece) if piece.startswith("{") else re.escape(piece) for piece in pieces]
    return re.compile("".join(texts))


def _parameter(piece: str) -> str:
    return ".+" if piece == "{resource-path}" else "[^/]+"
