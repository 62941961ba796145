use futures_util::FutureExt as _;
use serde_json::Value;

use super::*;
use crate::authenticate::testing::{P256, P384, all_algorithms, jwks, policy};

const NOW: Timestamp = Timestamp(1_800_000_000);
const SECOND: Duration = Duration::from_secs(1);

fn set(keys: &[Value]) -> KeySet {
    KeySet::from_jwks(&jwks(keys), all_algorithms()).unwrap().0
}

fn file(content: &[u8]) -> IssuerPolicy {
    let mut policy = policy();
    policy.keys = KeySource::File { path: "keys.json".into(), content: content.into() };
    policy
}

#[test]
fn every_cell_has_an_epoch_of_its_own() {
    let cells: Vec<_> = (0..10).map(|_| IssuerCell::new(policy())).collect();
    assert!(cells.windows(2).all(|pair| pair[0].epoch() < pair[1].epoch()));
}

#[test]
fn keys_are_usable_until_they_are_too_old() {
    let cell = IssuerCell::new(policy());
    let at = Instant::now();
    assert!(cell.usable(at).is_none() && !cell.has_had_keys());
    assert!(cell.store(set(&[P256.jwk("a")]), at, NOW), "new");
    let key = cell.usable(at).unwrap().iter().next().unwrap().thumbprint();
    let max_stale = cell.policy().refresh.max_stale;
    for (age, fresh) in [(Duration::ZERO, true), (max_stale, true), (max_stale + SECOND, false)] {
        assert_eq!(cell.usable(at + age).is_some(), fresh, "{age:?}");
        assert_eq!(cell.publishes(&key, at + age), fresh, "{age:?}");
        assert_eq!(cell.status(at + age).usable, fresh, "{age:?}");
    }
    assert!(cell.usable(at - SECOND).is_some(), "a time before the fetch is no fault");
    assert!(cell.has_had_keys());
}

#[test]
fn equal_keys_only_grow_younger_and_a_withdrawn_key_is_gone() {
    let cell = IssuerCell::new(policy());
    let at = Instant::now();
    cell.store(set(&[P256.jwk("a"), P384.jwk("b")]), at, NOW);
    let before = cell.usable(at).unwrap();
    let withdrawn = before.iter().find(|key| key.kid() == Some("b")).unwrap().thumbprint();
    assert!(!cell.store(set(&[P256.jwk("a"), P384.jwk("b")]), at + SECOND, NOW), "the same");
    assert!(Arc::ptr_eq(&before, &cell.usable(at).unwrap()));
    assert_eq!(cell.status(at + SECOND).age, Some(Duration::ZERO));
    assert!(cell.store(set(&[P256.jwk("a")]), at, NOW), "others");
    assert!(!cell.publishes(&withdrawn, at));
}

#[test]
fn a_failure_keeps_keys_and_the_next_success_clears_the_error() {
    let cell = IssuerCell::new(policy());
    let at = Instant::now();
    cell.begin(NOW);
    cell.failed("no route", NOW);
    assert_eq!(cell.status(at).last_error, Some((NOW, "no route".into())));
    cell.store(set(&[P256.jwk("a")]), at, NOW);
    cell.failed("no route", NOW);
    assert!(cell.usable(at).is_some());
    cell.store(set(&[P256.jwk("a")]), at, NOW);
    let status = cell.status(at);
    assert_eq!((status.last_error, status.last_attempt, status.fetched_at), (None, Some(NOW), Some(NOW)));
    let [key] = &status.keys[..] else { panic!("one key") };
    assert_eq!((key.kid.as_deref(), key.algorithm, key.key_type), (Some("a"), "ES256", "EC"));
}

