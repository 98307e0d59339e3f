//! TLS: which certificates are believed, which of our own is shown, and what can go wrong.
//!
//! rustls with ring; TLS 1.2 and 1.3. rustls is stricter than OpenSSL, hence than redis-cli: it
//! takes no X.509 v1 certificates (which `openssl x509 -req` of OpenSSL ≤ 3.1 makes unless it is
//! given extensions), and looks for names in subjectAltName only. Both get errors of their own.

use std::fmt;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::client::WebPkiServerVerifier;
use tokio_rustls::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use tokio_rustls::rustls::crypto::{self, CryptoProvider, WebPkiSupportedAlgorithms};
use tokio_rustls::rustls::pki_types::pem::{self, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio_rustls::rustls::sign::{CertifiedKey, SingleCertAndKey};
use tokio_rustls::rustls::{
    AlertDescription, CertificateError, ClientConfig, DigitallySignedStruct, Error as RustlsError,
    InconsistentKeys, RootCertStore, SignatureScheme,
};

use super::reply::clean_line;

/// The largest PEM file that is read, in bytes: a bundle of all public CAs is about 250 KiB.
const PEM_LIMIT: u64 = 4 * 1024 * 1024;

/// The longest word of a peer, and the most names of its certificate, that an error repeats.
const WORD_LIMIT: usize = 120;
const NAME_LIMIT: usize = 5;

/// How far a server's certificate is checked (`--tls-verify`, `--insecure` is [`Verify::None`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Verify {
    /// Its chain, its dates and its names.
    #[default]
    Full,
    /// Its chain and its dates, whatever its names: what redis-cli does.
    Chain,
    /// Nothing: anybody may answer.
    None,
}

/// What the command line says about TLS.
#[derive(Debug, Clone, Default)]
pub struct TlsOptions {
    /// `--cacert`: a PEM file of CA certificates to believe. With neither this nor a directory,
    /// those of the operating system are believed.
    pub ca_file: Option<PathBuf>,
    /// `--cacertdir`: a directory of such files.
    pub ca_dir: Option<PathBuf>,
    /// `--cert`: a PEM file with our certificate and those between it and its CA.
    pub cert: Option<PathBuf>,
    /// `--key`: a PEM file with our certificate's key, not encrypted.
    pub key: Option<PathBuf>,
    /// `--sni`: the name to ask for, and to look for in the certificate; otherwise the host.
    pub sni: Option<String>,
    /// `--tls-verify`.
    pub verify: Verify,
}

/// A file or a flag of the TLS options that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TlsSetupError {
    /// The file cannot be read; the operating system's words.
    #[error("{flag} {}: cannot be read: {reason}", .file.display())]
    Unreadable {
        /// The flag that named it.
        flag: &'static str,
        /// The file or directory.
        file: PathBuf,
        /// Why.
        reason: String,
    },
    /// No certificate in it.
    #[error("{flag} {}: holds no certificate in PEM form (-----BEGIN CERTIFICATE-----)", .file.display())]
    NoCertificate {
        /// The flag that named it.
        flag: &'static str,
        /// The file or directory.
        file: PathBuf,
    },
    /// A certificate in it is damaged.
    #[error("{flag} {}: holds a damaged certificate: {reason}", .file.display())]
    BadCertificate {
        /// The flag that named it.
        flag: &'static str,
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// No key in it.
    #[error("--key {}: holds no private key in PEM form", .0.display())]
    NoKey(PathBuf),
    /// The key is encrypted.
    #[error(
        "--key {}: the key is encrypted: give one without a passphrase \
         (openssl pkey -in … -out …)",
        .0.display()
    )]
    EncryptedKey(PathBuf),
    /// The key is damaged or of a kind that is not supported.
    #[error("--key {}: not a usable key (RSA, ECDSA P-256/P-384 or Ed25519)", .0.display())]
    BadKey(PathBuf),
    /// The key belongs to another certificate.
    #[error("--key {}: not the key of the certificate in --cert {}", .key.display(), .cert.display())]
    KeyMismatch {
        /// The certificate's file.
        cert: PathBuf,
        /// The key's file.
        key: PathBuf,
    },
    /// `--cert` without `--key`.
    #[error("--cert needs --key: the certificate's private key")]
    CertWithoutKey,
    /// `--key` without `--cert`.
    #[error("--key needs --cert: the key's certificate")]
    KeyWithoutCert,
    /// No CA was named, and the operating system has none.
    #[error("this system has no CA certificates: name the servers' CA with --cacert")]
    NoRoots,
    /// `--sni` is not a name.
    #[error("--sni {0:?}: not a host name or IP address")]
    BadSni(String),
    /// rustls refused what it was given; its words.
    #[error("TLS cannot be set up: {0}")]
    Refused(String),
}

