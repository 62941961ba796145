"""The rows about the cost of a small request: one function a row of the table."""

from .bench import row
from .measure import Load


@row("permitted", "a permitted request: RS256 token seen before, small JSON, 64 connections")
def permitted(bench):
    """Scopegate with all its checks, against proxies with and without checks."""
    with bench.field() as field:
        load = bench.load()
        ours = bench.entry(field.scopegate(), load)
        peers = [
            (0.95, bench.peer("nginx", field.nginx)),
            (1.30, bench.peer("HAProxy as TCP relay", field.haproxy, "tcp")),
            (None, bench.peer("HAProxy", field.haproxy, "plain")),
            (0.27, bench.peer("HAProxy with jwt_verify", field.haproxy, "RS256")),
            (0.20, bench.peer("Envoy", field.envoy)),
            (None, bench.peer("Apache mod_auth_openidc", field.apache)),
        ]
        entries = [(target, bench.entry(contestant, load)) for target, contestant in peers if contestant]
        bench.race(field, [ours] + [entry for _, entry in entries])
        for target, entry in entries:
            bench.judge(ours, entry, target)
