"""Runs programs in another root, as a container engine would: a mount namespace of its
own, folders of ours bound into it, the root itself read-only if need be.

There is no engine here and none is needed: `unshare` and `mount` of util-linux do what
one would. Nothing of it is seen outside, and it ends with the program.
"""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING, Final

from attrs import field, frozen


if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

TIMEOUT_S: Final = 120.0
PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

# $1 the root; $2 "ro" or "rw"; then pairs of ours and its, up to "--"; the command.
# Its paths are made and resolved inside, for a link there may point at a path of ours.
_ENTER: Final = """\
set -eu
root=$1 mode=$2
shift 2
mount --bind "$root" "$root"
mount -t proc proc "$root/proc"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
mknod -m 666 "$root/dev/null" c 1 3
mknod -m 666 "$root/dev/urandom" c 1 9
while [ "$1" != -- ]; do
  if [ -d "$1" ]; then
    chroot "$root" /bin/sh -c 'mkdir -p "$1"' sh "$2"
  else
    chroot "$root" /bin/sh -c 'mkdir -p "${1%/*}"; : >>"$1"' sh "$2"
  fi
  mount --bind "$1" "$root$(chroot "$root" /bin/sh -c 'readlink -f "$1"' sh "$2")"
  shift 2
done
shift
mount -o "remount,bind,$mode" "$root"
exec chroot "$root" "$@"
"""
# What `--cap-drop ALL --security-opt no-new-privileges` leaves of root.
NO_CAPABILITIES: Final = (
    "/usr/bin/setpriv",
    "--bounding-set=-all",
    "--inh-caps=-all",
    "--no-new-privs",
)


@frozen(kw_only=True)
class Jail:
    """A root to run programs in.

    Attributes:
        root: The folder that they take for ``/``.
        binds: Files and folders of ours, and where they are seen inside.
        read_only: Whether nothing but those can be written.
        first: What runs the command inside, such as ``NO_CAPABILITIES``.
        environ: All of the environment but PATH.
    """

    root: Path
    binds: Mapping[Path, str] = field(factory=dict)
    read_only: bool = False
    first: tuple[str, ...] = ()
    environ: Mapping[str, str] = field(factory=dict)

    def command(self, *words: str) -> list[str]:
        """Return the command that runs *words* in here; each step replaces the last."""
        pairs = [str(item) for pair in self.binds.items() for item in pair]
        given = [f"{name}={value}" for name, value in self.environ.items()]
        return [
            *("unshare", "--mount", "--propagation", "private"),
            *("sh", "-c", _ENTER, "sh", str(self.root)),
            *("ro" if self.read_only else "rw", *pairs, "--"),
            *("/usr/bin/env" if self._has_env() else "/bin/env", "-i", f"PATH={PATH}"),
            *(*given, *self.first, *words),
        ]

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run *words* in here to their end."""
        return subprocess.run(
            self.command(*words),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )

    def say(self, *words: str) -> str:
        """Run *words*, which must succeed, and return what they print."""
        done = self.run(*words)
        assert done.returncode == 0, f"{words}: {done.returncode} {done.stderr}"
        return done.stdout

    def _has_env(self) -> bool:
        return (self.root / "usr/bin/env").exists()
