"""The rows about the cost of a small request: one function a row of the table."""

from .bench import row
from .measure import Entry, Load
from .peers import HAPROXY_BUFFERS
from .processes import Failed
from .workers import spread_over_workers


@row("permitted", "a permitted request: RS256 token seen before, small JSON, 64 connections")
def permitted(bench):
    """Scopegate with all its checks, against proxies with and without checks."""
    with bench.field() as field:
        load = bench.load()
        ours = Entry(field.scopegate(), load)
        peers = [
            (0.95, bench.peer("nginx", field.nginx)),
            (1.30, bench.peer("HAProxy as TCP relay", field.haproxy, "tcp")),
            (None, bench.peer("HAProxy", field.haproxy, "plain")),
            (0.27, bench.peer("HAProxy with jwt_verify", field.haproxy, "RS256")),
            (0.20, bench.peer("Envoy", field.envoy)),
            (None, bench.peer("Apache mod_auth_openidc", field.apache)),
        ]
        entries = [(target, Entry(contestant, load)) for target, contestant in peers if contestant]
        bench.race(field, [ours] + [entry for _, entry in entries])
        for target, entry in entries:
            bench.judge(ours, entry, target)


@row("rotation", "3,000 distinct tokens in rotation against one token")
def rotation(bench):
    """Remembering many tokens must cost no more than remembering one."""
    with bench.field() as field:
        gateway = field.scopegate()
        one = Entry(gateway, bench.load(), "Scopegate, one token")
        many = Entry(gateway, Load(tokens=bench.keys.many("RS256", 3000)), "Scopegate, 3,000 tokens")
        # Each is seen once before anything is measured.
        field.meter.sample(many, 2)
        before = gateway.metric("scopegate_token_cache_misses_total")
        bench.race(field, [many, one])
        missed = gateway.metric("scopegate_token_cache_misses_total") - before
        bench.report.figure("tokens that had to be verified again", [missed], "tokens")
        bench.judge(many, one, 1.05)


@row("new", "every token new: RS256 and ES256")
def new(bench):
    """A cache of tokens that is too small for the rotation makes every token a new one; the gateway's counters prove it."""
    count = 4000 if bench.quick else 20_000
    with bench.field() as field:
        for algorithm in ("RS256", "ES256"):
            load = Load(tokens=bench.keys.many(algorithm, count))
            gateway = field.scopegate(f"Scopegate, new {algorithm}", cache="8KiB")
            ours, entries = Entry(gateway, load), []
            peer = bench.peer(f"HAProxy with jwt_verify {algorithm}", field.haproxy, algorithm)
            if peer:
                entries.append(Entry(peer, load))
            before = [gateway.metric(f"scopegate_token_cache_{kind}_total") for kind in ("hits", "misses")]
            bench.race(field, [ours] + entries)
            after = [gateway.metric(f"scopegate_token_cache_{kind}_total") for kind in ("hits", "misses")]
            hits, misses = (late - early for early, late in zip(before, after))
            share = hits / (hits + misses)
            if share > 0.01:
                raise Failed(f"{share:.1%} of the {algorithm} tokens were remembered: they were not new")
            bench.report.figure(f"tokens that were remembered, {algorithm}", [100 * share], "%",
                                f"{hits:,.0f} hits, {misses:,.0f} misses")
            for entry in entries:
                bench.judge(ours, entry, 0.75)


@row("refused", "refused requests: 401 without a token, 403 without the scope")
def refused(bench):
    """A refusal must cost less than a request that is passed on."""
    with bench.field() as field:
        gateway = field.scopegate()
        permitted_one = Entry(gateway, bench.load(), "Scopegate, permitted")
        missing = Entry(gateway, Load(expect=401), "Scopegate, 401 no token")
        scope = Entry(gateway, bench.load(path="/v1/acme/admin", expect=403), "Scopegate, 403 no scope")
        bench.race(field, [permitted_one, missing, scope])
        bench.judge(missing, permitted_one, 0.6)
        bench.judge(scope, permitted_one, 0.6)


@row("tls", "TLS 1.3, keep-alive, HTTP/1.1, certificate on P-256")
def tls(bench):
    """Against nginx that terminates TLS and checks nothing."""
    with bench.field() as field:
        load = bench.load(tls=True)
        ours = Entry(field.scopegate("Scopegate, TLS").over_tls(), load)
        peer = bench.peer("nginx", field.nginx, "tls")
        theirs = [Entry(peer, load)] if peer else []
        bench.race(field, [ours] + theirs)
        for entry in theirs:
            bench.judge(ours, entry, 1.0)


@row("h2", "HTTP/2 in (10 connections with 10 streams, clear text), HTTP/1.1 out")
def h2(bench):
    """Against nginx that takes HTTP/2 and checks nothing."""
    with bench.field() as field:
        load = bench.load(h2=(10, 10))
        ours = Entry(field.scopegate("Scopegate, HTTP/2 in"), load)
        peer = bench.peer("nginx", field.nginx, "h2")
        theirs = [Entry(peer, load)] if peer else []
        bench.race(field, [ours] + theirs)
        for entry in theirs:
            bench.judge(ours, entry, 1.0)


