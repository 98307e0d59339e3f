//! Passwords and certificates, from options, files, the environment and the terminal.

use std::path::Path;

use anyhow::Context;
use secrecy::SecretSlice;

use super::password_command;
use crate::args::global::GlobalArgs;
use crate::args::named::password_variable;
use crate::args::values::bytes_of;
use crate::client::{Login, TlsClient, TlsOptions, Transport};
use crate::config::PasswordSource;
use crate::connections::DialOptions;
use crate::seed::{Scheme, Seed};
use crate::session::ResumeFlags;
use crate::stop::Stop;
use crate::ui::{PromptError, Ui};

/// Passwords and certificates of the command line. They are read once: a password is asked for once, however often
/// the seeds are resolved.
pub(crate) struct Credentials {
    login: Login,
    tls: Option<TlsClient>,
}

impl Credentials {
    /// Reads files, the environment and, with `--askpass`, the terminal.
    pub(crate) async fn read(global: &GlobalArgs, ui: &Ui, seeds: &[Seed]) -> Result<Self, Stop> {
        // Files first: a password is asked for only if everything else is right.
        let tls = tls(global, seeds)?;
        let login = login(global, ui).await?;
        Ok(Self { login, tls })
    }

    /// How a seed is dialled. The credentials of its address take precedence over those of the command line.
    pub(super) fn dial_options(&self, global: &GlobalArgs, seed: &Seed) -> DialOptions {
        let Login { user, password } = self.login.clone();
        DialOptions {
            login: match (&seed.user, &seed.password) {
                (None, None) => Login { user, password },
                // `redis://ann@host`: the password comes from the command line.
                (Some(seed_user), None) => Login {
                    user: Some(seed_user.clone()),
                    password,
                },
                (seed_user, Some(seed_password)) => Login {
                    user: seed_user.clone(),
                    password: Some(seed_password.clone()),
                },
            },
            transport: self.transport(global, seed),
        }
    }

    /// Plain or TLS.
    pub(crate) fn transport(&self, global: &GlobalArgs, seed: &Seed) -> Transport {
        match (&self.tls, seed.scheme) {
            (Some(tls), Scheme::Rediss) => Transport::Tls(tls.clone()),
            (Some(tls), Scheme::None) if global.tls => Transport::Tls(tls.clone()),
            _ => Transport::Plain,
        }
    }
}

/// Options that a resuming command line repeats. Such a line names nodes by host and port, so it needs options for what
/// the address of the first seed said.
pub(crate) fn resume_flags(global: &GlobalArgs, seeds: &[Seed]) -> ResumeFlags {
    let mut flags = global.resume.clone();
    let Some(seed) = seeds.first() else {
        return flags;
    };
    // The settings of the file follow the name.
    if let Some(name) = &seed.cluster {
        flags.cluster = Some(name.clone());
        return flags;
    }
    if let Some(name) = global.cluster_name() {
        flags.add_settings_of(name);
    }
    // The login of an address takes precedence, as in `Credentials::dial_options`.
    let mut replaced = Vec::new();
    if seed.user.is_some() || seed.password.is_some() {
        replaced.push("--user");
    }
    if seed.password.is_some() {
        replaced.push("--pass-file");
    }
    for flag in replaced {
        if let Some(place) = flags.reach.iter().position(|word| word == flag) {
            flags.reach.drain(place..(place + 2).min(flags.reach.len()));
        }
    }
    let mut add = |flag: &str, value: Option<&String>| {
        if !flags.reach.iter().any(|word| word == flag) {
            flags.reach.push(flag.to_string());
            flags.reach.extend(value.cloned());
        }
    };
    if seed.scheme == Scheme::Rediss {
        add("--tls", None);
    }
    if seed.user.is_some() {
        add("--user", seed.user.as_ref());
    }
    if seed.password.is_some() {
        add("--askpass", None);
    }
    flags
}

