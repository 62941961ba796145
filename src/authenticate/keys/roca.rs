//! RSA keys whose private half can be computed from the public one (CVE-2017-15361, "ROCA").
//!
//! A library of smart cards and TPMs made primes that are powers of 65537 modulo the product of all small primes. Their
//! product is such a power too. A modulus made of other primes is one modulo all of these with a probability below 2⁻¹⁰⁰.

/// The generator of the library's primes.
const GENERATOR: u64 = 65_537;

/// The small primes that divide the library's product for every length of key.
const PRIMES: [u64; 38] = [
    3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89, 97, 101, 103,
    107, 109, 113, 127, 131, 137, 139, 149, 151, 157, 163, 167,
];

/// Whether a modulus (big-endian) has the mark of that library.
pub(super) fn is_marked(modulus: &[u8]) -> bool {
    PRIMES.iter().all(|prime| {
        let rest = modulus.iter().fold(0, |rest, byte| (rest << 8 | u64::from(*byte)) % prime);
        std::iter::successors(Some(1), |power| Some(power * GENERATOR % prime))
            .take(usize::try_from(*prime).unwrap_or_default())
            .any(|power| power == rest)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_power_of_the_generator_is_marked_and_other_numbers_are_not() {
        // 65537^7 is a power modulo everything.
        let power = 65_537u128.pow(7);
        assert!(is_marked(&power.to_be_bytes()));
        for other in [power + 2, power - 2, power * 3, (1 << 127) - 1] {
            assert!(!is_marked(&other.to_be_bytes()), "{other}");
        }
    }

    #[test]
    fn keys_made_otherwise_are_not_marked() {
        let mut bytes = [0; 256];
        for _ in 0..200 {
            getrandom::fill(&mut bytes).unwrap();
            bytes[255] |= 1;
            assert!(!is_marked(&bytes));
        }
    }
}
