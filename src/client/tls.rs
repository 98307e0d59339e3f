//! TLS: trusted certificates, our own certificate, and TLS errors.
//!
//! rustls with ring; TLS 1.2 and 1.3. rustls is stricter than OpenSSL, and so than redis-cli: it rejects X.509 v1
//! certificates (which `openssl x509 -req` of OpenSSL ≤ 3.1 creates unless it is given extensions), and matches names
//! in subjectAltName only. Both cases have errors of their own.

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

/// The largest PEM file that is read, in bytes. A bundle of all public CAs has about 250 KiB.
const PEM_LIMIT: u64 = 4 * 1024 * 1024;

/// The most characters of a peer's text, and the most names of its certificate, that an error repeats.
const WORD_LIMIT: usize = 120;
const NAME_LIMIT: usize = 5;

/// How a server's certificate is verified (`--tls-verify`; `--insecure` is [`Verify::None`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Verify {
    /// Verify the chain, the dates and the host name.
    #[default]
    Full,
    /// Verify the chain and the dates but not the host name (redis-cli's behaviour).
    Chain,
    /// Verify nothing (insecure).
    None,
}

/// The TLS options of the command line.
#[derive(Debug, Clone, Default)]
pub struct TlsOptions {
    /// `--cacert`: a PEM file of trusted CA certificates. Without this and `--cacertdir`, the CAs of the operating
    /// system are trusted.
    pub ca_file: Option<PathBuf>,
    /// `--cacertdir`: a directory of such files.
    pub ca_dir: Option<PathBuf>,
    /// `--cert`: a PEM file with our certificate and its intermediate certificates.
    pub cert: Option<PathBuf>,
    /// `--key`: a PEM file with the unencrypted key of our certificate.
    pub key: Option<PathBuf>,
    /// `--sni`: the name to request and to verify; the host by default.
    pub sni: Option<String>,
    /// `--tls-verify`.
    pub verify: Verify,
}

/// A file or an option of TLS that can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TlsSetupError {
    /// The file can't be read; the operating system's message.
    #[error("{flag} {}: can't be read: {reason}", .file.display())]
    Unreadable {
        /// The option.
        flag: &'static str,
        /// The file or directory.
        file: PathBuf,
        /// Why.
        reason: String,
    },
    /// The file has no certificate.
    #[error("{flag} {}: holds no certificate in PEM form (-----BEGIN CERTIFICATE-----)", .file.display())]
    NoCertificate {
        /// The option.
        flag: &'static str,
        /// The file or directory.
        file: PathBuf,
    },
    /// A certificate in the file is damaged.
    #[error("{flag} {}: holds a damaged certificate: {reason}", .file.display())]
    BadCertificate {
        /// The option.
        flag: &'static str,
        /// The file.
        file: PathBuf,
        /// The reason.
        reason: String,
    },
    /// The file has no key.
    #[error("--key {}: holds no private key in PEM form", .0.display())]
    NoKey(PathBuf),
    /// The key is encrypted.
    #[error(
        "--key {}: the key is encrypted: give one without a passphrase \
         (openssl pkey -in … -out …)",
        .0.display()
    )]
    EncryptedKey(PathBuf),
    /// The key is damaged or of an unsupported kind.
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
    /// No CA was given, and the operating system has none.
    #[error("this system has no CA certificates: name the servers' CA with --cacert")]
    NoRoots,
    /// `--sni` is not a valid name.
    #[error("--sni {0:?}: not a host name or IP address")]
    BadSni(String),
    /// rustls rejected the configuration; its message.
    #[error("TLS can't be set up: {0}")]
    Refused(String),
}

