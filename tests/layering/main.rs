//! The source tree keeps its shape: imports point downward only, and no file grows past what one reads in a sitting.
#![cfg(test)]

mod tree;

use std::collections::{BTreeMap, BTreeSet};

use tree::{Module, Source, Tree};

/// The modules from the bottom up. A module may import from its own row and from every row above it in this list.
const LAYERS: &[&[&str]] = &[
    &["types", "reject", "limits"],
    &["authenticate"],
    &["authorize", "route"],
    // The head's checks need the limits, and the limits are part of a snapshot.
    &["snapshot", "admit"],
    &["decide"],
    &["config", "observe", "respond"],
    &["state"],
    &["forward", "server"],
    &["pipeline"],
    &["reload"],
    &["admin"],
    &["cli"],
];

/// The imports within a row of [`LAYERS`]: all others are refused, so that modules of a row do not know of each other.
const WITHIN_A_ROW: &[(&str, &str)] = &[("types", "reject")];

/// The most lines of a file in `src`, its tests aside.
const MOST_LINES: usize = 400;

#[test]
fn imports_point_downward() {
    let tree = Tree::read();
    let mut faults = Vec::new();
    for (module, source, imported) in across(&tree) {
        let path = source.path.display();
        match (layer(&module), layer(&imported)) {
            (None, _) => faults.push(format!("{path}: the module `{module}` is in no layer: see LAYERS")),
            (_, None) => faults.push(format!("{path}: imports `{imported}`, which is in no layer")),
            (Some(own), Some(theirs)) if theirs > own => {
                faults.push(format!("{path}: `{module}` imports `{imported}`, which is above it"));
            }
            (Some(_), Some(_)) => {}
        }
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn imports_within_a_row_are_listed() {
    let tree = Tree::read();
    let found: BTreeSet<_> = across(&tree)
        .filter(|(module, _, imported)| layer(module) == layer(imported))
        .map(|(module, _, imported)| (module, imported))
        .collect();
    let listed: BTreeSet<_> =
        WITHIN_A_ROW.iter().map(|(from, to)| ((*from).to_owned(), (*to).to_owned())).collect();
    assert_eq!(found, listed, "imports within a row, and those that WITHIN_A_ROW lists");
}

#[test]
fn files_of_a_folder_form_no_cycle() {
    let tree = Tree::read();
    // The imports between the parts of a folder: its files, and its folders as a whole.
    let mut folders: BTreeMap<Module, BTreeMap<String, BTreeSet<String>>> = BTreeMap::new();
    for (module, source) in &tree.0 {
        for imported in tree.imports(source) {
            let shared = module.iter().zip(&imported).take_while(|(one, other)| one == other).count();
            // The top level is judged by its layers. What a folder and its parts have of each other is no cycle.
            if let (Some(from), Some(to)) = (module.get(shared), imported.get(shared))
                && shared > 0
            {
                let folder = folders.entry(module[..shared].to_vec()).or_default();
                folder.entry(from.clone()).or_default().insert(to.clone());
            }
        }
    }
    let cycles: Vec<_> = folders
        .iter()
        .filter_map(|(folder, parts)| Some((folder.join("/"), cycle(parts)?.join(" → "))))
        .collect();
    assert!(cycles.is_empty(), "{cycles:?}");
}

#[test]
fn no_file_is_longer_than_one_sitting() {
    let long: BTreeMap<_, _> = Tree::read()
        .0
        .into_values()
        .map(|source| (source.path, code_without_tests(&source.text).lines().count()))
        .filter(|(_, lines)| *lines > MOST_LINES)
        .collect();
    assert!(long.is_empty(), "longer than {MOST_LINES} lines without tests: {long:#?}");
}

#[test]
fn refusals_are_made_with_their_cause() {
    let bare = |line: &&str| line.contains("Reject::new(") && !line.contains("Reject::new(Reason::Internal)");
    let mut without = Vec::new();
    for (module, source) in Tree::read().0 {
        if module.first().is_some_and(|module| module != "reject") {
            let code = code_without_tests(&source.text);
            let lines =
                code.lines().filter(bare).map(|line| format!("{}: {}", source.path.display(), line.trim()));
            without.extend(lines);
        }
    }
    assert!(without.is_empty(), "use Reject::because, so that the log has a cause:\n{}", without.join("\n"));
}

#[test]
fn the_reader_sees_every_spelling() {
    let modules = ["a", "a::b", "a::b::c", "a::d", "e"];
    let modules = modules.map(|module| module.split("::").map(str::to_owned).collect()).into();
    let code = "
        use crate::e::X;
        use crate::{e::{self, Y as Z}, a};
        use super::d::{V, w::*};
        pub use c::T;
        fn f() { let e = self.c; c::g(d::h); super::super::i(); m!(crate::e::n) } // crate::j
        /// [`crate::k`]
        const L: &str = \"crate::l\";
        #[cfg(test)]
        mod tests { use crate::m; }
    ";
    let (names, aliases) = tree::read(code, &["a".to_owned(), "b".to_owned()], &modules);
    let names: Vec<String> = names.iter().map(|name| name.join("::")).collect();
    assert_eq!(
        names,
        ["a", "a::b::c::T", "a::b::c::g", "a::d::V", "a::d::w", "e", "e::X", "e::Y", "e::n", "i"]
    );
    let aliases: Vec<String> =
        aliases.iter().map(|(name, path)| format!("{name}={}", path.join("::"))).collect();
    assert_eq!(aliases, ["T=a::b::c::T", "V=a::d::V", "X=e::X", "Z=e::Y", "a=a", "e=e", "w=a::d::w"]);
    assert_eq!(code_without_tests("a\n#[cfg(test)]\nmod tests {\n  b\n}\n"), "a\n");
    assert_eq!(code_without_tests("a\n#[cfg(test)]\nmod tests;\nb\n"), "a\nb\n");
}

#[test]
fn a_cycle_is_found_wherever_it_begins() {
    let graph = |edges: &[(&str, &str)]| {
        let mut parts: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (from, to) in edges {
            parts.entry((*from).to_owned()).or_default().insert((*to).to_owned());
        }
        parts
    };
    assert_eq!(cycle(&graph(&[("a", "b"), ("b", "c"), ("a", "c")])), None);
    let found = cycle(&graph(&[("a", "b"), ("b", "c"), ("c", "d"), ("d", "b")]));
    assert_eq!(found, Some(["b", "c", "d", "b"].map(str::to_owned).to_vec()));
}

/// The imports of one module of the top level from another: who imports, in which file, and from whom.
fn across(tree: &Tree) -> impl Iterator<Item = (String, &Source, String)> {
    tree.0.iter().flat_map(|(module, source)| {
        let own = module.first().cloned();
        tree.imports(source)
            .into_iter()
            .filter_map(move |imported| Some((own.clone()?, source, imported.first()?.clone())))
            .filter(|(own, _, imported)| own != imported)
    })
}

/// The position of a module in [`LAYERS`].
fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|row| row.contains(&module))
}

