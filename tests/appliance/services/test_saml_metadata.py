import pytest

from appliance.errors import Code, HearthError
from appliance.services.saml_metadata import DOCUMENT_BYTES_MAX, read_saml_metadata
from tests.fakes.saml_provider import METADATA, with_prologue

BILLION_LAUGHS = """<!DOCTYPE lolz [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;"><!ENTITY c "&b;&b;&b;&b;">]>"""
OUTSIDE = """<!DOCTYPE x [<!ENTITY file SYSTEM "file:///etc/passwd">]>"""


def test_metadata_says_who_it_is_of_and_where_to_send_people() -> None:
    metadata = read_saml_metadata(METADATA, "xml")
    assert metadata.entity_id == "http://www.okta.com/exk1"
    assert metadata.sign_on_urls == ["https://okta.test/sso"]
    assert metadata.num_certificates == 1


@pytest.mark.parametrize("prologue", [BILLION_LAUGHS, OUTSIDE, "<!DOCTYPE x>", '<!DOCTYPE x SYSTEM "http://x/x.dtd">'])
def test_a_document_type_is_refused_before_any_entity_is_read(prologue: str) -> None:
    with pytest.raises(HearthError, match="document type") as caught:
        read_saml_metadata(with_prologue(prologue), "xml")
    assert (caught.value.code, caught.value.param) == (Code.INVALID, "xml")


@pytest.mark.parametrize(
    ("was", "becomes", "told"),
    [
        (METADATA, "", "not well-formed"),
        ("</md:EntityDescriptor>", "", "not well-formed"),
        ("exk1", "&file;", "not well-formed"),
        ("md:EntityDescriptor", "md:EntitiesDescriptor", "no EntityDescriptor"),
        ("SAML:2.0:metadata", "SAML:1.1:metadata", "no EntityDescriptor"),
        ("entityID", "id", "no entityID"),
        ("IDPSSODescriptor", "SPSSODescriptor", "no identity provider"),
        ("SingleSignOnService", "SingleLogoutService", "SingleSignOnService"),
        ("https://okta.test", "http://okta.test", "https://"),
        ("https://okta.test/sso", "javascript:alert(1)", "https://"),
        ("X509Certificate", "X509CRL", "no certificate"),
        ("MIIDpDCCAoyg", "<x>" * 40 + "</x>" * 40, "deep"),
        ("MIIDpDCCAoyg", "M" * DOCUMENT_BYTES_MAX, "at most"),
    ],
)
def test_what_is_missing_or_wrong_is_told(was: str, becomes: str, told: str) -> None:
    with pytest.raises(HearthError, match=told) as caught:
        read_saml_metadata(METADATA.replace(was, becomes), "samlConfig.metadataXml")
    assert caught.value.param == "samlConfig.metadataXml"
