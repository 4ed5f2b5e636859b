"""Every kind of credential logs in, and is replaced while calls go on."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Self

import attrs
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from tests.unit.adapters_dsm.proofs import DAY, NOW, Pair, pair, write
from tests.unit.adapters_dsm.support import (
    API_KEY,
    KID,
    SEED,
    Adapters,
    Asked,
    Emulated,
    RawServer,
    describe_ok,
    http,
    login,
    until,
)
from tests.unit.dsm_emulator.proofs import make_jwt, public_der

from adapters_dsm import session_calls
from adapters_dsm.credential_source import CredentialSource
from adapters_dsm.events import CredentialDoubted, CredentialReplaced
from adapters_dsm.gate import IN_ALL_A_DAY
from adapters_dsm.settings import Secret
from dsm_emulator import Dsm, EmulatorServer
from dsm_emulator.credentials import AuthType, Credential
from dsm_emulator.signed_jwt import JwtCredential
from dsm_emulator.tls import ClientCertificates
from kms_core.errors import CredentialRefused, ProviderError


if TYPE_CHECKING:
    from pathlib import Path

    import trustme

    from adapters_dsm.provider import DsmKeyProvider
    from dsm_emulator.account import App


LONG = NOW + 3650 * DAY
ISSUER = "https://issuer.test"
SIGNER = ec.generate_private_key(ec.SECP256R1())
TRUSTED = JwtCredential(frozenset({ISSUER}), {"k1": public_der(SIGNER)})


def app_with(emulated: Emulated, credential: Credential) -> App:
    usage = emulated.demo.app.groups
    return emulated.dsm.add_app("a node", groups=usage, credential=credential)


def by_certificate(made: Pair) -> Credential:
    return Credential(AuthType.CERTIFICATE, certificate_der=made.der)


def token(emulated: Emulated, app: App, lasts_s: float = 600.0) -> str:
    exp = emulated.dsm.clock.now() + lasts_s
    claims = {"iss": ISSUER, "sub": app.app_id, "exp": exp}
    return make_jwt(SIGNER, claims, algorithm="ES256")


async def use(provider: DsmKeyProvider, adapters: Adapters) -> None:
    found = await provider.describe(deadline=adapters.clock.in_s(5))
    sealed = await provider.encrypt(
        found.kid, SEED, None, deadline=adapters.clock.in_s(5)
    )
    opened = await provider.decrypt(
        found.kid, sealed, None, deadline=adapters.clock.in_s(5)
    )
    assert opened == SEED


async def look(provider: DsmKeyProvider, adapters: Adapters) -> None:
    """Look, and let what goes on beside it end."""
    await provider.describe(deadline=adapters.clock.in_s(5))
    await until(lambda: not provider._endpoints._aside)
    await until(lambda: not provider._endpoints.best.sessions._aside)


def replacements(adapters: Adapters) -> int:
    return sum(isinstance(e, CredentialReplaced) for e in adapters.telemetry.events)


@pytest.mark.parametrize("wanted", list(ClientCertificates))
@pytest.mark.parametrize("named", [False, True], ids=["nameless", "with app_id"])
async def test_a_certificate_alone(
    adapters: Adapters, tmp_path: Path, wanted: ClientCertificates, *, named: bool
) -> None:
    demo = Dsm.with_demo_key()
    made = pair(ends=LONG)
    with EmulatorServer(demo.dsm, client_certificates=wanted) as server:
        emulated = Emulated(demo, server)
        app = app_with(emulated, by_certificate(made))
        source = CredentialSource(
            app_id=app.app_id if named else None, **made.write(tmp_path)
        )
        provider = adapters.open_emulated(emulated, credential=source)
        if wanted is ClientCertificates.NONE:
            with pytest.raises(CredentialRefused):
                await use(provider, adapters)
            return
        await use(provider, adapters)
        assert provider.credential_expires_at == LONG
        assert not provider.credential_doubts


async def test_a_certificate_and_an_api_key(
    emulated: Emulated, adapters: Adapters, tmp_path: Path
) -> None:
    made = pair(ends=LONG)
    app = app_with(emulated, Credential(AuthType.ALL, certificate_der=made.der))
    key = Secret(app.api_key)
    both = CredentialSource(api_key=key, **made.write(tmp_path))
    await use(adapters.open_emulated(emulated, credential=both), adapters)
    for one in (
        CredentialSource(api_key=key),
        CredentialSource(app_id=app.app_id, **made.write(tmp_path)),
    ):
        with pytest.raises(CredentialRefused):
            await use(adapters.open_emulated(emulated, credential=one), adapters)


async def test_a_token_alone_and_with_a_certificate(
    emulated: Emulated, adapters: Adapters, tmp_path: Path
) -> None:
    alone = app_with(emulated, Credential(AuthType.SIGNED_JWT, signed_jwt=TRUSTED))
    path = write(tmp_path / "alone", token(emulated, alone))
    source = CredentialSource(jwt_file=path)
    await use(adapters.open_emulated(emulated, credential=source), adapters)
    made = pair(ends=LONG)
    together = app_with(
        emulated,
        Credential(AuthType.ALL, certificate_der=made.der, signed_jwt=TRUSTED),
    )
    path = write(tmp_path / "together", token(emulated, together))
    source = CredentialSource(jwt_file=path, **made.write(tmp_path))
    await use(adapters.open_emulated(emulated, credential=source), adapters)


async def test_a_certificate_that_a_server_does_not_take_is_a_refused_credential(
    authority: trustme.CA, adapters: Adapters, tmp_path: Path
) -> None:
    async def answer(asked: Asked) -> None:
        asked.send(describe_ok())

    source = CredentialSource(**pair().write(tmp_path))
    async with RawServer(answer, authority, wants_certificate=True) as server:
        provider = adapters.open(server.url, credential=source)
        errors = set()
        for _ in range(4):
            with pytest.raises(ProviderError) as caught:
                await provider.describe(deadline=adapters.clock.in_s(3))
            errors.add(caught.value.code)
    # TLS 1.3 tells a client only after it has begun to talk, and a reset may be first.
    assert errors <= {"CREDENTIAL-REFUSED", "DSM-UNREACHABLE"}
    assert server.asked == []


class Rotation:
    """A daemon's adapter whose credential somebody replaces, while Decrypts go on."""

    def __init__(self, provider: DsmKeyProvider, adapters: Adapters) -> None:
        self.provider = provider
        self.adapters = adapters
        self.opened = 0
        self._stop = False
        self._calling: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        described = await self.provider.describe(deadline=self.adapters.clock.in_s(5))
        self.kid = described.kid
        self.sealed = await self.provider.encrypt(
            self.kid, SEED, None, deadline=self.adapters.clock.in_s(5)
        )
        self._calling = [asyncio.create_task(self._call()) for _ in range(8)]
        return self

    async def _call(self) -> None:
        while not self._stop:
            found = await self.provider.decrypt(
                self.kid, self.sealed, None, deadline=self.adapters.clock.in_s(60)
            )
            assert found == SEED
            self.opened += 1

    async def some_calls(self) -> None:
        before = self.opened
        await until(lambda: self.opened >= before + 20 or self._failed())

    def _failed(self) -> bool:
        return any(task.done() for task in self._calling)

    async def __aexit__(self, *_: object) -> None:
        self._stop = True
        await asyncio.gather(*self._calling)


