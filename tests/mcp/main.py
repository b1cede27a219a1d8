"""The official MCP SDKs against real servers, through a running egret. See README.md beside this file."""

import argparse
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE.parent / "clients"))  # the house and the report are the same
TARGET = HERE.parent.parent / "target"

from place import Installed, Place
from report import Report
from scenes import COLUMNS, Scenes


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests/mcp/run", description=__doc__)
    parser.add_argument("egret", nargs="?", type=Path, help="the binary; target/release/egret or target/debug/egret")
    parser.add_argument("--direct", action="store_true", help="without egret: shows that clients and servers work")
    parser.add_argument("--only", default="", help="only rows whose `client, server, door` contain this text")
    parser.add_argument("--without-approvals", action="store_true", help="for an egret that does not know approvals")
    parser.add_argument("--policy", type=Path, help="another policy in place of policy.yaml")
    parser.add_argument("--wire", action="store_true", help="print what the servers received")
    asked = parser.parse_args()
    egret = None
    if not asked.direct:
        built = (TARGET / "release/egret", TARGET / "debug/egret")
        egret = asked.egret or next((path for path in built if path.exists()), None)
        if egret is None or not egret.exists():
            print("there is no egret binary: `cargo build --release` makes one", file=sys.stderr)
            return 2
        egret = egret.resolve()
    if shutil.which("openssl") is None:
        print("`openssl` is not installed", file=sys.stderr)
        return 2
    policies = [asked.policy or HERE / "policy.yaml"] + ([] if asked.without_approvals else [HERE / "approvals.yaml"])
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is ended
    with tempfile.TemporaryDirectory(prefix="egret-mcp-") as directory:
        report = Report(COLUMNS)
        place = Place(Path(directory), egret, Installed(Path(os.environ["MCP_INSTALLED"])), policies)
        try:
            place.open()
            Scenes(place, report, approvals=not asked.without_approvals, only=asked.only, wire=asked.wire).all()
        finally:
            place.close()
        report.print()
    return 0 if report.passed and not report.failed else 1


if __name__ == "__main__":
    sys.exit(main())
