#!/usr/bin/env python3
"""Starts the servers, says in servers.json where they are, and runs what is to be run. Called by `run`."""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.dont_write_bytecode = True

from place import Place, free_ports
from servers import SERVERS, Ports, written

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent


def main() -> int:
    parser = argparse.ArgumentParser(description="Starts the servers of the providers and runs the tests against them.")
    parser.add_argument("installed", type=Path, help="where `run` has installed them")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--smoke", action="store_true", help="prove that the servers do what they should")
    what.add_argument("--serve", action="store_true", help="print the path of servers.json and wait for an interrupt")
    parser.add_argument("cargo", nargs="*", help="arguments for `cargo test`")
    asked = parser.parse_args()
    # Both end this program in the same way, through all that is to be cleaned up.
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(130))
    with tempfile.TemporaryDirectory(prefix="egret-providers-") as directory:
        began = time.monotonic()
        servers = Servers(Path(directory), asked.installed.resolve())
        try:
            path = servers.open()
            print(f"servers started in {time.monotonic() - began:.1f} s", flush=True)
            if asked.serve:
                print(path, flush=True)
                while True:
                    signal.pause()
            return servers.run(asked.smoke, asked.cargo, path)
        finally:
            servers.close()


class Servers:
    """All of them, in one place."""

    def __init__(self, directory: Path, installed: Path):
        self.place = Place(directory, installed, [host for server in SERVERS for host in server.hosts])

    def open(self) -> Path:
        ports = free_ports(3 * len(SERVERS))
        of = {server.name: Ports(*ports[3 * i : 3 * i + 3]) for i, server in enumerate(SERVERS)}
        fronts = [f"{of[server.name].outside}={of[server.name].inside}" for server in SERVERS if server.front]
        place = self.place
        place.start("front", [place.node, place.programs / "front.mjs", place.certificate, place.key, *fronts])
        described = {
            "ca": str(place.ca),
            "resolve": {host: f"127.0.0.1:{of[s.name].outside}" for s in SERVERS for host in s.hosts},
        }
        for server in SERVERS:
            described[server.name] = server.start(place, of[server.name])
        for server in SERVERS:
            place.wait("front" if server.front else server.name, of[server.name].outside, "/", server.hosts[0])
        return written(place.dir / "servers.json", described)

    def run(self, smoke: bool, cargo: list[str], path: Path) -> int:
        if smoke:
            command = [self.place.python, "-B", HERE / "smoke"]
        else:
            command = ["cargo", "test", "--locked", "--test", "providers", *(cargo or ["--", "--include-ignored", "--test-threads=1"])]
        environment = os.environ | {"EGRET_PROVIDERS": str(path)}
        return subprocess.run(list(map(str, command)), cwd=ROOT, env=environment).returncode

    def close(self) -> None:
        self.place.close()


if __name__ == "__main__":
    sys.exit(main())
