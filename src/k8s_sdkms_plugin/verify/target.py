"""What is looked at: one object, or all below a prefix."""

from __future__ import annotations

from attrs import frozen


class LookFailed(Exception):
    """etcd, or the snapshot, can't be read to the end: nothing is known of the rest.

    The text is one line for people.
    """


@frozen
class Target:
    """Keys in etcd.

    Attributes:
        key: One key, or the beginning of many.
        exact: Whether it is one.
    """

    key: bytes
    exact: bool

    @classmethod
    def parse(cls, text: str, etcd_prefix: str) -> Target:
        """Return what ``NAMESPACE/NAME`` or ``/a/prefix`` names.

        Args:
            text: The former is a Secret; the latter is taken as it is.
            etcd_prefix: kube-apiserver's ``--etcd-prefix``.

        Raises:
            ValueError: It is neither.
        """
        if text.startswith("/"):
            return cls(text.encode(), exact=False)
        namespace, _, name = text.partition("/")
        if not namespace or not name or "/" in name:
            raise ValueError("write NAMESPACE/NAME, or a prefix that begins with /")
        key = f"{etcd_prefix}/secrets/{namespace}/{name}"
        return cls(key.encode(), exact=True)

    @property
    def end(self) -> bytes:
        """Return the first key behind the prefix; empty for one key, as etcd wants."""
        if self.exact:
            return b""
        shortened = self.key.rstrip(b"\xff")
        return shortened[:-1] + bytes([shortened[-1] + 1])

    def covers(self, key: bytes) -> bool:
        """Return whether *key* is looked at."""
        return key == self.key if self.exact else key.startswith(self.key)