/// Why a TLS handshake failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TlsFault {
    /// The certificate expired.
    #[error("the server's certificate expired{}: renew it, or check this machine's clock", since(.0))]
    Expired(Option<String>),
    /// The certificate is not valid yet.
    #[error("the server's certificate is not valid yet{}: check this machine's clock", since(.0))]
    NotYetValid(Option<String>),
    /// The certificate is signed by an untrusted CA.
    #[error(
        "the server's certificate is signed by a CA that is not trusted: \
         name its CA with --cacert or --cacertdir"
    )]
    UnknownIssuer,
    /// The certificate is for another host.
    #[error(
        "the server's certificate is not for {asked} but for {}: \
         use one of its names, set --sni, or verify the chain only with --tls-verify chain",
        names_of(.names)
    )]
    NameMismatch {
        /// The requested name.
        asked: String,
        /// The first few names of the certificate; empty if it has no subjectAltName.
        names: Vec<String>,
    },
    /// An X.509 v1 certificate.
    #[error(
        "the server's certificate is of X.509 version 1, which is not supported: issue it again \
         as version 3, with a subjectAltName (or verify nothing with --tls-verify none)"
    )]
    VersionOne,
    /// The server's certificate is a CA certificate.
    #[error(
        "the server's certificate is a CA certificate (CA:TRUE): issue one for the server \
         (or verify nothing with --tls-verify none)"
    )]
    CaAsServer,
    /// The certificate is rejected for another reason; rustls's message.
    #[error("the server's certificate is rejected: {0}")]
    Certificate(String),
    /// The server requires a client certificate.
    #[error("the server requires a client certificate: give one with --cert and --key")]
    ClientCertificateNeeded,
    /// The server closed the handshake with an alert, for example because it does not trust our certificate. Without
    /// a client certificate, TLS 1.2 reports `HandshakeFailure` (Redis 7.0 with OpenSSL 3.0).
    #[error(
        "the server refused TLS ({0}): it may require a client certificate, or another one \
         (--cert, --key)"
    )]
    Alert(String),
    /// The answer is not TLS.
    #[error("the port does not speak TLS: leave out --tls (or rediss://), or use the TLS port")]
    NotTls,
    /// TCP is connected, but the TLS handshake got no answer in time. Redis 7.0 on a plain port takes the ClientHello
    /// for the beginning of a command and waits for the rest.
    #[error(
        "no answer to the TLS handshake within {}: the port may speak plain TCP \
         (leave out --tls or rediss://), or the server is stopped",
        humantime::format_duration(*.0)
    )]
    NoAnswer(Duration),
    /// The connection ended during the handshake.
    #[error("the connection was closed during the TLS handshake: check that this is a TLS port")]
    ClosedInHandshake,
    /// The host can't be used as a certificate name.
    #[error(
        "{0:?} is not a name that a certificate can have: give the name of the server with --sni"
    )]
    BadName(String),
    /// Any other TLS error; rustls's message.
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
    /// Returns the TLS error behind an error of the stream; `None` if it has another cause.
    pub(super) fn of_io(error: &io::Error) -> Option<Self> {
        let error = error.get_ref()?.downcast_ref::<RustlsError>()?;
        Some(match error {
            RustlsError::InvalidCertificate(error) => Self::of_certificate(error),
            RustlsError::AlertReceived(AlertDescription::CertificateRequired) => {
                Self::ClientCertificateNeeded
            }
            RustlsError::AlertReceived(alert) => Self::Alert(format!("{alert:?}")),
            // Not a TLS record, or one with an impossible length.
            RustlsError::InvalidMessage(_) => Self::NotTls,
            other => Self::Other(clean_line(&other.to_string(), WORD_LIMIT)),
        })
    }

    /// The same fault after several names were tried: none of them is one of the certificate.
    pub(super) fn also_asked(self, others: &[ServerName<'static>]) -> Self {
        match self {
            Self::NameMismatch { asked, names } => {
                let others = others.iter().map(|name| name.to_str().into_owned());
                let all: Vec<String> = others.chain([asked]).collect();
                Self::NameMismatch {
                    asked: clean_line(&all.join(" or "), WORD_LIMIT),
                    names,
                }
            }
            other => other,
        }
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
            // A bad signature is a CA of the right name with another key: the wrong CA file.
            CertificateError::UnknownIssuer | CertificateError::BadSignature => Self::UnknownIssuer,
            CertificateError::NotValidForNameContext {
                expected,
                presented,
            } => Self::NameMismatch {
                asked: clean_line(&expected.to_str(), WORD_LIMIT),
                names: presented
                    .iter()
                    .take(NAME_LIMIT)
                    .map(|n| unwrapped_name(n))
                    .collect(),
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
    // Certificates end in the year 9999, the last that humantime can format.
    let time = UNIX_EPOCH + Duration::from_secs(time.as_secs().min(253_402_300_799));
    humantime::format_rfc3339_seconds(time).to_string()
}

/// A name of a certificate without webpki's wrapping: webpki reports `DnsName("host")`.
fn unwrapped_name(name: &str) -> String {
    let inner = name
        .split_once('(')
        .and_then(|(_, rest)| rest.rsplit_once(')'))
        .map_or(name, |(inner, _)| inner);
    clean_line(inner.trim_matches('"'), WORD_LIMIT)
}

/// A TLS configuration, ready to use: created once from the options, cheap to clone.
#[derive(Clone)]
pub struct TlsClient {
    connector: TlsConnector,
    sni: Option<ServerName<'static>>,
    /// The host name that the nodes tell of the server.
    announced: Option<ServerName<'static>>,
}

impl PartialEq for TlsClient {
    /// Configurations can't be compared: clones of one client are equal, clients that were created separately are
    /// not.
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(self.connector.config(), other.connector.config())
            && self.sni == other.sni
            && self.announced == other.announced
    }
}

impl fmt::Debug for TlsClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The configuration holds a private key.
        f.debug_struct("TlsClient")
            .field("sni", &self.sni)
            .field("announced", &self.announced)
            .finish_non_exhaustive()
    }
}

