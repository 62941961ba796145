//! Path patterns as trees of segments: one node a segment, one root a host, all in one arena.
//!
//! A library router is not used because those at hand refuse `/a/{id}` beside `/a/{*rest}`, and none tells whether a path
//! missed a literal by letter case alone.
//!
//! A search tries literal, then parameter, then rest at each node, and steps back where that leads to nothing. It visits
//! no node twice, descends no deeper than the longest pattern, and needs the same time for ten routes as for 100,000
//! unless they are built to make it step back.

use std::borrow::Cow;
use std::collections::HashMap;

use smallvec::SmallVec;

use super::pattern::Segment;
use crate::route::path::decode;

/// Position of a node.
pub(super) type NodeId = u32;
/// Position of an endpoint: one shape of path within one host.
pub(super) type EndpointId = u32;

/// From this many children on, they are found by hash.
const INDEXED_FROM: usize = 12;

/// What the parameters stand for, from the left, still escaped.
pub(super) type Captures<'p> = SmallVec<[&'p str; 4]>;

/// The trees.
#[derive(Debug, Default)]
pub(super) struct Trie {
    nodes: Vec<Node>,
    endpoints: u32,
}

#[derive(Debug, Default)]
struct Node {
    literals: Literals,
    param: Option<NodeId>,
    /// The pattern that ends here.
    end: Option<EndpointId>,
    /// The pattern that ends here with a `{*rest}`.
    rest: Option<EndpointId>,
}

impl Node {
    /// Whether a pattern begins with this node's path and a slash that nothing need follow.
    fn may_go_on_with_slash(&self) -> bool {
        self.rest.is_some() || self.literals.exact("").is_some()
    }
}

/// A path that was found.
#[derive(Debug)]
pub(super) struct Hit<'p> {
    pub(super) endpoint: EndpointId,
    pub(super) captures: Captures<'p>,
    /// Whether a literal on the way was missed by letter case alone.
    pub(super) missed_by_case: bool,
    /// Whether a pattern on the way was missed by a slash at the end of the path alone.
    pub(super) missed_by_slash: bool,
    /// Whether a literal on the way differs from another one by letter case alone.
    pub(super) has_twin: bool,
}

impl Trie {
    /// Adds an empty tree.
    pub(super) fn add_root(&mut self) -> NodeId {
        // Positions beyond the range lead nowhere: such a table finds nothing, which no machine's memory allows anyway.
        let id = NodeId::try_from(self.nodes.len()).unwrap_or(NodeId::MAX);
        self.nodes.push(Node::default());
        id
    }

    /// The endpoint of a pattern, made if there is none; equal shapes share one whatever their parameters are called.
    pub(super) fn insert(&mut self, root: NodeId, segments: &[Segment]) -> Option<EndpointId> {
        let mut id = root;
        for segment in segments {
            let node = self.node(id)?;
            let known = match segment {
                Segment::Literal(text) => node.literals.exact(text),
                Segment::Param(_) => node.param,
                // The last one, so the node is where the pattern ends.
                Segment::Rest(_) => break,
            };
            id = match known {
                Some(child) => child,
                None => self.add_child(id, segment)?,
            };
        }
        let next = self.endpoints;
        let node = self.node_mut(id)?;
        let slot = match segments.last() {
            Some(Segment::Rest(_)) => &mut node.rest,
            Some(Segment::Literal(_) | Segment::Param(_)) | None => &mut node.end,
        };
        let endpoint = *slot.get_or_insert(next);
        if endpoint == next {
            self.endpoints = next.saturating_add(1);
        }
        Some(endpoint)
    }

    fn add_child(&mut self, id: NodeId, segment: &Segment) -> Option<NodeId> {
        let child = self.add_root();
        let node = self.node_mut(id)?;
        match segment {
            Segment::Literal(text) => node.literals.insert(text, child),
            Segment::Param(_) | Segment::Rest(_) => node.param = Some(child),
        }
        Some(child)
    }

    /// Gives back the room for what may be added.
    pub(super) fn shrink(&mut self) {
        self.nodes.shrink_to_fit();
        self.nodes.iter_mut().for_each(|node| node.literals.list.shrink_to_fit());
    }

    /// The endpoint of a pattern.
    pub(super) fn endpoint(&self, root: NodeId, segments: &[Segment]) -> Option<EndpointId> {
        let mut node = self.node(root)?;
        for segment in segments {
            let child = match segment {
                Segment::Literal(text) => node.literals.exact(text),
                Segment::Param(_) => node.param,
                Segment::Rest(_) => return node.rest,
            };
            node = self.node(child?)?;
        }
        node.end
    }