/// Why TLS did not come about on a connection.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TlsFault {
    /// The certificate's time is over.
    #[error("the server's certificate expired{}: renew it, or look at this machine's clock", since(.0))]
    Expired(Option<String>),
    /// The certificate's time has not come.
    #[error("the server's certificate is not valid yet{}: look at this machine's clock", since(.0))]
    NotYetValid(Option<String>),
    /// No CA that we believe signed it.
    #[error(
        "the server's certificate is signed by a CA that is not trusted: \
         name the right one with --cacert or --cacertdir"
    )]
    UnknownIssuer,
    /// It is somebody else's certificate.
    #[error(
        "the server's certificate is not for {asked} but for {}: \
         use one of its names, set --sni, or check the chain only with --tls-verify chain",
        names_of(.names)
    )]
    NameMismatch {
        /// The name that we asked for.
        asked: String,
        /// The names that it has, the first few of them; empty where it has no subjectAltName.
        names: Vec<String>,
    },
    /// An X.509 v1 certificate.
    #[error(
        "the server's certificate is of X.509 version 1, which is not supported: issue it again \
         as version 3, with a subjectAltName (or leave it unchecked with --tls-verify none)"
    )]
    VersionOne,
    /// A CA's certificate is shown as the server's own.
    #[error(
        "the server shows a CA's certificate (CA:TRUE) as its own: issue one for the server \
         (or leave it unchecked with --tls-verify none)"
    )]
    CaAsServer,
    /// The certificate is refused for another reason; rustls's words.
    #[error("the server's certificate is refused: {0}")]
    Certificate(String),
    /// The server wants to see a certificate of ours.
    #[error("the server asks for a client certificate: give one with --cert and --key")]
    ClientCertificateNeeded,
    /// The server ended it with an alert, for example since it does not believe our certificate.
    /// Where we show none, TLS 1.2 says `HandshakeFailure` (Redis 7.0 with OpenSSL 3.0).
    #[error(
        "the server refused TLS ({0}): it may want a client certificate, or another one \
         (--cert, --key)"
    )]
    Alert(String),
    /// The answer is not TLS.
    #[error("the port does not speak TLS: leave out --tls (or rediss://), or take the TLS port")]
    NotTls,
    /// TCP came about, but no TLS in that time. Redis 7.0 on a plain port takes our greeting for
    /// the beginning of a command, and waits for the rest.
    #[error(
        "no answer to the TLS handshake within {}: does the port speak plain TCP \
         (leave out --tls or rediss://), or is the server stopped?",
        humantime::format_duration(*.0)
    )]
    NoAnswer(Duration),
    /// The connection ended before TLS stood.
    #[error("the connection was closed during the TLS handshake: is it a TLS port?")]
    ClosedInHandshake,
    /// The host cannot stand in a certificate.
    #[error("{0:?} cannot be looked up in a certificate: name the server with --sni")]
    BadName(String),
    /// Anything else; rustls's words.
    #[error("TLS failed: {0}")]
    Other(String),
}

fn since(date: &Option<String>) -> String {
    date.as_ref()
        .map(|date| format!(" ({date})"))
        .unwrap_or_default()
}

