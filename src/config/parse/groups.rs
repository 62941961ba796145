//! The `groups` section: what several routes have in common.
//!
//! 1. A route is joined with its group before anything is compiled, so that a group cannot mean anything that the route
//!    could not have written itself. Each value keeps the place where it is written.
//! 2. A key of the route wins over the group's; within the keys of [`DEEP`] the keys win one by one, and no deeper.
//! 3. A group can demand and never open. What opens is written in the route ([`OPENING`]).

use std::collections::{HashMap, HashSet};

use super::{Declared, Parser};
use crate::config::diagnostic::{Fault, Place, suggest};
use crate::config::raw_groups::RawGroup;
use crate::config::read::{MAX_NODES, Node, SMALLER, decode};

/// The keys below which a route and its group are joined key by key.
const DEEP: [&str; 6] = ["match", "require", "forward", "cors", "limits", "timeouts"];

/// Keys of a route that are none of a group, and those of its `match`.
const OPENING: [&str; 4] = ["public", "mode", "id", "group"];
const OPENING_MATCH: [&str; 4] = ["path", "methods", "allow_path", "allow_method_query"];

/// The groups by name.
#[derive(Default)]
pub(super) struct Groups<'t>(HashMap<Box<str>, Group<'t>>);

struct Group<'t> {
    place: Place,
    /// `None` if it has faults of its own.
    node: Option<Node<'t>>,
}

impl Groups<'_> {
    /// Warnings of the groups that no route is in.
    pub(super) fn unused(&self, used: &HashSet<Box<str>>) -> impl Iterator<Item = Fault> {
        self.0.iter().filter(|(name, _)| !used.contains(*name)).map(|(name, group)| {
            Fault::new(group.place, format!("no route is in group `{name}`")).key(&**name)
        })
    }
}

/// What routes have taken of groups.
#[derive(Default)]
pub(super) struct GroupUse {
    /// The groups that a route is in.
    pub(super) names: HashSet<Box<str>>,
    /// How many keys and values groups have added to routes.
    nodes: usize,
}

/// A route as it is compiled.
pub(super) enum Joined<'t> {
    /// It is in no group.
    Alone,
    /// With what its group adds.
    With(Node<'t>),
    /// There is no such group, or the group has faults.
    Failed,
}

impl Parser<'_, '_> {
    /// Checks `groups`.
    pub(super) fn groups<'t>(&mut self, node: Option<&Node<'t>>) -> Groups<'t> {
        let mut groups = HashMap::new();
        for (key, item) in self.entries(node, "groups") {
            self.check_name(&key.text, key.place, "group");
            let sound = !self.opens(item) && decode::<RawGroup>(item, self.faults).is_some();
            groups.insert((*key.text).into(), Group { place: key.place, node: sound.then(|| item.clone()) });
        }
        Groups(groups)
    }

    /// Refuses keys that a group does not have; whether there are any.
    fn opens(&mut self, group: &Node<'_>) -> bool {
        let mut found = false;
        let matches = group.get("match");
        for (node, keys) in [(Some(group), OPENING), (matches, OPENING_MATCH)] {
            for key in keys.iter().filter(|key| node.is_some_and(|node| node.get(key).is_some())) {
                let place = node.map_or(group.place, |node| node.place_of_key(&[key]));
                let fault = Fault::new(place, format!("`{key}` is not a key of a group")).key(*key);
                self.faults.error(fault.hint("a group can demand, but never open: write it in the route"));
                found = true;
            }
        }
        found
    }

    /// Joins a route with its group.
    pub(super) fn joined<'t>(
        &mut self,
        item: &Node<'t>,
        declared: &Declared<'t>,
        used: &mut GroupUse,
    ) -> Joined<'t> {
        let Some(node) = item.get("group") else {
            return Joined::Alone;
        };
        let Some(name) = decode::<String>(node, self.faults) else {
            return Joined::Failed;
        };
        let Some(group) = declared.groups.0.get(&*name) else {
            let mut fault = Fault::new(node.place, format!("unknown group `{name}`")).key("group");
            fault.hint = suggest(&name, declared.groups.0.keys().map(AsRef::as_ref));
            self.faults.error(fault);
            return Joined::Failed;
        };
        used.names.insert(name.into());
        let Some(group) = &group.node else {
            return Joined::Failed;
        };
        used.nodes = used.nodes.saturating_add(group.size());
        if used.nodes > MAX_NODES {
            let message =
                format!("the policy is too large: groups add more than {MAX_NODES} keys and values");
            self.faults.error(Fault::new(Place::START, message).key("groups").hint(SMALLER));
            return Joined::Failed;
        }
        Joined::With(item.joined_with(group, &DEEP))
    }
}
