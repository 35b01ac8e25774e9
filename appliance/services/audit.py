"""Telling the audit log: a change of state writes its row in its own transaction, so that neither is without the other.

Says who did what to which resource and which fields were given; never a value, a prompt or a key.
"""

from collections.abc import Iterable

import msgspec

from appliance.domain import AuditEntry, Principal
from appliance.names import account_of
from appliance.store import audit_logs
from appliance.store.database import Transaction


async def record(tx: Transaction, principal: Principal, resource: str, fields: Iterable[str] = ()) -> None:
    """What `principal` does with this transaction. `resource` is a full name, `fields` the wire names given."""
    origin = principal.origin
    await audit_logs.append(
        tx,
        AuditEntry(
            account_id=account_of(resource),
            at=tx.now,
            user_account_id=principal.account_id,
            user_id=principal.user_id,
            key_id=principal.key_id,
            role=principal.role,
            method=origin.method,
            resource=resource,
            fields=sorted(fields),
            request_id=origin.request_id,
            client_address=origin.client_address,
            user_agent=origin.user_agent,
        ),
    )


async def record_own_act(tx: Transaction, method: str, resource: str, message: str) -> None:
    """What the appliance does by itself, and why."""
    await audit_logs.append(
        tx,
        AuditEntry(
            account_id=account_of(resource),
            at=tx.now,
            user_account_id="",
            user_id="",
            key_id="",
            method=method,
            resource=resource,
            message=message,
        ),
    )


def fields_given(ask: msgspec.Struct) -> list[str]:
    """Wire names of the fields of what somebody asks for; None is what was not given."""
    return [field.encode_name for field in msgspec.structs.fields(ask) if getattr(ask, field.name) is not None]
