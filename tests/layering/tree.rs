//! The source tree as modules and what each of them imports.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::iter::Peekable;
use std::path::{Path, PathBuf};

use proc_macro2::token_stream::IntoIter;
use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// The path of a module from the root of the crate, such as `["config", "parse"]`.
pub(crate) type Module = Vec<String>;

/// One file of the library, its tests left out.
#[derive(Debug)]
pub(crate) struct Source {
    /// The path of the file within `src`.
    pub(crate) path: PathBuf,
    /// Its lines.
    pub(crate) text: String,
    /// The absolute paths that it names: first a module, then maybe items.
    pub(crate) names: BTreeSet<Vec<String>>,
    /// The names that it takes from elsewhere, with their absolute paths.
    aliases: BTreeMap<String, Vec<String>>,
}

/// The library, by module. `main.rs` is left out: it only calls the command line.
#[derive(Debug)]
pub(crate) struct Tree(pub(crate) BTreeMap<Module, Source>);

impl Tree {
    /// Reads `src`.
    pub(crate) fn read() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let mut files = Vec::new();
        collect(&root, &mut files);
        assert!(files.len() > 10, "the sources are not where this test looks for them");
        let modules: BTreeSet<Module> = files.iter().map(|path| module_of(&root, path)).collect();
        Self(files.iter().map(|path| (module_of(&root, path), Source::read(&root, path, &modules))).collect())
    }

    /// The modules that a module imports from. A name that another module only passes on counts for the module that it
    /// comes from.
    pub(crate) fn imports(&self, source: &Source) -> BTreeSet<Module> {
        source.names.iter().map(|name| self.origin(name, 0)).collect()
    }

    /// The module that holds what a path names.
    fn origin(&self, name: &[String], depth: usize) -> Module {
        let length = (0..=name.len()).rev().find(|length| self.0.contains_key(&name[..*length]));
        let (module, item) = name.split_at(length.unwrap_or(0));
        let alias = item.first().and_then(|item| self.0.get(module)?.aliases.get(item));
        match alias {
            Some(alias) if depth < 8 && *alias != name => self.origin(alias, depth + 1),
            Some(_) | None => module.to_vec(),
        }
    }
}

impl Source {
    fn read(root: &Path, path: &Path, modules: &BTreeSet<Module>) -> Self {
        let text = fs::read_to_string(path).unwrap();
        let module = module_of(root, path);
        let (names, aliases) = read(&text, &module, modules);
        Self { path: path.strip_prefix(root).unwrap().to_owned(), names, aliases, text }
    }
}

/// The absolute paths that the code of a module names, and the names that it takes from elsewhere.
pub(crate) fn read(
    code: &str,
    module: &[String],
    modules: &BTreeSet<Module>,
) -> (BTreeSet<Vec<String>>, BTreeMap<String, Vec<String>>) {
    let mut reader = Reader { module, modules, names: BTreeSet::new(), aliases: BTreeMap::new() };
    reader.read(code.parse().unwrap());
    (reader.names, reader.aliases)
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let is_left_out = matches!(path.file_stem().and_then(|stem| stem.to_str()), Some("tests" | "main"));
        if is_left_out {
            continue;
        }
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

fn module_of(root: &Path, path: &Path) -> Module {
    let inside = path.strip_prefix(root).unwrap().with_extension("");
    let mut module: Module =
        inside.components().map(|part| part.as_os_str().to_str().unwrap().to_owned()).collect();
    if matches!(module.last().map(String::as_str), Some("mod" | "lib")) {
        module.pop();
    }
    module
}

/// Reads the paths in a file: those that begin at the crate, at this module or above it, or at a module below it.
struct Reader<'m> {
    module: &'m [String],
    modules: &'m BTreeSet<Module>,
    names: BTreeSet<Vec<String>>,
    aliases: BTreeMap<String, Vec<String>>,
}

