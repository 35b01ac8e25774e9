import pytest

from tests.appliance.cli.conftest import Hearth

NOUNS = ("models", "deployments", "deployed-models", "api-keys")


@pytest.mark.parametrize("noun", NOUNS)
def test_every_list_is_filtered_and_refuses_a_field_that_there_is_not(hearth: Hearth, noun: str) -> None:
    nothing = hearth("list", noun, "--filter", "displayName=nobody-has-this-name", "--order-by", "displayName desc")
    assert nothing.exit_code == 0, nothing.err
    assert len(nothing.out.splitlines()) == 1, "the headings"
    for option, parameter in (("--filter", "filter"), ("--order-by", "orderBy")):
        refused = hearth("list", noun, option, "sails=1" if option == "--filter" else "sails")
        assert (refused.exit_code, f"{parameter}: 'sails' is none of" in refused.err) == (1, True), refused.err


def test_a_list_stands_in_the_order_that_was_asked_for(hearth: Hearth, model_id: str) -> None:
    for deployment_id in ("order-a", "order-b"):
        created = hearth(
            *("create", "deployment", model_id, "--deployment-id", deployment_id, "--max-replica-count", "0")
        )
        assert created.exit_code == 0, created.err
    listed = hearth("list", "deployments", "--filter", "name:order-", "--order-by", "name desc")
    assert [line.split()[0] for line in listed.out.splitlines()[1:]] == ["order-b", "order-a"]
    for deployment_id in ("order-a", "order-b"):
        assert hearth("delete", "deployment", deployment_id, "--hard", "--ignore-checks").exit_code == 0