async def test_a_certificate_is_replaced_under_load_and_no_call_fails(
    emulated: Emulated, adapters: Adapters, tmp_path: Path
) -> None:
    made = [pair(ends=LONG) for _ in range(3)]
    for one in made:
        app_with(emulated, by_certificate(one))
    source = CredentialSource(**made[0].write(tmp_path))
    provider = adapters.open_emulated(emulated, credential=source)
    ways = provider._endpoints.best.ways
    async with Rotation(provider, adapters) as rotation:
        for turn, one in enumerate(made[1:], 1):
            one.write(tmp_path)
            await rotation.some_calls()
            await look(provider, adapters)
            assert replacements(adapters) == turn
            await rotation.some_calls()
        await until(lambda: len(ways._open) == 1)
    assert emulated.count("/sys/v1/session/terminate") == 2


async def test_certificates_that_are_refused_leave_no_connections_behind(
    emulated: Emulated, adapters: Adapters, tmp_path: Path
) -> None:
    good, next_one = pair(ends=LONG), pair(ends=LONG)
    for one in (good, next_one):
        app_with(emulated, by_certificate(one))
    source = CredentialSource(**good.write(tmp_path))
    provider = adapters.open_emulated(emulated, credential=source)
    ways = provider._endpoints.best.ways
    async with Rotation(provider, adapters) as rotation:
        for _ in range(4):
            pair(ends=LONG).write(tmp_path)
            await look(provider, adapters)
            await rotation.some_calls()
        assert len(ways._open) == 2, "of the session, and of the last that was refused"
        next_one.write(tmp_path)
        await look(provider, adapters)
        await rotation.some_calls()
        await until(lambda: len(ways._open) == 1)


