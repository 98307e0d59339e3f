//! Certificates, made anew for each test: a good set, and each of the bad ones that a user can meet.

use std::fs;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use tempfile::TempDir;

/// A certificate and its key, as PEM files.
pub(crate) struct Pair {
    pub(crate) cert: PathBuf,
    pub(crate) key: PathBuf,
}

/// The files last as long as this value.
pub(crate) struct Material {
    dir: TempDir,
    /// The CA that signed all but `foreign`.
    pub(crate) ca: PathBuf,
    /// A folder that holds only that CA, for `--cacertdir`.
    pub(crate) ca_dir: PathBuf,
    /// A CA that signed none of what our servers show.
    pub(crate) other_ca: PathBuf,
    /// For localhost, 127.0.0.1 and ::1. Nodes of a cluster show it to each other as clients too.
    pub(crate) server: Pair,
    pub(crate) client: Pair,
    /// As `server`, but its time is over.
    pub(crate) expired: Pair,
    /// As `server`, but signed by `other_ca`.
    pub(crate) foreign: Pair,
    /// Valid, for `elsewhere.example` only.
    pub(crate) misnamed: Pair,
    /// Valid, but with no name besides its common name, which TLS libraries no longer check.
    pub(crate) nameless: Pair,
}

impl Material {
    pub(crate) fn new() -> Self {
        let dir = tempfile::Builder::new()
            .prefix("redis-trib-tls-")
            .tempdir()
            .unwrap();
        let ca_dir = dir.path().join("ca");
        fs::create_dir(&ca_dir).unwrap();
        let (ca, ca_pem) = authority("redis-trib test CA");
        let (other, other_pem) = authority("another CA");
        let here = ["localhost", "127.0.0.1", "::1"];
        let pair = |name: &str, names: &[&str], issuer: &Issuer<'_, KeyPair>, last_year: i32| {
            issue(dir.path(), name, names, issuer, last_year)
        };
        Self {
            ca: write(&ca_dir, "ca.crt", &ca_pem),
            other_ca: write(dir.path(), "other-ca.crt", &other_pem),
            server: pair("server", &here, &ca, 2100),
            client: pair("client", &["client.example"], &ca, 2100),
            expired: pair("expired", &here, &ca, 2020),
            foreign: pair("foreign", &here, &other, 2100),
            misnamed: pair("misnamed", &["elsewhere.example"], &ca, 2100),
            nameless: pair("nameless", &[], &ca, 2100),
            ca_dir,
            dir,
        }
    }
}

fn authority(name: &str) -> (Issuer<'static, KeyPair>, String) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, name);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let key = KeyPair::generate().unwrap();
    let pem = params.self_signed(&key).unwrap().pem();
    (Issuer::new(params, key), pem)
}

fn issue(
    dir: &Path,
    name: &str,
    alternative_names: &[&str],
    issuer: &Issuer<'_, KeyPair>,
    last_year: i32,
) -> Pair {
    let names: Vec<String> = alternative_names
        .iter()
        .map(|&name| name.to_owned())
        .collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = date_time_ymd(2010, 1, 1);
    params.not_after = date_time_ymd(last_year, 1, 1);
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    let key = KeyPair::generate().unwrap();
    let cert = params.signed_by(&key, issuer).unwrap();
    Pair {
        cert: write(dir, &format!("{name}.crt"), &cert.pem()),
        key: write(dir, &format!("{name}.key"), &key.serialize_pem()),
    }
}

fn write(dir: &Path, name: &str, text: &str) -> PathBuf {
    let path = dir.join(name);
    fs::write(&path, text).unwrap();
    path
}