impl Reader<'_> {
    fn read(&mut self, tokens: TokenStream) {
        let mut tokens = tokens.into_iter().peekable();
        let mut continues_path = false;
        while let Some(token) = tokens.next() {
            let is_colon_before = is_colon(Some(&token));
            match token {
                TokenTree::Punct(punct) if punct.as_char() == '#' => {
                    if let Some(TokenTree::Group(attribute)) = tokens.peek() {
                        let is_test = attribute.stream().to_string().replace(' ', "") == "cfg(test)";
                        tokens.next();
                        if is_test {
                            skip_item(&mut tokens);
                        }
                    }
                }
                TokenTree::Ident(ident) if !continues_path => {
                    let ident = ident.to_string();
                    if ident == "use" {
                        self.use_tree(&mut tokens);
                    } else if is_colon(tokens.peek())
                        && let Some(start) = self.start(&ident)
                    {
                        self.path(start, &mut tokens, false);
                    }
                }
                TokenTree::Group(group) => self.read(group.stream()),
                TokenTree::Ident(_) | TokenTree::Punct(_) | TokenTree::Literal(_) => {}
            }
            continues_path = is_colon_before;
        }
    }

    /// The absolute path that a path begins with.
    fn start(&self, first: &str) -> Option<Vec<String>> {
        match first {
            "crate" => Some(Vec::new()),
            "self" => Some(self.module.to_vec()),
            "super" => Some(self.module.split_last()?.1.to_vec()),
            _ => {
                let below: Module = self.module.iter().cloned().chain([first.to_owned()]).collect();
                self.modules.contains(&below).then_some(below)
            }
        }
    }

    fn use_tree(&mut self, tokens: &mut Peekable<IntoIter>) {
        if let Some(TokenTree::Ident(first)) = tokens.peek()
            && let Some(start) = self.start(&first.to_string())
        {
            tokens.next();
            self.path(start, tokens, true);
        }
    }

    /// Reads the rest of a path. With `binds`, its last name is one that this module takes.
    fn path(&mut self, mut path: Vec<String>, tokens: &mut Peekable<IntoIter>, binds: bool) {
        while is_colon(tokens.peek()) {
            tokens.next();
            if !is_colon(tokens.peek()) {
                return;
            }
            tokens.next();
            match tokens.next() {
                Some(TokenTree::Ident(ident)) if ident == "super" => drop(path.pop()),
                Some(TokenTree::Ident(ident)) => path.push(ident.to_string()),
                Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Brace => {
                    return self.group(&path, group.stream());
                }
                Some(_) | None => break,
            }
        }
        let mut bound = path.last().cloned();
        if matches!(tokens.peek(), Some(TokenTree::Ident(ident)) if ident == "as") {
            tokens.next();
            bound = tokens.next().map(|name| name.to_string());
        }
        self.names.insert(path.clone());
        if let Some(bound) = bound.filter(|_| binds) {
            self.aliases.insert(bound, path);
        }
    }

    fn group(&mut self, path: &[String], tokens: TokenStream) {
        let mut tokens = tokens.into_iter().peekable();
        while let Some(token) = tokens.next() {
            if let TokenTree::Ident(ident) = token {
                let mut inner = path.to_vec();
                if ident != "self" {
                    inner.push(ident.to_string());
                }
                self.path(inner, &mut tokens, true);
            }
        }
    }
}

fn is_colon(token: Option<&TokenTree>) -> bool {
    matches!(token, Some(TokenTree::Punct(punct)) if punct.as_char() == ':')
}

/// Skips the item that an attribute stands before: to its semicolon or its braces.
fn skip_item(tokens: &mut Peekable<IntoIter>) {
    for token in tokens.by_ref() {
        match token {
            TokenTree::Punct(punct) if punct.as_char() == ';' => return,
            TokenTree::Group(group) if group.delimiter() == Delimiter::Brace => return,
            TokenTree::Group(_) | TokenTree::Ident(_) | TokenTree::Punct(_) | TokenTree::Literal(_) => {}
        }
    }
}