async def test_an_api_key_is_replaced_under_load_and_no_call_fails(
    emulated: Emulated, adapters: Adapters, tmp_path: Path
) -> None:
    app = emulated.demo.app
    path = write(tmp_path / "key", app.api_key)
    source = CredentialSource(api_key_file=path)
    provider = adapters.open_emulated(emulated, credential=source)
    async with Rotation(provider, adapters) as rotation:
        for turn in (1, 2):
            # DSM's own way: the old key is good for a while beside the new one.
            write(path, emulated.dsm.reset_secret(app, migration_s=60))
            await look(provider, adapters)
            assert replacements(adapters) == turn
            await rotation.some_calls()
    assert emulated.dsm.journal.failed_logins.total() == 0


async def test_a_token_is_replaced_before_it_is_needed(
    emulated: Emulated, adapters: Adapters, tmp_path: Path
) -> None:
    app = app_with(emulated, Credential(AuthType.SIGNED_JWT, signed_jwt=TRUSTED))
    path = write(tmp_path / "jwt", token(emulated, app))
    source = CredentialSource(jwt_file=path)
    provider = adapters.open_emulated(emulated, credential=source)
    async with Rotation(provider, adapters) as rotation:
        write(path, token(emulated, app, 1200))
        await look(provider, adapters)
        await rotation.some_calls()
    assert replacements(adapters) == 1


async def test_a_key_that_dsm_does_not_know_yet_costs_no_call(
    emulated: Emulated, adapters: Adapters, tmp_path: Path
) -> None:
    """The operator was quicker with the file than with DSM."""
    app = emulated.demo.app
    path = write(tmp_path / "key", app.api_key)
    provider = adapters.open_emulated(emulated, api_key_file=path)
    async with Rotation(provider, adapters) as rotation:
        write(path, app.api_key[:40])
        for _ in range(3):
            await look(provider, adapters)
        # The watcher wants a fresh session when it is in doubt: there is none to get.
        await provider.renew()
        await rotation.some_calls()
        assert emulated.dsm.journal.failed_logins.total() == 1, "tried by a timer alone"
        assert replacements(adapters) == 0
        adapters.clock.ahead_s += 31
        write(path, emulated.dsm.reset_secret(app, migration_s=600))
        await look(provider, adapters)
        assert replacements(adapters) == 1


