//! The source tree keeps its shape: imports point downward only, and no file grows past what one reads in a sitting.
#![cfg(test)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

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
const WITHIN_A_ROW: &[(&str, &str)] = &[("admit", "snapshot"), ("types", "reject")];

/// The most lines of a file in `src`, its tests aside.
const MOST_LINES: usize = 400;

#[test]
fn imports_point_downward() {
    let mut faults = Vec::new();
    for (path, module, code) in sources() {
        let Some(own) = layer(&module) else {
            faults.push(format!("{}: the module `{module}` is in no layer: see LAYERS", path.display()));
            continue;
        };
        for imported in imports(&code) {
            match layer(&imported) {
                Some(theirs) if theirs <= own => {}
                Some(_) => faults
                    .push(format!("{}: `{module}` imports `{imported}`, which is above it", path.display())),
                None => {
                    faults.push(format!("{}: imports `{imported}`, which is in no layer", path.display()))
                }
            }
        }
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn imports_within_a_row_are_listed() {
    let mut found = BTreeSet::new();
    for (_, module, code) in sources() {
        let own = layer(&module);
        found.extend(
            imports(&code)
                .into_iter()
                .filter(|imported| *imported != module && layer(imported) == own)
                .map(|imported| (module.clone(), imported)),
        );
    }
    let listed: BTreeSet<_> =
        WITHIN_A_ROW.iter().map(|(from, to)| ((*from).to_owned(), (*to).to_owned())).collect();
    assert_eq!(found, listed, "imports within a row, and those that WITHIN_A_ROW lists");
}

#[test]
fn no_file_is_longer_than_one_sitting() {
    let long: BTreeMap<_, _> = sources()
        .map(|(path, _, code)| (path, code.lines().count()))
        .filter(|(_, lines)| *lines > MOST_LINES)
        .collect();
    assert!(long.is_empty(), "longer than {MOST_LINES} lines without tests: {long:#?}");
}

#[test]
fn refusals_are_made_with_their_cause() {
    let without: Vec<_> = sources()
        .filter(|(_, module, _)| module != "reject")
        .flat_map(|(path, _, code)| {
            let bare = |line: &&str| {
                line.contains("Reject::new(") && !line.contains("Reject::new(Reason::Internal)")
            };
            let lines: Vec<_> = code.lines().filter(bare).map(|line| line.trim().to_owned()).collect();
            lines.into_iter().map(move |line| format!("{}: {line}", path.display()))
        })
        .collect();
    assert!(without.is_empty(), "use Reject::because, so that the log has a cause:\n{}", without.join("\n"));
}

#[test]
fn the_reader_of_imports_sees_every_spelling() {
    let code = "use crate::types::Scope;\nuse crate::{reject::{Reason, Reject}, state};\npub(crate) use crate::cli::X;\n\
        fn f() { crate::admin::serve() } // not crate::server\n/// [`crate::pipeline`]\nlet s = \"crate::forward\";\n";
    assert_eq!(imports(code), ["types", "reject", "state", "cli", "admin"]);
    assert_eq!(code_without_tests("a\n#[cfg(test)]\nmod tests {\n  b\n}\n"), "a\n");
    assert_eq!(code_without_tests("a\n#[cfg(test)]\nmod tests;\nb\n"), "a\nb\n");
}

/// The position of a module in [`LAYERS`].
fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|row| row.contains(&module))
}

/// Every file of the library, with its top-level module and its code without tests. `lib.rs` and `main.rs` are left out:
/// they only name the modules and call the command line.
fn sources() -> impl Iterator<Item = (PathBuf, String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    collect(&root, &mut files);
    assert!(files.len() > 10, "the sources are not where this test looks for them");
    files.into_iter().filter_map(move |path| {
        let inside = path.strip_prefix(&root).unwrap().to_owned();
        let first = inside.components().next()?.as_os_str().to_str()?;
        let module = first.trim_end_matches(".rs").to_owned();
        let is_root = matches!(module.as_str(), "lib" | "main");
        let is_test =
            inside.components().any(|part| matches!(part.as_os_str().to_str(), Some("tests" | "tests.rs")));
        let code = code_without_tests(&std::fs::read_to_string(&path).unwrap());
        (!is_root && !is_test).then_some((inside, module, code))
    })
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
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

/// The first name of every path that starts with `crate::`, comments and texts aside.
fn imports(code: &str) -> Vec<String> {
    let mut found = Vec::new();
    let code: String = code.lines().flat_map(|line| [without_comments(line), "\n"]).collect();
    for (at, _) in code.match_indices("crate::") {
        if code[..at].ends_with(|c: char| c == '"' || c == '$' || c == '_' || c.is_alphanumeric()) {
            continue;
        }
        let rest = &code[at + "crate::".len()..];
        if let Some(group) = rest.strip_prefix('{') {
            found.extend(top_level_names(group));
        } else {
            found.push(name(rest));
        }
    }
    found
}

fn without_comments(line: &str) -> &str {
    line.find("//").map_or(line, |at| &line[..at])
}

/// The first names in `a::b, c::{d, e}, f}`.
fn top_level_names(group: &str) -> Vec<String> {
    let mut depth = 0;
    let mut names = Vec::new();
    let mut start = true;
    for (at, c) in group.char_indices() {
        match c {
            '}' if depth == 0 => break,
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => start = true,
            c if start && c.is_alphabetic() => {
                names.push(name(&group[at..]));
                start = false;
            }
            _ => {}
        }
    }
    names
}

fn name(text: &str) -> String {
    text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}
