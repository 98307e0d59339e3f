//! The login at the source of keys: that of the cluster is never sent there.

use std::sync::Arc;

use secrecy::SecretSlice;

use super::credentials::{Credentials, password_of};
use super::{Change, Global, Look};
use crate::args::source::SourceArgs;
use crate::client::Login;
use crate::connections::{DialOptions, Target};
use crate::stop::Stop;

/// The question of `--from-askpass`, the flag, and what needs no terminal.
const ASKING: [&str; 3] = [
    "Password of the source",
    "--from-askpass",
    "--from-pass-file needs no terminal",
];

impl SourceArgs {
    /// The source of a command that changes nodes.
    pub(crate) async fn of_change(
        &self,
        global: &Global,
        change: &mut Change<'_>,
    ) -> Result<Target, Stop> {
        let asked = match self.from_askpass {
            true => Some(change.password(ASKING[0], ASKING[1], ASKING[2]).await?),
            false => None,
        };
        self.target(global, change.credentials(), asked)
    }

    /// The source of a command that reads.
    pub(crate) async fn of_look(
        &self,
        global: &Global,
        look: &mut Look<'_>,
    ) -> Result<Target, Stop> {
        let asked = match self.from_askpass {
            true => Some(look.password(ASKING[0], ASKING[1], ASKING[2]).await?),
            false => None,
        };
        self.target(global, look.credentials(), asked)
    }

    fn target(
        &self,
        global: &Global,
        credentials: &Credentials,
        asked: Option<SecretSlice<u8>>,
    ) -> Result<Target, Stop> {
        let seed = self.server()?;
        let password = if let Some(password) = &self.from_pass {
            Some(SecretSlice::from(password.clone().into_encoded_bytes()))
        } else if let Some(file) = &self.from_pass_file {
            Some(password_of("--from-pass-file", file).map_err(Stop::usage)?)
        } else {
            asked
        };
        let login = Login {
            user: seed.user.clone().or_else(|| self.from_user.clone()),
            password: seed.password.clone().or(password),
        };
        let transport = credentials.transport(&global.args, seed);
        Ok(Target {
            addr: seed.addr.clone(),
            node: None,
            access: Arc::new(DialOptions { login, transport }),
        })
    }
}
