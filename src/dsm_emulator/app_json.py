"""An app and its credential on the wire (section 1.4)."""

from ipaddress import ip_network
from typing import Any

from cryptography import x509

from dsm_emulator.account import App, Permission
from dsm_emulator.clock import basic_iso
from dsm_emulator.credentials import AuthType, Credential, TrustedCa
from dsm_emulator.errors import bad_request
from dsm_emulator.signed_jwt import JwtCredential
from dsm_emulator.wire import (
    decode_base64,
    encode_base64,
    optional_bytes,
    optional_str,
    required_bytes,
)


def shown_app(app: App, *, acct_id: str, with_permissions: bool) -> dict[str, Any]:
    """Return an app as DSM shows it, without any secret."""
    shown: dict[str, Any] = {
        "acct_id": acct_id,
        "app_id": app.app_id,
        "name": app.name,
        "app_type": "default",
        "auth_type": app.credential.auth_type.value,
        "default_group": app.default_group,
        "enabled": app.enabled,
        "role": app.role.value,
        "groups": (
            {group: sorted(held) for group, held in app.groups.items()}
            if with_permissions
            else list(app.groups)
        ),
        "ip_address_policy": (
            "allow_all"
            if app.ip_whitelist is None
            else {"whitelist": list(app.ip_whitelist)}
        ),
    }
    if app.description is not None:
        shown["description"] = app.description
    if app.credential.certificate_der is not None:
        certificate = x509.load_der_x509_certificate(app.credential.certificate_der)
        until_s = certificate.not_valid_after_utc.timestamp()
        shown["cert_not_after"] = basic_iso(until_s)
    return shown


def credential_json(app: App) -> dict[str, Any]:
    """Return an app's credential with its secret, which an admin may see."""
    shown: dict[str, Any] = {
        "app_id": app.app_id,
        "credential": stored_credential(app.credential, app.secret),
    }
    if app.previous is not None:
        shown["previous_credential"] = {
            "credential": {"secret": app.previous.secret},
            "valid_until": basic_iso(app.previous.valid_until_s),
        }
    return shown


def stored_credential(credential: Credential, secret: str) -> dict[str, Any]:
    """Return DSM's form of a credential: one entry, or `all` with two.

    How `All` nests its two is assumed.
    """
    shown: dict[str, Any] = {}
    if credential.certificate_der is not None:
        shown["certificate"] = encode_base64(credential.certificate_der)
    if credential.trusted_ca is not None:
        shown["trustedca"] = {
            "ca_certificates": [
                encode_base64(der) for der in credential.trusted_ca.ca_certificates_der
            ],
            "subjects": list(credential.trusted_ca.subjects),
        }
    if credential.signed_jwt is not None:
        shown["signedjwt"] = {
            "valid_issuers": sorted(credential.signed_jwt.valid_issuers),
            "signing_keys": {
                "kind": "stored",
                "keys": {
                    kid: encode_base64(der)
                    for kid, der in credential.signed_jwt.signing_keys.items()
                },
            },
        }
    if credential.needs_secret:
        shown["secret"] = secret
    return {"all": shown} if credential.auth_type is AuthType.ALL else shown


def read_credential(value: object) -> Credential | None:
    """Read DSM's form of a credential; the secret in it is not ours to choose.

    Raises:
        DsmError: 400, not of that form.
    """
    if value is None:
        return None
    if not isinstance(value, dict):
        raise bad_request("invalid type for field `credential`")
    both = value.get("all")
    parts = both if isinstance(both, dict) else value
    try:
        return Credential(
            auth_type=AuthType.ALL if parts is both else _kind(parts),
            certificate_der=optional_bytes(parts, "certificate"),
            trusted_ca=_trusted_ca(parts.get("trustedca")),
            signed_jwt=_signed_jwt(parts.get("signedjwt")),
        )
    except ValueError:
        raise bad_request("invalid credential") from None


def read_groups(value: object) -> dict[str, frozenset[Permission]]:
    """Read a map of groups to permissions, or a bare list of groups.

    Raises:
        DsmError: 400, not of that form.
    """
    if value is None:
        return {}
    if isinstance(value, list):
        value = {group: [p.value for p in Permission] for group in value}
    if not isinstance(value, dict):
        raise bad_request("invalid type for a field of groups")
    try:
        return {g: frozenset(Permission(p) for p in ps) for g, ps in value.items()}
    except (TypeError, ValueError):
        raise bad_request("unknown permission") from None


def read_ip_policy(value: object) -> tuple[str, ...] | None:
    """Read an IP policy; None is: any address.

    Raises:
        DsmError: 400, not of that form.
    """
    if value == "allow_all":
        return None
    listed = value.get("whitelist") if isinstance(value, dict) else None
    if not isinstance(listed, list):
        raise bad_request("invalid ip_address_policy")
    try:
        return tuple(str(ip_network(str(net), strict=False)) for net in listed)
    except ValueError:
        raise bad_request("invalid ip_address_policy") from None


def _kind(parts: dict[str, Any]) -> AuthType:
    for name, kind in (
        ("certificate", AuthType.CERTIFICATE),
        ("trustedca", AuthType.TRUSTED_CA),
        ("signedjwt", AuthType.SIGNED_JWT),
    ):
        if parts.get(name) is not None:
            return kind
    return AuthType.SECRET


def _trusted_ca(value: object) -> TrustedCa | None:
    if value is None:
        return None
    if not isinstance(value, dict):
        raise bad_request("invalid type for field `trustedca`")
    if "ca_certificate" in value:
        authorities = [required_bytes(value, "ca_certificate")]
    else:
        listed = value.get("ca_certificates")
        if not isinstance(listed, list):
            raise bad_request("missing field `ca_certificates`")
        authorities = [decode_base64(str(der), "ca_certificates") for der in listed]
    subjects = value.get("subjects") or []
    if not isinstance(subjects, list):
        raise bad_request("invalid type for field `subjects`")
    return TrustedCa(tuple(authorities), tuple(str(subject) for subject in subjects))


def _signed_jwt(value: object) -> JwtCredential | None:
    if value is None:
        return None
    if not isinstance(value, dict):
        raise bad_request("invalid type for field `signedjwt`")
    keys = value.get("signing_keys")
    issuers = value.get("valid_issuers")
    if not isinstance(keys, dict) or not isinstance(issuers, list):
        raise bad_request("missing field of `signedjwt`")
    if (optional_str(keys, "kind") or "").lower() != "stored":
        raise bad_request("the emulator knows stored signing keys alone")
    stored = keys.get("keys")
    if not isinstance(stored, dict):
        raise bad_request("missing field `keys`")
    return JwtCredential(
        frozenset(str(issuer) for issuer in issuers),
        {kid: decode_base64(str(der), "keys") for kid, der in stored.items()},
    )