    /// The most specific pattern that matches a canonical path.
    pub(super) fn find<'p>(&self, root: NodeId, path: &'p str) -> Option<Hit<'p>> {
        let mut search = Search {
            trie: self,
            captures: Captures::new(),
            missed_by_case: false,
            missed_by_slash: false,
            has_twin: false,
        };
        let endpoint = search.descend(root, path.strip_prefix('/'))?;
        Some(Hit {
            endpoint,
            captures: search.captures,
            missed_by_case: search.missed_by_case,
            missed_by_slash: search.missed_by_slash,
            has_twin: search.has_twin,
        })
    }

    /// The most specific patterns that match a path to a server that may ignore letter case: the one for the path as it is,
    /// and those that differ from it in case.
    pub(super) fn find_loosely(&self, root: NodeId, path: &str) -> SmallVec<[EndpointId; 2]> {
        let mut found = self.descend_folded(root, path.strip_prefix('/'));
        found.extend(self.find(root, path).map(|hit| hit.endpoint));
        found
    }

    /// What is below a path, for a server that shows at `/dir` what is at `/dir/` and ignores letter case: the endpoint of
    /// `/dir/{*rest}` where no pattern is `/dir` itself, whether or not one is `/dir/`.
    pub(super) fn below(&self, id: NodeId, tail: Option<&str>) -> SmallVec<[EndpointId; 2]> {
        let Some(node) = self.node(id) else { return SmallVec::new() };
        let Some(tail) = tail else { return node.rest.filter(|_| node.end.is_none()).into_iter().collect() };
        let (segment, tail_after) = split(tail);
        let decoded = percent_encoding::percent_decode_str(segment).decode_utf8_lossy();
        let found: SmallVec<_> =
            node.literals.folded(&decoded).flat_map(|child| self.below(child, tail_after)).collect();
        match node.param {
            Some(child) if found.is_empty() && !segment.is_empty() => self.below(child, tail_after),
            Some(_) | None => found,
        }
    }

    fn descend_folded(&self, id: NodeId, tail: Option<&str>) -> SmallVec<[EndpointId; 2]> {
        let Some(node) = self.node(id) else { return SmallVec::new() };
        let Some(tail) = tail else { return node.end.into_iter().collect() };
        let (segment, tail_after) = split(tail);
        let decoded = percent_encoding::percent_decode_str(segment).decode_utf8_lossy();
        // No node is visited twice, or the time would double at each segment.
        let mut found: SmallVec<_> =
            node.literals.folded(&decoded).flat_map(|child| self.descend_folded(child, tail_after)).collect();
        if found.is_empty() && !segment.is_empty() {
            found = node.param.map(|child| self.descend_folded(child, tail_after)).unwrap_or_default();
        }
        if found.is_empty() { node.rest.into_iter().collect() } else { found }
    }

    /// The most specific pattern for the paths of another pattern, which does not end in a `{*rest}`.
    pub(super) fn find_pattern(&self, id: NodeId, segments: &[Segment]) -> Option<EndpointId> {
        let node = self.node(id)?;
        let Some((segment, tail)) = segments.split_first() else { return node.end };
        let (literal, param) = match segment {
            Segment::Literal(text) => (node.literals.exact(text), node.param.filter(|_| !text.is_empty())),
            Segment::Param(_) => (None, node.param),
            Segment::Rest(_) => (None, None),
        };
        literal.into_iter().chain(param).find_map(|child| self.find_pattern(child, tail)).or(node.rest)
    }

    /// The most specific patterns for the paths of another pattern to a server that ignores letter case: several where
    /// they differ in case only.
    pub(super) fn alike(&self, id: NodeId, segments: &[Segment]) -> Vec<EndpointId> {
        let Some(node) = self.node(id) else { return Vec::new() };
        let Some((segment, tail)) = segments.split_first() else { return node.end.into_iter().collect() };
        let (literals, param): (Vec<NodeId>, _) = match segment {
            Segment::Literal(text) => {
                (node.literals.folded(text).collect(), node.param.filter(|_| !text.is_empty()))
            }
            Segment::Param(_) => (Vec::new(), node.param),
            Segment::Rest(_) => (Vec::new(), None),
        };
        for children in [literals, param.into_iter().collect()] {
            let found: Vec<_> = children.into_iter().flat_map(|child| self.alike(child, tail)).collect();
            if !found.is_empty() {
                return found;
            }
        }
        node.rest.into_iter().collect()
    }

    /// Whether each path of the pattern is one of some pattern in this tree too.
    pub(super) fn covers(&self, id: NodeId, segments: &[Segment]) -> bool {
        let Some(node) = self.node(id) else { return false };
        let Some((segment, tail)) = segments.split_first() else {
            return node.end.is_some();
        };
        let literal = match segment {
            Segment::Literal(text) => node.literals.exact(text),
            Segment::Param(_) | Segment::Rest(_) => None,
        };
        let param = match segment {
            Segment::Literal(text) if text.is_empty() => None,
            Segment::Literal(_) | Segment::Param(_) => node.param,
            Segment::Rest(_) => None,
        };
        node.rest.is_some() || literal.into_iter().chain(param).any(|child| self.covers(child, tail))
    }

    fn node(&self, id: NodeId) -> Option<&Node> {
        self.nodes.get(id as usize)
    }

    fn node_mut(&mut self, id: NodeId) -> Option<&mut Node> {
        self.nodes.get_mut(id as usize)
    }
}

