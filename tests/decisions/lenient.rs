//! A server that is less exact than the gateway never serves a route's resource to a caller whom that route refuses.

use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use scopegate::decide::Verdict;
use scopegate::route::path::PathOptOuts;
use scopegate::route::rewrite::Target;
use serde_json::json;

use crate::{decided, parse};

#[derive(Clone, Debug)]
struct Route {
    path: String,
    methods: Vec<&'static str>,
    /// The scopes it demands; `None` if it is public.
    demands: Option<BTreeSet<&'static str>>,
    allow_path: Vec<&'static str>,
    allow_method_query: bool,
}

/// What a server does more loosely than the gateway.
#[derive(Clone, Copy, Debug)]
struct Leniency {
    folds_case: bool,
    strips_slash: bool,
    decodes_twice: bool,
    folds_method: bool,
    reads_method_query: bool,
    /// Drops dots and spaces at the end of a segment.
    strips_ends: bool,
    octets: Octets,
}

/// What a server makes of octets that are not UTF-8.
#[derive(Clone, Copy, Debug)]
enum Octets {
    Replaced,
    Dropped,
    Latin1,
}

impl Leniency {
    fn all() -> impl Iterator<Item = Self> {
        let all = [Octets::Replaced, Octets::Dropped, Octets::Latin1];
        (0..64_u8).flat_map(move |bits| all.map(|octets| (bits, octets))).map(|(bits, octets)| Self {
            folds_case: bits & 1 != 0,
            strips_slash: bits & 2 != 0,
            decodes_twice: bits & 4 != 0,
            folds_method: bits & 8 != 0,
            reads_method_query: bits & 16 != 0,
            strips_ends: bits & 32 != 0,
            octets,
        })
    }

    /// The segments of a path, as the server compares them.
    fn segments(self, path: &str) -> Vec<String> {
        let once = |text: &str| self.decode(text);
        let path = if self.decodes_twice { once(path) } else { path.to_owned() };
        let mut segments: Vec<String> = Vec::new();
        for segment in path.trim_start_matches('/').split('/').map(once) {
            match segment.as_str() {
                "." => {}
                ".." => drop(segments.pop()),
                _ => {
                    let name = if self.strips_ends { segment.trim_end_matches(['.', ' ']) } else { &segment };
                    segments.push(if self.folds_case { name.to_lowercase() } else { name.to_owned() });
                }
            }
        }
        self.without_slash(segments)
    }

    fn decode(self, text: &str) -> String {
        let octets: Vec<u8> = percent_encoding::percent_decode_str(text).collect();
        match self.octets {
            Octets::Replaced => String::from_utf8_lossy(&octets).into_owned(),
            Octets::Dropped => octets.utf8_chunks().map(|chunk| chunk.valid()).collect(),
            Octets::Latin1 if std::str::from_utf8(&octets).is_err() => {
                octets.into_iter().map(char::from).collect()
            }
            Octets::Latin1 => String::from_utf8(octets).unwrap(),
        }
    }

    fn without_slash(self, mut segments: Vec<String>) -> Vec<String> {
        if self.strips_slash && segments.len() > 1 && segments.last().is_some_and(String::is_empty) {
            segments.pop();
        }
        segments
    }

    /// How specific the pattern is for the path, segment by segment, less first; `None` if it does not match.
    fn fits(self, pattern: &str, path: &[String]) -> Option<Vec<u8>> {
        let fold = |text: &str| {
            let text = percent_encoding::percent_decode_str(text).decode_utf8().unwrap();
            if self.folds_case { text.to_lowercase() } else { text.into_owned() }
        };
        let pattern: Vec<String> = pattern.trim_start_matches('/').split('/').map(fold).collect();
        let pattern = self.without_slash(pattern);
        let mut ranks = Vec::new();
        let mut path = path.iter();
        for part in &pattern {
            if part.starts_with("{*") {
                ranks.push(2);
                return Some(ranks);
            }
            let segment = path.next()?;
            if part.starts_with('{') && !segment.is_empty() {
                ranks.push(1);
            } else if part == segment {
                ranks.push(0);
            } else {
                return None;
            }
        }
        path.next().is_none().then_some(ranks)
    }

