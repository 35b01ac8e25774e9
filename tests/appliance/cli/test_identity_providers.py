from pathlib import Path
from typing import Any

from tests.appliance.cli.conftest import Hearth
from tests.fakes.saml_provider import METADATA

OIDC = ("--oidc-issuer", "https://login.test", "--oidc-client-id", "box", "--oidc-client-secret", "client-canary")


def test_an_oidc_provider_is_registered_changed_and_removed(hearth: Hearth) -> None:
    created = hearth(
        "create", "identity-provider", "--display-name", "Login", *OIDC, "--tenant-domains", "a.test, b.test"
    )
    assert created.exit_code == 0, created.err
    fields = dict(line.split(":", 1) for line in created.out.splitlines())
    name = fields["Name"].strip()
    assert (fields["Kind"].strip(), fields["Domains"].strip()) == ("OIDC", "a.test, b.test")
    changed: Any = hearth(
        "update", "identity-provider", name, "--oidc-client-secret", "client-canary-2",
        "--enable-jit-user-provisioning", "--jit-default-role", "user", "-o", "json",
    ).json  # fmt: skip
    assert (changed["oidcConfig"], changed["jitDefaultRole"]) == (
        {"issuerUrl": "https://login.test", "clientId": "box"},
        "user",
    )
    shown = hearth("get", "identity-provider", name)
    listed = hearth("list", "identity-providers")
    assert name.rpartition("/")[2] in listed.out
    assert "canary" not in created.out + shown.out + listed.out
    assert hearth("delete", "identity-provider", name).exit_code == 0


def test_a_saml_provider_is_read_from_its_metadata(hearth: Hearth, tmp_path: Path) -> None:
    file = tmp_path / "metadata.xml"
    file.write_text(METADATA)
    words = ("create", "identity-provider", "--saml-metadata-xml-file", str(file), "--tenant-domains", "c.test")
    created: Any = hearth(*words, "--enable-idp-initiated-sso", "-o", "json").json
    assert (created["issuerUrl"], created["enableIdpInitiatedSso"]) == ("http://www.okta.com/exk1", True)
    refused = hearth(*words)
    assert refused.exit_code == 1
    assert "tenantDomains" in refused.err
    assert hearth("delete", "identity-provider", created["name"]).exit_code == 0
