import pytest
from msgspec.structs import replace

from appliance.config import IdentitySettings
from appliance.domain import ModelState, Role, SuspendState
from appliance.errors import Code, HearthError
from appliance.services.access import (
    can_change,
    can_look_inside,
    can_see_model,
    keeps_box,
    require_account,
    require_administrator,
    require_change,
    require_keeper,
    require_keys_of,
    require_not_suspended,
)
from tests.appliance.services.samples import ADA, model, principal

CREATOR, COLLEAGUE = "ada", "bob"


@pytest.mark.parametrize(
    ("role", "own", "colleagues"),
    [
        (Role.ADMIN, True, True),
        (Role.USER, True, True),
        (Role.CONTRIBUTOR, True, False),
        (Role.INFERENCE_USER, False, False),
    ],
)
def test_roles_change_their_own_and_their_colleagues_objects(
    settings: IdentitySettings, role: Role, own: bool, colleagues: bool
) -> None:
    who = principal("acme", CREATOR, role)
    assert can_change(who, "acme", CREATOR, settings) is own
    assert can_change(who, "acme", COLLEAGUE, settings) is colleagues
    assert not can_change(who, "globex", CREATOR, settings)
    assert not can_change(who, "library", CREATOR, settings)


@pytest.mark.parametrize("role", Role)
def test_only_the_administrators_of_this_box_change_the_library(settings: IdentitySettings, role: Role) -> None:
    assert can_change(principal("home", CREATOR, role), "library", "", settings) is (role is Role.ADMIN)


def test_logs_and_reasons_are_for_ones_own_account_and_who_keeps_the_library(settings: IdentitySettings) -> None:
    assert can_look_inside(principal("acme", CREATOR, Role.INFERENCE_USER), "acme", settings)
    assert not can_look_inside(principal("acme", CREATOR, Role.ADMIN), "library", settings)
    assert can_look_inside(principal("home", CREATOR, Role.ADMIN), "library", settings)


def test_what_is_seen_but_not_to_be_changed_is_forbidden(settings: IdentitySettings) -> None:
    require_change(ADA, "acme", "it", settings)
    with pytest.raises(HearthError) as caught:
        require_change(ADA, "library", "it", settings)
    assert caught.value.code is Code.FORBIDDEN


def test_accounts_of_others_do_not_exist(settings: IdentitySettings) -> None:
    require_account(ADA, "acme", settings)
    require_account(ADA, "library", settings)
    with pytest.raises(HearthError) as caught:
        require_account(ADA, "globex", settings)
    assert caught.value.code is Code.NOT_FOUND


@pytest.mark.parametrize(
    ("account_id", "is_public", "state", "is_seen"),
    [
        ("acme", False, ModelState.UPLOADING, True),
        ("library", False, ModelState.READY, True),
        ("globex", True, ModelState.READY, True),
        ("globex", True, ModelState.UPLOADING, False),
        ("globex", False, ModelState.READY, False),
    ],
)
def test_models_of_others_are_seen_once_public_and_ready(
    settings: IdentitySettings, account_id: str, is_public: bool, state: ModelState, is_seen: bool
) -> None:
    assert can_see_model(ADA, model(account_id, "m", is_public=is_public, state=state), settings) is is_seen


@pytest.mark.parametrize("role", Role)
def test_users_and_secrets_are_for_administrators_of_their_own_account(role: Role) -> None:
    require_administrator(principal("acme", CREATOR, Role.ADMIN), "acme", "users")
    for account_id, code in (("acme", Code.FORBIDDEN), ("globex", Code.NOT_FOUND)):
        if (role, account_id) != (Role.ADMIN, "acme"):
            with pytest.raises(HearthError) as caught:
                require_administrator(principal("acme", CREATOR, role), account_id, "users")
            assert caught.value.code is code


@pytest.mark.parametrize("role", Role)
def test_everybody_manages_his_own_keys_and_an_administrator_his_accounts(role: Role) -> None:
    who = principal("acme", CREATOR, role)
    require_keys_of(who, "acme", CREATOR)
    for account_id, code in (("acme", Code.FORBIDDEN), ("globex", Code.NOT_FOUND)):
        if (role, account_id) != (Role.ADMIN, "acme"):
            with pytest.raises(HearthError) as caught:
                require_keys_of(who, account_id, COLLEAGUE)
            assert caught.value.code is code


@pytest.mark.parametrize("role", Role)
def test_the_box_is_kept_by_the_administrators_of_its_own_account(settings: IdentitySettings, role: Role) -> None:
    assert keeps_box(principal("home", CREATOR, role), settings) is (role is Role.ADMIN)
    assert not keeps_box(principal("acme", CREATOR, role), settings)
    with pytest.raises(HearthError) as caught:
        require_keeper(principal("acme", CREATOR, role), settings, "create accounts")
    assert caught.value.code is Code.FORBIDDEN


def test_a_suspended_account_is_told_why() -> None:
    require_not_suspended(ADA)
    for state in set(SuspendState) - {SuspendState.UNSUSPENDED}:
        with pytest.raises(HearthError, match=state) as caught:
            require_not_suspended(replace(ADA, suspend_state=state))
        assert (caught.value.code, caught.value.reason) == (Code.FAILED_PRECONDITION, "ACCOUNT_SUSPENDED")
