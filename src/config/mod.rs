//! From routes.yaml to a [`Snapshot`]: one parser for `check`, for start-up and for reload, so they agree.
//!
//! 1. Unknown and duplicate keys are errors, and what is left out never means "open" ([`parse()`]).
//! 2. All errors are reported at once, each with its line, column and a hint ([`Diagnostic`]).
//! 3. Files the policy names are read together with it and listed in [`Snapshot::files`].
//! 4. A file that ends with `...` is whole ([`Loaded::complete`]); one that does not may have been cut off, which YAML
//!    cannot tell from a shorter policy.
//!
//! The way of a file: `read` (text → located nodes) → `raw` (nodes → the serde mirror) → `parse` (mirror → snapshot) → `lint`.

mod diagnostic;
mod files;
mod fingerprint;
mod lint;
mod parse;
mod pem;
mod places;
mod raw;
mod raw_access_log;
mod raw_groups;
mod raw_issuers;
mod raw_routes;
mod raw_scopes;
mod raw_values;
mod read;
mod schema;
pub mod token_file;
mod url;

use std::path::Path;

pub use diagnostic::{ConfigErrors, Diagnostic, Place, Severity};
pub use schema::schema;

use crate::snapshot::{Gateway, Listener, Snapshot};
use crate::types::Timestamp;
use diagnostic::{Fault, Faults};
use files::{Files, Unreadable};
use fingerprint::{Sources, hex, sha256};

/// A policy that was accepted.
#[derive(Debug)]
pub struct Loaded {
    /// The compiled policy.
    pub snapshot: Snapshot,
    /// What someone should look at.
    pub warnings: Vec<Diagnostic>,
    /// Whether the last line is `...`: nothing can be missing at the end.
    pub complete: bool,
}

/// Reads and compiles the policy at `path`, with the environment of this process. By `now`, expired certificates are warned of;
/// no decision is made by it.
///
/// # Errors
///
/// Everything that is wrong with it.
pub fn load(path: &Path, now: Timestamp) -> Result<Loaded, ConfigErrors> {
    let name = path.display().to_string();
    let text = files::read_regular(path, read::MAX_BYTES).map_err(|reason| {
        let mut faults = Faults::default();
        let fault = Fault::new(Place::START, format!("cannot read the policy: {reason}"));
        faults.error(match reason {
            Unreadable::TooLong(_) => fault.hint(read::SMALLER),
            Unreadable::Irregular | Unreadable::Failed(_) => fault,
        });
        faults.finish(&name).err().unwrap_or(ConfigErrors(Vec::new()))
    })?;
    let base = path.parent().unwrap_or(Path::new(""));
    let mut loaded = parse(&name, &text, base, &|variable| std::env::var(variable).ok(), now)?;
    loaded.snapshot.files.insert(0, path.to_owned());
    Ok(loaded)
}

/// SHA-256 of the file at `path` as [`Snapshot::text_hash`] has it. `None` if it cannot be read.
pub fn text_hash(path: &Path) -> Option<Box<str>> {
    files::read_regular(path, read::MAX_BYTES).ok().map(|text| hex(&sha256(&text)))
}

/// Compiles the text of a policy.
///
/// `name` stands in messages; paths in the policy are relative to `base`; `env` looks up variables; `now` is for warnings.
/// Unlike [`load`], the policy's own path is not among [`Snapshot::files`].
///
/// # Errors
///
/// Everything that is wrong with it.
pub fn parse(
    name: &str,
    text: &[u8],
    base: &Path,
    env: &dyn Fn(&str) -> Option<String>,
    now: Timestamp,
) -> Result<Loaded, ConfigErrors> {
    let mut faults = Faults::default();
    let sources = Sources::default();
    let mut files = Files::new(base, env, &sources);
    let digest = sha256(text);
    let compiled = match read::text(text) {
        Ok(text) => {
            let complete = read::ends_with_marker(text);
            let mut parser = parse::Parser { faults: &mut faults, files: &mut files, now };
            let snapshot = parser.policy(text, &|variable| sources.variable(variable, env), hex(&digest));
            if !complete {
                let fault = Fault::new(Place::START, "the file does not end with `...`").key("...");
                faults.warn(fault.hint(
                    "end it with a line `...`: a file cut off while it is written could be valid with less policy in it",
                ));
            }
            snapshot.map(|snapshot| (snapshot, complete))
        }
        Err(fault) => {
            faults.error(fault);
            None
        }
    };
    if compiled.is_none() && !faults.any() {
        // Cannot be: whoever gives up says why. Still, nothing may load by accident.
        faults.error(Fault::new(Place::START, "the policy cannot be compiled"));
    }
    let warnings = faults.finish(name)?;
    match compiled {
        Some((mut snapshot, complete)) => {
            snapshot.files = files.into_paths();
            let (shown, fingerprint) = sources.digests(&digest);
            (snapshot.hash, snapshot.fingerprint) = (hex(&shown), fingerprint);
            Ok(Loaded { snapshot, warnings, complete })
        }
        None => Err(ConfigErrors(warnings)),
    }
}

/// What of the `gateway` section lives as long as the process and differs: a reload that changes it is refused whole.
///
/// Certificates may change at any time; addresses, and whether they speak TLS, may not.
pub fn boot_changes(old: &Gateway, new: &Gateway) -> Vec<&'static str> {
    let sockets = |gateway: &Gateway| {
        let socket = |listener: &Listener| (listener.address, listener.tls.is_some());
        gateway.listen.iter().map(socket).collect::<Vec<_>>()
    };
    let admin = |gateway: &Gateway| gateway.admin.as_ref().map(|admin| admin.address);
    [
        ("gateway.listen", sockets(old) != sockets(new)),
        ("gateway.workers", old.workers != new.workers),
        ("gateway.admin.address", admin(old) != admin(new)),
        ("gateway.token_cache", old.token_cache_bytes != new.token_cache_bytes),
        ("gateway.limits.connections", old.limits.connections != new.limits.connections),
        ("gateway.limits.requests_in_flight", old.limits.requests_in_flight != new.limits.requests_in_flight),
        ("gateway.access_log", old.access_log != new.access_log),
    ]
    .into_iter()
    .filter_map(|(key, differs)| differs.then_some(key))
    .collect()
}
