"""The policy of Scopegate in a comparison."""

from .claims import AUDIENCE, ISSUER, SCOPE

_HEAD = """version: 1
gateway:
  listen:
    - http: 127.0.0.1:{port}
    - https: 127.0.0.1:{tls}
      certificates: [{{ cert: {certificate}, key: {certificate_key} }}]
  admin: {{ address: 127.0.0.1:{admin} }}
  workers: {workers}
  token_cache: {{ bytes: {cache} }}
  limits: {{ connections: {connections}, connections_per_client: {connections}, connection_requests: 1000000000, requests_in_flight: 2000 }}
  timeouts: {{ idle: 1h }}
  access_log: {access_log}
issuers:
  idp:
    issuer: {issuer}
    keys: {{ jwks_file: {jwks} }}
    algorithms: [RS256, ES256, EdDSA]
    claims: {{ tenant: tenant }}
upstreams:
  api: {{ url: "http://127.0.0.1:{upstream}" }}
routes:
"""

# Beside what the peers check, the tenant is compared with the path and the caller is told to the upstream.
_REQUIRE = (f"{{ issuers: [idp], audience: {AUDIENCE}, scopes: [{SCOPE}], tenant: {{ from: path.tenant }} }}")
_FORWARD = "{ identity_headers: { X-User: sub, X-Client: client, X-Scopes: scope, X-Tenant: tenant } }"
_MAIN = (
    ("orders", "/v1/{tenant}/orders/{id}", "[GET, HEAD]", SCOPE),
    ("orders-write", "/v1/{tenant}/orders", "[POST]", SCOPE),
    ("admin", "/v1/{tenant}/admin", "[GET, HEAD]", "orders:admin"),
    ("files", "/files/{tenant}/{*rest}", "[GET, HEAD]", SCOPE),
)


def _route(name, path, methods, scope=SCOPE):
    require = _REQUIRE.replace(f"[{SCOPE}]", f"[{scope}]")
    return (f'  - {{ id: {name}, match: {{ path: "{path}", methods: {methods} }}, require: {require}, '
            f"upstream: api, forward: {_FORWARD} }}\n")


def render(keys, ports, upstream, routes=10, workers=1, cache="64MiB", access_log="off", connections=2000, scope=SCOPE):
    """The policy with that many routes. `scope` is what one of the spare routes asks for: it tells versions apart."""
    text = _HEAD.format(
        issuer=ISSUER, jwks=keys.jwks, certificate=keys.certificate, certificate_key=keys.certificate_key,
        upstream=upstream, workers=workers, cache=cache, access_log=access_log, connections=connections, **ports)
    lines = [_route(*route) for route in _MAIN]
    # As in a grown API: some hundred services, each with its collections.
    lines += [
        _route(f"spare-{number}", f"/v1/{{tenant}}/service-{number % 300}/collection-{number}/{{id}}", "[GET, POST]",
               scope if number == 0 else SCOPE)
        for number in range(routes - len(_MAIN))
    ]
    return text + "".join(lines) + "...\n"
