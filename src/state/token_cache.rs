//! The facts of tokens that were verified, bounded by bytes.
//!
//! 1. An entry is found by the SHA-256 digest of the whole token. A weaker hash would let a forged token find the facts of
//!    another; the token itself is never kept.
//!    Of the two spellings that an ECDSA signature has, the last that was verified is kept ([`crate::authenticate::twin`]).
//! 2. Facts are kept, never a verdict: the caller checks the epoch, the key and all that depends on the time and the route.
//! 3. An entry whose token expired is dropped when it is met, but not at once: within the leeway it still counts, and for a
//!    while after, refusing it from here is cheaper than verifying it again.

use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use aws_lc_rs::digest;
use quick_cache::sync::Cache;
use quick_cache::{Lifecycle, Weighter};

use crate::authenticate::TokenFacts;
use crate::types::Timestamp;

/// How long the facts of an expired token are kept.
const AFTERLIFE: Duration = Duration::from_secs(120);

/// What an entry costs beside its facts: the digest, its slot in a table that grows by doubling, the counts of the `Arc`, and
/// what the allocator adds to a dozen small pieces that come and go. Estimated with `scripts/bench --rows tokens`: a million
/// tokens through a cache of 64 MiB let resident memory grow by 76 MiB.
const OVERHEAD: usize = 512;

/// About how many bytes the facts of a usual token take, for the number of entries to expect.
const USUAL_WEIGHT: u64 = 1_536;

/// Counters are spread over this many cache lines, so that workers seldom write to the same.
const STRIPES: usize = 16;

/// What stands for a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TokenDigest([u8; 32]);

impl TokenDigest {
    /// The digest of a whole token.
    pub fn of(token: &str) -> Self {
        let digest = digest::digest(&digest::SHA256, token.as_bytes());
        let mut bytes = [0; 32];
        // SHA-256 is 32 bytes long: both sides are.
        bytes.iter_mut().zip(digest.as_ref()).for_each(|(to, from)| *to = *from);
        Self(bytes)
    }

    /// The bytes, such as for a log that must tell tokens apart.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// Facts by token, shared by all workers.
pub struct TokenCache {
    entries: Cache<TokenDigest, Arc<TokenFacts>, ByBytes, ByPrefix, CountEvictions>,
    stripes: [Stripe; STRIPES],
    evictions: Arc<AtomicU64>,
}

/// What a cache has done since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheCounts {
    /// Look-ups that found facts.
    pub hits: u64,
    /// Look-ups that did not.
    pub misses: u64,
    /// Entries that made room for others.
    pub evictions: u64,
}

#[derive(Default)]
#[repr(align(64))]
struct Stripe {
    hits: AtomicU64,
    misses: AtomicU64,
}

impl TokenCache {
    /// A cache that holds at most about `bytes` of facts.
    pub fn new(bytes: u64) -> Self {
        let expected = usize::try_from(bytes / USUAL_WEIGHT).unwrap_or(usize::MAX).max(1);
        let evictions = Arc::new(AtomicU64::new(0));
        let entries = Cache::with(
            expected,
            bytes,
            ByBytes,
            ByPrefix::default(),
            CountEvictions(Arc::clone(&evictions)),
        );
        Self { entries, stripes: Default::default(), evictions }
    }

    /// The facts of the token with this digest.
    pub fn get(&self, digest: &TokenDigest, now: Timestamp) -> Option<Arc<TokenFacts>> {
        let found = self.entries.get(digest).filter(|facts| {
            let kept = now <= facts.expires.plus(AFTERLIFE);
            if !kept {
                self.entries.remove(digest);
            }
            kept
        });
        if let Some(stripe) = self.stripe(digest) {
            let counter = if found.is_some() { &stripe.hits } else { &stripe.misses };
            counter.fetch_add(1, Ordering::Relaxed);
        }
        found
    }

    /// Keeps the facts of a token that was just verified.
    pub fn insert(&self, digest: TokenDigest, facts: Arc<TokenFacts>) {
        self.entries.insert(digest, facts);
    }

