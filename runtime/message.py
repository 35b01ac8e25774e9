"""What all messages between the daemon and a worker are made of, whichever engine they are for.

Imports msgspec and the standard library only.
"""

from enum import StrEnum

import msgspec


class FailureCode(StrEnum):
    """Why a worker could not do what was asked; each is also an `appliance.errors.Code`."""

    INVALID = "invalid"
    NOT_FOUND = "not_found"
    TOO_LARGE = "too_large"
    RATE_LIMITED = "rate_limited"
    OVERLOADED = "overloaded"
    INTERNAL = "internal"


class Value(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Base of what messages are made of."""


class Message(msgspec.Struct, tag=True, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Base of all messages; the class name is the tag."""


class Task(Message, frozen=True, kw_only=True):
    """Base of what clients ask of an engine."""

    request_id: str
    """Made by the daemon and unique for the worker's life."""
    adapter: str = ""
    """A LoRA addon that was loaded (`LoadAdapter.adapter`); empty: the model itself."""
    tenant: str = ""
    """Computing time is shared fairly between tenants; the daemon derives it from the account."""
    sent_at: float = 0.0
    """The daemon's `time.monotonic()`, a clock that the processes of one machine share; 0: not said."""


class FollowUp(Message, frozen=True, kw_only=True):
    """Base of what belongs to a task and comes after it, in order."""

    request_id: str


class Used(Value, frozen=True, kw_only=True):
    """What a task is metered by; of every kind of engine something else."""

    num_prompt_tokens: int = 0
    audio_ms: int = 0
    """Of sound that was listened to."""
    num_images: int = 0
    """Pictures that were made."""


class Piece(Message, frozen=True, kw_only=True):
    """Base of what an engine other than a language model's answers: a task's answer comes in one or more."""

    request_id: str
    is_last: bool = False
    used: Used = Used()
    """By this piece; the sum over all is what the task is metered by."""
