"""Runs loads and reads what they cost.

One round runs every entry once, one after the other, in an order that changes, see `in_turn`; so a machine whose speed
drifts slows all of them alike. A ratio is taken within each round, and the median of these ratios is what counts. Each
answer is verified: before and after the rounds one exactly, in the rounds by count, by the load generator and by the
upstream.
"""

import http.client
import os
import re
import ssl
import statistics
import time
from dataclasses import dataclass, field
from pathlib import Path

from .processes import Failed, Process

CONNECTIONS = 64
ORDER = "/v1/acme/orders/1"
_WRK = Path(__file__).parent / "wrk" / "load.lua"


@dataclass
class Contestant:
    """Something that listens on a port, and the process that works for it."""

    name: str
    process: Process
    port: int


@dataclass
class Load:
    """What is asked, and what must be answered."""

    path: str = ORDER
    # A file with tokens to be used in rotation, or nothing.
    tokens: Path | None = None
    # The tokens are too many to be held in memory.
    stream: bool = False
    # Bytes of a request body, sent by POST.
    upload: int = 0
    # Bytes of the answer's body, if it is not the upstream's small JSON.
    download: int = 0
    expect: int = 200
    # How often the upstream counts one such request.
    arrivals: int = 1
    tls: bool = False
    # HTTP/2 over clear text: how many connections, and how many streams each.
    h2: tuple[int, int] | None = None

    def token(self):
        """The first token."""
        if self.tokens is None:
            return None
        with open(self.tokens) as file:
            return file.readline().strip()


@dataclass
class Entry:
    """One line of a comparison."""

    contestant: Contestant
    load: Load
    label: str = ""
    samples: list = field(default_factory=list)

    @property
    def name(self):
        """How it is called in the table."""
        return self.label or self.contestant.name


@dataclass
class Sample:
    """One entry in one round."""

    requests: int
    # What was answered; for HTTP/2 the bodies alone, else with the heads.
    bytes: int
    seconds: float
    cpu: int
    # The share of the gateway's core that went to work of others in the meantime.
    foreign: float = 0.0

    @property
    def per_request(self):
        """Microseconds of CPU time for one request."""
        return self.cpu / self.requests / 1000

    @property
    def per_kib(self):
        """Nanoseconds of CPU time for each KiB that was answered."""
        return self.cpu / (self.bytes / 1024)


def spread(values):
    """Median, least and greatest."""
    return statistics.median(values), min(values), max(values)


def ratios(subject, comparators, cost="per_request"):
    """The ratio of the two costs in each round; of several comparators the one that was cheapest in this round counts."""
    rounds = zip(subject.samples, *(comparator.samples for comparator in comparators))
    return [getattr(ours, cost) / min(getattr(other, cost) for other in others) for ours, *others in rounds]


def in_turn(entries, number):
    """The order of a round: every second one reverses the one before it; after the two the first entry moves to the end.

    So of any two each comes first in every second round, and in twice as many rounds as there are entries each has been
    in every place twice: neither a drift of the machine nor what ran before favours one.
    """
    start = number // 2 % len(entries)
    ordered = entries[start:] + entries[:start]
    return ordered[::-1] if number % 2 else ordered


