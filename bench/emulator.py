"""How much one emulator serves: encrypts over TLS, its clients in other processes.

    python bench/emulator.py [--seconds 5] [--clients 2] [--in-flight 16] [--faults]

prints JSON: calls per second, and the CPU time per call of the emulator's process and
of all client processes, in microseconds. The CPU time is the figure to compare, since
the rate depends on what else the machine does; `calls_per_core_second` is its inverse,
that is, what one core would serve if the emulator had it for itself. With --faults
there is a fault armed that never strikes, so that each request looks it up.

The clients write HTTP by hand, with a body made once: one that does it properly costs
more than the emulator, and would be what is measured.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import resource
import ssl
import subprocess
import sys
import time
from typing import Any, Final

from dsm_emulator import Dsm, EmulatorServer, Fault


WARM_UP_CALLS: Final = 200


def cpu_s() -> float:
    """Return the CPU time of this process, in user space and in the kernel."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def serve(*, faults: bool) -> None:
    """Be the emulator: a line of facts, then one of figures for each line of stdin."""
    demo = Dsm.with_demo_key("kek")
    if faults:
        demo.dsm.faults.add(Fault("status", status=503, path="/never"))
    with EmulatorServer(demo.dsm) as server:
        facts = {
            "port": server.port,
            "ca_file": str(server.ca_file),
            "api_key": demo.api_key,
            "kid": demo.key.kid,
        }
        print(json.dumps(facts), flush=True)
        for _ in sys.stdin:
            count = demo.dsm.journal.count("/crypto/v1/encrypt", status=200)
            print(json.dumps({"cpu_s": cpu_s(), "calls": count}), flush=True)


async def call_for(seconds: float, facts: dict[str, Any], in_flight: int) -> int:
    """Keep *in_flight* connections busy; return how many calls there were."""
    context = ssl.create_default_context(cafile=facts["ca_file"])

    async def exchange(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes
    ) -> tuple[bytes, bytes]:
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
        return head, await reader.readexactly(length)

    def post(path: str, authorization: str, body: bytes) -> bytes:
        head = (
            f"POST {path} HTTP/1.1\r\nHost: localhost\r\n"
            f"Authorization: {authorization}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body

    sealing = json.dumps(
        {
            "key": {"kid": facts["kid"]},
            "alg": "AES",
            "mode": "GCM",
            "tag_len": 128,
            "plain": base64.b64encode(bytes(32)).decode(),
        }
    ).encode()

    async def keep_calling(ends_s: float) -> int:
        reader, writer = await asyncio.open_connection(
            "localhost", facts["port"], ssl=context
        )
        login = post("/sys/v1/session/auth", f"Basic {facts['api_key']}", b"")
        _, opened = await exchange(reader, writer, login)
        token = json.loads(opened)["access_token"]
        request = post("/crypto/v1/encrypt", f"Bearer {token}", sealing)
        calls = 0
        while calls < WARM_UP_CALLS // in_flight or time.perf_counter() < ends_s:
            head, _ = await exchange(reader, writer, request)
            if not head.startswith(b"HTTP/1.1 200"):
                raise AssertionError("an encrypt failed")
            calls += 1
        writer.close()
        return calls

    ends_s = time.perf_counter() + seconds
    return sum(await asyncio.gather(*[keep_calling(ends_s) for _ in range(in_flight)]))


def be_client(options: argparse.Namespace) -> None:
    """Be a client; print the calls and the CPU time."""
    facts = json.loads(options.client)
    began_s = time.perf_counter()
    calls = asyncio.run(call_for(options.seconds, facts, options.in_flight))
    took_s = time.perf_counter() - began_s
    print(json.dumps({"calls": calls, "took_s": took_s, "cpu_s": cpu_s()}))


def measure(options: argparse.Namespace) -> dict[str, object]:
    """Run the emulator and its clients; return the figures."""
    me = [sys.executable, __file__]
    more = ["--faults"] if options.faults else []
    with subprocess.Popen(
        [*me, "--serve", *more],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as emulator:
        if emulator.stdin is None or emulator.stdout is None:
            raise AssertionError("both are pipes")

        says, asks = emulator.stdout, emulator.stdin

        def figures() -> dict[str, float]:
            print("now", file=asks, flush=True)
            found: dict[str, float] = json.loads(says.readline())
            return found

        facts = says.readline().strip()
        before = figures()
        arguments = ["--client", facts, "--seconds", str(options.seconds)]
        arguments += ["--in-flight", str(options.in_flight)]
        clients = [
            subprocess.Popen([*me, *arguments], stdout=subprocess.PIPE, text=True)
            for _ in range(options.clients)
        ]
        told = [json.loads(client.communicate()[0]) for client in clients]
        after = figures()
        asks.close()
    calls = after["calls"] - before["calls"]
    emulator_us = (after["cpu_s"] - before["cpu_s"]) / calls * 1e6
    return {
        "calls": int(calls),
        "calls_per_s": round(sum(t["calls"] / t["took_s"] for t in told)),
        "emulator_cpu_us_per_call": round(emulator_us),
        "calls_per_core_second": round(1e6 / emulator_us),
        "clients_cpu_us_per_call": round(sum(t["cpu_s"] for t in told) / calls * 1e6),
    }


def main() -> None:
    """Measure, or be one of the processes."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--client", help=argparse.SUPPRESS)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--clients", type=int, default=2, help="processes")
    parser.add_argument("--in-flight", type=int, default=16, help="of each client")
    parser.add_argument("--faults", action="store_true", help="one that never strikes")
    options = parser.parse_args()
    if options.serve:
        serve(faults=options.faults)
    elif options.client is not None:
        be_client(options)
    else:
        print(json.dumps(measure(options), indent=2))


if __name__ == "__main__":
    main()