    /// The methods by which the server may look for a handler.
    fn methods(self, method: &str, query: Option<&str>) -> Vec<String> {
        let mut methods = vec![method.to_owned()];
        if self.folds_method {
            methods.push(method.to_uppercase());
            if method.eq_ignore_ascii_case("HEAD") {
                methods.push("GET".to_owned());
            }
        }
        if self.reads_method_query
            && let Some(query) = query
        {
            let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
            let decode =
                |text: &str| percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned();
            let named = pairs.filter(|(name, _)| decode(name) == "_method");
            methods.extend(named.map(|(_, value)| decode(value).to_uppercase()));
        }
        methods
    }

    /// The routes whose resource the server may answer with.
    fn serves<'r>(self, routes: &'r [Route], method: &str, target: &str) -> Vec<&'r Route> {
        let (path, query) =
            target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
        let path = self.segments(path);
        let methods = self.methods(method, query);
        let fitting = |route: &&'r Route| self.fits(&route.path, &path);
        let Some(best) = routes.iter().filter_map(|route| fitting(&route)).min() else { return Vec::new() };
        let handles = |route: &&Route| {
            route.methods.is_empty() || methods.iter().any(|method| route.methods.contains(&method.as_str()))
        };
        routes.iter().filter(|route| fitting(route).as_ref() == Some(&best)).filter(handles).collect()
    }
}

fn route() -> impl Strategy<Value = Route> {
    let segment = select(&["a", "A", "b", "admin", "a.", "b%20", "caf%C3%A9", "{x}"][..]);
    let end = select(&["", "", "/", "/{*rest}"][..]);
    let path = (prop::collection::vec(segment, 0..3), end).prop_map(|(segments, end)| {
        let mut names = ["{x}", "{y}", "{z}"].iter();
        let segments: Vec<&str> =
            segments.iter().map(|part| if *part == "{x}" { *names.next().unwrap() } else { *part }).collect();
        match (segments.is_empty(), end) {
            (true, "/{*rest}") => "/{*rest}".to_owned(),
            (true, _) => "/".to_owned(),
            (false, end) => format!("/{}{end}", segments.join("/")),
        }
    });
    let methods = subsequence(vec!["GET", "HEAD", "POST", "DELETE"], 0..3);
    let demands = prop_oneof![
        Just(None),
        subsequence(vec!["read", "write"], 0..3).prop_map(|scopes| Some(scopes.into_iter().collect())),
    ];
    let allow_path = subsequence(PathOptOuts::ALL_NAMES.to_vec(), 0..=PathOptOuts::ALL_NAMES.len());
    (path, methods, demands, allow_path, prop::bool::weighted(0.1)).prop_map(
        |(path, methods, demands, mut allow_path, allow_method_query)| {
            // A pattern that the route's spellings exclude is no policy.
            for (end, name) in [(".", "trailing_dot"), ("%20", "trailing_space")] {
                if path.contains(end) && !allow_path.contains(&name) {
                    allow_path.push(name);
                }
            }
            Route { path, methods, demands, allow_path, allow_method_query }
        },
    )
}

/// A target that is close to the paths of the routes.
fn target() -> impl Strategy<Value = String> {
    let segment = select(
        &[
            "a",
            "A",
            "b",
            "admin",
            "ADMIN",
            "x",
            "%61",
            "%2561",
            "a%2Fb",
            "a%252Fb",
            "%252e%252e",
            "a;v",
            "",
            "%41dmin",
            "a.",
            "admin.",
            "ADMIN%2E",
            "b%20",
            "admin%20.",
            "a.b",
            "caf%E9",
            "CAF%C9",
            "caf%C3%A9",
            "adm%FFin",
            "%FFa.",
            "a.;v",
            "a%2E%2Fb",
            "admin%252E",
        ][..],
    );
    let end = select(&["", "", "/", "%2F"][..]);
    let query = select(
        &[
            "",
            "",
            "",
            "?_method=DELETE",
            "?_method=delete",
            "?%5Fmethod=POST",
            "?x=1&_method=GET",
            "?_method=x",
        ][..],
    );
    (prop::collection::vec(segment, 0..4), end, query)
        .prop_map(|(segments, end, query)| format!("/{}{end}{query}", segments.join("/")))
}

