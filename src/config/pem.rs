//! Certificates and keys, looked at before they are taken: a policy whose TLS would not work is refused whole.

use rustls::RootCertStore;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use crate::types::Timestamp;

/// Checks a chain with its key; returns until when the leaf is valid, if that can be read.
///
/// # Errors
///
/// What is wrong, in words.
pub(super) fn check_pair(cert: &[u8], key: &[u8]) -> Result<Option<Timestamp>, String> {
    let chain = certificates(cert)?;
    let until = chain.first().and_then(|leaf| not_after(leaf));
    check_key(key)?;
    let key = PrivateKeyDer::from_pem_slice(key)
        .map_err(|_| "the key file holds no private key in PEM".to_owned())?;
    CertifiedKey::from_der(chain, key, &default_provider()).map_err(|e| match e {
        rustls::Error::InconsistentKeys(_) => "the key does not belong to the certificate".to_owned(),
        other => format!("certificate or key cannot be used: {other}"),
    })?;
    Ok(until)
}

/// Checks a file of authorities.
///
/// # Errors
///
/// What is wrong, in words.
pub(super) fn check_authorities(pem: &[u8]) -> Result<(), String> {
    let mut store = RootCertStore::empty();
    for certificate in certificates(pem)? {
        store.add(certificate).map_err(|e| format!("an authority cannot be used: {e}"))?;
    }
    Ok(())
}

/// Says of a key file what a reader of PEM would not.
fn check_key(pem: &[u8]) -> Result<(), String> {
    check_start(pem, "key")?;
    let holds = |text: &[u8]| pem.windows(text.len()).any(|window| window == text);
    // PKCS #8 (RFC 7468 §11), and the older form of OpenSSL (RFC 1421 §4.6.1.1).
    if holds(b"BEGIN ENCRYPTED PRIVATE KEY") || holds(b"Proc-Type: 4,ENCRYPTED") {
        return Err("the private key is encrypted; decrypt it with `openssl pkey -in KEY -out NEW` and protect the file by its \
            permissions"
            .to_owned());
    }
    Ok(())
}

/// A byte order mark hides the first block of a file from readers of PEM.
fn check_start(pem: &[u8], what: &str) -> Result<(), String> {
    if pem.starts_with(b"\xEF\xBB\xBF") || pem.starts_with(b"\xFF\xFE") || pem.starts_with(b"\xFE\xFF") {
        return Err(format!(
            "the {what} file begins with a byte order mark; save it as ASCII text without one"
        ));
    }
    Ok(())
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    check_start(pem, "certificate")?;
    let chain: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|_| "the certificate file is not PEM".to_owned())?;
    if chain.is_empty() {
        return Err("the certificate file holds no certificate in PEM".to_owned());
    }
    Ok(chain)
}

/// `notAfter` of a certificate (RFC 5280 §4.1): the second time in the fifth element of tbsCertificate, the optional
/// version aside. Read by hand because nothing else here needs an X.509 parser.
fn not_after(certificate: &[u8]) -> Option<Timestamp> {
    const SEQUENCE: u8 = 0x30;
    const VERSION: u8 = 0xA0;
    let (_, certificate, _) = element(certificate)?;
    let (_, mut tbs, _) = element(certificate)?;
    if tbs.first() == Some(&VERSION) {
        tbs = element(tbs)?.2;
    }
    for _serial_algorithm_issuer in 0..3 {
        tbs = element(tbs)?.2;
    }
    let (tag, validity, _) = element(tbs)?;
    if tag != SEQUENCE {
        return None;
    }
    let (_, _, after_start) = element(validity)?;
    let (tag, text, _) = element(after_start)?;
    time(tag, std::str::from_utf8(text).ok()?)
}

/// One DER element: its tag, its content, and what follows it.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&[tag, first], rest) = der.split_first_chunk::<2>()?;
    let (length, rest) = if first < 0x80 {
        (usize::from(first), rest)
    } else {
        let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7F))?;
        if digits.len() > 4 {
            return None;
        }
        let length = digits.iter().fold(0, |sum, digit| sum << 8 | usize::from(*digit));
        (length, rest)
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

/// UTCTime `YYMMDDHHMMSSZ` or GeneralizedTime `YYYYMMDDHHMMSSZ` (RFC 5280 §4.1.2.5).
fn time(tag: u8, text: &str) -> Option<Timestamp> {
    const UTC_TIME: u8 = 0x17;
    let text = text.strip_suffix('Z')?;
    let (year, rest) = if tag == UTC_TIME {
        let (year, rest) = text.split_at_checked(2)?;
        let year: i16 = year.parse().ok()?;
        (if year < 50 { 2000 + year } else { 1900 + year }, rest)
    } else {
        let (year, rest) = text.split_at_checked(4)?;
        (year.parse().ok()?, rest)
    };
    let part = |at: usize| rest.get(at..at + 2)?.parse::<i8>().ok();
    let date = jiff::civil::DateTime::new(year, part(0)?, part(2)?, part(4)?, part(6)?, part(8)?, 0).ok()?;
    let zoned = date.to_zoned(jiff::tz::TimeZone::UTC).ok()?;
    Some(Timestamp(zoned.timestamp().as_second()))
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    #[test]
    fn files_that_cannot_be_read_name_their_cause() {
        let key = KeyPair::generate().unwrap();
        let names = ["localhost".to_owned()];
        let cert = CertificateParams::new(names).unwrap().self_signed(&key).unwrap().pem();
        let key = key.serialize_pem();
        let marked = |text: &str| format!("\u{feff}{text}");
        let encrypted = key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
        let older = key.replacen('\n', "\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\n", 1);
        for (cert, key, message) in [
            (&cert, &encrypted, "the private key is encrypted; decrypt it with `openssl pkey"),
            (&cert, &older, "the private key is encrypted; decrypt it with `openssl pkey"),
            (&cert, &marked(&key), "the key file begins with a byte order mark"),
            (&marked(&cert), &key, "the certificate file begins with a byte order mark"),
            (&cert, &cert, "the key file holds no private key"),
            (&key, &key, "the certificate file holds no certificate"),
        ] {
            let refused = check_pair(cert.as_bytes(), key.as_bytes()).unwrap_err();
            assert!(refused.starts_with(message), "{refused}");
        }
        assert!(check_pair(cert.as_bytes(), key.as_bytes()).is_ok());
        let refused = check_authorities(marked(&cert).as_bytes()).unwrap_err();
        assert!(refused.contains("byte order mark"), "{refused}");
    }
}