#[test]
fn the_cooldown_begins_with_the_request_and_not_with_its_result() {
    let cell = IssuerCell::new(policy());
    cell.store(set(&[P256.jwk("a")]), Instant::now(), NOW);
    let at = Instant::now();
    let cooldown = cell.policy().refresh.unknown_kid_cooldown;

    assert!(cell.request_newer(at).is_some());
    assert!(cell.is_wanted());
    cell.begin(NOW);
    let mut joined = Box::pin(cell.request_newer(at + SECOND).expect("joins the running attempt"));
    assert!(joined.as_mut().now_or_never().is_none(), "it has not ended");
    cell.failed("500", NOW);
    assert!(joined.as_mut().now_or_never().is_some(), "it has ended, though in failure");
    assert!(!cell.is_wanted());

    assert!(cell.request_newer(at + cooldown - SECOND).is_none(), "the failure gave nothing back");
    assert!(cell.request_newer(at + cooldown).is_some());
}

#[test]
fn who_decided_before_the_keys_came_decides_again_without_a_fetch() {
    let cell = IssuerCell::new(policy());
    for fails in [false, true] {
        let decided = Instant::now();
        cell.begin(NOW);
        match fails {
            false => assert!(cell.store(set(&[P256.jwk("a")]), Instant::now(), NOW)),
            true => cell.failed("500", NOW),
        }
        let answer = cell.request_newer(decided).expect("told to decide again");
        assert!(answer.now_or_never().is_some(), "at once");
        assert!(!cell.is_wanted(), "nothing was asked of the issuer");
    }
    // Neither used up the cooldown of those who have seen the keys.
    let waiting = cell.request_newer(Instant::now()).expect("a fetch");
    assert!(cell.is_wanted());
    assert!(waiting.now_or_never().is_none());
}

#[test]
fn who_stops_waiting_stops_nothing() {
    let cell = IssuerCell::new(policy());
    let at = Instant::now();
    drop(cell.request_newer(at).unwrap());
    assert!(cell.is_wanted());
    let waiting = cell.request_newer(at).unwrap();
    cell.store(set(&[P256.jwk("a")]), at, NOW);
    assert!(waiting.now_or_never().is_some());
}

#[test]
fn waiting_ends_with_the_cell() {
    let cell = IssuerCell::new(policy());
    let waiting = cell.request_newer(Instant::now()).unwrap();
    let wake = cell.wake();
    drop(cell);
    assert!(waiting.now_or_never().is_some());
    assert!(wake.notified().now_or_never().is_some(), "the task is told");
}

#[test]
fn keys_from_a_file_are_read_at_once_and_never_stale() {
    let cell = IssuerCell::new(file(&jwks(&[P256.jwk("a")])));
    let later = Instant::now() + cell.policy().refresh.max_stale * 10;
    assert!(cell.usable(later).is_some());
    assert!(cell.request_newer(later).is_none(), "nothing to fetch");

    let broken = IssuerCell::new(file(b"{}"));
    assert!(broken.usable(Instant::now()).is_none());
    let (_, error) = broken.status(Instant::now()).last_error.unwrap();
    assert!(error.contains("keys.json"), "{error}");
}

#[test]
fn a_successor_keeps_keys_only_if_their_origin_is_unchanged() {
    let old = IssuerCell::new(policy());
    let at = Instant::now();
    old.store(set(&[P256.jwk("a")]), at, NOW);

    let mut same_origin = policy();
    same_origin.leeway = SECOND;
    let cell = IssuerCell::succeeding(same_origin, &old);
    assert!(cell.usable(at).is_some());
    assert!(cell.epoch() > old.epoch(), "facts read under the old configuration are not used");

    let changes: [fn(&mut IssuerPolicy); 3] = [
        |policy| policy.issuer = crate::types::Issuer::new("https://other.example.com"),
        |policy| policy.keys = KeySource::Uri(http::Uri::from_static("https://other.example.com/keys")),
        |policy| policy.algorithms = [crate::authenticate::Algorithm::Rs256].into_iter().collect(),
    ];
    for change in changes {
        let mut other = policy();
        change(&mut other);
        assert!(IssuerCell::succeeding(other, &old).usable(at).is_none());
    }
}