fn names_of(names: &[String]) -> String {
    if names.is_empty() {
        "no name at all (its subjectAltName is empty; a common name does not count)".to_owned()
    } else {
        names.join(", ")
    }
}

impl TlsFault {
    /// What TLS says in an error of its stream; `None` where the error is not TLS's.
    pub(super) fn of_io(error: &io::Error) -> Option<Self> {
        let error = error.get_ref()?.downcast_ref::<RustlsError>()?;
        Some(match error {
            RustlsError::InvalidCertificate(error) => Self::of_certificate(error),
            RustlsError::AlertReceived(AlertDescription::CertificateRequired) => {
                Self::ClientCertificateNeeded
            }
            RustlsError::AlertReceived(alert) => Self::Alert(format!("{alert:?}")),
            // What is no TLS record at all, or claims to be longer than one can be.
            RustlsError::InvalidMessage(_) => Self::NotTls,
            other => Self::Other(clean_line(&other.to_string(), WORD_LIMIT)),
        })
    }

    fn of_certificate(error: &CertificateError) -> Self {
        match error {
            CertificateError::Expired => Self::Expired(None),
            CertificateError::ExpiredContext { not_after, .. } => {
                Self::Expired(Some(format!("on {}", date(*not_after))))
            }
            CertificateError::NotValidYet => Self::NotYetValid(None),
            CertificateError::NotValidYetContext { not_before, .. } => {
                Self::NotYetValid(Some(format!("from {}", date(*not_before))))
            }
            // A bad signature is a CA of the right name with another key: the wrong CA's file.
            CertificateError::UnknownIssuer | CertificateError::BadSignature => Self::UnknownIssuer,
            CertificateError::NotValidForNameContext {
                expected,
                presented,
            } => Self::NameMismatch {
                asked: clean_line(&expected.to_str(), WORD_LIMIT),
                names: presented.iter().take(NAME_LIMIT).map(|n| bare(n)).collect(),
            },
            CertificateError::Other(other) => match other.0.downcast_ref::<webpki::Error>() {
                Some(webpki::Error::UnsupportedCertVersion) => Self::VersionOne,
                Some(webpki::Error::CaUsedAsEndEntity) => Self::CaAsServer,
                _ => Self::Certificate(clean_line(&error.to_string(), WORD_LIMIT)),
            },
            other => Self::Certificate(clean_line(&other.to_string(), WORD_LIMIT)),
        }
    }
}

fn date(time: UnixTime) -> String {
    // Certificates end in the year 9999, as does what humantime can write.
    let time = UNIX_EPOCH + Duration::from_secs(time.as_secs().min(253_402_300_799));
    humantime::format_rfc3339_seconds(time).to_string()
}

/// A name of a certificate without webpki's dress: it tells them as `DnsName("host")`.
fn bare(name: &str) -> String {
    let inner = name
        .split_once('(')
        .and_then(|(_, rest)| rest.rsplit_once(')'))
        .map_or(name, |(inner, _)| inner);
    clean_line(inner.trim_matches('"'), WORD_LIMIT)
}

/// TLS, ready to be spoken: made once from the options, cheap to clone.
#[derive(Clone)]
pub struct TlsClient {
    connector: TlsConnector,
    sni: Option<ServerName<'static>>,
}

impl PartialEq for TlsClient {
    /// The configuration can't be compared: clones of one client are equal, two that were set up apart are not.
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(self.connector.config(), other.connector.config()) && self.sni == other.sni
    }
}

impl fmt::Debug for TlsClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The configuration holds a private key.
        f.debug_struct("TlsClient")
            .field("sni", &self.sni)
            .finish_non_exhaustive()
    }
}