    /// Forgets the token with this digest.
    pub fn remove(&self, digest: &TokenDigest) {
        self.entries.remove(digest);
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// About how many bytes the entries take.
    pub fn weight(&self) -> u64 {
        self.entries.weight()
    }

    /// The counters.
    pub fn counts(&self) -> CacheCounts {
        let sum = |of: fn(&Stripe) -> &AtomicU64| {
            self.stripes.iter().map(|stripe| of(stripe).load(Ordering::Relaxed)).sum()
        };
        CacheCounts {
            hits: sum(|stripe| &stripe.hits),
            misses: sum(|stripe| &stripe.misses),
            evictions: self.evictions.load(Ordering::Relaxed),
        }
    }

    fn stripe(&self, digest: &TokenDigest) -> Option<&Stripe> {
        let [first, ..] = digest.0;
        self.stripes.get(usize::from(first) % STRIPES)
    }
}

impl std::fmt::Debug for TokenCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenCache")
            .field("entries", &self.len())
            .field("bytes", &self.weight())
            .finish_non_exhaustive()
    }
}

/// Entries weigh what they occupy.
/// A digest is as good a hash as any: its first bytes tell where to look, all of it is compared.
#[derive(Clone, Copy, Default)]
struct ByPrefix(u64);

impl BuildHasher for ByPrefix {
    type Hasher = Self;

    fn build_hasher(&self) -> Self {
        Self(0)
    }
}

impl Hasher for ByPrefix {
    fn write(&mut self, bytes: &[u8]) {
        let prefix = bytes.first_chunk().map_or(0, |prefix| u64::from_le_bytes(*prefix));
        self.0 = prefix;
    }

    // The length of a digest says nothing.
    fn write_usize(&mut self, _: usize) {}

    fn finish(&self) -> u64 {
        self.0
    }
}

#[derive(Clone)]
struct ByBytes;

impl Weighter<TokenDigest, Arc<TokenFacts>> for ByBytes {
    fn weight(&self, _: &TokenDigest, facts: &Arc<TokenFacts>) -> u64 {
        (facts.weight() + OVERHEAD) as u64
    }
}

#[derive(Clone)]
struct CountEvictions(Arc<AtomicU64>);

impl Lifecycle<TokenDigest, Arc<TokenFacts>> for CountEvictions {
    /// Evicted facts, freed after the shard's lock is released.
    type RequestState = Vec<Arc<TokenFacts>>;

    fn on_evict(&self, freed: &mut Self::RequestState, _: TokenDigest, facts: Arc<TokenFacts>) {
        self.0.fetch_add(1, Ordering::Relaxed);
        freed.push(facts);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authenticate::testing;

    fn facts(subject: &str, expires: i64) -> Arc<TokenFacts> {
        Arc::new(testing::facts(subject, Timestamp(expires)))
    }

    #[test]
    fn facts_are_found_by_the_whole_token() {
        let cache = TokenCache::new(1 << 20);
        cache.insert(TokenDigest::of("a.b.c"), facts("alice", 100));
        let found = cache.get(&TokenDigest::of("a.b.c"), Timestamp(50)).unwrap();
        assert_eq!(found.subject.as_deref(), Some("alice"));
        assert!(cache.get(&TokenDigest::of("a.b.d"), Timestamp(50)).is_none(), "another signature");
        let counts = cache.counts();
        assert_eq!((counts.hits, counts.misses, counts.evictions), (1, 1, 0));
    }

    #[test]
    fn facts_of_an_expired_token_are_dropped_when_met() {
        let cache = TokenCache::new(1 << 20);
        let digest = TokenDigest::of("a.b.c");
        cache.insert(digest, facts("alice", 100));
        assert!(cache.get(&digest, Timestamp(105)).is_some(), "within the leeway it still counts");
        assert!(cache.get(&digest, Timestamp(100_000)).is_none());
        assert!(cache.is_empty());
    }

    #[test]
    fn memory_is_bounded_by_bytes_and_not_by_entries() {
        let bytes = 256 * 1024;
        let cache = TokenCache::new(bytes);
        for i in 0..5_000 {
            let subject = "x".repeat(i % 700);
            cache.insert(TokenDigest::of(&i.to_string()), facts(&subject, i64::MAX));
        }
        assert!(cache.weight() <= bytes, "{} bytes", cache.weight());
        assert!(cache.counts().evictions > 0);
        assert!(cache.len() > 50, "{} entries", cache.len());
    }

    #[test]
    fn a_cache_of_no_bytes_keeps_nothing() {
        let cache = TokenCache::new(0);
        cache.insert(TokenDigest::of("a"), facts("alice", 100));
        assert!(cache.get(&TokenDigest::of("a"), Timestamp(0)).is_none());
    }

    #[test]
    fn a_digest_is_sha_256() {
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        let hex: String = TokenDigest::of("").as_bytes().iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(hex, empty);
    }
}
