"""What a SAML 2.0 identity provider says of itself."""

METADATA = """<?xml version="1.0" encoding="UTF-8"?>
<md:EntityDescriptor entityID="http://www.okta.com/exk1" xmlns:md="urn:oasis:names:tc:SAML:2.0:metadata"
    xmlns:ds="http://www.w3.org/2000/09/xmldsig#">
  <md:IDPSSODescriptor protocolSupportEnumeration="urn:oasis:names:tc:SAML:2.0:protocol">
    <md:KeyDescriptor use="signing"><ds:KeyInfo><ds:X509Data>
      <ds:X509Certificate>MIIDpDCCAoyg</ds:X509Certificate>
    </ds:X509Data></ds:KeyInfo></md:KeyDescriptor>
    <md:SingleSignOnService Binding="urn:oasis:names:tc:SAML:2.0:bindings:HTTP-POST" Location="https://okta.test/sso"/>
  </md:IDPSSODescriptor>
</md:EntityDescriptor>
"""


def with_prologue(prologue: str) -> str:
    return METADATA.replace("<md:EntityDescriptor", f"{prologue}<md:EntityDescriptor", 1)