impl TlsClient {
    /// Reads the files that the options name.
    pub fn new(options: &TlsOptions) -> Result<Self, TlsSetupError> {
        let provider = Arc::new(crypto::ring::default_provider());
        let verifier = verifier(options, &provider)?;
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|error| TlsSetupError::Refused(error.to_string()))?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let config = match (&options.cert, &options.key) {
            (None, None) => builder.with_no_client_auth(),
            (Some(cert), Some(key)) => {
                let identity = identity(cert, key, &provider)?;
                builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(identity)))
            }
            (Some(_), None) => return Err(TlsSetupError::CertWithoutKey),
            (None, Some(_)) => return Err(TlsSetupError::KeyWithoutCert),
        };
        let sni = match &options.sni {
            Some(name) => Some(
                ServerName::try_from(name.clone())
                    .map_err(|_| TlsSetupError::BadSni(name.clone()))?,
            ),
            None => None,
        };
        Ok(Self {
            connector: TlsConnector::from(Arc::new(config)),
            sni,
        })
    }

    /// The name to ask a host for: `--sni`, or the host itself.
    pub(super) fn server_name(&self, host: &str) -> Result<ServerName<'static>, TlsFault> {
        match &self.sni {
            Some(name) => Ok(name.clone()),
            None => ServerName::try_from(host.to_owned())
                .map_err(|_| TlsFault::BadName(clean_line(host, WORD_LIMIT))),
        }
    }

    pub(super) fn connector(&self) -> &TlsConnector {
        &self.connector
    }
}

fn verifier(
    options: &TlsOptions,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ServerCertVerifier>, TlsSetupError> {
    // Read even when nothing is checked, so that a wrong path is told in every mode.
    let named = named_roots(options)?;
    if options.verify == Verify::None {
        return Ok(Arc::new(Unchecked(
            provider.signature_verification_algorithms,
        )));
    }
    let roots = match named {
        Some(roots) => roots,
        None => system_roots()?,
    };
    let chain_and_names =
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone())
            .build()
            .map_err(|error| TlsSetupError::Refused(error.to_string()))?;
    Ok(match options.verify {
        Verify::Chain => Arc::new(ChainOnly(chain_and_names)),
        Verify::Full | Verify::None => chain_and_names,
    })
}

/// The CAs that `--cacert` and `--cacertdir` name; `None` where neither is there.
fn named_roots(options: &TlsOptions) -> Result<Option<RootCertStore>, TlsSetupError> {
    if options.ca_file.is_none() && options.ca_dir.is_none() {
        return Ok(None);
    }
    let mut roots = RootCertStore::empty();
    if let Some(file) = &options.ca_file {
        let flag = "--cacert";
        for certificate in certificates(flag, file)? {
            roots
                .add(certificate)
                .map_err(|error| TlsSetupError::BadCertificate {
                    flag,
                    file: file.clone(),
                    reason: error.to_string(),
                })?;
        }
    }
    if let Some(dir) = &options.ca_dir {
        let flag = "--cacertdir";
        let before = roots.len();
        let entries = fs::read_dir(dir).map_err(|error| unreadable(flag, dir, &error))?;
        for entry in entries {
            let file = entry.map_err(|error| unreadable(flag, dir, &error))?.path();
            // As OpenSSL does with such a directory: what is not a certificate is passed over.
            if file.is_file()
                && let Ok(found) = certificates(flag, &file)
            {
                roots.add_parsable_certificates(found);
            }
        }
        if roots.len() == before {
            return Err(TlsSetupError::NoCertificate {
                flag,
                file: dir.clone(),
            });
        }
    }
    Ok(Some(roots))
}

/// The operating system's CAs; one that cannot be parsed is passed over, as everywhere.
fn system_roots() -> Result<RootCertStore, TlsSetupError> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        return Err(TlsSetupError::NoRoots);
    }
    Ok(roots)
}

