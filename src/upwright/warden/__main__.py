"""``python -m upwright.warden serve --home HOME`` and ``python -m upwright.warden verify HOME``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from upwright.warden.audit import verify_home


def main(argv: list[str] | None = None) -> int:
    """Run the warden, or verify a ledger; the exit code."""
    parser = argparse.ArgumentParser(prog="upwright.warden", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    serving = commands.add_parser("serve", help="hold the door of a home")
    serving.add_argument("--home", type=Path, required=True)
    serving.add_argument("--idle", type=float, default=10.0, help="seconds without a client before it ends")
    verifying = commands.add_parser("verify", help="recompute a ledger")
    verifying.add_argument("home", type=Path)
    args = parser.parse_args(argv)
    if args.command == "serve":
        from upwright.warden.server import serve

        return serve(args.home, args.idle)
    report = verify_home(args.home)
    if report.ok:
        print(f"ok: {report.entries} entries, root {report.root}")
        return 0
    where = "" if report.index is None else f" at entry {report.index} ({report.kind or 'unreadable'})"
    print(f"broken{where}: {report.problem}", file=sys.stderr)
    return 7


if __name__ == "__main__":
    raise SystemExit(main())
