"""The form of messages, and gaps, as the native core and the journal write them down."""

from __future__ import annotations

from typing import Any

from dispatcher.core.gap_list import KnownGap
from dispatcher.model import GAP_REASONS, Form, Gap
from dispatcher.queue._core import lib


def form_flags(form: Form) -> int:
    """``nd_form``, or-ed."""
    flags: int = (
        (lib.ND_FORM_MIXED_KINDS if form.mixed_kinds else 0)
        | (lib.ND_FORM_DEREGISTRATIONS_AS_OBJECT if form.deregistrations_as_object else 0)
        | (lib.ND_FORM_UID if form.include_uid else 0)
        | (lib.ND_FORM_TIMESTAMP if form.include_timestamp else 0)
        | (lib.ND_FORM_ORIGINAL_EP if form.include_original_ep else 0)
        | (lib.ND_FORM_GAPS if form.include_gaps else 0)
    )
    return flags


def batch_form_flags(form: Form, has_gaps: bool) -> int:
    """The same for one batch, which begins with gaps or does not."""
    return form_flags(form) & ~(0 if has_gaps else lib.ND_FORM_GAPS)


def form_of(flags: int) -> Form:
    """The form that these flags stand for."""
    return Form(
        mixed_kinds=bool(flags & lib.ND_FORM_MIXED_KINDS),
        deregistrations_as_object=bool(flags & lib.ND_FORM_DEREGISTRATIONS_AS_OBJECT),
        include_uid=bool(flags & lib.ND_FORM_UID),
        include_timestamp=bool(flags & lib.ND_FORM_TIMESTAMP),
        include_original_ep=bool(flags & lib.ND_FORM_ORIGINAL_EP),
        include_gaps=bool(flags & lib.ND_FORM_GAPS),
    )


def write_gap(raw: Any, known: KnownGap) -> None:
    """Fill in an ``nd_gap``."""
    gap = known.gap
    raw.behind_seq = gap.behind_seq
    raw.last_seq = gap.last_seq
    raw.count = gap.count
    raw.from_unix_ms = gap.from_unix_ms
    raw.to_unix_ms = gap.to_unix_ms
    raw.reason = GAP_REASONS.index(gap.reason) + 1
    raw.is_told = known.is_told


def read_gap(raw: Any) -> KnownGap:
    """What an ``nd_gap`` of a valid unit says."""
    gap = Gap(
        behind_seq=raw.behind_seq,
        last_seq=raw.last_seq,
        count=raw.count,
        reason=GAP_REASONS[raw.reason - 1],
        from_unix_ms=raw.from_unix_ms,
        to_unix_ms=raw.to_unix_ms,
    )
    return KnownGap(gap, bool(raw.is_told))
