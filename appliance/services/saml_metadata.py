"""What an identity provider says of itself in SAML 2.0 metadata. Pure; nothing is fetched.

The document comes from a stranger: one with a document type is refused before an entity of it is read, and its size
and depth have limits.
"""

from typing import NamedTuple
from xml.parsers import expat

from appliance.errors import Code, HearthError

DOCUMENT_BYTES_MAX = 256 * 1024
DEPTH_MAX = 32
_METADATA = "urn:oasis:names:tc:SAML:2.0:metadata"
_SIGNATURE = "http://www.w3.org/2000/09/xmldsig#"


class SamlMetadata(NamedTuple):
    entity_id: str
    sign_on_urls: list[str]
    num_certificates: int


def read_saml_metadata(document: str, param: str) -> SamlMetadata:
    """Raises `invalid` saying what is missing or must not be there."""
    content = document.encode()
    if len(content) > DOCUMENT_BYTES_MAX:
        raise HearthError(Code.INVALID, f"{param}: at most {DOCUMENT_BYTES_MAX} bytes", param)
    reader = _Reader(param)
    parser = expat.ParserCreate(encoding="utf-8", namespace_separator=" ")
    parser.StartDoctypeDeclHandler = reader.refuse_document_type
    parser.StartElementHandler = reader.start_element
    parser.EndElementHandler = reader.end_element
    try:
        parser.Parse(content, True)
    except expat.ExpatError as error:
        message = f"{param}: not well-formed XML: {expat.ErrorString(error.code)} in line {error.lineno}"
        raise HearthError(Code.INVALID, message, param) from error
    return reader.finish()


class _Reader:
    def __init__(self, param: str) -> None:
        self._param = param
        self._path: list[str] = []
        self._entity_id = ""
        self._is_provider = False
        self._sign_on_urls: list[str] = []
        self._num_certificates = 0

    def refuse_document_type(self, *_: object) -> None:
        raise self._refused("a document type, and so entities, must not be in it")

    def start_element(self, name: str, attributes: dict[str, str]) -> None:
        self._path.append(name)
        if len(self._path) > DEPTH_MAX:
            raise self._refused(f"elements within each other more than {DEPTH_MAX} deep")
        if len(self._path) == 1:
            if name != f"{_METADATA} EntityDescriptor":
                raise self._refused("the outermost element is no EntityDescriptor of SAML 2.0")
            self._entity_id = attributes.get("entityID", "")
        if self._path[1:2] != [f"{_METADATA} IDPSSODescriptor"]:
            return
        self._is_provider = True
        if name == f"{_METADATA} SingleSignOnService" and len(self._path) == 3:
            self._sign_on_urls.append(attributes.get("Location", ""))
        if name == f"{_SIGNATURE} X509Certificate":
            self._num_certificates += 1

    def end_element(self, name: str) -> None:
        self._path.pop()

    def finish(self) -> SamlMetadata:
        if not self._entity_id:
            raise self._refused("the EntityDescriptor has no entityID")
        if not self._is_provider:
            raise self._refused("it describes no identity provider (IDPSSODescriptor)")
        if not self._sign_on_urls or not all(url.startswith("https://") for url in self._sign_on_urls):
            raise self._refused("it needs a SingleSignOnService, at https:// addresses only")
        if not self._num_certificates:
            raise self._refused("it has no certificate (X509Certificate) to check signatures with")
        return SamlMetadata(self._entity_id, self._sign_on_urls, self._num_certificates)

    def _refused(self, what: str) -> HearthError:
        return HearthError(Code.INVALID, f"{self._param}: {what}", self._param)
