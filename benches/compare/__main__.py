"""The driver of `scripts/bench`."""

import argparse
import os
import signal
import sys
from pathlib import Path

from . import rows, rows_memory, rows_time  # noqa: F401 - registers the rows
from .bench import ROWS, Bench
from .processes import Failed

ROOT = Path(__file__).resolve().parents[2]


def parse(arguments):
    """The command line."""
    parser = argparse.ArgumentParser(prog="scripts/bench", description="Compares Scopegate with its peers, row by row.")
    parser.add_argument("--quick", action="store_true", help="short rounds and small sizes: about three minutes")
    parser.add_argument("--long", action="store_true", help="also the rows that take many minutes")
    parser.add_argument("--rows", metavar="NAME[,NAME]", help="only these rows")
    parser.add_argument("--rounds", type=int, metavar="N", help="rounds a row (default 7, quick 2)")
    parser.add_argument("--seconds", type=int, metavar="S", help="seconds a measurement (default 3, quick 1)")
    parser.add_argument("--json", type=Path, metavar="FILE", default=ROOT / "target/bench/results.json",
                        help="where the results go (default target/bench/results.json)")
    parser.add_argument("--list", action="store_true", help="lists the rows")
    options = parser.parse_args(arguments)
    if any(value is not None and value < 1 for value in (options.rounds, options.seconds)):
        parser.error("--rounds and --seconds must be at least 1")
    if options.rows:
        unknown = [name for name in options.rows.split(",") if name not in ROWS]
        if unknown:
            parser.error(f"unknown rows: {', '.join(unknown)}; --list shows them")
    return options


def main():
    """Runs the rows; the status is 0 if everything was measured, and 1 otherwise. A missed target is a result."""
    options = parse(sys.argv[1:])
    if options.list:
        for entry in ROWS.values():
            print(f"{entry.name:<14} {entry.title}{' (only with --long)' if entry.long else ''}")
        return 0
    # Every process of the run is ended on the way out.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda sent, _: sys.exit(128 + sent))
    binary = os.environ.get("SCOPEGATE_BIN") or ROOT / "target/release/scopegate"
    try:
        bench = Bench(
            directory=ROOT / "target/bench", scopegate=str(binary), quick=options.quick, long=options.long,
            rounds=options.rounds or (2 if options.quick else 7),
            seconds=options.seconds or (1 if options.quick else 3))
        names = options.rows.split(",") if options.rows else \
            [entry.name for entry in ROWS.values() if options.long or not entry.long]
        bench.run([ROWS[name] for name in names])
    except Failed as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    versions = bench.versions()
    bench.report.print_table(versions)
    told = {"rounds": bench.rounds, "seconds": bench.seconds, "quick": bench.quick, "rows": names}
    bench.report.write(options.json, told, versions)
    return 0 if bench.report.complete() else 1


sys.exit(main())
