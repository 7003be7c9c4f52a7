//! Tokens. The gateway makes them and hands them to the client; only their hash is ever stored or
//! travels on the bus.

use std::{fmt, str::FromStr};

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD as BASE64},
};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::random;

/// The text is not a token of this kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a token of this kind")]
pub struct InvalidToken;

macro_rules! tokens {
    ($($(#[$doc:meta])* $name:ident = $prefix:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq)]
        pub struct $name(String);

        impl $name {
            /// A new random one.
            #[must_use]
            pub fn generate() -> Self {
                Self(format!("{}{}", $prefix, BASE64.encode(random::bytes::<32>())))
            }

            /// What may be stored and sent.
            #[must_use]
            pub fn hash(&self) -> TokenHash {
                TokenHash(Sha256::digest(self.0.as_bytes()).into())
            }

            /// The text that the client keeps. For the client alone.
            #[must_use]
            pub fn expose(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidToken;
            fn from_str(text: &str) -> Result<Self, InvalidToken> {
                let random = text.strip_prefix($prefix).ok_or(InvalidToken)?;
                // Decoding refuses trailing bits that are not zero, so each token has one spelling.
                match BASE64.decode(random) {
                    Ok(bytes) if bytes.len() == 32 => Ok(Self(text.to_owned())),
                    _ => Err(InvalidToken),
                }
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($name), "(…)"))
            }
        }
    )*};
}

tokens! {
    /// A session token: `bgs_` and 256 random bits in base64url. Never logged.
    Token = "bgs_";
    /// What a sign-in goes on with that waits for a code: `bgc_` and 256 random bits. Never logged.
    Challenge = "bgc_";
    /// With what a user sets a password, once: `bgp_` and 256 random bits. Never logged.
    PasswordToken = "bgp_";
}

/// A new secret with which a webhook is signed, as Standard Webhooks spell it: `whsec_` and 256 random
/// bits in base64.
#[must_use]
pub fn webhook_secret() -> SecretString {
    format!("whsec_{}", STANDARD.encode(random::bytes::<32>())).into()
}

/// SHA-256 of a token.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TokenHash(pub [u8; 32]);

impl From<TokenHash> for String {
    fn from(hash: TokenHash) -> Self {
        BASE64.encode(hash.0)
    }
}

impl TryFrom<String> for TokenHash {
    type Error = InvalidToken;
    fn try_from(text: String) -> Result<Self, InvalidToken> {
        let bytes = BASE64.decode(text).map_err(|_| InvalidToken)?;
        bytes.try_into().map(Self).map_err(|_| InvalidToken)
    }
}

impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenHash(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_parses_back_and_nothing_near_it_does() {
        let token = Token::generate();
        let text = token.expose();
        assert_eq!(text.len(), 4 + 43);
        assert_eq!(text.parse(), Ok(token.clone()));
        for bad in ["", "bgs_", &text[..46], &format!("{text}A"), &text.replace("bgs_", "bgx_")] {
            assert!(bad.parse::<Token>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_token_is_never_printed() {
        let token = Token::generate();
        assert!(!format!("{token:?}").contains(token.expose()));
        assert!(!format!("{:?}", token.hash()).contains(&String::from(token.hash())));
    }
}
