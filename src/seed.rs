//! Parses addresses as users write them.
//!
//! `host:port`, `host`, `[v6]:port`, `redis://user:pass@host:port` and `rediss://…` (or `valkey://`, `valkeys://`).
//! `@prod` is a cluster of the configuration file, which `args` replaces by its nodes.
//! Each stands for a *seed set*: a name may resolve to many nodes (see `resolve`).

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

use secrecy::SecretSlice;

use crate::cluster::node::{Addr, DEFAULT_PORT};

/// The address of one node or several, as the user gives it.
#[derive(Debug, Clone)]
pub struct Seed {
    /// The host or name, and the port.
    pub addr: Addr,
    /// The user of a `redis://` address.
    pub user: Option<String>,
    /// The password of a `redis://` address.
    pub password: Option<SecretSlice<u8>>,
    /// The scheme of the address.
    pub scheme: Scheme,
    /// The name of a cluster of the configuration file, for `@prod` and for the nodes that stand for it.
    pub cluster: Option<String>,
}

/// What the scheme of an address says about TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// No scheme: `--tls` decides.
    None,
    /// `redis://`: no TLS.
    Redis,
    /// `rediss://`: TLS.
    Rediss,
}

/// Why a text is not an address. The text is not repeated where it may contain a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotAnAddress {
    /// The text is empty.
    #[error("an address is empty: write host:port")]
    Empty,
    /// `user:password@host` without a scheme. The text is not repeated.
    #[error("an address with a user or a password must begin with redis:// or rediss://")]
    Credentials,
    /// A `/`, `?` or `#` in a password ends the host. The text is not repeated.
    #[error("a password has an unencoded character: write / ? # and @ as %2F %3F %23 and %40")]
    NotEncoded,
    /// The text after `@` is no name. The text is not repeated.
    #[error(
        "a cluster of the configuration file is named by @ and letters, digits, '-', '_' or '.', as @prod"
    )]
    ClusterName,
    /// Digits alone are not a host name.
    #[error("{0:?} is not a host: write 127.0.0.1:{0} or host:{0}")]
    Digits(String),
    /// Not 1 to 65535.
    #[error("{port:?} is not a port (1 to 65535) in {text:?}")]
    Port {
        /// The text in place of the port.
        port: String,
        /// The whole address.
        text: String,
    },
    /// An IPv6 address with a port needs brackets.
    #[error("{0:?} is ambiguous: write an IPv6 address as [::1]:7000")]
    Brackets(String),
    /// The host has an invalid character.
    #[error("{0:?} is not a host name or an IP address: write host:port")]
    Host(String),
    /// The scheme is not supported.
    #[error("{0}:// is not supported: write redis:// or rediss://")]
    Scheme(String),
    /// The URL can't be parsed.
    #[error("not a redis:// address: {0}; write redis://user:password@host:port")]
    Url(String),
    /// Cluster nodes have only one database that an address could select.
    #[error("this address names a node of the cluster, and takes no database: leave out {0:?}")]
    Database(String),
}

impl FromStr for Seed {
    type Err = NotAnAddress;

    fn from_str(text: &str) -> Result<Self, NotAnAddress> {
        if let Some(name) = text.strip_prefix('@') {
            return match is_cluster_name(name) {
                true => Ok(Self::of_cluster(name)),
                false => Err(NotAnAddress::ClusterName),
            };
        }
        match text.split_once("://") {
            Some((scheme, _)) if is_scheme(scheme) => from_url(text, scheme),
            // The text before the `://` may be part of a password: it is parsed as an address that holds one.
            _ => Ok(Self {
                addr: parse_addr(text)?,
                user: None,
                password: None,
                scheme: Scheme::None,
                cluster: None,
            }),
        }
    }
}

impl Seed {
    /// `@name`, before its nodes are known.
    fn of_cluster(name: &str) -> Self {
        Self {
            addr: Addr::new(&format!("@{name}"), DEFAULT_PORT),
            user: None,
            password: None,
            scheme: Scheme::None,
            cluster: Some(name.to_string()),
        }
    }
}

