"""The process ends although a thread of it waits for something that never comes."""

from __future__ import annotations

import subprocess
import sys


STUCK = """
import asyncio
import threading

from k8s_sdkms_plugin import daemon
from k8s_sdkms_plugin.config.model import LogFormat, LogLevel
from k8s_sdkms_plugin.logs import LogWriter


async def main():
    # As a look-up of a host name that hangs: asyncio.run waits for it.
    asyncio.get_running_loop().run_in_executor(None, threading.Event().wait)
    writer = LogWriter(LogFormat.JSON, LogLevel.INFO)
    writer.log(LogLevel.INFO, "stopped")
    daemon._end_for_sure(writer)


asyncio.run(main())
"""


def test_a_thread_that_hangs_does_not_keep_the_process() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", STUCK], capture_output=True, check=False, timeout=60
    )
    assert ended.returncode == 0
    assert b'"stopped"' in ended.stderr