/// Our own certificate and its key.
fn identity(
    cert: &Path,
    key: &Path,
    provider: &CryptoProvider,
) -> Result<CertifiedKey, TlsSetupError> {
    let chain = certificates("--cert", cert)?;
    let signing = provider
        .key_provider
        .load_private_key(private_key(key)?)
        .map_err(|_| TlsSetupError::BadKey(key.to_owned()))?;
    let identity = CertifiedKey::new(chain, signing);
    match identity.keys_match() {
        Err(RustlsError::InconsistentKeys(InconsistentKeys::KeyMismatch)) => {
            Err(TlsSetupError::KeyMismatch {
                cert: cert.to_owned(),
                key: key.to_owned(),
            })
        }
        // Whatever else rustls cannot read in it (X.509 v1, say) is for the server to judge:
        // OpenSSL takes it.
        Ok(()) | Err(_) => Ok(identity),
    }
}

fn private_key(file: &Path) -> Result<PrivateKeyDer<'static>, TlsSetupError> {
    let text = read(file).map_err(|error| unreadable("--key", file, &error))?;
    match PrivateKeyDer::from_pem_slice(&text) {
        Ok(key) => Ok(key),
        // `BEGIN ENCRYPTED PRIVATE KEY` (PKCS #8), or `Proc-Type: 4,ENCRYPTED` (the older form).
        Err(_) if text.windows(9).any(|window| window == b"ENCRYPTED") => {
            Err(TlsSetupError::EncryptedKey(file.to_owned()))
        }
        Err(pem::Error::NoItemsFound) => Err(TlsSetupError::NoKey(file.to_owned())),
        Err(_) => Err(TlsSetupError::BadKey(file.to_owned())),
    }
}

fn certificates(
    flag: &'static str,
    file: &Path,
) -> Result<Vec<CertificateDer<'static>>, TlsSetupError> {
    let text = read(file).map_err(|error| unreadable(flag, file, &error))?;
    let found = CertificateDer::pem_slice_iter(&text)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| TlsSetupError::BadCertificate {
            flag,
            file: file.to_owned(),
            reason: error.to_string(),
        })?;
    if found.is_empty() {
        return Err(TlsSetupError::NoCertificate {
            flag,
            file: file.to_owned(),
        });
    }
    Ok(found)
}

fn read(file: &Path) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    fs::File::open(file)?
        .take(PEM_LIMIT + 1)
        .read_to_end(&mut text)?;
    if text.len() as u64 > PEM_LIMIT {
        return Err(io::Error::other("longer than any PEM file (4 MiB)"));
    }
    Ok(text)
}

fn unreadable(flag: &'static str, file: &Path, error: &io::Error) -> TlsSetupError {
    TlsSetupError::Unreadable {
        flag,
        file: file.to_owned(),
        reason: error.to_string(),
    }
}

/// [`Verify::Chain`]: everything but the names.
#[derive(Debug)]
struct ChainOnly(Arc<WebPkiServerVerifier>);

impl ServerCertVerifier for ChainOnly {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, RustlsError> {
        let result =
            self.0
                .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        match result {
            // rustls checks the names last, when the chain has already been found good.
            Err(RustlsError::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, RustlsError> {
        self.0.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, RustlsError> {
        self.0.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

/// [`Verify::None`]: any certificate.
#[derive(Debug)]
struct Unchecked(WebPkiSupportedAlgorithms);

impl ServerCertVerifier for Unchecked {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, RustlsError> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, RustlsError> {
        tolerate_version_one(crypto::verify_tls12_signature(message, cert, dss, &self.0))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, RustlsError> {
        tolerate_version_one(crypto::verify_tls13_signature(message, cert, dss, &self.0))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}

/// webpki cannot read the key out of an X.509 v1 certificate, so the handshake's signature cannot
/// be checked against it. Nothing is lost: who the certificate belongs to was not checked either,
/// and the user said so.
fn tolerate_version_one(
    result: Result<HandshakeSignatureValid, RustlsError>,
) -> Result<HandshakeSignatureValid, RustlsError> {
    match result {
        Err(RustlsError::InvalidCertificate(error))
            if TlsFault::of_certificate(&error) == TlsFault::VersionOne =>
        {
            Ok(HandshakeSignatureValid::assertion())
        }
        other => other,
    }
}
