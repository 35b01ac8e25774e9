import pytest

from appliance.errors import Code, HearthError
from appliance.services.contact_details import check_display_name, check_domain, check_email, domain_of


@pytest.mark.parametrize("email", ["", "ada@example.com", "Ada.L+box@mail.example.co.uk", "x_1@1.example"])
def test_addresses_are_taken_as_they_are(email: str) -> None:
    assert check_email(email) == email


@pytest.mark.parametrize(
    "email",
    [
        "ada",
        "@example.com",
        "ada@",
        "ada@localhost",
        "a b@example.com",
        "ada@exa mple.com",
        "ada@example.com\n",
        "ada@-example.com",
        "ada@@example.com",
        "ada@example..com",
        "ädä@example.com",
        "<ada@example.com>",
        f"{'x' * 65}@example.com",
        f"ada@{'x' * 64}.com",
        f"ada@{'x.' * 130}com",
    ],
)
def test_what_is_no_address_is_refused(email: str) -> None:
    with pytest.raises(HearthError) as caught:
        check_email(email, "account.email")
    assert (caught.value.code, caught.value.param) == (Code.INVALID, "account.email")


def test_a_display_name_has_fewer_than_64_characters() -> None:
    assert check_display_name("ü" * 63) == "ü" * 63
    with pytest.raises(HearthError, match="has 64"):
        check_display_name("x" * 64)


def test_a_domain_is_compared_in_small_letters() -> None:
    assert check_domain("Example.COM", "tenantDomains") == "example.com"
    assert domain_of("ada@Example.COM") == "example.com"
    assert domain_of("") == ""
    for wrong in ("", "example", "https://example.com", "*.example.com", "example.com."):
        with pytest.raises(HearthError):
            check_domain(wrong, "tenantDomains")