/// The credentials of the command line or the environment, for seeds without their own.
async fn login(global: &GlobalArgs, ui: &Ui) -> Result<Login, Stop> {
    let password = if let Some(pass) = &global.pass {
        Some(SecretSlice::from(pass.clone().into_encoded_bytes()))
    } else if let Some(file) = &global.pass_file {
        Some(password_of("--pass-file", file).map_err(Stop::usage)?)
    } else if global.askpass {
        let instead = "--pass-file and REDISCLI_AUTH need no terminal";
        Some(ask_password(ui, "Password", "--askpass", instead).await?)
    } else if let Some(password) = password_variable() {
        Some(SecretSlice::from(password.into_encoded_bytes()))
    } else {
        configured(global).await?
    };
    Ok(Login {
        user: global.user.clone(),
        password,
    })
}

/// The password that the configuration file gives.
async fn configured(global: &GlobalArgs) -> Result<Option<SecretSlice<u8>>, Stop> {
    let about = |key: &str| format!("{key} of @{}", global.cluster_name().unwrap_or_default());
    Ok(match global.configured_password() {
        None => None,
        Some(PasswordSource::Text(password)) => Some(password.clone()),
        Some(PasswordSource::File(file)) => {
            Some(password_of(&about("pass_file"), file).map_err(Stop::usage)?)
        }
        Some(PasswordSource::Command(command)) => {
            let password = password_command::run(command).await;
            let password = password.with_context(|| about("pass_command"));
            Some(password.map_err(Stop::usage)?)
        }
    })
}

/// Asks for the password that `flag` stands for. `instead` names options that need no terminal.
pub(super) async fn ask_password(
    ui: &Ui,
    question: &str,
    flag: &str,
    instead: &str,
) -> Result<SecretSlice<u8>, Stop> {
    ui.password(question).await.map_err(|error| match error {
        PromptError::Interrupted => super::interrupted("SIGINT"),
        error => Stop::usage(anyhow::anyhow!("{flag}: {error}; {instead}")),
    })
}

/// The first line of the file that a flag names.
pub(crate) fn password_of(flag: &str, file: &Path) -> anyhow::Result<SecretSlice<u8>> {
    let bytes =
        bytes_of(file).with_context(|| format!("{flag} {}: can't be read", file.display()))?;
    first_line(&bytes)
        .with_context(|| format!("{flag} {}: its first line is empty", file.display()))
}

/// The first line, if it is not empty.
pub(super) fn first_line(bytes: &[u8]) -> Option<SecretSlice<u8>> {
    let line = bytes.split(|byte| *byte == b'\n').next()?;
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    (!line.is_empty()).then(|| SecretSlice::from(line.to_vec()))
}

/// The TLS client, if an option or an address asks for TLS.
fn tls(global: &GlobalArgs, seeds: &[Seed]) -> Result<Option<TlsClient>, Stop> {
    let options = TlsOptions {
        ca_file: global.cacert.clone(),
        ca_dir: global.cacertdir.clone(),
        cert: global.cert.clone(),
        key: global.key.clone(),
        sni: global.sni.clone(),
        verify: global.verify(),
    };
    if global.tls || seeds.iter().any(|seed| seed.scheme == Scheme::Rediss) {
        return TlsClient::new(&options).map(Some).map_err(Stop::usage);
    }
    let named = [
        (options.ca_file.is_some(), "--cacert"),
        (options.ca_dir.is_some(), "--cacertdir"),
        (options.cert.is_some(), "--cert"),
        (options.key.is_some(), "--key"),
        (options.sni.is_some(), "--sni"),
        (global.insecure, "--insecure"),
    ];
    match named.iter().find(|(given, _)| *given) {
        Some((_, flag)) => Err(Stop::usage(anyhow::anyhow!(
            "{flag} needs TLS: add --tls, or write addresses as rediss://host:port"
        ))),
        None => Ok(None),
    }
}
