//! Where the parts of a policy are that a message may have to point at.

use std::collections::HashMap;

use super::diagnostic::Place;

/// Where the parts of a route are that may turn out to be in another's way.
pub(super) struct RoutePlaces {
    pub(super) matches: Place,
    pub(super) path: Place,
}

/// The names a section declares, with their positions; `None` for an entry that has faults of its own.
#[derive(Debug, Default)]
pub(super) struct Names(HashMap<Box<str>, (Option<usize>, Place)>);

impl Names {
    pub(super) fn insert(&mut self, name: &str, position: Option<usize>, place: Place) {
        self.0.insert(name.into(), (position, place));
    }

    /// The position of a name; the outer `None` if it is not declared at all.
    pub(super) fn find(&self, name: &str) -> Option<Option<u32>> {
        let (position, _) = self.0.get(name)?;
        Some(position.and_then(|position| u32::try_from(position).ok()))
    }

    /// Where the name is declared.
    pub(super) fn place(&self, name: &str) -> Place {
        self.0.get(name).map_or(Place::START, |(_, place)| *place)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &str> + Clone {
        self.0.keys().map(AsRef::as_ref)
    }
}