/// A search for the exact path.
struct Search<'t, 'p> {
    trie: &'t Trie,
    captures: Captures<'p>,
    missed_by_case: bool,
    missed_by_slash: bool,
    has_twin: bool,
}

impl<'p> Search<'_, 'p> {
    /// `tail` is what follows the slash after this node's segment; `None` if the path ends here.
    fn descend(&mut self, id: NodeId, tail: Option<&'p str>) -> Option<EndpointId> {
        let node = self.trie.node(id)?;
        let Some(tail) = tail else {
            self.missed_by_slash |= node.end.is_none() && node.may_go_on_with_slash();
            return node.end;
        };
        self.missed_by_slash |= tail.is_empty() && node.end.is_some();
        let (segment, tail_after) = split(tail);
        // A segment that is not UTF-8 is no literal.
        if !node.literals.is_empty()
            && let Some(decoded) = decode(segment)
        {
            let exact = node.literals.exact(&decoded);
            self.has_twin |= node.literals.has_twins;
            if let Some(found) = exact.and_then(|child| self.descend(child, tail_after)) {
                return Some(found);
            }
            self.missed_by_case |= node.literals.folded(&decoded).any(|child| Some(child) != exact);
        }
        if let Some(child) = node.param
            && !segment.is_empty()
        {
            self.captures.push(segment);
            if let Some(found) = self.descend(child, tail_after) {
                return Some(found);
            }
            self.captures.pop();
        }
        let rest = node.rest?;
        self.captures.push(tail);
        Some(rest)
    }
}

fn split(tail: &str) -> (&str, Option<&str>) {
    // Segments are short: a search for single bytes takes a third of the time of one for a `char`.
    let slash = tail.bytes().position(|byte| byte == b'/');
    match slash.and_then(|slash| tail.split_at_checked(slash)) {
        Some((segment, rest)) => (segment, rest.strip_prefix('/')),
        None => (tail, None),
    }
}

/// The literal children of a node.
#[derive(Debug, Default)]
struct Literals {
    list: Vec<(Box<str>, NodeId)>,
    /// Positions in the list by folded text, once the list is long.
    index: Option<Box<Index>>,
    /// Whether two of them differ by letter case alone.
    has_twins: bool,
}

/// Folded text, and the positions of the children with it.
type Index = HashMap<Box<str>, SmallVec<[u32; 2]>>;

impl Literals {
    const fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    fn insert(&mut self, text: &str, node: NodeId) {
        let has_twin = self.folded(text).next().is_some();
        self.has_twins |= has_twin;
        self.list.push((text.into(), node));
        if self.list.len() < INDEXED_FROM {
            return;
        }
        let mut unindexed = match &self.index {
            Some(_) => self.list.len() - 1,
            None => 0,
        };
        let index = self.index.get_or_insert_default();
        while let Some((text, _)) = self.list.get(unindexed) {
            let position = u32::try_from(unindexed).unwrap_or(u32::MAX);
            index.entry(fold(text).into()).or_default().push(position);
            unindexed += 1;
        }
    }

    fn exact(&self, text: &str) -> Option<NodeId> {
        let found = match &self.index {
            None => self.list.iter().find(|(known, _)| **known == *text),
            Some(index) => index
                .get(&*fold(text))?
                .iter()
                .filter_map(|position| self.list.get(*position as usize))
                .find(|(known, _)| **known == *text),
        };
        found.map(|(_, node)| *node)
    }

    /// The children whose text is the same to a server that ignores letter case.
    fn folded(&self, text: &str) -> impl Iterator<Item = NodeId> {
        let (scanned, indexed) = match &self.index {
            None => (self.list.as_slice(), None),
            Some(index) => (&[][..], index.get(&*fold(text))),
        };
        let indexed = indexed.into_iter().flatten().filter_map(|position| self.list.get(*position as usize));
        scanned
            .iter()
            .filter(move |(known, _)| is_same_folded(known, text))
            .chain(indexed)
            .map(|(_, node)| *node)
    }
}

fn is_same_folded(a: &str, b: &str) -> bool {
    if a.is_ascii() && b.is_ascii() { a.eq_ignore_ascii_case(b) } else { fold(a) == fold(b) }
}

/// The text with letter case levelled; upper case first, as file systems do, so that `ſ` and `s` are one.
fn fold(text: &str) -> Cow<'_, str> {
    if !text.is_ascii() {
        Cow::Owned(text.to_uppercase().to_lowercase())
    } else if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(text.to_ascii_lowercase())
    } else {
        Cow::Borrowed(text)
    }
}
