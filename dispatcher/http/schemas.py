"""JSON Schemas of the models that documents speak of.  Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

REF = "#/components/schemas/{name}"


class Schemas:
    """The schemas of all models of one document; each named model stands in ``components`` once."""

    def __init__(self, models: Iterable[Any]) -> None:
        found = list(models)
        schemas, self.components = msgspec.json.schema_components(found, ref_template=REF)
        self._schemas = list(zip(found, schemas, strict=True))

    def of(self, model: Any) -> dict[str, Any]:
        """The schema of a model given at the start, or a reference to it."""
        return next(schema for known, schema in self._schemas if known == model)