async def test_a_refused_key_that_is_corrected_is_taken_at_once(
    emulated: Emulated, adapters: Adapters, tmp_path: Path
) -> None:
    path = write(tmp_path / "key", emulated.demo.app.api_key[:40])
    provider = adapters.open_emulated(emulated, api_key_file=path)
    for _ in range(3):
        with pytest.raises(CredentialRefused):
            await look(provider, adapters)
    await until(lambda: not provider._endpoints._aside)
    write(path, emulated.demo.app.api_key)
    # This look still says what is remembered; what goes on beside it reads the file.
    with pytest.raises(CredentialRefused):
        await provider.describe(deadline=adapters.clock.in_s(3))
    await until(lambda: not provider._endpoints._aside)
    await use(provider, adapters)
    assert emulated.dsm.journal.failed_logins.total() == 1


async def test_an_unfit_file_costs_no_call_and_no_login(
    emulated: Emulated, adapters: Adapters, tmp_path: Path
) -> None:
    path = write(tmp_path / "key", emulated.demo.app.api_key)
    provider = adapters.open_emulated(emulated, api_key_file=path)
    await use(provider, adapters)
    path.write_bytes(b"\x00hunter2")
    emulated.dsm.kill_sessions()
    await use(provider, adapters)
    (doubt,) = provider.credential_doubts
    assert doubt.setting == "api_key_file"
    events = adapters.telemetry.events
    assert sum(isinstance(event, CredentialDoubted) for event in events) == 1
    assert emulated.dsm.journal.failed_logins.total() == 0


async def test_a_changed_key_is_noticed_at_a_login_too(
    emulated: Emulated, adapters: Adapters, tmp_path: Path
) -> None:
    path = write(tmp_path / "key", emulated.demo.app.api_key)
    provider = adapters.open_emulated(emulated, api_key_file=path)
    await use(provider, adapters)
    # Without a migration period all sessions end at once.
    write(path, emulated.dsm.reset_secret(emulated.demo.app))
    found = await provider.encrypt(
        emulated.kid, SEED, None, deadline=adapters.clock.in_s(3)
    )
    assert len(found.cipher) == len(SEED)
    assert emulated.dsm.journal.failed_logins.total() == 0


async def test_no_secret_is_told_whatever_happens(
    emulated: Emulated, adapters: Adapters, tmp_path: Path
) -> None:
    app = emulated.demo.app
    path = write(tmp_path / "key", app.api_key, mode=0o644)
    provider = adapters.open_emulated(emulated, api_key_file=path)
    await use(provider, adapters)
    write(path, app.api_key[:-1])
    await look(provider, adapters)
    path.unlink()
    await look(provider, adapters)
    told: Any = [attrs.asdict(event) for event in adapters.telemetry.events]
    shown = f"{told} {provider.credential_doubts} {vars(provider)}"
    assert app.api_key[:-4] not in shown
    assert app.secret not in shown


@pytest.mark.parametrize("answer", [http(200), http(204)])
async def test_a_session_that_lies_idle_is_refreshed_by_a_look(
    authority: trustme.CA, adapters: Adapters, answer: bytes
) -> None:
    """The session of an endpoint that no look uses: here the second."""
    refreshed = []

    async def script(asked: Asked) -> None:
        if asked.path.endswith("/refresh"):
            refreshed.append(asked.headers["authorization"])
            asked.send(answer)
        else:
            asked.send(describe_ok())

    async with (
        RawServer(script, authority) as first,
        RawServer(script, authority) as second,
    ):
        provider = adapters.open(first.url, second.url)
        node = provider._endpoints.nodes[1]
        await node.sessions.obtain(by_timer=True)
        for _ in range(10):
            adapters.clock.ahead_s += 100
            await look(provider, adapters)
        assert node.sessions.usable() is not None
        assert second.logins == 1
        assert first.logins == 1
    assert set(refreshed) == {"Bearer token-1"}
    assert 3 <= len(refreshed) <= 5


