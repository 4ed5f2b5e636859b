"""What isn't known of the service, or differs between versions."""

from attrs import define


@define
class ServiceRules:
    """The switches.

    Attributes:
        legacy_paths: Whether GET keys/{kid}, keys/{kid}/encrypt and keys/{kid}/decrypt
            are there, as before version 5.8 (sections 2.1 and 3.3).
        app_reads_itself: Whether a crypto app sees its own app (section 6).
        loose_base64: Whether url-safe and unpadded base64 is taken (section 3.4).
        server_mode: Sgx or Software, in the answer to version.
        fips_level: In the answer to version; None: not mentioned.
        client_retry_timeout_ms: The client setting for retries; None: no setting.
    """

    legacy_paths: bool = False
    app_reads_itself: bool = True
    loose_base64: bool = False
    server_mode: str = "Software"
    fips_level: int | None = None
    client_retry_timeout_ms: int | None = None
