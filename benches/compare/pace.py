"""The client with a fixed rate: builds `pace.rs` once and runs it."""

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from .measure import Others
from .processes import Failed, NotMeasured

_SOURCE = Path(__file__).parent / "pace.rs"
CONNECTIONS = 32


@dataclass
class Paced:
    """What a paced run saw; times in microseconds."""

    requests: int
    p50: float
    p99: float
    p999: float
    # The share of the gateway's core that went to work of others in the meantime.
    foreign: float = 0.0


class Pacer:
    """Asks one path with one token, at a given rate."""

    def __init__(self, bench, field):
        self.binary = bench.directory / "pace"
        self.bench, self.field = bench, field
        if not shutil.which("rustc"):
            raise NotMeasured("rustc is not installed: it builds the client with a fixed rate")
        if not self.binary.exists() or self.binary.stat().st_mtime < _SOURCE.stat().st_mtime:
            command = ["rustc", "-O", "--edition", "2024", "-o", str(self.binary), str(_SOURCE)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode != 0:
                raise Failed(f"pace.rs cannot be built: {done.stderr[-300:]}")

    def _command(self, contestant, load, rate, seconds):
        head = (f"GET {load.path} HTTP/1.1\r\nHost: 127.0.0.1:{contestant.port}\r\n"
                f"Authorization: Bearer {load.token()}\r\n\r\n")
        request = self.field.directory / "paced-request"
        request.write_bytes(head.encode())
        return [self.binary, f"127.0.0.1:{contestant.port}", request, rate, seconds, CONNECTIONS]

    def run(self, contestant, load, rate, seconds):
        """Runs to its end. An answer that is not 200 fails the row."""
        return self.start(contestant, load, rate, seconds)()

    def start(self, contestant, load, rate, seconds):
        """Starts a run; the function that is given back waits for its end and tells what it saw."""
        command = self._command(contestant, load, rate, seconds)
        others = Others(self.bench.gateway_cores, None if contestant is self.field.api else contestant.process)
        output = self.field.fleet.begin(f"pace against {contestant.name}", command, self.bench.load_cores, seconds + 30)

        def finish():
            seen = self._read(output().decode())
            seen.foreign = others.share()
            return seen

        return finish

    @staticmethod
    def _read(output):
        found = re.search(r"^RESULT requests=(\d+) p50=(\d+) p99=(\d+) p999=(\d+)$", output, re.MULTILINE)
        if not found or found[1] == "0":
            raise Failed("the paced client gave no result")
        return Paced(int(found[1]), *(int(found[group]) / 1000 for group in (2, 3, 4)))
