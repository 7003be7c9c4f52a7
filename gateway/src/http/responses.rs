//! What calls may be refused with, by kind of call, for the document of the API.

use std::collections::BTreeMap;

use utoipa::{
    IntoResponses,
    openapi::{ContentBuilder, HeaderBuilder, Ref, RefOr, Response, ResponseBuilder},
};

use super::problem;

macro_rules! problems {
    ($($(#[$doc:meta])* $name:ident { $($status:literal: $description:literal,)* })*) => {$(
        $(#[$doc])*
        pub(super) struct $name;

        impl IntoResponses for $name {
            fn responses() -> BTreeMap<String, RefOr<Response>> {
                BTreeMap::from([$(($status.to_owned(), problem_response($status, $description)),)*])
            }
        }
    )*};
}

problems! {
    /// What any call on behalf of somebody may be refused with.
    Signed {
        "400": "The request is malformed (`bad-request`).",
        "401": "No token, or none with a live session (`unauthenticated`).",
        "403": "Not permitted (`forbidden`), from another site (`csrf`), or the session may only \
                enrol a second factor (`enrollment-required`).",
        "500": "A fault of ours (`internal`).",
        "503": "A component is out of reach (`unavailable`).",
    }
    /// What a call with a body may be refused with as well.
    WithBody {
        "413": "The body is over 64 KiB (`payload-too-large`).",
    }
    /// What a call about one object may be refused with as well.
    About {
        "404": "There is no such object for the caller (`not-found`).",
    }
    /// What signing in may be refused with.
    SigningIn {
        "400": "The request is malformed (`bad-request`).",
        "401": "Wrong tenant, email, password, challenge or code (`invalid-credentials`).",
        "403": "From another site (`csrf`).",
        "413": "The body is over 64 KiB (`payload-too-large`).",
        "429": "Too many failed attempts, or from this address (`too-many-attempts`).",
        "500": "A fault of ours (`internal`).",
        "503": "A component is out of reach (`unavailable`).",
    }
    /// What a call that wants password or code may be refused with as well.
    Proving {
        "401": "No live session (`unauthenticated`), or password or code are wrong (`invalid-credentials`).",
        "403": "Not permitted (`forbidden`), a code is wanted (`fresh-mfa-required`), from another site \
                (`csrf`), or the session may only enrol a second factor (`enrollment-required`).",
        "429": "Too many failed attempts, or from this address (`too-many-attempts`).",
    }
    /// What setting a password may be refused with as well.
    SettingPassword {
        "422": "Too short, too long, or too well known (`password-too-weak`).",
    }
    /// What a change may be refused with because of how things stand.
    Conflicting {
        "409": "The state does not allow it (`conflict`, `last-admin`, `mfa-required-by-policy`).",
    }
    /// What a request for a grant may be refused with as well.
    Requesting {
        "403": "Not permitted (`forbidden`), not by the policy (`not-a-requester`), an earlier use has to \
                be reviewed first (`review-overdue`), a code is wanted, or the one that came does not \
                count (`fresh-mfa-required`), from another site (`csrf`), or the session may only enrol \
                a second factor (`enrollment-required`).",
        "409": "As many grants as the policy allows (`too-many-active`), the one to be extended has ended \
                (`grant-ended`), or another conflict (`conflict`).",
        "422": "The reason is missing (`reason-required`) or says too little (`reason-too-weak`), or \
                the policy does not allow the duration (`duration-too-long`), or the ticket is not one \
                (`ticket-invalid`).",
        "429": "Too soon after the last grant (`cooling-down`), or too many wrong codes \
                (`too-many-attempts`).",
    }
    /// What a decision about somebody's request or use may be refused with as well.
    Deciding {
        "403": "Not permitted, by role or policy (`forbidden`), one's own (`self-approval`), from \
                another site (`csrf`), or the session may only enrol a second factor \
                (`enrollment-required`).",
        "409": "Decided already (`already-decided`), another request than the one that was seen \
                (`request-changed`), ended already (`grant-ended`), the requester holds too many grants \
                (`too-many-active`), or another conflict, such as a policy that has changed (`conflict`).",
        "422": "A note is missing (`reason-required`), or no time is left that the policy allows \
                (`duration-too-long`).",
    }
    /// What `/authorize` may refuse with.
    Authorizing {
        "400": "The query demands something unknown (`bad-request`).",
        "401": "No token, or none with a live session (`unauthenticated`).",
        "403": "Short of what is demanded (`forbidden`), or the session may only enrol a second factor \
                (`enrollment-required`).",
        "500": "A fault of ours (`internal`).",
        "503": "This edge has no lease (`edge-fenced`), or the session could not be looked up \
                (`unavailable`).",
    }
    /// What a stream of events may be refused with.
    Streaming {
        "400": "The request is malformed (`bad-request`).",
        "401": "No token, or none with a live session (`unauthenticated`).",
        "403": "The session may only enrol a second factor (`enrollment-required`).",
        "429": "The session has as many streams as it may have (`too-many-attempts`).",
        "500": "A fault of ours (`internal`).",
        "503": "This edge has no lease (`edge-fenced`), the session could not be looked up, or there are as \
                many streams here as there may be (`unavailable`).",
    }
    /// What a probe for readiness may be refused with.
    NotReady {
        "503": "No bus (`unavailable`) or no lease (`edge-fenced`).",
    }
    /// What the end of a grant may be refused with as well.
    Ended {
        "409": "The grant has ended already (`grant-ended`).",
    }
}

/// A response that holds a problem document.
pub(super) fn problem_response(status: &str, description: &str) -> RefOr<Response> {
    let content = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build();
    let response =
        ResponseBuilder::new().description(description).content(problem::MEDIA_TYPE, content);
    let header = |text| HeaderBuilder::new().description(Some(text)).build();
    let response = match status {
        "401" => response.header("WWW-Authenticate", header("Always `Bearer`.")),
        "429" | "503" => {
            response.header("Retry-After", header("Seconds after which to try again."))
        }
        _ => response,
    };
    response.build().into()
}