impl fmt::Display for Seed {
    /// As it is written on a command line, without login and scheme.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.cluster {
            Some(name) => write!(f, "@{name}"),
            None => self.addr.fmt(f),
        }
    }
}

/// Whether a text can name a cluster of the configuration file.
pub fn is_cluster_name(text: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    !text.is_empty() && text.len() <= 64 && !text.starts_with('-') && text.chars().all(is_plain)
}

/// RFC 3986, section 3.1.
fn is_scheme(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'))
}

fn from_url(text: &str, scheme: &str) -> Result<Seed, NotAnAddress> {
    let scheme = match scheme {
        "redis" | "valkey" => Scheme::Redis,
        "rediss" | "valkeys" => Scheme::Rediss,
        other => return Err(NotAnAddress::Scheme(other.to_string())),
    };
    let url = url::Url::parse(text).map_err(|error| NotAnAddress::Url(error.to_string()))?;
    // The host ends at the first `/`, `?` or `#`. An `@` after it was meant to end a password, whose rest precedes
    // it.
    let rest = [Some(url.path()), url.query(), url.fragment()];
    if rest.into_iter().flatten().any(|part| part.contains('@')) {
        return Err(NotAnAddress::NotEncoded);
    }
    if !matches!(url.path(), "" | "/" | "/0") {
        return Err(NotAnAddress::Database(url.path().to_string()));
    }
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    let port = url.port().unwrap_or(DEFAULT_PORT);
    let decode = |text: &str| {
        percent_encoding::percent_decode_str(text)
            .decode_utf8()
            .map(|text| text.into_owned())
            .map_err(|_| NotAnAddress::Url("the user is not UTF-8".to_string()))
    };
    // A password is any bytes.
    let password = url
        .password()
        .map(|text| percent_encoding::percent_decode_str(text).collect::<Vec<u8>>());
    let user = Some(url.username()).filter(|user| !user.is_empty());
    Ok(Seed {
        addr: checked(host, port)?,
        user: user.map(decode).transpose()?,
        password: password.map(SecretSlice::from),
        scheme,
        cluster: None,
    })
}

/// Reads `host:port`, `host` or `[v6]:port`, without a scheme.
pub fn parse_addr(text: &str) -> Result<Addr, NotAnAddress> {
    if text.is_empty() {
        return Err(NotAnAddress::Empty);
    }
    if text.contains('@') {
        return Err(NotAnAddress::Credentials);
    }
    if let Some(rest) = text.strip_prefix('[') {
        let (host, after) = rest
            .split_once(']')
            .ok_or_else(|| NotAnAddress::Brackets(text.to_string()))?;
        host.parse::<Ipv6Addr>()
            .map_err(|_| NotAnAddress::Host(host.to_string()))?;
        return match after.strip_prefix(':') {
            Some(port) => checked(host, parse_port(port, text)?),
            None if after.is_empty() => checked(host, DEFAULT_PORT),
            None => Err(NotAnAddress::Brackets(text.to_string())),
        };
    }
    match text.rsplit_once(':') {
        // `::1:7000` is a valid IPv6 address, but most likely not what was meant.
        Some((host, _)) if host.contains(':') => Err(NotAnAddress::Brackets(text.to_string())),
        Some((host, port)) => checked(host, parse_port(port, text)?),
        None => checked(text, DEFAULT_PORT),
    }
}

/// Parses a port, 1 to 65535; `text` is the whole address.
pub fn parse_port(port: &str, text: &str) -> Result<u16, NotAnAddress> {
    match port.parse() {
        Ok(number) if number != 0 && port.bytes().all(|c| c.is_ascii_digit()) => Ok(number),
        _ => Err(NotAnAddress::Port {
            port: port.to_string(),
            text: text.to_string(),
        }),
    }
}