impl TlsClient {
    /// Reads the files of the options.
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
            announced: None,
        })
    }

    /// The same for a server of which the nodes tell this host name. A name that no certificate can have is left out.
    pub fn announced(&self, name: &str) -> Self {
        Self {
            announced: ServerName::try_from(name.to_owned()).ok(),
            ..self.clone()
        }
    }

    /// The names to request from a host and to verify, in the order in which they are tried: `--sni`, then the
    /// announced name, and without `--sni` the host itself. Never empty.
    ///
    /// The announced name is as good as the address: both come from the nodes through which the server was found.
    pub(super) fn server_names(&self, host: &str) -> Result<Vec<ServerName<'static>>, TlsFault> {
        let mut names = Vec::from_iter(self.sni.clone());
        names.extend(self.announced.clone());
        if self.sni.is_none() {
            match ServerName::try_from(host.to_owned()) {
                Ok(name) => names.push(name),
                Err(_) if !names.is_empty() => {}
                Err(_) => return Err(TlsFault::BadName(clean_line(host, WORD_LIMIT))),
            }
        }
        names.dedup();
        Ok(names)
    }

    pub(super) fn connector(&self) -> &TlsConnector {
        &self.connector
    }
}

fn verifier(
    options: &TlsOptions,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ServerCertVerifier>, TlsSetupError> {
    // Read even if nothing is verified, so that a wrong path is an error in every mode.
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

/// The CAs of `--cacert` and `--cacertdir`; `None` if neither is given.
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
            // As OpenSSL does with such a directory: files that are not certificates are skipped.
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

/// The operating system's CAs. One that can't be parsed is skipped, as other programs do.
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
        // Whatever else rustls can't read in it (X.509 v1, for example) is left to the server: OpenSSL may accept it.
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

/// [`Verify::Chain`]: everything except the host name.
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
            // rustls verifies the names last, after the chain.
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

/// [`Verify::None`]: accepts any certificate.
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

/// webpki can't read the key of an X.509 v1 certificate, so the handshake signature can't be verified against it.
/// Nothing is lost: the owner of the certificate is not verified in this mode either.
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
