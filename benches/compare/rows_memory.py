"""The rows about memory."""

import select
import socket
import ssl

from .bench import row
from .measure import Entry, Load
from .processes import Failed, raise_file_limit

_SPARE = 500
# How many tokens the row about the cache uses.
_MILLION = 1_000_000


class Idlers:
    """Many connections that have each made one request and then keep still."""

    def __init__(self, port, token, tls):
        self.address, self.connections = ("127.0.0.1", port), []
        self.request = (f"GET /v1/acme/orders/1 HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
                        f"Authorization: Bearer {token}\r\n\r\n").encode()
        self.trusting = None
        if tls:
            self.trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            self.trusting.check_hostname, self.trusting.verify_mode = False, ssl.CERT_NONE

    def open(self, count):
        """Opens that many more."""
        for _ in range(count):
            connection = socket.create_connection(self.address, timeout=20)
            if self.trusting:
                connection = self.trusting.wrap_socket(connection)
            self.connections.append(connection)
            connection.sendall(self.request)
            self._read(connection)

    @staticmethod
    def _read(connection):
        answer = b""
        while b"\r\n\r\n" not in answer:
            answer += connection.recv(4096) or _closed()
        head, body = answer.split(b"\r\n\r\n", 1)
        if not head.startswith(b"HTTP/1.1 200 "):
            raise Failed(f"an idle connection's request was answered {head[:40]!r}")
        lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
        missing = int(lengths[0].split(b":")[1]) - len(body)
        while missing > 0:
            missing -= len(connection.recv(missing) or _closed())

    def check(self):
        """All must still be open: a gateway that closes idle connections needs no memory for them."""
        watch = select.poll()
        for connection in self.connections:
            watch.register(connection, select.POLLIN | select.POLLHUP | select.POLLERR)
        closed = len(watch.poll(0))
        if closed:
            raise Failed(f"{closed} of {len(self.connections)} idle connections were closed")

    def close(self):
        """Closes all."""
        for connection in self.connections:
            connection.close()


def _closed():
    raise Failed("a connection was closed before its answer was whole")


@row("connections", "resident memory for each idle connection, HTTP/1.1 and TLS")
def connections(bench):
    """Each has made one request before it keeps still; nginx is told for comparison."""
    wanted = 1000 if bench.quick else 10_000
    count = min(wanted, raise_file_limit(wanted + _SPARE) - _SPARE)
    token = bench.load().token()
    for kind, target in (("h1", 24), ("TLS", 48)):
        for name, limit in (("Scopegate", target), ("nginx", None)):
            # Each in a process of its own: memory that was freed before would be taken again unseen.
            with bench.field() as field:
                if name == "nginx":
                    who = bench.peer("nginx", field.nginx, "tls" if kind == "TLS" else "plain")
                else:
                    gateway = field.scopegate(connections=count + _SPARE)
                    who = gateway.over_tls() if kind == "TLS" else gateway
                if who:
                    bench.progress(f"{name}: {count:,} {kind} connections")
                    each = _each(who, token, kind == "TLS", count)
                    bench.progress("")
                    bench.report.verdict(f"{name}: idle {kind} connection", [each], limit, "KiB",
                                         f"over {count:,} connections")


def _each(who, token, tls, count):
    """Resident KiB for each of that many idle connections."""
    idlers = Idlers(who.port, token, tls)
    try:
        # The first ones pay for what is made once.
        idlers.open(50)
        before = who.process.memory()
        idlers.open(count)
        each = (who.process.memory() - before) / count
        idlers.check()
        return each
    finally:
        idlers.close()


@row("table", "resident memory with 100,000 routes")
def table(bench):
    """After the start, and after reloads, when two policies have been in memory at a time."""
    from .rows_time import Versions

    with bench.field() as field:
        gateway = field.scopegate(routes=100_000)
        field.meter.sample(Entry(gateway, bench.load()), 1)
        bench.report.verdict("100,000 routes", [gateway.process.memory() / 1024], 200, "MiB")
        if bench.quick:
            return
        versions = Versions(bench, field, gateway, 100_000)
        for _ in range(2):
            versions.wait(versions.put())
        bench.report.figure("100,000 routes, after two reloads", [gateway.process.memory() / 1024], "MiB")
        bench.report.figure("100,000 routes, most ever", [gateway.process.memory("VmHWM") / 1024], "MiB")


@row("tokens", "one million distinct tokens stay inside the configured cache", long=True)
def tokens(bench):
    """EdDSA, because a million RSA signatures take too long to make."""
    count, cache = _MILLION, 64
    with bench.field() as field:
        print(f"   signing {count:,} tokens, unless they are kept from before", flush=True)
        load = Load(tokens=bench.keys.many("EdDSA", count), stream=True)
        gateway = field.scopegate(cache=f"{cache}MiB")
        entry = Entry(gateway, load)
        field.meter.sample(Entry(gateway, bench.load()), 1)
        before = gateway.process.memory()
        misses = gateway.metric("scopegate_token_cache_misses_total")
        # How fast new tokens are verified; each run of wrk begins the file anew, so all must come in one run.
        trial = field.meter.sample(entry, 2)
        seconds = int(count / (trial.requests / trial.seconds) * 1.5) + 5
        sent = field.meter.sample(entry, seconds).requests
        seen = gateway.metric("scopegate_token_cache_misses_total") - misses
        if sent < count or seen < count:
            raise Failed(f"only {min(sent, seen):,.0f} tokens came in {seconds} s: the machine was busy; repeat it")
        held = gateway.metric("scopegate_token_cache_bytes") / (1 << 20)
        bench.report.verdict("bytes in the cache, by the gateway's metric", [held], cache, "MiB", f"{sent:,} requests")
        bench.report.figure("tokens evicted", [gateway.metric("scopegate_token_cache_evictions_total")], "tokens")
        bench.report.verdict("grown resident memory", [(gateway.process.memory() - before) / 1024], cache, "MiB")
