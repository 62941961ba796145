"""The rows about time: the latency that a gateway adds, and reloads."""

import hashlib
import http.client
import json
import os
import shutil
import statistics
import time
from contextlib import contextmanager

from . import policy
from .bench import row
from .measure import Entry, Others, in_turn
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
        seconds = bench.seconds if bench.quick else max(3, bench.seconds)
        contestants = [field.api, nginx, ours]
        for who in contestants:
            field.meter.verify(Entry(who, load))
            pacer.run(who, load, rate, 1)
        added = {(who.name, part): [] for who in (ours, nginx) for part in ("p50", "p99")}
        direct, foreign = {"p50": [], "p99": []}, []
        for number in range(bench.rounds):
            seen = {}
            for who in in_turn(contestants, number):
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
            bench.report.verdict(f"{part}: what Scopegate adds more than nginx", over, 0, "µs", foreign=foreign)


class Versions:
    """Two versions of a policy in turn, each brought in by a rename over the file.

    Both are written once, beside the directory that the gateway watches, so that bringing one in costs no more than a link
    and a rename. The gateway tells files apart by their content and their inode: each version has its own.
    """

    def __init__(self, bench, field, gateway, routes):
        self.gateway, self.number, self.kept = gateway, 0, []
        watched = gateway.config.parent
        self.directory = watched.with_name(f"{watched.name}-versions")
        shutil.rmtree(self.directory, ignore_errors=True)
        self.directory.mkdir()
        ports = {"port": gateway.port, "tls": gateway.tls, "admin": gateway.admin}
        for scope in ("orders:first", "orders:second"):
            text = policy.render(bench.keys, ports, field.api.port, routes=routes, scope=scope).encode()
            path = self.directory / f"{len(self.kept)}.yaml"
            with open(path, "wb") as file:
                file.write(text)
                # Or the system would write it to the disk in the middle of a measurement.
                os.fsync(file)
            self.kept.append((path, hashlib.sha256(text).hexdigest()))

    def put(self):
        """Renames the next version over the policy; gives its hash."""
        path, digest = self.kept[self.number % 2]
        self.number += 1
        fresh = self.directory / "next.yaml"
        os.link(path, fresh)
        self.renamed = time.monotonic()
        os.rename(fresh, self.gateway.config)
        return digest

    @contextmanager
    def asking(self):
        """Gives a function that tells the hash of the policy in force, over one kept connection."""
        connection = http.client.HTTPConnection("127.0.0.1", self.gateway.admin, timeout=20)

        def in_force():
            connection.request("GET", "/api/v1/status")
            status = json.loads(connection.getresponse().read())
            if status["reload"]["error"]:
                raise Failed(f"the new policy was refused: {status['reload']['error'][:200]}")
            return status["policy"]["hash"]

        try:
            yield in_force
        finally:
            connection.close()

    def wait(self, digest, seconds=60):
        """Returns the time from the rename until this hash is in force, to 10 ms."""
        with self.asking() as in_force:
            while time.monotonic() - self.renamed < seconds:
                found, taken = in_force(), time.monotonic() - self.renamed
                if found == digest:
                    return taken
                time.sleep(0.01)
        raise Failed(f"the new policy is not in force after {seconds} s")

    def pass_time(self, seconds, reloading):
        """For that long, with `reloading`, brings in a version whenever the one before is in force; gives their number.

        It asks now and then what is in force, and does so without `reloading` as well: only the reloads differ.
        """
        end, wanted, count = time.monotonic() + seconds, None, 0
        with self.asking() as in_force:
            while time.monotonic() < end:
                found = in_force()
                if reloading and wanted in (None, found):
                    count += wanted is not None
                    wanted = self.put()
                time.sleep(0.1)
        if wanted:
            # The last one must not reach into what is measured next.
            self.wait(wanted)
        return count


@row("reload", "reloads of 10,000 and 100,000 routes: until effective, and the p99 of running traffic")
def reload(bench):
    """The gateway has one core for its worker and the reload together: the hardest case."""
    sizes = ((10_000, 0.3), (100_000, 2.5))
    # What brings in the policies and asks for the status must not work on the gateway's core.
    os.sched_setaffinity(0, bench.load_cores)
    try:
        for routes, target in sizes[:1] if bench.quick else sizes:
            with bench.field() as field:
                gateway = field.scopegate(routes=routes)
                versions = Versions(bench, field, gateway, routes)
                times, others = [], Others(bench.gateway_cores, gateway.process)
                for _ in range(bench.rounds):
                    bench.progress(f"{routes:,} routes: reload")
                    times.append(versions.wait(versions.put()))
                bench.progress("")
                bench.report.verdict(f"{routes:,} routes: effective after the rename", times, target, "s",
                                     foreign=[others.share()])
                _running_traffic(bench, field, gateway, versions, f"{routes:,} routes")
    finally:
        os.sched_setaffinity(0, bench.cores)


def _running_traffic(bench, field, gateway, versions, what):
    """Compares the p99 of a steady load without and with reloads one after the other."""
    load, pacer, rate = bench.load(), Pacer(bench, field), 4000
    seconds = bench.seconds if bench.quick else max(3, bench.seconds)
    seen, reloads = {False: [], True: []}, 0
    pacer.run(gateway, load, rate, 1)
    for number in range(bench.rounds):
        for reloading in in_turn([False, True], number):
            bench.progress(f"{what}: traffic{' and reloads' if reloading else ''}")
            gateway.process.settle()
            finish = pacer.start(gateway, load, rate, seconds)
            reloads += versions.pass_time(seconds, reloading)
            seen[reloading].append(finish())
    bench.progress("")
    foreign = [run.foreign for runs in seen.values() for run in runs]
    bench.tell_disturbance(foreign)
    quiet, busy = ([run.p99 for run in seen[reloading]] for reloading in (False, True))
    bench.report.figure(f"{what}: p99 without reload", quiet, "µs", f"{rate:,} requests/s")
    bench.report.figure(f"{what}: p99 while reloading", busy, "µs", f"{reloads} reloads")
    bench.report.verdict(f"{what}: p99 with reloads / without", [with_it / without for with_it, without
                                                                 in zip(busy, quiet)], VISIBLE, foreign=foreign)