def ask(port, path=ORDER, token=None, upload=0, tls=False, host="127.0.0.1"):
    """One request; gives status and body."""
    if tls:
        trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
        connection = http.client.HTTPSConnection(host, port, timeout=20, context=trusting)
    else:
        connection = http.client.HTTPConnection(host, port, timeout=20)
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        connection.request("POST" if upload else "GET", path, body=b"x" * upload if upload else None, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    except (OSError, http.client.HTTPException) as error:
        raise Failed(f"no answer from port {port}: {error}") from None
    finally:
        connection.close()


class Busy:
    """How long cores have worked for anybody at all, by the kernel's count."""

    def __init__(self, cores):
        self.names = {f"cpu{core}" for core in cores}
        self.started, self.before = time.monotonic(), self._read()

    def _read(self):
        total = 0
        for text in Path("/proc/stat").read_text().splitlines():
            name, *ticks = text.split()
            if name in self.names:
                # Without idle and waiting for disks.
                total += sum(int(ticks[place]) for place in (0, 1, 2, 5, 6, 7))
        return total / os.sysconf("SC_CLK_TCK")

    def since(self):
        """Seconds that have passed, and seconds of work in them."""
        return time.monotonic() - self.started, self._read() - self.before


class Others:
    """What all but one process take of cores from now on; all threads of the process are its own, whatever they do."""

    def __init__(self, cores, process=None):
        self.whole, self.process = Busy(cores), process
        self.before = self._own()

    def _own(self):
        return sum(self.process.cpu().values()) / 1e9 if self.process else 0.0

    def share(self):
        """Their share of the time that has passed."""
        elapsed, busy = self.whole.since()
        return max(0.0, busy - (self._own() - self.before)) / elapsed


class Meter:
    """Runs loads from the load's core against contestants on the gateway's core."""

    def __init__(self, directory, gateway_cores, load_cores, fleet, upstream, body):
        self.directory, self.gateway_cores, self.cores, self.fleet = directory, gateway_cores, load_cores, fleet
        self.upstream, self.body = upstream, body
        self.counted = 0

    def upstream_requests(self):
        """How many requests have come to the upstream; this one is not counted."""
        status, body = ask(self.upstream.port, "/count")
        if status != 200:
            raise Failed(f"the upstream's counter answers {status}")
        self.counted += 1
        return int(body.split()[9]) - self.counted

    def _expected(self, load):
        """The body that a permitted request must be answered with."""
        return (self.directory / load.path.lstrip("/")).read_bytes() if load.download else self.body

    def verify(self, entry):
        """One request must be answered exactly as it should be."""
        load = entry.load
        if load.h2:
            # It tells no status: h2load counts them, and another answer than 200 has another body.
            url = f"http://127.0.0.1:{entry.contestant.port}{load.path}"
            command = ["nghttp", "-H", f"authorization: Bearer {load.token()}", url]
            status, body = load.expect, self.fleet.output("nghttp", command, self.cores, 20)
        else:
            status, body = ask(entry.contestant.port, load.path, load.token(), load.upload, load.tls)
        if status != load.expect:
            raise Failed(f"{entry.name} answered {status} instead of {load.expect}: {body[:300]!r}")
        if status == 200 and body != self._expected(load):
            raise Failed(f"{entry.name} gave another body than the upstream's: {body[:100]!r}")

    def wrk(self, entry, seconds, connections=CONNECTIONS):
        """Runs wrk; gives a sample without CPU time and the number of answers with a status above 399."""
        load, contestant = entry.load, entry.contestant
        head = f"{'POST' if load.upload else 'GET'} {load.path} HTTP/1.1\r\nHost: 127.0.0.1:{contestant.port}\r\n"
        if load.tokens:
            head += "Authorization: Bearer @TOKEN@\r\n"
        if load.upload:
            head += f"Content-Type: application/octet-stream\r\nContent-Length: {load.upload}\r\n"
        request = self.directory / "request"
        request.write_bytes(head.encode())
        environment = {"BENCH_REQUEST": str(request), "BENCH_BODY": str(load.upload)}
        if load.tokens:
            environment |= {"BENCH_TOKENS": str(load.tokens), "BENCH_STREAM": "1" if load.stream else "0"}
        url = f"{'https' if load.tls else 'http'}://127.0.0.1:{contestant.port}{load.path}"
        command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}", "--timeout", "10", "-s", _WRK, url]
        output = self.fleet.run("wrk", command, self.cores, seconds + 30, environment)
        found = re.search(r"^RESULT (.*)$", output, re.MULTILINE)
        if not found:
            raise Failed(f"wrk printed no result for {entry.name}: {output[-300:]}")
        result = {key: int(value) for key, value in (pair.split("=") for pair in found[1].split())}
        errors = {key: result[key] for key in ("connect", "read", "write", "timeout") if result[key]}
        if errors:
            raise Failed(f"{entry.name}: socket errors {errors}")
        return Sample(result["requests"], result["bytes"], result["micros"] / 1e6, 0), result["refused"]

    def h2load(self, entry, seconds):
        """Runs h2load over HTTP/2 in clear text; gives a sample and the number of other answers than 2xx."""
        load = entry.load
        clients, streams = load.h2
        command = ["h2load", "-t1", f"-c{clients}", f"-m{streams}", "-D", seconds]
        if load.tokens:
            command += ["-H", f"authorization: Bearer {load.token()}"]
        command.append(f"http://127.0.0.1:{entry.contestant.port}{load.path}")
        output = self.fleet.run("h2load", command, self.cores, seconds + 30)
        good = re.search(r"status codes: (\d+) 2xx, (\d+) 3xx, (\d+) 4xx, (\d+) 5xx", output)
        ends = re.search(r"(\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout", output)
        moved = re.search(r"traffic: .*\((\d+)\) data", output)
        if not (good and ends and moved):
            raise Failed(f"h2load printed no result for {entry.name}: {output[-300:]}")
        bad = sum(int(good[group]) for group in (2, 3, 4)) + sum(int(ends[group]) for group in (2, 3, 4))
        # Those that ended well. A status counts as soon as it comes, also if the time ends before the body does.
        return Sample(int(ends[1]), int(moved[1]), float(seconds), 0), bad

    def sample(self, entry, seconds):
        """One measured run of one entry, its answers verified."""
        arrived = self.upstream_requests()
        whole = Busy(self.gateway_cores)
        before = entry.contestant.process.cpu()
        sample, bad = (self.h2load if entry.load.h2 else self.wrk)(entry, seconds)
        # The last connections are still being closed.
        time.sleep(0.05)
        after = entry.contestant.process.cpu()
        elapsed, busy = whole.since()
        arrived = self.upstream_requests() - arrived
        if set(before) != set(after):
            raise Failed(f"{entry.name}: its processes changed while they were measured")
        if sample.requests == 0:
            raise Failed(f"{entry.name} answered nothing")
        sample.cpu = sum(after.values()) - sum(before.values())
        if self.cores.isdisjoint(self.gateway_cores):
            sample.foreign = max(0.0, busy - sample.cpu / 1e9) / elapsed
        self._count(entry, sample, bad, arrived)
        return sample

    def _count(self, entry, sample, bad, arrived):
        """Every answer was the expected one, says the client; and so says the upstream."""
        under_way = 200
        arrived //= entry.load.arrivals
        if entry.load.expect < 400:
            if bad:
                raise Failed(f"{entry.name}: {bad} of {sample.requests} answers were not 200")
            if not sample.requests <= arrived <= sample.requests + under_way:
                raise Failed(f"{entry.name}: {sample.requests} answers, but {arrived} requests came to the upstream")
            length = entry.load.download or len(self.body)
            most = (sample.requests + under_way) * length if entry.load.h2 else sample.bytes
            if not sample.requests * length <= sample.bytes <= most:
                raise Failed(f"{entry.name}: {sample.requests} answers of {length} bytes, but {sample.bytes} bytes came")
        else:
            if bad != sample.requests:
                raise Failed(f"{entry.name}: {sample.requests - bad} of {sample.requests} were not refused")
            if arrived:
                raise Failed(f"{entry.name}: {arrived} refused requests came to the upstream")

    def race(self, entries, rounds, seconds, progress=lambda text: None):
        """Verifies all entries, warms them up, and measures them in rounds."""
        for entry in entries:
            self.verify(entry)
            self.sample(entry, 1)
        for number in range(rounds):
            for entry in in_turn(entries, number):
                progress(f"round {number + 1}/{rounds}: {entry.name}")
                entry.samples.append(self.sample(entry, seconds))
        for entry in entries:
            self.verify(entry)
