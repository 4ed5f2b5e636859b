"""What moves a key from state to state: calls, and dates (sections 4.3 and 4.4)."""

from dsm_emulator.account import Account
from dsm_emulator.errors import bad_request
from dsm_emulator.sobject import KeyState, Sobject


COMPROMISE_CODES = frozenset({"KeyCompromise", "CACompromise"})
REVOCATION_CODES = COMPROMISE_CODES | {
    "Unspecified",
    "AffiliationChanged",
    "Superseded",
    "CessationOfOperation",
    "PrivilegeWithdrawn",
}


def settle(account: Account, key: Sobject, now_s: float) -> None:
    """Let the dates do to the state what they are for."""
    before = key.state
    key.settle(now_s)
    if key.state is not before and key.state is KeyState.DEACTIVATED:
        _disable_if_the_account_says_so(account, key)


def activate(key: Sobject, now_s: float) -> None:
    """Make a PreActive key Active.

    Raises:
        DsmError: 400, the key is in another state.
    """
    if key.state is not KeyState.PREACTIVE:
        raise bad_request("sobject is not in PreActive state")
    key.state = KeyState.ACTIVE
    key.activation_date = now_s


def deactivate(account: Account, key: Sobject, now_s: float) -> None:
    """Make a key Deactivated, and disabled if the account says so."""
    key.state = KeyState.DEACTIVATED
    key.deactivation_date = now_s
    _disable_if_the_account_says_so(account, key)


def revoke(
    account: Account, key: Sobject, code: str, message: str | None, now_s: float
) -> None:
    """Deactivate a key, or mark it compromised, by the reason's code.

    Raises:
        DsmError: 400, the code isn't one of `REVOCATION_CODES`.
    """
    if code not in REVOCATION_CODES:
        raise bad_request("unknown revocation code")
    key.revocation_reason = {"code": code}
    if message is not None:
        key.revocation_reason["message"] = message
    if code in COMPROMISE_CODES:
        key.state = KeyState.COMPROMISED
        key.compromise_date = now_s
        return
    deactivate(account, key, now_s)


def destroy(key: Sobject, now_s: float) -> None:
    """Drop the material; the metadata stay."""
    key.state = KeyState.DESTROYED
    key.destruction_date = now_s
    key.material = None


def delete(key: Sobject, now_s: float) -> None:
    """Drop the material; only who asks for deleted keys sees it again."""
    key.state = KeyState.DELETED
    key.deletion_date = now_s
    key.material = None


def _disable_if_the_account_says_so(account: Account, key: Sobject) -> None:
    if account.mark_key_disable_when_deactivated:
        key.enabled = False
