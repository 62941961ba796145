//! Label values: from closed sets, or from configuration within bounds.

use std::collections::HashMap;
use std::sync::Arc;

use http::Method;

use super::{MAX_NAMES, MetricRoute};

/// The label of what has no name.
pub(super) const NONE_NAME: &str = "none";
/// The label of what is beyond the bounds.
pub(super) const OTHER_NAME: &str = "other";
/// Handles of the two.
pub(super) const NONE: u32 = 0;
pub(super) const OTHER: u32 = 1;

pub(super) fn label(route: Option<MetricRoute>) -> u32 {
    route.map_or(NONE, |route| route.0)
}

/// Names and their handles. The labels `none` and `other` are always there; what is configured under one of these
/// names is counted with them rather than making a second series with equal labels.
#[derive(Debug)]
pub(super) struct Names {
    handles: HashMap<Arc<str>, u32>,
    pub(super) names: Vec<Arc<str>>,
}

impl Default for Names {
    fn default() -> Self {
        let mut names = Self { handles: HashMap::new(), names: Vec::new() };
        names.intern(NONE_NAME);
        names.intern(OTHER_NAME);
        names
    }
}

impl Names {
    pub(super) fn intern(&mut self, name: &str) -> u32 {
        if let Some(handle) = self.handles.get(name) {
            return *handle;
        }
        let Some(handle) =
            u32::try_from(self.names.len()).ok().filter(|handle| (*handle as usize) < MAX_NAMES)
        else {
            return OTHER;
        };
        let name: Arc<str> = name.into();
        self.names.push(Arc::clone(&name));
        self.handles.insert(name, handle);
        handle
    }

    pub(super) fn name(&self, handle: u32) -> &str {
        self.names.get(handle as usize).map_or(OTHER_NAME, |name| name)
    }
}

/// A method as a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum MethodLabel {
    Connect,
    Delete,
    Get,
    Head,
    Options,
    Patch,
    Post,
    Put,
    Trace,
    Other,
}

impl MethodLabel {
    pub(super) fn of(method: &Method) -> Self {
        match *method {
            Method::CONNECT => Self::Connect,
            Method::DELETE => Self::Delete,
            Method::GET => Self::Get,
            Method::HEAD => Self::Head,
            Method::OPTIONS => Self::Options,
            Method::PATCH => Self::Patch,
            Method::POST => Self::Post,
            Method::PUT => Self::Put,
            Method::TRACE => Self::Trace,
            _ => Self::Other,
        }
    }

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "CONNECT",
            Self::Delete => "DELETE",
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Options => "OPTIONS",
            Self::Patch => "PATCH",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Trace => "TRACE",
            Self::Other => OTHER_NAME,
        }
    }
}

/// Why an HTTP/2 stream was reset: an error code of RFC 9113 §7.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamError(u8);

impl StreamError {
    /// The labels, each at the place of its code.
    const NAMES: [&'static str; Self::COUNT] = [
        "no_error",
        "protocol_error",
        "internal_error",
        "flow_control_error",
        "settings_timeout",
        "stream_closed",
        "frame_size_error",
        "refused_stream",
        "cancel",
        "compression_error",
        "connect_error",
        "enhance_your_calm",
        "inadequate_security",
        "http_1_1_required",
    ];
    /// How many there are.
    pub const COUNT: usize = 14;

    /// All of them, in the order of their codes.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..).take(Self::COUNT).map(Self)
    }

    /// The label.
    pub fn as_str(self) -> &'static str {
        Self::NAMES.get(usize::from(self.0)).copied().unwrap_or(OTHER_NAME)
    }
}

/// Declares causes with their labels, so that neither can be without the other.
macro_rules! causes {
    ($(#[$about:meta])* $name:ident: $($(#[$doc:meta])* $variant:ident = $label:literal;)*) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name {
            $($(#[$doc])* $variant,)*
        }

        impl $name {
            /// All causes, in the order of their labels.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The label.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $label,)*
                }
            }
        }
    };
}

causes! {
    /// Why a connection to an upstream could not be opened.
    ConnectFault:
    /// The upstream closed or reset the connection before it could be used.
    Closed = "closed";
    /// None of the other causes.
    Other = "other";
    /// It does not speak the protocol of the policy, such as HTTP/2.
    Protocol = "protocol";
    /// Nothing listens at the address.
    Refused = "refused";
    /// This machine lacked a file descriptor, a local port or memory: no fault of the upstream.
    Shortage = "shortage";
    /// It took longer than `timeouts.upstream_connect`.
    Timeout = "timeout";
    /// The TLS handshake failed, or the server is not who it should be.
    Tls = "tls";
    /// No way leads to the address.
    Unreachable = "unreachable";
}

causes! {
    /// What ended a client connection. Each connection has exactly one.
    Cause:
    /// It took no more requests after `timeouts.connection_age`.
    Age = "age";
    /// The client ended it, or its last answer did.
    Client = "client";
    /// The client had `limits.connections_per_client` already.
    ClientLimit = "client_limit";
    /// There were `limits.connections` already.
    ConnectionLimit = "connection_limit";
    /// The process drained.
    Drain = "drain";
    /// It broke, or HTTP/2 was violated.
    Error = "error";
    /// More HTTP/2 frames beside requests, stream errors or fields than allowed.
    Frames = "frames";
    /// The TLS handshake failed.
    Handshake = "handshake";
    /// The TLS handshake took longer than `timeouts.handshake`.
    HandshakeTimeout = "handshake_timeout";
    /// A header section took longer than `timeouts.header`.
    HeaderTimeout = "header_timeout";
    /// No request for `timeouts.idle`.
    Idle = "idle";
    /// What came was no HTTP.
    Malformed = "malformed";
    /// It brought `limits.connection_requests`.
    Requests = "requests";
    /// The client took nothing of an answer for `timeouts.response_stall`, or less than `limits.response_rate`.
    ResponseStall = "response_stall";
    /// A head was too large.
    TooLarge = "too_large";
}
