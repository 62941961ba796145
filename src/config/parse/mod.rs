//! From located nodes to a [`Snapshot`], with every error of the file.
//!
//! 1. Sections and list items are compiled one by one; a fault in one never hides a fault in another.
//! 2. What is wrong is an error at its own place; nothing is repaired, guessed or ignored.
//! 3. Defaults are here, and none of them opens anything.

mod cors;
mod forward;
mod gateway;
mod issuers;
mod require;
mod resources;
mod routes;
mod upstreams;

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;

pub(super) use resources::Hosts;

use super::diagnostic::{Fault, Faults, Place, suggest};
use super::files::Files;
use super::lint;
use super::raw::SECTIONS;
use super::read::{Error, Key, Node, decode};
use crate::authenticate::Issuers;
use crate::authorize::ScopeImplications;
use crate::reject::Control;
use crate::snapshot::{Owners, Snapshot};
use crate::types::{Owner, Scope, Timestamp};

/// Longest name of a route, issuer or upstream.
const LONGEST_NAME: usize = 128;

/// Compiles one file.
pub(super) struct Parser<'p, 'e> {
    pub(super) faults: &'p mut Faults,
    pub(super) files: &'p mut Files<'e>,
    pub(super) now: Timestamp,
}

/// The names a section declares, with their positions; `None` for an entry that has faults of its own.
#[derive(Debug, Default)]
pub(super) struct Names(HashMap<Box<str>, (Option<usize>, Place)>);

impl Names {
    fn insert(&mut self, name: &str, position: Option<usize>, place: Place) {
        self.0.insert(name.into(), (position, place));
    }

    /// The position of a name; the outer `None` if it is not declared at all.
    fn find(&self, name: &str) -> Option<Option<u32>> {
        let (position, _) = self.0.get(name)?;
        Some(position.and_then(|position| u32::try_from(position).ok()))
    }

    /// Where the name is declared.
    pub(super) fn place(&self, name: &str) -> Place {
        self.0.get(name).map_or(Place::START, |(_, place)| *place)
    }

    fn iter(&self) -> impl Iterator<Item = &str> + Clone {
        self.0.keys().map(AsRef::as_ref)
    }
}

impl Parser<'_, '_> {
    /// Compiles the whole file. `None` where something essential is missing; whether there are errors, the faults say.
    pub(super) fn snapshot(&mut self, root: &Node<'_>, hash: Box<str>) -> Option<Snapshot> {
        self.sections(root)?;
        let gateway = root.get("gateway").map(|node| self.gateway(node));
        let (issuers, issuer_names) = self.issuers(root.get("issuers"));
        let (upstreams, upstream_names) = self.upstreams(root.get("upstreams"));
        let scopes = self.implications(root.get("scopes"));
        let owners = self.owners(root.get("owners"));
        let hosts = self.hosts(root.get("hosts"));
        let gateway = gateway?;

        let names = routes::Declared {
            issuers: &issuer_names,
            upstreams: &upstream_names,
            scopes: &ScopeImplications::new(scopes.clone()),
            gateway: &gateway,
        };
        let routes = self.routes(root.get("routes"), &names)?;
        let issuers = Issuers::new(issuers);
        let mut compiled = routes.compiled;
        let resources = hosts.resources(&mut compiled, &routes.specs, &issuers);
        let table = self.table(routes.specs, &routes.nodes, &compiled)?;
        cors::add_methods(&mut compiled, &table, &routes.keys);
        self.check_websockets(&compiled, &routes.nodes, &upstreams);
        let identity_headers = forward::all_identity_headers(&compiled);
        let snapshot = Snapshot {
            hash,
            gateway,
            issuers,
            upstreams,
            owners,
            routes: compiled,
            table,
            resources,
            identity_headers,
            files: Vec::new(),
        };
        if self.faults.any() {
            // What is missing after a fault would only look unused.
            return Some(snapshot);
        }
        let context = lint::Context {
            root,
            routes: &routes.nodes,
            issuers: &issuer_names,
            upstreams: &upstream_names,
            scopes: &scopes,
            hosts: &hosts,
        };
        lint::lint(&snapshot, &context, self.faults);
        Some(snapshot)
    }

    /// Checks which sections are there.
    fn sections(&mut self, root: &Node<'_>) -> Option<()> {
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
            1 => Some(()),
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
        for (key, item) in self.entries(node, "owners") {
            let owner = decode::<String>(item, self.faults);
            let owner = owner.and_then(|owner| self.owner(&owner, item.place));
            match Control::ALL.into_iter().find(|control| control.as_str() == key.text) {
                Some(control) => {
                    owners.extend(owner.map(|owner| (control, owner)));
                }
                None => {
                    let mut fault =
                        Fault::new(key.place, format!("`{}` is not a control", key.text)).key(&*key.text);
                    fault.hint = suggest(&key.text, Control::ALL.iter().map(|control| control.as_str()));
                    self.faults.error(fault);
                }
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