/// A cycle, if there is one, from its first part back to it.
fn cycle(parts: &BTreeMap<String, BTreeSet<String>>) -> Option<Vec<String>> {
    let mut done = BTreeSet::new();
    parts.keys().find_map(|part| cycle_from(part, parts, &mut Vec::new(), &mut done))
}

fn cycle_from(
    part: &String,
    parts: &BTreeMap<String, BTreeSet<String>>,
    way: &mut Vec<String>,
    done: &mut BTreeSet<String>,
) -> Option<Vec<String>> {
    if let Some(start) = way.iter().position(|known| known == part) {
        return Some(way[start..].iter().chain([part]).cloned().collect());
    }
    if !done.insert(part.clone()) {
        return None;
    }
    way.push(part.clone());
    let found = parts.get(part).into_iter().flatten().find_map(|next| cycle_from(next, parts, way, done));
    way.pop();
    found
}

/// The code without the modules behind `#[cfg(test)]`: such a block ends at the first closing brace in its own column.
fn code_without_tests(code: &str) -> String {
    let mut kept = String::new();
    let mut lines = code.lines();
    while let Some(line) = lines.next() {
        if line.trim() != "#[cfg(test)]" {
            kept.push_str(line);
            kept.push('\n');
            continue;
        }
        let indent = &line[..line.len() - line.trim_start().len()];
        let item = lines.by_ref().find(|line| !line.trim_start().starts_with("#["));
        if item.is_some_and(|item| item.trim_end().ends_with('{')) {
            let end = format!("{indent}}}");
            let _ = lines.by_ref().find(|line| *line == end);
        }
    }
    kept
}
