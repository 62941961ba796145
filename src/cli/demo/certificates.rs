//! Development certificates, by the names that `certs/make` gives them. Never for production.

use std::io;
use std::path::Path;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};

use super::keys::write_private;

/// Makes the server's and the clients' certificates in `folder` if there are none. What is there stays as it is.
pub(super) fn make_missing(folder: &Path) -> io::Result<()> {
    std::fs::create_dir_all(folder)?;
    if !folder.join("dev-server.crt").exists() {
        make_server(folder)?;
    }
    if !folder.join("dev-client.crt").exists() {
        make_client(folder)?;
    }
    Ok(())
}

fn make_server(folder: &Path) -> io::Result<()> {
    let authority = authority("development CA")?;
    let names = ["localhost", "api.example.com", "*.example.com", "127.0.0.1", "::1"].map(str::to_owned);
    let key = KeyPair::generate().map_err(io::Error::other)?;
    let mut leaf = params("api.example.com", names.to_vec())?;
    leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let leaf = leaf.signed_by(&key, &authority).map_err(io::Error::other)?;
    std::fs::write(folder.join("dev-ca.crt"), authority.pem())?;
    write_private(&folder.join("dev-ca.key"), authority.key().serialize_pem().as_bytes())?;
    write_private(&folder.join("dev-server.key"), key.serialize_pem().as_bytes())?;
    std::fs::write(folder.join("dev-server.crt"), leaf.pem())
}

fn make_client(folder: &Path) -> io::Result<()> {
    // The authority's key is not kept: whoever needs another client certificate makes all of them anew.
    let authority = authority("development clients CA")?;
    let key = KeyPair::generate().map_err(io::Error::other)?;
    let mut leaf = params("mobile-app", vec!["mobile-app".to_owned()])?;
    leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let leaf = leaf.signed_by(&key, &authority).map_err(io::Error::other)?;
    std::fs::write(folder.join("dev-clients-ca.crt"), authority.pem())?;
    write_private(&folder.join("dev-client.key"), key.serialize_pem().as_bytes())?;
    std::fs::write(folder.join("dev-client.crt"), leaf.pem())
}

fn authority(name: &str) -> io::Result<CertifiedIssuer<'static, KeyPair>> {
    let mut params = params(name, Vec::new())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let key = KeyPair::generate().map_err(io::Error::other)?;
    CertifiedIssuer::self_signed(params, key).map_err(io::Error::other)
}

fn params(name: &str, alternatives: Vec<String>) -> io::Result<CertificateParams> {
    let mut params = CertificateParams::new(alternatives).map_err(io::Error::other)?;
    params.distinguished_name.push(DnType::OrganizationName, "Scopegate development, never production");
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = date_time_ymd(2026, 1, 1);
    params.not_after = date_time_ymd(2036, 1, 1);
    Ok(params)
}
