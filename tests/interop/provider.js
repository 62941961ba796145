// A real OpenID provider (oidc-provider) for the interoperability tests. Loopback only, keys made anew at each start.
//
// Prints one JSON line when it is ready: {"issuer": "http://127.0.0.1:PORT", "control": "http://127.0.0.1:PORT"}.
// The control server lets a test change the provider while it runs:
//   POST /rotate   all signing keys are replaced; the old ones are no longer published
//   POST /down     every connection to the provider is cut without an answer
//   POST /up       it answers again
//   GET  /hits     {"jwks": n, "discovery": n, "token": n}: requests seen since the start
//   GET  /login?resource=R&scope=S   runs a user's authorization-code flow and answers with the token response

import http from 'node:http';
import { createHash, randomBytes } from 'node:crypto';
import { exportJWK, generateKeyPair } from 'jose';
import Provider from 'oidc-provider';

const CALLBACK = 'https://client.example.com/callback';
const SCOPES = 'orders:read orders:write';
// What a resource indicator (RFC 8707) gives: the audience of the token, and the algorithm it is signed with.
const RESOURCES = {
  'https://api.example.com/rs256': 'RS256',
  'https://api.example.com/es256': 'ES256',
  'https://api.example.com/eddsa': 'EdDSA',
  'https://other.example.com': 'RS256',
};

let generation = 0;
let down = false;
let handler;
const hits = { jwks: 0, discovery: 0, token: 0 };

async function freshKeys() {
  generation += 1;
  const kinds = [['RS256', {}], ['ES256', {}], ['EdDSA', { crv: 'Ed25519' }]];
  return Promise.all(kinds.map(async ([alg, options]) => {
    const { privateKey } = await generateKeyPair(alg, { ...options, extractable: true });
    return { ...(await exportJWK(privateKey)), alg, use: 'sig', kid: `${alg.toLowerCase()}-${generation}` };
  }));
}

// oidc-provider cannot change its keys while it runs, so a new provider takes its place behind the same server.
async function freshProvider(issuer) {
  const provider = new Provider(issuer, {
    jwks: { keys: await freshKeys() },
    cookies: { keys: [randomBytes(16).toString('hex')] },
    clients: [
      {
        client_id: 'batch', client_secret: 'batch-secret', grant_types: ['client_credentials'],
        redirect_uris: [], response_types: [], scope: SCOPES, token_endpoint_auth_method: 'client_secret_basic',
      },
      {
        client_id: 'mobile-app', grant_types: ['authorization_code'], redirect_uris: [CALLBACK],
        response_types: ['code'], scope: `openid ${SCOPES}`, token_endpoint_auth_method: 'none',
      },
    ],
    scopes: ['openid', ...SCOPES.split(' ')],
    findAccount: (_ctx, sub) => ({ accountId: sub, claims: () => ({ sub }) }),
    interactions: { url: (_ctx, interaction) => `/interaction/${interaction.uid}` },
    async loadExistingGrant(ctx) {
      const { client, session, params } = ctx.oidc;
      const grant = new ctx.oidc.provider.Grant({ clientId: client.clientId, accountId: session.accountId });
      grant.addOIDCScope(params.scope);
      if (params.resource) grant.addResourceScope(params.resource, params.scope);
      await grant.save();
      return grant;
    },
    ttl: { AccessToken: 600, ClientCredentials: 600, IdToken: 600, Grant: 600, Interaction: 600, Session: 600 },
    features: {
      devInteractions: { enabled: false },
      clientCredentials: { enabled: true },
      resourceIndicators: {
        enabled: true,
        defaultResource: () => undefined,
        useGrantedResource: () => true,
        getResourceServerInfo: (_ctx, resource) => ({
          scope: SCOPES,
          audience: resource,
          accessTokenTTL: 600,
          accessTokenFormat: 'jwt',
          jwt: { sign: { alg: RESOURCES[resource] ?? 'RS256' } },
        }),
      },
    },
  });
  const callback = provider.callback();
  return async (req, res) => {
    if (!req.url.startsWith('/interaction/')) return callback(req, res);
    // The user's only act: log in as alice.
    return provider.interactionFinished(req, res, { login: { accountId: 'alice' } });
  };
}

// A browser and a public client in one: follows the redirects with cookies, then redeems the code (RFC 7636).
async function login(issuer, resource, scope) {
  const verifier = randomBytes(32).toString('base64url');
  const challenge = createHash('sha256').update(verifier).digest('base64url');
  const cookies = new Map();
  const query = { client_id: 'mobile-app', response_type: 'code', redirect_uri: CALLBACK, scope: `openid ${scope}`,
    resource, code_challenge: challenge, code_challenge_method: 'S256' };
  let url = new URL(`${issuer}/auth?${new URLSearchParams(query)}`);
  for (let hop = 0; hop < 10 && !url.href.startsWith(CALLBACK); hop += 1) {
    const cookie = [...cookies].map(([name, value]) => `${name}=${value}`).join('; ');
    const answer = await fetch(url, { redirect: 'manual', headers: { cookie } });
    for (const line of answer.headers.getSetCookie()) {
      const [, name, value] = /^([^=]+)=([^;]*)/.exec(line);
      cookies.set(name, value);
    }
    if (!answer.headers.has('location')) throw new Error(`${answer.status} at ${url}: ${await answer.text()}`);
    url = new URL(answer.headers.get('location'), url);
  }
  if (!url.searchParams.has('code')) throw new Error(`no code at ${url}`);
  const body = new URLSearchParams({ grant_type: 'authorization_code', code: url.searchParams.get('code'),
    redirect_uri: CALLBACK, client_id: 'mobile-app', code_verifier: verifier, resource });
  return (await fetch(`${issuer}/token`, { method: 'POST', body })).json();
}

function listen(server) {
  return new Promise((resolve) => {
    server.listen(0, '127.0.0.1', () => resolve(`http://127.0.0.1:${server.address().port}`));
  });
}

const server = http.createServer((req, res) => {
  if (down) { req.socket.destroy(); return; }
  if (req.url === '/jwks') hits.jwks += 1;
  if (req.url.startsWith('/.well-known/')) hits.discovery += 1;
  if (req.url === '/token') hits.token += 1;
  handler(req, res);
});
const issuer = await listen(server);
handler = await freshProvider(issuer);

const control = http.createServer(async (req, res) => {
  const url = new URL(req.url, 'http://control');
  let answer = {};
  try {
    switch (`${req.method} ${url.pathname}`) {
      case 'POST /rotate': handler = await freshProvider(issuer); break;
      case 'POST /down': down = true; break;
      case 'POST /up': down = false; break;
      case 'GET /hits': answer = hits; break;
      case 'GET /login':
        answer = await login(issuer, url.searchParams.get('resource'), url.searchParams.get('scope'));
        break;
      default: res.statusCode = 404;
    }
  } catch (error) {
    res.statusCode = 500;
    answer = { error: String(error) };
  }
  res.setHeader('content-type', 'application/json');
  res.end(JSON.stringify(answer));
});
console.log(JSON.stringify({ issuer, control: await listen(control) }));
// The test holds our standard input: when it goes, so do we.
process.stdin.on('end', () => process.exit(0)).resume();
