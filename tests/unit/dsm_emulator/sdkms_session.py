"""What Fortanix' own Python client does with a DSM; prints what it saw as JSON.

A program of its own: the client starts a thread pool on import that it never ends,
which our tests, where warnings are errors, would not forgive. Reads `url`, `ca_file`,
`api_key` and `group_id` as JSON from stdin, so that no secret is in its arguments.
"""

import json
import sys
from collections.abc import Callable

from sdkms.v1 import (
    ApiClient,
    AuthenticationApi,
    BatchEncryptRequest,
    BatchEncryptRequestInner,
    Configuration,
    CryptMode,
    DecryptRequestEx,
    EncryptionAndDecryptionApi,
    EncryptRequest,
    EncryptRequestEx,
    EncryptResponse,
    ObjectType,
    RevocationReason,
    RevocationReasonCode,
    SecurityObjectsApi,
    SobjectDescriptor,
    SobjectRequest,
)
from sdkms.v1.rest import ApiException


PLAIN = b"a seed of 32 bytes, as it may be"
AD = b"bound to this"


def log_in(given: dict[str, str]) -> ApiClient:
    configuration = Configuration()
    configuration.host = given["url"]
    configuration.ssl_ca_cert = given["ca_file"]
    configuration.app_api_key = given["api_key"]
    client = ApiClient(configuration=configuration)
    opened = AuthenticationApi(api_client=client).authorize()
    configuration.api_key["Authorization"] = opened.access_token
    configuration.api_key_prefix["Authorization"] = "Bearer"
    return client


def encrypt_request(key: SobjectDescriptor) -> EncryptRequestEx:
    return EncryptRequestEx(
        key=key,
        alg=ObjectType.AES,
        mode=CryptMode.GCM,
        plain=bytearray(PLAIN),
        ad=bytearray(AD),
        tag_len=128,
    )


def decrypts(cipher: EncryptionAndDecryptionApi, sealed: EncryptResponse) -> bool:
    opened = cipher.decrypt_ex(
        DecryptRequestEx(
            key=SobjectDescriptor(kid=sealed.kid),
            alg=ObjectType.AES,
            mode=CryptMode.GCM,
            cipher=sealed.cipher,
            iv=sealed.iv,
            ad=bytearray(AD),
            tag=sealed.tag,
        )
    )
    return bytes(opened.plain) == PLAIN


def refusal(call: Callable[..., object], *arguments: object) -> tuple[int, str]:
    try:
        call(*arguments)
    except ApiException as refused:
        body = refused.body
        return refused.status, body.decode() if isinstance(body, bytes) else body
    return 0, ""


def main() -> None:
    given = json.load(sys.stdin)
    client = log_in(given)
    sessions = AuthenticationApi(api_client=client)
    keys = SecurityObjectsApi(api_client=client)
    cipher = EncryptionAndDecryptionApi(api_client=client)
    wanted = SobjectRequest(
        name="made by sdkms",
        obj_type=ObjectType.AES,
        key_size=256,
        group_id=given["group_id"],
    )
    seen: dict[str, object] = {"version": sessions.get_server_version().version}
    sessions.refresh()
    made = keys.generate_security_object(wanted)
    seen["made"] = [made.name, made.key_size, str(made.state), made.enabled]
    seen["twice"] = refusal(keys.generate_security_object, wanted)
    by_name = SobjectDescriptor(name="made by sdkms")
    first = cipher.encrypt_ex(encrypt_request(by_name))
    seen["kid is the key's"] = first.kid == made.kid
    seen["lengths"] = [len(first.cipher), len(first.iv), len(first.tag)]
    seen["decrypted"] = decrypts(cipher, first)
    items = BatchEncryptRequest()
    plain = EncryptRequest(
        alg=ObjectType.AES,
        mode=CryptMode.GCM,
        plain=bytearray(PLAIN),
        tag_len=128,
    )
    items.append(BatchEncryptRequestInner(kid=made.kid, request=plain))
    batch = cipher.batch_encrypt(items)
    seen["batch"] = [item.status for item in batch.list]
    seen["paths before 5.8"] = [
        refusal(keys.get_security_object, made.kid)[0],
        refusal(cipher.encrypt, made.kid, plain)[0],
    ]
    new = keys.rotate_security_object(SobjectRequest(name="made by sdkms"))
    seen["rotated to another kid"] = new.kid != made.kid
    second = cipher.encrypt_ex(encrypt_request(by_name))
    seen["by name is the new one"] = second.kid == new.kid
    seen["old data decrypted"] = decrypts(cipher, first)
    listed = keys.get_security_objects(sort="name")
    seen["listed"] = [key.name for key in listed]
    seen["found"] = [
        key.kid == new.kid for key in keys.get_security_objects(name="made by sdkms")
    ]
    info = keys.get_security_object_ex(SobjectDescriptor(kid=made.kid))
    seen["renamed"] = info.name
    reason = RevocationReason(code=RevocationReasonCode.SUPERSEDED)
    keys.revoke_security_object(made.kid, reason)
    old = encrypt_request(SobjectDescriptor(kid=made.kid))
    seen["revoked"] = [
        refusal(cipher.encrypt_ex, old)[0],
        decrypts(cipher, first),
    ]
    keys.delete_security_object(made.kid)
    seen["deleted"] = refusal(cipher.encrypt_ex, old)
    sessions.terminate()
    seen["ended"] = refusal(keys.get_security_objects)
    json.dump(seen, sys.stdout)


if __name__ == "__main__":
    main()
