//! From located nodes to a [`Snapshot`], with every error of the file.
//!
//! 1. Sections and list items are compiled one by one; a fault in one never hides a fault in another.
//! 2. What is wrong is an error at its own place; nothing is repaired, guessed or ignored.
//! 3. Defaults are here, and none of them opens anything.
//! 4. Routes are compiled as they are read, where the sections they refer to stand before them: then a policy with very
//!    many routes is never in memory as a tree. Where they do not, the result is the same and takes more.

mod cors;
mod egress;
mod fields;
mod forward;
mod gateway;
mod groups;
mod identity;
mod issuer_tenants;
mod issuers;
mod key_token;
mod listen;
mod matches;
mod require;
mod resources;
mod routes;
mod token_places;
mod unsatisfiable;
mod upstream_credential;
mod upstreams;

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;

use fields::Credential;
use groups::Groups;
use http::HeaderName;
use routes::Routes;

use super::diagnostic::{Fault, Faults, Place, suggest};
use super::files::Files;
use super::lint;
use super::places::Names;
use super::raw::SECTIONS;
use super::read::{Error, Key, Lookup, Map, Node, decode, read};
use crate::authenticate::{IssuerPolicy, Issuers};
use crate::authorize::ScopeImplications;
use crate::reject::Control;
use crate::snapshot::{Gateway, Owners, Snapshot, UpstreamPolicy};
use crate::types::{IssuerName, Owner, Scope, Timestamp};

/// Longest name of a route, issuer or upstream.
const LONGEST_NAME: usize = 128;

/// Compiles one file.
pub(super) struct Parser<'p, 'e> {
    pub(super) faults: &'p mut Faults,
    pub(super) files: &'p mut Files<'e>,
    pub(super) now: Timestamp,
}

/// The sections that routes refer to, compiled.
struct Declared<'t> {
    gateway: Gateway,
    issuers: Vec<IssuerPolicy>,
    issuer_names: Names,
    upstreams: Vec<UpstreamPolicy>,
    /// As many as `upstreams`.
    credentials: Vec<Option<Credential>>,
    upstream_names: Names,
    /// The section as it is written.
    scopes: BTreeMap<Scope, Vec<Scope>>,
    implications: ScopeImplications,
    groups: Groups<'t>,
    /// The issuers that have a `token_header`, by it.
    token_headers: HashMap<HeaderName, IssuerName>,
}

/// The sections without which no route is compiled, and those that may be left out.
const NEEDED: [&str; 3] = ["version", "gateway", "upstreams"];
const OPTIONAL: [&str; 3] = ["issuers", "scopes", "groups"];

impl Parser<'_, '_> {
    /// Reads and compiles the whole file. `None` where something essential is missing; whether there are errors, the
    /// faults say.
    pub(super) fn policy(&mut self, text: &str, env: Lookup<'_>, hash: Box<str>) -> Option<Snapshot> {
        let (root, ahead) = self.read_ahead(text, env);
        let root = root?;
        if ahead.is_some() && root.map().is_some_and(|map| map.any_after("routes", &OPTIONAL)) {
            // The routes did not know of a section behind them: once more, keeping them until all is read.
            *self.faults = Faults::default();
            let root = read(text, env, self.faults, &mut |_, item, _| Some(item))?;
            return self.snapshot(&root, None, hash);
        }
        self.snapshot(&root, ahead, hash)
    }

