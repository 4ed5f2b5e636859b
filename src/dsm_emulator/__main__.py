"""`python -m dsm_emulator`: the emulator without the rest of the distribution."""

import sys

from dsm_emulator.cli import main


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
