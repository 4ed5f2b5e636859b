import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from dsm_emulator import aes


KEY = bytes(range(32))
keys = st.sampled_from([16, 24, 32]).flatmap(
    lambda n: st.binary(min_size=n, max_size=n)
)


@given(
    key=keys,
    plain=st.binary(max_size=100),
    ad=st.none() | st.binary(max_size=20),
    tag_bits=st.sampled_from(sorted(aes.DEFAULT_RULES.gcm_tag_bits)),
)
def test_gcm_is_read_back_with_every_tag_length(
    key: bytes, plain: bytes, ad: bytes | None, tag_bits: int
) -> None:
    sealed = aes.encrypt(key, "GCM", plain, iv=None, ad=ad, tag_bits=tag_bits)
    assert len(sealed.iv) == 12
    assert len(sealed.cipher) == len(plain)
    assert sealed.tag is not None
    assert len(sealed.tag) * 8 == tag_bits
    assert plain == aes.decrypt(
        key, "GCM", sealed.cipher, iv=sealed.iv, ad=ad, tag=sealed.tag
    )


def test_gcm_is_that_of_another_implementation() -> None:
    iv = bytes(12)
    sealed = aes.encrypt(KEY, "GCM", b"seed", iv=iv, ad=b"ad", tag_bits=128)
    assert sealed.tag is not None
    assert AESGCM(KEY).decrypt(iv, sealed.cipher + sealed.tag, b"ad") == b"seed"


def test_iv_is_random_when_absent() -> None:
    ivs = {
        aes.encrypt(KEY, "GCM", b"", iv=None, ad=None, tag_bits=128).iv
        for _ in range(20)
    }
    assert len(ivs) == 20


@pytest.mark.parametrize("tag_bits", [96, 128])
def test_changed_ciphertext_tag_or_ad_is_a_wrong_tag(tag_bits: int) -> None:
    s = aes.encrypt(KEY, "GCM", b"seed", iv=None, ad=b"ad", tag_bits=tag_bits)
    assert s.tag is not None
    flipped_tag = bytes([s.tag[0] ^ 1]) + s.tag[1:]
    flipped_cipher = bytes([s.cipher[0] ^ 1]) + s.cipher[1:]
    for cipher, ad, tag in (
        (flipped_cipher, b"ad", s.tag),
        (s.cipher, b"AD", s.tag),
        (s.cipher, None, s.tag),
        (s.cipher, b"ad", flipped_tag),
    ):
        with pytest.raises(aes.WrongTag):
            aes.decrypt(KEY, "GCM", cipher, iv=s.iv, ad=ad, tag=tag)


@given(key=keys, plain=st.binary(max_size=100))
def test_cbc_pads_and_is_read_back(key: bytes, plain: bytes) -> None:
    sealed = aes.encrypt(key, "CBC", plain, iv=None, ad=None, tag_bits=None)
    assert sealed.tag is None
    assert len(sealed.cipher) == (len(plain) // 16 + 1) * 16
    assert plain == aes.decrypt(
        key, "CBC", sealed.cipher, iv=sealed.iv, ad=None, tag=None
    )


def test_cbc_padding_that_is_wrong_is_a_wrong_tag() -> None:
    sealed = aes.encrypt(KEY, "CBC", b"seed", iv=None, ad=None, tag_bits=None)
    other_iv = bytes([*sealed.iv[:15], sealed.iv[15] ^ 0xFF])
    with pytest.raises(aes.WrongTag):
        aes.decrypt(KEY, "CBC", sealed.cipher, iv=other_iv, ad=None, tag=None)


@pytest.mark.parametrize(
    ("mode", "iv", "ad", "tag_bits"),
    [
        pytest.param("GCM", None, None, None, id="no tag_len"),
        pytest.param("GCM", None, None, 64, id="tag_len of 64"),
        pytest.param("GCM", None, None, 16, id="tag_len in bytes"),
        pytest.param("GCM", bytes(16), None, 128, id="iv of 16"),
        pytest.param("CBC", bytes(12), None, None, id="CBC iv of 12"),
        pytest.param("CBC", None, b"ad", None, id="CBC with ad"),
        pytest.param("ECB", None, None, None, id="unknown mode"),
    ],
)
def test_malformed_encrypt_is_refused(
    mode: str, iv: bytes | None, ad: bytes | None, tag_bits: int | None
) -> None:
    with pytest.raises(aes.MalformedInput):
        aes.encrypt(KEY, mode, b"seed", iv=iv, ad=ad, tag_bits=tag_bits)


@pytest.mark.parametrize(
    ("mode", "cipher", "iv", "tag"),
    [
        pytest.param("GCM", b"x", None, bytes(16), id="no iv"),
        pytest.param("GCM", b"x", bytes(12), None, id="no tag"),
        pytest.param("GCM", b"x", bytes(12), bytes(8), id="tag of 8"),
        pytest.param("GCM", b"x", bytes(16), bytes(16), id="iv of 16"),
        pytest.param("CBC", b"x", bytes(16), None, id="no whole block"),
        pytest.param("CBC", b"", bytes(16), None, id="no block"),
        pytest.param("CTR", b"x", bytes(16), None, id="unknown mode"),
    ],
)
def test_malformed_decrypt_is_refused(
    mode: str, cipher: bytes, iv: bytes | None, tag: bytes | None
) -> None:
    with pytest.raises(aes.MalformedInput):
        aes.decrypt(KEY, mode, cipher, iv=iv, ad=None, tag=tag)
