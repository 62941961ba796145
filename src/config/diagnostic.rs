//! What is wrong with a policy, and where.

use std::collections::HashSet;
use std::fmt;

use serde::Serialize;

/// Most diagnostics that are kept of one file; a hostile file must not grow the list without end.
const MOST: usize = 1000;

/// A position in the text, counted from 1; columns are characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Place {
    /// Line.
    pub line: u32,
    /// Column.
    pub column: u32,
}

impl Place {
    /// The first character of the file.
    pub const START: Self = Self { line: 1, column: 1 };
}

/// Whether a diagnostic refuses the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The file is refused.
    Error,
    /// The file is taken; someone should look at this.
    Warning,
}

/// One thing that is wrong, or worth a look.
///
/// `Display` is one line: `routes.yaml:12:5: error: unknown key `scope`; did you mean `scopes`?`
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Diagnostic {
    /// The file, as it was named to the parser.
    pub path: String,
    /// Line, counted from 1.
    pub line: u32,
    /// Column in characters, counted from 1.
    pub column: u32,
    /// The key or name it is about.
    pub key: Option<String>,
    /// What is wrong. Never holds a secret: values that came from `${…}` are not quoted.
    pub message: String,
    /// What cures it.
    pub hint: Option<String>,
    /// Whether it refuses the file.
    pub severity: Severity,
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        let Self { path, line, column, .. } = self;
        write!(f, "{path}:{line}:{column}: {severity}: {}", one_line(&self.message))?;
        match &self.hint {
            Some(hint) => write!(f, "; {}", one_line(hint)),
            None => Ok(()),
        }
    }
}

/// Why a policy is refused: every error of the file, in the order of their places, and the warnings among them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct ConfigErrors(pub Vec<Diagnostic>);

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, diagnostic) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            diagnostic.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

/// A fault without the name of its file and without its severity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) place: Place,
    pub(super) key: Option<String>,
    pub(super) message: String,
    pub(super) hint: Option<String>,
}

impl Fault {
    pub(super) fn new(place: Place, message: impl Into<String>) -> Self {
        Self { place, key: None, message: message.into(), hint: None }
    }

    pub(super) fn key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }

    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// Gathers faults, so that one does not hide the others.
#[derive(Debug, Default)]
pub(super) struct Faults {
    errors: Vec<Fault>,
    warnings: Vec<Fault>,
    /// What was said already: a fault within a group is met by each of its routes.
    seen: HashSet<(Place, String)>,
    left_out: usize,
}

impl Faults {
    pub(super) fn error(&mut self, fault: Fault) {
        if self.errors.len() < MOST {
            if self.is_new(&fault) {
                self.errors.push(fault);
            }
        } else {
            self.left_out += 1;
        }
    }

    pub(super) fn warn(&mut self, fault: Fault) {
        if self.warnings.len() < MOST && self.is_new(&fault) {
            self.warnings.push(fault);
        }
    }

    fn is_new(&mut self, fault: &Fault) -> bool {
        self.seen.insert((fault.place, fault.message.clone()))
    }

    /// Gathers the warnings of others.
    pub(super) fn take_warnings(&mut self, others: Self) {
        others.warnings.into_iter().for_each(|fault| self.warn(fault));
    }

    /// Keeps the value, or gathers the fault.
    pub(super) fn take<T>(&mut self, result: Result<T, Fault>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(fault) => {
                self.error(fault);
                None
            }
        }
    }

    pub(super) fn any(&self) -> bool {
        !self.errors.is_empty()
    }

    /// The warnings of a file without errors, or everything.
    pub(super) fn finish(mut self, path: &str) -> Result<Vec<Diagnostic>, ConfigErrors> {
        if self.left_out > 0 {
            let message = format!("{} further errors are not shown", self.left_out);
            let place = self.errors.last().map_or(Place::START, |fault| fault.place);
            self.errors.push(Fault::new(place, message));
        }
        let named = |severity: Severity| {
            move |fault: Fault| Diagnostic {
                path: path.to_owned(),
                line: fault.place.line,
                column: fault.place.column,
                key: fault.key,
                message: fault.message,
                hint: fault.hint,
                severity,
            }
        };
        let warnings = self.warnings.into_iter().map(named(Severity::Warning));
        if self.errors.is_empty() {
            let mut warnings: Vec<_> = warnings.collect();
            warnings.sort_by_key(|d| (d.line, d.column));
            return Ok(warnings);
        }
        let errors = self.errors.into_iter().map(named(Severity::Error));
        let mut all: Vec<_> = errors.chain(warnings).collect();
        all.sort_by_key(|d| (d.line, d.column));
        Err(ConfigErrors(all))
    }
}

/// The allowed name nearest to what was written, if it is near.
pub(super) fn nearest<'a>(written: &str, allowed: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // Long input would make the comparison slow and can be near to nothing.
    if written.len() > 64 {
        return None;
    }
    allowed
        .into_iter()
        .map(|name| (strsim::damerau_levenshtein(written, name), name))
        .filter(|(distance, name)| {
            *distance <= name.len().max(3) / 3 || name.starts_with(written) && written.len() > 2
        })
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// `did you mean …?`, or the list of what is allowed.
pub(super) fn suggest<'a>(
    written: &str,
    allowed: impl IntoIterator<Item = &'a str> + Clone,
) -> Option<String> {
    if let Some(name) = nearest(written, allowed.clone()) {
        return Some(format!("did you mean `{name}`?"));
    }
    let names: Vec<_> = allowed.into_iter().take(16).map(|name| format!("`{name}`")).collect();
    (!names.is_empty()).then(|| format!("known here: {}", names.join(", ")))
}

/// Text from the file cannot forge further lines or move a terminal's cursor.
fn one_line(text: &str) -> std::borrow::Cow<'_, str> {
    if text.chars().any(char::is_control) {
        text.chars()
            .flat_map(|c| {
                let escaped: Vec<char> = if c.is_control() { c.escape_default().collect() } else { vec![c] };
                escaped
            })
            .collect::<String>()
            .into()
    } else {
        text.into()
    }
}