@row("h2-bodies", "answers of 1 MiB over HTTP/2 (4 connections with 4 streams, clear text), HTTP/1.1 out")
def h2_bodies(bench):
    """What the smaller pieces of answers over HTTP/2 cost; there is no target."""
    with bench.field() as field:
        load = bench.load(path="/files/acme/1MiB", download=1 << 20, h2=(4, 4))
        ours = Entry(field.scopegate("Scopegate, HTTP/2 in"), load)
        peers = [bench.peer("nginx", field.nginx, "h2"), bench.peer("nginx with large buffers", field.nginx, "h2", True)]
        theirs = [Entry(peer, load) for peer in peers if peer]
        bench.race(field, [ours] + theirs, "per_kib")
        for entry in theirs:
            bench.judge(ours, entry, None, "per_kib")


@row("bodies", "large bodies: answers of 64 KiB and 1 MiB, uploads of 1 MiB")
def bodies(bench):
    """CPU time by bytes moved, and what 64 busy connections keep resident.

    A target is judged against whichever of a peer's buffers was the cheaper in each round; each alone is only told.
    """
    kinds = [
        ("64 KiB answers", {"path": "/files/acme/64KiB", "download": 64 << 10}, "per_kib", 0.80),
        ("1 MiB answers", {"path": "/files/acme/1MiB", "download": 1 << 20}, "per_kib", 0.70),
        ("1 MiB uploads", {"path": "/v1/acme/orders", "upload": 1 << 20, "arrivals": 2}, "per_request", 0.80),
    ]
    if bench.quick:
        kinds = kinds[1:]
    with bench.field() as field:
        gateway = field.scopegate()
        large, sizes = ((False,), HAPROXY_BUFFERS[:1]) if bench.quick else ((False, True), HAPROXY_BUFFERS)
        peers = {"nginx": [bench.peer("nginx", field.nginx, "plain", choice) for choice in large],
                 "HAProxy": [bench.peer("HAProxy", field.haproxy, "plain", size) for size in sizes]}
        for kind, options, cost, target in kinds:
            load = bench.load(**options)
            ours = Entry(gateway, load, f"Scopegate, {kind}")
            others = {name: [Entry(peer, load) for peer in variants if peer] for name, variants in peers.items()}
            bench.race(field, [ours] + [entry for variants in others.values() for entry in variants], cost)
            for name, variants in others.items():
                limit = target if name == "nginx" else 1.0
                if len(variants) == 1:
                    bench.judge(ours, variants[0], limit, cost)
                elif variants:
                    for entry in variants:
                        bench.judge(ours, entry, None, cost)
                    bench.judge_cheapest(ours, variants, f"{name}, whichever buffers are cheaper", limit, cost)
        bench.report.verdict("Scopegate, most ever resident", [gateway.process.memory("VmHWM") / 1024], 64, "MiB",
                             "64 busy connections")


@row("routes", "the same request with 10, 1,000, 10,000 and 100,000 routes")
def routes(bench):
    """The look-up must not grow with the policy."""
    with bench.field() as field:
        counts = (10, 100_000) if bench.quick else (10, 1000, 10_000, 100_000)
        entries = [Entry(field.scopegate(f"Scopegate, {count:,} routes", routes=count), bench.load())
                   for count in counts]
        bench.race(field, entries)
        for entry in entries[1:]:
            bench.judge(entry, entries[0], 1.05)


@row("log", "access log on and off")
def log(bench):
    """The log goes to a file; lines that were dropped would make it look cheap, so they are told."""
    with bench.field() as field:
        path = field.directory / "access.log"
        with_log = field.scopegate("Scopegate, access log on", access_log="stdout", log_to=path)
        entries = [Entry(with_log, bench.load()), Entry(field.scopegate("Scopegate, access log off"), bench.load())]
        try:
            bench.race(field, entries)
        finally:
            path.unlink(missing_ok=True)
        dropped = with_log.metric("scopegate_access_log_dropped_total")
        bench.report.figure("lines dropped", [dropped], "lines")
        bench.judge(entries[0], entries[1], 1.10)


@row("workers", "two workers against one, on both cores together with load and upstream")
def workers(bench):
    """CPU per request, and how long-lived connections spread over the workers."""
    with bench.field() as field:
        field.meter.cores = bench.cores
        one = Entry(field.scopegate("Scopegate, one worker", cores=bench.cores), bench.load())
        pair = field.scopegate("Scopegate, two workers", cores=bench.cores, workers=2)
        two = Entry(pair, bench.load())
        bench.race(field, [two, one])
        bench.judge(two, one, 1.10)
        # As wrk's connections are gone, these eight are all there are.
        command = ["h2load", "-t1", "-c8", "-m1", "-D", 2, "-H", f"authorization: Bearer {two.load.token()}",
                   f"http://127.0.0.1:{pair.port}{two.load.path}"]
        load = field.fleet.start("h2load", command, bench.load_cores)
        shares = spread_over_workers(pair.process, pair.port, 8, load)
        bench.report.fact("8 connections of HTTP/2 on 2 workers: 4 and 4", shares == [4, 4],
                          " and ".join(map(str, shares)))
