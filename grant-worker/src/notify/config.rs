//! Options of notifications.

use std::path::PathBuf;

use ipnet::IpNet;
use secrecy::SecretString;

/// How events are told outside.
#[derive(Debug, Clone, clap::Args)]
pub struct NotifyConfig {
    /// File with the keys that seal the secrets of webhooks: a line each, the one that seals first.
    /// `session-worker operator new-key` makes a line.
    #[arg(long, env = "BREAKGLASS_WEBHOOK_KEYS")]
    pub webhook_keys: PathBuf,
    /// Networks that are not public and to which webhooks may go all the same, over plain http as well.
    #[arg(
        long,
        env = "BREAKGLASS_ALLOW_PRIVATE_TARGETS",
        value_delimiter = ',',
        value_name = "CIDR"
    )]
    pub allow_private_targets: Vec<IpNet>,
    /// The mail server, as `smtps://user:password@host` or `smtp://user:password@host?tls=required`;
    /// absent: no mail is sent.
    #[arg(long, env = "BREAKGLASS_SMTP_URL", hide_env_values = true, requires = "mail_from")]
    pub smtp_url: Option<SecretString>,
    /// From whom mail comes, as `Breakglass <breakglass@example.com>`.
    #[arg(long, env = "BREAKGLASS_MAIL_FROM")]
    pub mail_from: Option<String>,
    /// Where people reach the gateway, `https://breakglass.example.com`: the first part of links.
    #[arg(long, env = "BREAKGLASS_PUBLIC_URL")]
    pub public_url: Option<String>,
}
