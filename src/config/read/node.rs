//! A YAML document as a tree in which everything has its place.

use std::borrow::Cow;

use crate::config::diagnostic::Place;

/// One node.
#[derive(Clone, Debug)]
pub(in crate::config) struct Node<'t> {
    /// Where it begins.
    pub(in crate::config) place: Place,
    /// What it is.
    pub(in crate::config) content: Content<'t>,
}

/// What a node is.
#[derive(Clone, Debug)]
pub(in crate::config) enum Content<'t> {
    /// A scalar.
    Scalar(Cow<'t, str>, Style),
    /// A sequence.
    Sequence(Vec<Node<'t>>),
    /// A mapping.
    Map(Map<'t>),
}

/// Whether a scalar may be anything but text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::config) enum Style {
    /// Written plainly: `10`, `true` and `null` are no text.
    Plain,
    /// Quoted or a block: always text.
    Quoted,
    /// `${…}` was expanded in it: text where text is asked for, else typed like a plain scalar.
    Expanded,
}

/// A mapping with unique keys, in the order of the file.
#[derive(Clone, Debug, Default)]
pub(in crate::config) struct Map<'t>(pub(super) Vec<(Key<'t>, Node<'t>)>);

/// A key.
#[derive(Clone, Debug)]
pub(in crate::config) struct Key<'t> {
    /// Where it is.
    pub(in crate::config) place: Place,
    /// Its text.
    pub(in crate::config) text: Cow<'t, str>,
}

impl<'t> Map<'t> {
    pub(in crate::config) fn get(&self, key: &str) -> Option<&Node<'t>> {
        self.0.iter().find(|(k, _)| k.text == key).map(|(_, node)| node)
    }

    /// Whether any of these keys stands behind that one.
    pub(in crate::config) fn any_after(&self, key: &str, others: &[&str]) -> bool {
        let behind = self.0.iter().skip_while(|(k, _)| k.text != key);
        behind.into_iter().any(|(k, _)| others.contains(&&*k.text))
    }

    pub(in crate::config) fn iter(&self) -> impl Iterator<Item = (&Key<'t>, &Node<'t>)> {
        self.0.iter().map(|(key, node)| (key, node))
    }
}

impl<'t> Node<'t> {
    /// The mapping, if it is one.
    pub(in crate::config) fn map(&self) -> Option<&Map<'t>> {
        match &self.content {
            Content::Map(map) => Some(map),
            Content::Scalar(..) | Content::Sequence(_) => None,
        }
    }

    /// The items, if it is a sequence.
    pub(in crate::config) fn items(&self) -> Option<&[Self]> {
        match &self.content {
            Content::Sequence(items) => Some(items),
            Content::Scalar(..) | Content::Map(_) => None,
        }
    }

    /// Whether it is this text.
    pub(super) fn is_text(&self, wanted: &str) -> bool {
        matches!(&self.content, Content::Scalar(text, _) if text == wanted)
    }

    /// The value under this key, if it is a mapping that has it.
    pub(in crate::config) fn get(&self, key: &str) -> Option<&Self> {
        self.map()?.get(key)
    }

    /// This mapping with the keys of `other` that it does not have itself; what is below the `deep` keys is joined alike, and
    /// nothing deeper.
    pub(in crate::config) fn joined_with(&self, other: &Self, deep: &[&str]) -> Self {
        let (Some(own), Some(others)) = (self.map(), other.map()) else {
            return self.clone();
        };
        let mut entries: Vec<_> = own
            .iter()
            .map(|(key, node)| {
                let below = others.get(&key.text).filter(|_| deep.contains(&&*key.text));
                (key.clone(), below.map_or_else(|| node.clone(), |below| node.joined_with(below, &[])))
            })
            .collect();
        let missing = others.iter().filter(|(key, _)| own.get(&key.text).is_none());
        entries.extend(missing.map(|(key, node)| (key.clone(), node.clone())));
        Self { place: self.place, content: Content::Map(Map(entries)) }
    }

    /// How many nodes there are, itself included.
    pub(in crate::config) fn size(&self) -> usize {
        1 + match &self.content {
            Content::Scalar(..) => 0,
            Content::Sequence(items) => items.iter().map(Self::size).sum(),
            Content::Map(map) => map.iter().map(|(_, node)| node.size()).sum(),
        }
    }

    /// Where the value at the end of these keys is; where a key is not there, the place of what is.
    pub(in crate::config) fn place_of(&self, keys: &[&str]) -> Place {
        let mut node = self;
        for key in keys {
            match node.get(key) {
                Some(next) => node = next,
                None => break,
            }
        }
        node.place
    }

    /// Where the last of these keys itself stands, or as [`Self::place_of`].
    pub(in crate::config) fn place_of_key(&self, keys: &[&str]) -> Place {
        let Some((last, before)) = keys.split_last() else {
            return self.place;
        };
        let mut node = self;
        for key in before {
            match node.get(key) {
                Some(next) => node = next,
                None => return node.place,
            }
        }
        let key = node.map().and_then(|map| map.0.iter().find(|(k, _)| k.text == **last));
        key.map_or(node.place, |(key, _)| key.place)
    }

    /// Where the item at this position of the list at the end of these keys is. One item may stand without a list.
    pub(in crate::config) fn place_of_item(&self, keys: &[&str], position: usize) -> Place {
        let mut node = self;
        for key in keys {
            match node.get(key) {
                Some(next) => node = next,
                None => return node.place,
            }
        }
        let item = node.items().and_then(|items| items.get(position));
        item.unwrap_or(node).place
    }
}