fn checked(host: &str, port: u16) -> Result<Addr, NotAnAddress> {
    if host.is_empty() {
        return Err(NotAnAddress::Empty);
    }
    if host.bytes().all(|c| c.is_ascii_digit()) {
        return Err(NotAnAddress::Digits(host.to_string()));
    }
    let is_name = host
        .chars()
        .all(|c| c.is_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '%'));
    if !is_name || host.len() > 255 || host.starts_with('-') {
        return Err(NotAnAddress::Host(host.chars().take(80).collect()));
    }
    Ok(Addr::new(host, port))
}

/// The address at which a node is reached that announces another one: `--address-map PEER=DIAL`.
#[derive(Debug, Clone)]
pub struct AddressMapping {
    peer: Pattern,
    dial: Pattern,
}

/// A host without a port stands for all of its ports.
#[derive(Debug, Clone)]
struct Pattern {
    host: String,
    port: Option<u16>,
}

impl FromStr for AddressMapping {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (peer, dial) = text.split_once('=').ok_or_else(|| {
            format!("{text:?} is not PEER=DIAL, for example 10.0.0.3:6379=localhost:7001")
        })?;
        let (peer, dial) = (pattern(peer)?, pattern(dial)?);
        if peer.port.is_none() && dial.port.is_some() {
            return Err(format!(
                "{text:?} maps all ports of {} to one: give the port on both sides",
                peer.host
            ));
        }
        Ok(Self { peer, dial })
    }
}

fn pattern(text: &str) -> Result<Pattern, String> {
    let addr = parse_addr(text).map_err(|error| error.to_string())?;
    let has_port = addr.to_string() == text || text.ends_with(&format!(":{}", addr.port()));
    Ok(Pattern {
        host: addr.host().to_string(),
        port: has_port.then_some(addr.port()),
    })
}

impl AddressMapping {
    /// Returns the address to dial for an announced one, if the mapping covers it.
    pub fn apply(&self, peer: &Addr) -> Option<Addr> {
        replace(&self.peer, &self.dial, peer)
    }

    /// Returns the announced address for one that is dialled, if the mapping covers it.
    pub fn undo(&self, dial: &Addr) -> Option<Addr> {
        replace(&self.dial, &self.peer, dial)
    }
}

