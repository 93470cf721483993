"""How many requests a second a server of a policy answers, and how long a client waits: `python -m benchmarks.serving`.

`reverie serve` in a process of its own, of a policy of the tests' data with the networks named; clients in another,
which ask again as soon as they are answered. Loopback only. A row for 1, 8 and 32 clients, in Markdown.
`python -m benchmarks.serving METHOD [FIELD=VALUE ...]`: fql with hidden=[256,256] if not given.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

HEAD = "| clients | requests a second | 50 % within | 99 % within |\n|---|---|---|---|"
SECONDS, CLIENTS = 5.0, (1, 8, 32)


async def drive(url: str, until: float, waits: list[float]) -> None:
    import msgpack
    from websockets.asyncio.client import connect

    from reverie.deploy.serving import packed

    request = packed({"do": "act", "observation": np.ones(4, np.float32)})
    async with connect(url, compression=None, proxy=None) as socket:
        await socket.send(packed({"do": "reset"}))
        await socket.recv()
        while (before := time.perf_counter()) < until:
            await socket.send(request)
            assert "action" in msgpack.unpackb(await socket.recv())
            waits.append(time.perf_counter() - before)


async def measure(url: str, clients: int) -> str:
    waits: list[float] = []
    began = time.perf_counter()
    await asyncio.gather(*(drive(url, began + SECONDS, waits) for _ in range(clients)))
    half, most = np.percentile(np.array(waits) * 1000, (50, 99))
    return f"| {clients} | {len(waits) / (time.perf_counter() - began):,.0f} | {half:.1f} ms | {most:.1f} ms |"


def main(arguments: list[str]) -> None:
    from benchmarks.export import run_of
    from reverie.catalogue import ALGORITHMS
    from reverie.cli.show import assignment

    name, changes = (arguments or ["fql"])[0], dict(map(assignment, arguments[1:])) or {"hidden": (256, 256)}
    changes = {key: tuple(value) if isinstance(value, list) else value for key, value in changes.items()}
    with tempfile.TemporaryDirectory() as folder:
        run_of(ALGORITHMS[name](**changes)).export(Path(folder) / "run")
        command = [sys.executable, "-u", "-m", "reverie.cli", "serve", f"{folder}/run", "--port", "0"]
        server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ)
        try:
            assert server.stdout is not None
            said = server.stdout.readline().strip()
            print(
                f"{said}\n\n| clients | requests a second | 50 % within | 99 % within |\n|---|---|---|---|", flush=True
            )
            for clients in CLIENTS:
                print(asyncio.run(measure(said.split(" on ")[1].split(",")[0], clients)), flush=True)
        finally:
            server.terminate()
            server.wait()


if __name__ == "__main__":
    main(sys.argv[1:])