async def test_a_session_that_died_idle_is_dropped_by_its_refresh(
    authority: trustme.CA, adapters: Adapters
) -> None:
    async def script(asked: Asked) -> None:
        asked.send(http(401) if asked.path.endswith("/refresh") else describe_ok())

    async with RawServer(script, authority) as server:
        provider = adapters.open(server.url)
        await provider.describe(deadline=adapters.clock.in_s(3))
        sessions = provider._endpoints.best.sessions
        adapters.clock.ahead_s += 300
        await sessions.keep_up()
        assert sessions.usable() is None
        await provider.describe(deadline=adapters.clock.in_s(3))
        assert server.logins == 2


async def test_a_refresh_that_fails_otherwise_changes_nothing(
    authority: trustme.CA, adapters: Adapters
) -> None:
    async def script(asked: Asked) -> None:
        asked.send(http(503) if asked.path.endswith("/refresh") else describe_ok())

    async with RawServer(script, authority) as server:
        provider = adapters.open(server.url)
        await provider.describe(deadline=adapters.clock.in_s(3))
        sessions = provider._endpoints.best.sessions
        adapters.clock.ahead_s += 300
        await sessions.keep_up()
        assert sessions.usable() is not None


async def test_a_new_key_that_is_refused_waits_like_any_other(
    authority: trustme.CA, adapters: Adapters, tmp_path: Path
) -> None:
    path = write(tmp_path / "key", API_KEY)

    async def take_the_first(asked: Asked) -> None:
        well = asked.headers["authorization"] == f"Basic {API_KEY}"
        asked.send(login("token") if well else http(401))

    async def answer(asked: Asked) -> None:
        asked.send(describe_ok())

    async with RawServer(answer, authority, on_login=take_the_first) as server:
        provider = adapters.open(server.url, api_key_file=path)
        await provider.describe(deadline=adapters.clock.in_s(3))
        write(path, API_KEY[:-4])
        for wait_s in (0, 1, 28):
            adapters.clock.ahead_s += wait_s
            await look(provider, adapters)
            assert server.logins == 2
        adapters.clock.ahead_s += 2
        await look(provider, adapters)
        assert server.logins == 3
        assert (await provider.describe(deadline=adapters.clock.in_s(3))).kid == KID


async def test_an_idle_session_goes_on_while_a_new_key_is_refused(
    authority: trustme.CA, adapters: Adapters, tmp_path: Path
) -> None:
    """It is the only one that is left if the first endpoint fails."""
    path = write(tmp_path / "key", API_KEY)

    async def take_the_first(asked: Asked) -> None:
        well = asked.headers["authorization"] == f"Basic {API_KEY}"
        asked.send(login("token") if well else http(401))

    async def answer(asked: Asked) -> None:
        asked.send(describe_ok())

    async with (
        RawServer(answer, authority, on_login=take_the_first) as first,
        RawServer(answer, authority, on_login=take_the_first) as second,
    ):
        provider = adapters.open(first.url, second.url, api_key_file=path)
        node = provider._endpoints.nodes[1]
        await node.sessions.obtain(by_timer=True)
        await provider.describe(deadline=adapters.clock.in_s(3))
        write(path, API_KEY[:-4])
        for _ in range(20):
            adapters.clock.ahead_s += 100
            await look(provider, adapters)
        assert node.sessions.usable() is not None


async def test_a_try_that_hung_counts_if_the_next_is_refused(
    authority: trustme.CA, adapters: Adapters, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DSM may have counted both, and only slowness kept us from hearing it."""
    monkeypatch.setattr(session_calls, "LOGIN_TRIES_S", (0.05, 8.5))

    async def answer_every_second(asked: Asked) -> None:
        if server.logins % 2 == 0:
            asked.send(http(401))

    async def answer(asked: Asked) -> None:
        asked.send(describe_ok())

    async with RawServer(answer, authority, on_login=answer_every_second) as server:
        provider = adapters.open(server.url)
        for _ in range(47):
            with pytest.raises(CredentialRefused):
                await provider.describe(deadline=adapters.clock.in_s(3))
            adapters.clock.ahead_s += 1800
        assert 10 <= server.logins <= IN_ALL_A_DAY