fn replace(from: &Pattern, to: &Pattern, addr: &Addr) -> Option<Addr> {
    let fits = from.host == addr.host() && from.port.is_none_or(|port| port == addr.port());
    fits.then(|| Addr::new(&to.host, to.port.unwrap_or(addr.port())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use secrecy::ExposeSecret;

    #[test]
    fn all_forms_of_an_address() {
        for (text, expected) in [
            ("127.0.0.1:7000", "127.0.0.1:7000"),
            ("redis.example", "redis.example:6379"),
            ("tasks.master:6379", "tasks.master:6379"),
            ("[::1]:7000", "[::1]:7000"),
            ("[fe80::1]", "[fe80::1]:6379"),
            ("redis://h:7000", "h:7000"),
            ("redis://h", "h:6379"),
            ("rediss://u:p@[::1]:7000/0", "[::1]:7000"),
            ("valkey://h", "h:6379"),
            ("valkeys://u:p@h:7000", "h:7000"),
        ] {
            let seed: Seed = text.parse().unwrap();
            assert_eq!(seed.addr.to_string(), expected, "{text}");
        }
    }

    #[test]
    fn credentials_of_an_address_are_decoded_and_not_shown() {
        let seed: Seed = "redis://ann:p%40ss%2Fw@h:7000".parse().unwrap();
        assert_eq!(seed.user.as_deref(), Some("ann"));
        assert_eq!(seed.password.as_ref().unwrap().expose_secret(), b"p@ss/w");
        assert!(!format!("{seed:?}").contains("p@ss"));
        let seed: Seed = "redis://:secret@h".parse().unwrap();
        assert_eq!(seed.user, None);
        assert_eq!(seed.password.unwrap().expose_secret(), b"secret");
        let seed: Seed = "redis://:%ff%00@h".parse().unwrap();
        assert_eq!(seed.password.unwrap().expose_secret(), b"\xff\x00");
    }

    #[test]
    fn typing_errors_are_named() {
        for (text, expected) in [
            ("", "empty"),
            (":7000", "empty"),
            ("7000", "\"7000\" is not a host: write 127.0.0.1:7000"),
            ("7000:7001", "\"7000\" is not a host"),
            ("h:0", "\"0\" is not a port"),
            ("h:70000", "\"70000\" is not a port"),
            ("h:+7", "\"+7\" is not a port"),
            ("h:", "\"\" is not a port"),
            ("::1:7000", "[::1]:7000"),
            ("::1", "[::1]:7000"),
            ("[::1", "ambiguous"),
            ("[zz]:1", "not a host name"),
            ("127.0.0.1;7000", "not a host name"),
            ("http://h", "http:// is not supported"),
            ("redis://h:99999", "not a redis:// address"),
            ("redis://h/3", "takes no database"),
            ("@", "as @prod"),
            ("@a/b", "as @prod"),
        ] {
            let error = text.parse::<Seed>().unwrap_err().to_string();
            assert!(error.contains(expected), "{text:?}: {error}");
        }
    }

    #[test]
    fn a_bad_address_with_a_password_does_not_show_it() {
        for text in [
            "redis://u:hush@h:99999",
            "ftp://u:hush@h",
            "redis://u:hush@h/9",
            "redis://u:hush@",
            "redis:/u:hush@h",
            "redis:/:hush@://",
            "redis://u:12/hush@h",
            "redis://u:12?hush@h",
            "redis://u:12#hush@h",
            "u:hush@h:7000",
        ] {
            let error = text.parse::<Seed>().unwrap_err().to_string();
            assert!(!error.contains("hush"), "{error}");
        }
    }

    proptest! {
        /// Every text is an address that parses to itself when printed, or a one-line error without the
        /// password.
        #[test]
        fn anything_is_an_address_or_an_error(
            text in prop_oneof![
                ".{0,60}",
                "(redis|rediss|http|redis\\+tls)?(://|:/|//|:)?[a-z:@/%\\[\\]0-9.?#]{0,40}",
                "[\\[\\]:.a-f0-9]{0,30}",
            ],
        ) {
            match text.parse::<Seed>() {
                Ok(seed) => {
                    let again: Seed = seed.to_string().parse().unwrap();
                    prop_assert_eq!(again.addr, seed.addr);
                }
                Err(error) => prop_assert!(!error.to_string().contains(char::is_control), "{error}"),
            }
            let _ = text.parse::<AddressMapping>();
        }

        #[test]
        fn no_error_shows_a_password(
            before in "(redis://|rediss://|http://|redis:/|)[a-z]{0,5}",
            start in "([0-9]{0,3}[/?#])?",
            after in "[a-z0-9:/.?#\\[\\]%]{0,12}",
        ) {
            let text = format!("{before}:{start}hunter2@{after}");
            if let Err(error) = text.parse::<Seed>() {
                prop_assert!(!error.to_string().contains("hunter2"), "{text}: {error}");
            }
            for text in [format!("{text}=h"), format!("h={text}")] {
                if let Err(error) = text.parse::<AddressMapping>() {
                    prop_assert!(!error.to_string().contains("hunter2"), "{text}: {error}");
                }
            }
        }
    }

    #[test]
    fn addresses_are_mapped() {
        let map: AddressMapping = "10.0.0.3:6379=localhost:7001".parse().unwrap();
        assert_eq!(
            map.apply(&Addr::new("10.0.0.3", 6379)),
            Some(Addr::new("localhost", 7001))
        );
        assert_eq!(map.apply(&Addr::new("10.0.0.3", 6380)), None);
        assert_eq!(
            map.undo(&Addr::new("localhost", 7001)),
            Some(Addr::new("10.0.0.3", 6379))
        );
        let map: AddressMapping = "10.0.0.3=gateway".parse().unwrap();
        assert_eq!(
            map.apply(&Addr::new("10.0.0.3", 6380)),
            Some(Addr::new("gateway", 6380))
        );
        assert!("10.0.0.3".parse::<AddressMapping>().is_err());
        assert!("10.0.0.3=h:1".parse::<AddressMapping>().is_err());
    }
}
