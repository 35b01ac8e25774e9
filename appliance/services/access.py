"""Who may see and change an object, decided on the object as loaded. Which roles reach a route is `api/auth.py`'s.

Across accounts the answer is `not_found`, as if the object did not exist; within one's sight it is `forbidden`.
"""

from appliance.config import IdentitySettings
from appliance.domain import Model, ModelState, Principal, Role, SuspendState
from appliance.errors import Code, HearthError


def keeps_box(principal: Principal, settings: IdentitySettings) -> bool:
    """Whether it is an administrator of the account that the box belongs to."""
    return principal.role is Role.ADMIN and principal.account_id == settings.account_id


def can_see_account(principal: Principal, account_id: str, settings: IdentitySettings) -> bool:
    """Everybody sees his own account and the library."""
    return account_id in (principal.account_id, settings.library_account_id)


def can_see_model(principal: Principal, model: Model, settings: IdentitySettings) -> bool:
    """Also what other accounts made public, once it is READY."""
    return can_see_account(principal, model.account_id, settings) or (
        model.is_public and model.state is ModelState.READY
    )


def require_account(principal: Principal, account_id: str, settings: IdentitySettings) -> None:
    if not can_see_account(principal, account_id, settings):
        raise not_found(f"accounts/{account_id}")


def can_change(principal: Principal, account_id: str, created_by: str, settings: IdentitySettings) -> bool:
    """Whether to create (then `created_by` is oneself), edit or delete. This box's administrators keep the library."""
    if account_id != principal.account_id:
        return keeps_box(principal, settings) and account_id == settings.library_account_id
    match principal.role:
        case Role.ADMIN | Role.USER:
            return True
        case Role.CONTRIBUTOR:
            return created_by == principal.user_id
        case Role.INFERENCE_USER:
            return False


def can_look_inside(principal: Principal, account_id: str, settings: IdentitySettings) -> bool:
    """Logs, replicas and reasons of what is in sight: not for other accounts that use the library's."""
    return principal.account_id == account_id or can_change(principal, account_id, "", settings)


def require_change(
    principal: Principal, account_id: str, what: str, settings: IdentitySettings, created_by: str | None = None
) -> None:
    """`created_by` None: a new object. The caller has made sure that `what` can be seen, if it exists."""
    if not can_change(principal, account_id, principal.user_id if created_by is None else created_by, settings):
        raise HearthError(Code.FORBIDDEN, f"the role {principal.role} may not change {what}")


def require_member(principal: Principal, account_id: str) -> None:
    """Users, keys, secrets and the like of another account are nobody's business, whoever keeps the box."""
    if account_id != principal.account_id:
        raise not_found(f"accounts/{account_id}")


def require_administrator(principal: Principal, account_id: str, what: str) -> None:
    """Of the account itself."""
    require_member(principal, account_id)
    if principal.role is not Role.ADMIN:
        raise HearthError(Code.FORBIDDEN, f"only an administrator may change {what}")


def require_keys_of(principal: Principal, account_id: str, user_id: str) -> None:
    """Everybody manages his own keys, an administrator everybody's. A key can never do more than its user may."""
    require_member(principal, account_id)
    if user_id != principal.user_id and principal.role is not Role.ADMIN:
        raise HearthError(Code.FORBIDDEN, "only an administrator manages the keys of other users")


def require_keeper(principal: Principal, settings: IdentitySettings, what: str) -> None:
    if not keeps_box(principal, settings):
        raise HearthError(Code.FORBIDDEN, f"only an administrator of this box may {what}")


def require_not_suspended(principal: Principal) -> None:
    if principal.suspend_state is not SuspendState.UNSUSPENDED:
        message = f"accounts/{principal.account_id} is suspended ({principal.suspend_state}): it may only read"
        raise HearthError(Code.FAILED_PRECONDITION, message, reason="ACCOUNT_SUSPENDED")


def not_found(what: str, param: str | None = None) -> HearthError:
    return HearthError(Code.NOT_FOUND, f"{what} not found", param)
