"""The form of messages as the native core, and the journal, write it down."""

from __future__ import annotations

from dispatcher.model import Form
from dispatcher.queue._core import lib


def form_flags(form: Form) -> int:
    """``nd_form``, or-ed."""
    flags: int = (
        (lib.ND_FORM_MIXED_KINDS if form.mixed_kinds else 0)
        | (lib.ND_FORM_DEREGISTRATIONS_AS_OBJECT if form.deregistrations_as_object else 0)
        | (lib.ND_FORM_UID if form.include_uid else 0)
        | (lib.ND_FORM_TIMESTAMP if form.include_timestamp else 0)
        | (lib.ND_FORM_ORIGINAL_EP if form.include_original_ep else 0)
    )
    return flags


def form_of(flags: int) -> Form:
    """The form that these flags stand for."""
    return Form(
        mixed_kinds=bool(flags & lib.ND_FORM_MIXED_KINDS),
        deregistrations_as_object=bool(flags & lib.ND_FORM_DEREGISTRATIONS_AS_OBJECT),
        include_uid=bool(flags & lib.ND_FORM_UID),
        include_timestamp=bool(flags & lib.ND_FORM_TIMESTAMP),
        include_original_ep=bool(flags & lib.ND_FORM_ORIGINAL_EP),
    )