fn policy(routes: &[Route]) -> String {
    let mut text = "version: 1\ngateway: { listen: [http: 127.0.0.1:0] }\nissuers:\n  corp: { issuer: 'https://i.example', \
         keys: { discovery: true }, algorithms: [RS256] }\nupstreams:\n  api: { url: 'http://127.0.0.1:9' }\nroutes:\n"
        .to_owned();
    for (i, route) in routes.iter().enumerate() {
        let Route { path, methods, demands, allow_path, allow_method_query } = route;
        let methods = match methods.is_empty() {
            true => String::new(),
            false => format!(", methods: {methods:?}"),
        };
        let access = match demands {
            None => "public: true".to_owned(),
            Some(scopes) => {
                let scopes: Vec<_> = scopes.iter().collect();
                let scopes = match scopes.is_empty() {
                    true => "any_authenticated".to_owned(),
                    false => format!("{scopes:?}"),
                };
                format!("require: {{ issuers: [corp], audience: a, scopes: {scopes} }}")
            }
        };
        text += &format!(
            "  - id: r{i}\n    match: {{ path: '{path}'{methods}, allow_path: {allow_path:?}, \
             allow_method_query: {allow_method_query} }}\n    {access}\n    upstream: api\n"
        );
    }
    text + "...\n"
}

/// Whether `check` warns of this pair of routes.
fn is_warned_of(warnings: &[String], one: usize, other: usize) -> bool {
    let names = |first, second| format!("routes `r{first}` and `r{second}` demand different things");
    warnings
        .iter()
        .any(|warning| warning.contains(&names(one, other)) || warning.contains(&names(other, one)))
}

proptest! {
    #![proptest_config(crate::cases(1_500))]

    #[test]
    fn no_lax_route_serves_a_strict_one_unwarned(
        routes in prop::collection::vec(route(), 1..5),
        requests in prop::collection::vec((target(), select(&["GET", "HEAD", "POST", "DELETE", "delete", "GeT"][..])), 16),
        scopes in prop_oneof![Just(None), subsequence(vec!["read", "write"], 0..3).prop_map(Some)],
    ) {
        // Routes that match the same requests are no policy.
        let Some(loaded) = parse(&policy(&routes)) else { return Ok(()) };
        let warnings: Vec<String> = loaded.warnings.iter().map(ToString::to_string).collect();
        let claims = scopes.as_ref().map(|scopes| json!({
            "iss": "https://i.example", "aud": "a", "sub": "alice", "client_id": "app", "scope": scopes.join(" "),
        }));
        for (target, method) in requests {
            let Some(record) = decided(&loaded.snapshot, method, "h", &target, claims.as_ref()) else { continue };
            let Verdict::Permit(permit, sent) = &record.verdict else { continue };
            let sent = match sent {
                Target::Unchanged => target.clone(),
                Target::Rewritten(sent) => sent.to_string(),
            };
            let permitted = permit.route().get();
            for leniency in Leniency::all() {
                for served in leniency.serves(&routes, method, &sent) {
                    let refused = served.demands.as_ref().is_some_and(|demanded| {
                        scopes.as_ref().is_none_or(|scopes| !demanded.iter().all(|scope| scopes.contains(scope)))
                    });
                    let served = routes.iter().position(|route| std::ptr::eq(route, served)).unwrap();
                    prop_assert!(
                        !refused || is_warned_of(&warnings, permitted, served)
                            || (leniency.reads_method_query && routes[permitted].allow_method_query),
                        "{method} {sent} is permitted by r{permitted}, and a server with {leniency:?} serves r{served}"
                    );
                }
            }
        }
    }
}
