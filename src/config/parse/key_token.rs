//! The token that an issuer's keys are asked for with.

use super::Parser;
use crate::authenticate::bearer::is_b64token;
use crate::authenticate::{KeySource, KeyToken};
use crate::config::diagnostic::Fault;
use crate::config::raw_values::RawSecret;
use crate::config::read::Node;
use crate::config::token_file::read_bearer_token;

impl Parser<'_, '_> {
    /// Checks the token now, although a file is read again for each fetch.
    pub(super) fn key_token(
        &mut self,
        raw: &RawSecret,
        keys: &KeySource,
        node: &Node<'_>,
    ) -> Option<KeyToken> {
        let place = node.place_of(&["keys", "token"]);
        if matches!(keys, KeySource::File { .. }) {
            let fault = Fault::new(place, "`token` where no keys are fetched").key("token");
            self.faults.error(fault.hint("it is for `discovery` and `jwks_uri`"));
            return None;
        }
        let RawSecret { file: Some(file), env: None } = raw else {
            let secret = self.files.secret(raw, place);
            let secret = self.faults.take(secret)?;
            if !is_b64token(secret.expose()) {
                let message = "this is no bearer token: letters, digits and `-._~+/=` only";
                self.faults.error(Fault::new(place, message).key("token"));
            }
            return Some(KeyToken::Fixed(secret));
        };
        let path = self.files.path(file);
        match read_bearer_token(&path) {
            Ok(_) => Some(KeyToken::File(path)),
            Err(error) => {
                let message = format!("cannot use `{}`: {error}", path.display());
                self.faults.error(Fault::new(node.place_of(&["keys", "token", "file"]), message).key("file"));
                None
            }
        }
    }
}
