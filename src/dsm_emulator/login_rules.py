"""What isn't known of logins and sessions: switches (sections 1.2 to 1.4)."""

from enum import StrEnum

from attrs import define

from dsm_emulator.errors import NO_SUCH_SESSION


class SessionCertificate(StrEnum):
    """What a bearer call of an app with a client certificate has to present."""

    SAME = "same"
    REGISTERED = "registered"
    NONE = "none"


class JwtTransport(StrEnum):
    """How a JWT is sent to session/auth."""

    BEARER = "bearer"
    BASIC = "basic"


class JwtSubject(StrEnum):
    """By what the subject of a JWT names the app."""

    APP_ID = "app-id"
    NAME = "name"


@define
class LoginRules:
    """What isn't known of logins, therefore switches (sections 1.2 to 1.4).

    Attributes:
        bad_credential_status: For a wrong key, certificate or JWT, or a disabled app.
        bad_credential_text: The same answer's text.
        no_credential_text: For a call without any credential; 401.
        lost_session_text: For a session that isn't there; the status is
            `Logins.lost_session_status`.
        address_status: For a client whose address the app's policy doesn't list.
        session_certificate: What later bearer calls present; DSM's pages say: the
            certificate.
        jwt_transport: Bearer `<JWT>`, or Basic of `<app id>:<JWT>`.
        jwt_subject: Whether a JWT's subject is the app's id or its name.
    """

    bad_credential_status: int = 401
    bad_credential_text: str = "Invalid credentials"
    no_credential_text: str = "Authentication required"
    lost_session_text: str = NO_SUCH_SESSION
    address_status: int = 403
    session_certificate: SessionCertificate = SessionCertificate.SAME
    jwt_transport: JwtTransport = JwtTransport.BEARER
    jwt_subject: JwtSubject = JwtSubject.APP_ID