    /// Reads the file, and compiles its routes meanwhile if what they need stands before them.
    fn read_ahead<'t>(
        &mut self,
        text: &'t str,
        env: Lookup<'_>,
    ) -> (Option<Node<'t>>, Option<(Declared<'t>, Routes)>) {
        let mut ahead: Option<(Declared<'t>, Routes)> = None;
        let (files, now) = (&mut *self.files, self.now);
        let root = read(text, env, self.faults, &mut |sections, item, faults| {
            let mut parser = Parser { faults, files: &mut *files, now };
            if ahead.is_none() && NEEDED.iter().all(|section| sections.get(section).is_some()) {
                ahead = parser.declared_ahead(sections).map(|declared| (declared, Routes::default()));
            }
            let Some((declared, routes)) = &mut ahead else {
                return Some(item);
            };
            parser.route_item(&item, declared, routes);
            None
        });
        (root, ahead)
    }

    fn declared_ahead<'t>(&mut self, sections: &Map<'t>) -> Option<Declared<'t>> {
        let version = decode::<u64>(sections.get("version")?, &mut Faults::default())?;
        if version == 1 { self.declared(sections) } else { None }
    }

    fn declared<'t>(&mut self, sections: &Map<'t>) -> Option<Declared<'t>> {
        let gateway = sections.get("gateway").map(|node| self.gateway(node));
        let (issuers, issuer_names) = self.issuers(sections.get("issuers"));
        let (upstreams, credentials, upstream_names) = self.upstreams(sections.get("upstreams"));
        let scopes = self.implications(sections.get("scopes"));
        let implications = ScopeImplications::new(scopes.clone());
        let groups = self.groups(sections.get("groups"));
        let token_header = |issuer: &IssuerPolicy| Some((issuer.token_header.clone()?, issuer.name.clone()));
        let token_headers = issuers.iter().filter_map(token_header).collect();
        Some(Declared {
            gateway: gateway?,
            issuers,
            issuer_names,
            upstreams,
            credentials,
            upstream_names,
            scopes,
            implications,
            groups,
            token_headers,
        })
    }

    /// Compiles what was read; `ahead` is what was compiled of it already.
    fn snapshot<'t>(
        &mut self,
        root: &Node<'t>,
        ahead: Option<(Declared<'t>, Routes)>,
        hash: Box<str>,
    ) -> Option<Snapshot> {
        let sections = self.sections(root)?;
        let ahead = ahead.or_else(|| Some((self.declared(sections)?, Routes::default())));
        let owners = self.owners(root.get("owners"));
        let hosts = self.hosts(root.get("hosts"));
        let (declared, mut routes) = ahead?;
        self.routes(root.get("routes"), &declared, &mut routes)?;
        let Declared {
            gateway,
            issuers,
            issuer_names,
            upstreams,
            credentials,
            upstream_names,
            scopes,
            groups,
            ..
        } = declared;
        let issuers = Issuers::new(issuers);
        let mut compiled = routes.compiled;
        let resources = hosts.resources(&mut compiled, &routes.specs, &issuers);
        let table = self.table(&routes.specs, &routes.places, &compiled)?;
        cors::add_methods(&mut compiled, &table, &routes.keys);
        let reserved_headers = forward::reserved_headers(&compiled, &issuers);
        self.check_named(&routes.named_fields, &reserved_headers, &credentials);
        self.check_credentials(&credentials, &reserved_headers);
        let snapshot = Snapshot {
            text_hash: hash.clone(),
            hash,
            fingerprint: [0; 32],
            gateway,
            issuers,
            upstreams,
            credentials: credentials
                .into_iter()
                .map(|found| found.map(|(_, credential)| credential))
                .collect(),
            owners,
            routes: compiled,
            table,
            resources,
            origins: hosts.origins(),
            hsts: hosts.hsts(),
            reserved_headers,
            files: Vec::new(),
        };
        if self.faults.any() {
            // What is missing after a fault would only look unused.
            return Some(snapshot);
        }
        self.faults.take_warnings(routes.warnings);
        groups.unused(&routes.groups.names).for_each(|fault| self.faults.warn(fault));
        hosts.without_listener(&snapshot.gateway).for_each(|fault| self.faults.warn(fault));
        let context = lint::Context {
            root,
            specs: &routes.specs,
            places: &routes.places,
            issuers: &issuer_names,
            upstreams: &upstream_names,
            scopes: &scopes,
            unserved_hosts: &hosts.without_routes(&snapshot.resources),
        };
        lint::lint(&snapshot, &context, self.faults);
        Some(snapshot)
    }

    /// Checks which sections are there.
    fn sections<'n, 't>(&mut self, root: &'n Node<'t>) -> Option<&'n Map<'t>> {
        let Some(map) = root.map() else {
            let fault = Fault::new(root.place, "a policy is a mapping");
            self.faults.error(fault.hint("it has at least `version`, `gateway` and `routes`"));
            return None;
        };
        for (key, _) in map.iter() {
            if !SECTIONS.contains(&&*key.text) {
                self.faults.error(Error::unknown(&key.text, &SECTIONS).into_fault(key.place));
            }
        }
        for section in ["version", "gateway", "routes"] {
            if map.get(section).is_none() {
                self.faults.error(Fault::new(Place::START, format!("missing `{section}`")).key(section));
            }
        }
        let version = map.get("version")?;
        match decode::<u64>(version, self.faults)? {
            1 => Some(map),
            other => {
                let fault = Fault::new(version.place, format!("version {other} is not known")).key("version");
                self.faults.error(fault.hint("this release reads version 1"));
                None
            }
        }
    }

    /// The entries of a section that maps names to things.
    fn entries<'n, 't>(
        &mut self,
        node: Option<&'n Node<'t>>,
        section: &str,
    ) -> Vec<(&'n Key<'t>, &'n Node<'t>)> {
        let Some(node) = node else { return Vec::new() };
        match node.map() {
            Some(map) => map.iter().collect(),
            None => {
                self.faults.error(Fault::new(node.place, format!("`{section}` is a mapping")).key(section));
                Vec::new()
            }
        }
    }

    /// Checks a name that becomes a metric label.
    fn check_name(&mut self, name: &str, place: Place, of: &str) {
        let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b':' | b'/');
        if name.is_empty() || name.len() > LONGEST_NAME || !name.bytes().all(legal) {
            let message =
                format!("the name of this {of} is not 1 to {LONGEST_NAME} letters, digits or `-_.:/`");
            self.faults.error(Fault::new(place, message).key("id"));
        }
    }

    /// Reads a file.
    fn read(&mut self, file: &str, place: Place) -> Option<(PathBuf, Arc<[u8]>)> {
        let read = self.files.read(file, place);
        self.faults.take(read)
    }

    /// Compiles `scopes`.
    fn implications(&mut self, node: Option<&Node<'_>>) -> BTreeMap<Scope, Vec<Scope>> {
        let mut implications = BTreeMap::new();
        for (key, item) in self.entries(node, "scopes") {
            let Some(implied) = decode::<Vec<String>>(item, self.faults) else {
                continue;
            };
            let scope = self.scope(&key.text, key.place);
            let mut scopes = Vec::with_capacity(implied.len());
            for (i, text) in implied.iter().enumerate() {
                scopes.extend(self.scope(text, item.place_of_item(&[], i)));
            }
            if let Some(scope) = scope {
                implications.insert(scope, scopes);
            }
        }
        implications
    }

    /// One scope-token.
    fn scope(&mut self, text: &str, place: Place) -> Option<Scope> {
        let scope = Scope::parse(text);
        if scope.is_none() {
            let fault = Fault::new(place, format!("`{text}` is not a scope (RFC 6749 §3.3)")).key("scopes");
            let hint = if text.contains(' ') {
                "several scopes are a list: `[a, b]`"
            } else {
                "printable ASCII without space, `\"` and `\\`"
            };
            self.faults.error(fault.hint(hint));
        }
        scope
    }

    /// Compiles `owners`.
    fn owners(&mut self, node: Option<&Node<'_>>) -> Owners {
        let mut owners = HashMap::new();
        let mut default = None;
        for (key, item) in self.entries(node, "owners") {
            let owner = decode::<String>(item, self.faults);
            let owner = owner.and_then(|owner| self.owner(&owner, item.place));
            match Control::ALL.into_iter().find(|control| control.as_str() == key.text) {
                Some(control) => {
                    owners.extend(owner.map(|owner| (control, owner)));
                }
                None if key.text == "default" => default = owner,
                None => {
                    let mut fault =
                        Fault::new(key.place, format!("`{}` is not a control", key.text)).key(&*key.text);
                    fault.hint = suggest(
                        &key.text,
                        Control::ALL.iter().map(|control| control.as_str()).chain(["default"]),
                    );
                    self.faults.error(fault);
                }
            }
        }
        if let Some(default) = default {
            for control in Control::ALL {
                owners.entry(control).or_insert_with(|| default.clone());
            }
        }
        Owners(owners)
    }

    /// An owner: one line of text.
    fn owner(&mut self, text: &str, place: Place) -> Option<Owner> {
        if text.is_empty() || text.len() > 256 || text.chars().any(char::is_control) {
            self.faults.error(Fault::new(place, "an owner is one line of text").key("owner"));
            return None;
        }
        Some(Owner::new(text))
    }
}
