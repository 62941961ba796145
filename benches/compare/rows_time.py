"""The rows about time: the latency that a gateway adds, and reloads."""

import http.client
import json
import os
import statistics
import time

from . import policy
from .bench import row
from .measure import Entry
from .pace import Pacer
from .processes import Failed

# What counts as "no visible effect" of a reload on the 99th percentile.
VISIBLE = 1.25


@row("latency", "added latency at 30 % of what nginx can do, against asking the upstream directly")
def latency(bench):
    """The same rate for all, Poisson arrivals; what is added is the difference to the direct run of the same round."""
    with bench.field() as field:
        load = bench.load()
        pacer = Pacer(bench, field)
        ours, nginx = field.scopegate(), field.nginx()
        cost = statistics.median(field.meter.sample(Entry(nginx, load), 1).per_request for _ in range(2))
        rate = int(0.3 * 1e6 / cost)
        field.meter.verify(Entry(ours, load))
        seconds = bench.seconds if bench.quick else max(3, bench.seconds)
        added = {(who.name, part): [] for who in (ours, nginx) for part in ("p50", "p99")}
        direct, foreign = {"p50": [], "p99": []}, []
        for number in range(bench.rounds):
            order = [field.api, nginx, ours] if number % 2 == 0 else [ours, nginx, field.api]
            seen = {}
            for who in order:
                bench.progress(f"round {number + 1}/{bench.rounds}: {who.name}")
                seen[who.name] = pacer.run(who, load, rate, seconds)
                foreign.append(seen[who.name].foreign)
            for part in ("p50", "p99"):
                base = getattr(seen[field.api.name], part)
                direct[part].append(base)
                for who in (ours, nginx):
                    added[who.name, part].append(getattr(seen[who.name], part) - base)
        bench.progress("")
        bench.tell_disturbance(foreign)
        for part in ("p50", "p99"):
            bench.report.figure(f"direct, {part}", direct[part], "µs", f"{rate:,} requests/s")
            for who in (ours, nginx):
                bench.report.figure(f"{who.name}, {part} added", added[who.name, part], "µs")
            over = [mine - theirs for mine, theirs in zip(added[ours.name, part], added[nginx.name, part])]
            bench.report.verdict(f"{part}: what Scopegate adds more than nginx", over, 0, "µs")


class Versions:
    """Two versions of a policy in turn, each brought in by a rename over the file."""

    def __init__(self, bench, field, gateway, routes):
        self.gateway, self.number = gateway, 0
        self.texts = []
        ports = {"port": gateway.port, "tls": gateway.tls, "admin": gateway.admin}
        for scope in ("orders:first", "orders:second"):
            self.texts.append(policy.render(bench.keys, ports, field.api.port, routes=routes, scope=scope))

    def put(self):
        """Renames the next version over the policy; gives the hash that was in force before."""
        before = self.gateway.status()["policy"]["hash"]
        self.number += 1
        fresh = self.gateway.config.with_suffix(".new")
        fresh.write_text(self.texts[self.number % 2])
        self.renamed = time.monotonic()
        os.rename(fresh, self.gateway.config)
        return before

    def wait(self, before, seconds=60):
        """Returns the time from the rename until another hash is in force."""
        connection = http.client.HTTPConnection("127.0.0.1", self.gateway.admin, timeout=20)
        try:
            while time.monotonic() - self.renamed < seconds:
                connection.request("GET", "/api/v1/status")
                status = json.loads(connection.getresponse().read())
                taken = time.monotonic() - self.renamed
                if status["policy"]["hash"] != before:
                    return taken
                if status["reload"]["error"]:
                    raise Failed(f"the new policy was refused: {status['reload']['error'][:200]}")
                time.sleep(0.005)
        finally:
            connection.close()
        raise Failed(f"the new policy is not in force after {seconds} s")


@row("reload", "reloads of 10,000 and 100,000 routes: until effective, and the p99 of running traffic")
def reload(bench):
    """The gateway has one core for its worker and the reload together: the hardest case."""
    sizes = ((10_000, 0.3), (100_000, 2.5))
    for routes, target in sizes[:1] if bench.quick else sizes:
        with bench.field() as field:
            gateway = field.scopegate(routes=routes)
            versions = Versions(bench, field, gateway, routes)
            times = []
            for _ in range(bench.rounds):
                bench.progress(f"{routes:,} routes: reload")
                times.append(versions.wait(versions.put()))
            bench.progress("")
            bench.report.verdict(f"{routes:,} routes: effective after the rename", times, target, "s")
            _running_traffic(bench, field, gateway, versions, f"{routes:,} routes")


def _running_traffic(bench, field, gateway, versions, what):
    """Compares the p99 of a steady load without and with reloads one after the other."""
    load, pacer, rate = bench.load(), Pacer(bench, field), 4000
    seconds = bench.seconds if bench.quick else max(3, bench.seconds)
    quiet, busy, foreign, reloads = [], [], [], 0
    pacer.run(gateway, load, rate, 1)
    for _ in range(bench.rounds):
        bench.progress(f"{what}: traffic")
        alone = pacer.run(gateway, load, rate, seconds)
        quiet.append(alone.p99)
        foreign.append(alone.foreign)
        finish = pacer.start(gateway, load, rate, seconds)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            before = versions.put()
            # Only now and then: the question must not be a load of its own.
            while gateway.status()["policy"]["hash"] == before and time.monotonic() < end:
                time.sleep(0.1)
            reloads += 1
        busy.append(finish().p99)
    bench.progress("")
    bench.tell_disturbance(foreign)
    bench.report.figure(f"{what}: p99 without reload", quiet, "µs", f"{rate:,} requests/s")
    bench.report.figure(f"{what}: p99 while reloading", busy, "µs", f"{reloads} reloads")
    bench.report.verdict(f"{what}: p99 with reloads / without", [with_it / without for with_it, without
                                                                 in zip(busy, quiet)], VISIBLE)
