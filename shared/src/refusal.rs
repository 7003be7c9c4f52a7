//! Why a request was refused, in words that travel: over the bus, then as a problem document
//! (RFC 9457) over HTTP.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $text:literal, $status:literal, $title:literal;)*) => {
        /// A stable, machine-readable reason.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
        #[serde(rename_all = "kebab-case")]
        pub enum Code { $($(#[$doc])* $name,)* }

        /// All codes.
        pub const CODES: &[Code] = &[$(Code::$name,)*];

        impl Code {
            /// The code as clients see it: kebab-case.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
            /// The HTTP status that goes with it.
            #[must_use]
            pub const fn status(self) -> u16 {
                match self { $(Self::$name => $status,)* }
            }
            /// A short summary, the same for every occurrence.
            #[must_use]
            pub const fn title(self) -> &'static str {
                match self { $(Self::$name => $title,)* }
            }
        }
    };
}

codes! {
    /// The request is malformed.
    BadRequest = "bad-request", 400, "The request is malformed";
    /// No valid session.
    Unauthenticated = "unauthenticated", 401, "Sign in first";
    /// Wrong tenant, email or password.
    InvalidCredentials = "invalid-credentials", 401, "Wrong credentials";
    /// The permission is missing.
    Forbidden = "forbidden", 403, "Not permitted";
    /// A cookie came with a request from elsewhere.
    Csrf = "csrf", 403, "Cross-site request refused";
    /// The session can only enrol a second factor.
    EnrollmentRequired = "enrollment-required", 403, "Set up two-factor sign-in first";
    /// A code of the second factor is wanted with this very request.
    FreshMfaRequired = "fresh-mfa-required", 403, "A fresh code is required";
    /// The policy lets other roles ask.
    NotARequester = "not-a-requester", 403, "Your role may not request emergency access";
    /// It is one's own: others decide about it.
    SelfApproval = "self-approval", 403, "Others have to decide about this";
    /// The use of an earlier grant was not reviewed in time.
    ReviewOverdue = "review-overdue", 403, "An earlier use has to be reviewed first";
    /// There is no such object for the caller.
    NotFound = "not-found", 404, "Not found";
    /// The route exists, the method does not.
    MethodNotAllowed = "method-not-allowed", 405, "Method not allowed";
    /// The state does not allow it.
    Conflict = "conflict", 409, "Conflict with the current state";
    /// The policy requires a second factor of this role.
    MfaRequiredByPolicy = "mfa-required-by-policy", 409, "The policy requires a second factor";
    /// It would leave the tenant without an admin.
    LastAdmin = "last-admin", 409, "The last admin stays";
    /// Somebody decided about it already.
    AlreadyDecided = "already-decided", 409, "It is decided already";
    /// It is another request than the one that was seen.
    RequestChanged = "request-changed", 409, "The request is another one than you saw";
    /// The grant has ended already.
    GrantEnded = "grant-ended", 409, "The grant has ended";
    /// The user has as many active grants as the policy allows.
    TooManyActive = "too-many-active", 409, "Too many active grants";
    /// The body is over 64 KiB.
    PayloadTooLarge = "payload-too-large", 413, "The body is too large";
    /// There is no reason.
    ReasonRequired = "reason-required", 422, "A reason is required";
    /// The reason says too little.
    ReasonTooWeak = "reason-too-weak", 422, "The reason says too little";
    /// The ticket is not one.
    TicketInvalid = "ticket-invalid", 422, "The ticket is not valid";
    /// Longer than the policy allows.
    DurationTooLong = "duration-too-long", 422, "The duration is not allowed";
    /// Too short, too long, or too well known.
    PasswordTooWeak = "password-too-weak", 422, "The password is too weak";
    /// Too many failed attempts.
    TooManyAttempts = "too-many-attempts", 429, "Too many attempts";
    /// It is too soon after the end of the last grant.
    CoolingDown = "cooling-down", 429, "Too soon after the last grant";
    /// A fault of ours.
    Internal = "internal", 500, "Internal error";
    /// A component is out of reach.
    Unavailable = "unavailable", 503, "Temporarily unavailable";
    /// This edge holds no lease.
    EdgeFenced = "edge-fenced", 503, "This edge is cut off and does not decide";
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A refusal: a code, what it means here, and when to try again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{code}: {detail}")]
pub struct Refusal {
    /// The stable reason.
    pub code: Code,
    /// What the client can read and do something about. Says nothing about the inside.
    pub detail: String,
    /// Seconds after which to try again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<u32>,
}

impl Refusal {
    /// A refusal with its explanation.
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into(), retry_after: None }
    }

    /// A component is out of reach; try again in a second.
    #[must_use]
    pub fn unavailable() -> Self {
        Self {
            code: Code::Unavailable,
            detail: "A component that this needs is out of reach. Look whether it took effect, then try again."
                .to_owned(),
            retry_after: Some(1),
        }
    }

    /// No valid session.
    #[must_use]
    pub fn unauthenticated() -> Self {
        Self::new(Code::Unauthenticated, "There is no valid session with this request.")
    }

    /// The session can do nothing but set up a second factor.
    #[must_use]
    pub fn enrollment_required() -> Self {
        Self::new(
            Code::EnrollmentRequired,
            "Your organisation requires two-factor sign-in. Until it is set up, this session can do nothing else.",
        )
    }

    /// The object does not exist for the caller.
    #[must_use]
    pub fn not_found() -> Self {
        Self::new(Code::NotFound, "There is no such object.")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_in_json_is_its_text() {
        for code in CODES {
            assert_eq!(serde_json::to_value(code).expect("serializes"), code.as_str());
        }
    }
}
