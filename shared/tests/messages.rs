//! The JSON of every message of version 1 is frozen: what is deployed must understand what is not
//! yet, and the reverse.

use std::fmt::Debug;

use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value, json};
use shared::{
    message::{
        Outcome, Request, account, audit, edge, grant, mfa, notification, revocation, session, user,
    },
    refusal::Refusal,
};

const FROZEN: &str = include_str!("messages-v1.json");

/// Each frozen example must parse, and be written back as it was, unknown fields aside.
fn check<T: Serialize + DeserializeOwned + Debug>(
    frozen: &Map<String, Value>,
    name: &str,
    seen: &mut Vec<String>,
) {
    let example = frozen.get(name).unwrap_or_else(|| panic!("no frozen example of {name}"));
    let message: T =
        serde_json::from_value(example.clone()).unwrap_or_else(|e| panic!("{name}: {e}"));
    assert_eq!(&serde_json::to_value(&message).expect("serializes"), example, "{name}");
    let mut extended = example.clone();
    // An outcome is told apart by its one key.
    if let (Value::Object(fields), false) = (&mut extended, name.starts_with("outcome")) {
        fields.insert("field_of_a_later_version".to_owned(), json!(1));
        serde_json::from_value::<T>(extended)
            .unwrap_or_else(|e| panic!("{name} with a later field: {e}"));
    }
    seen.push(name.to_owned());
}

fn check_request<R: Request + Debug>(frozen: &Map<String, Value>, seen: &mut Vec<String>)
where
    R::Reply: Debug,
{
    let path = R::SUBJECT.path();
    check::<R>(frozen, path, seen);
    check::<R::Reply>(frozen, &format!("{path} → reply"), seen);
}

#[test]
fn messages_of_version_1_are_frozen() {
    let frozen: Map<String, Value> = serde_json::from_str(FROZEN).expect("the examples are JSON");
    let mut seen = Vec::new();
    check_request::<edge::Join>(&frozen, &mut seen);
    check_request::<edge::Renew>(&frozen, &mut seen);
    check_request::<edge::Leave>(&frozen, &mut seen);
    check::<edge::Ack>(&frozen, "edge.ack", &mut seen);
    check::<revocation::Broadcast>(&frozen, "revocation.broadcast", &mut seen);
    check_request::<revocation::Since>(&frozen, &mut seen);
    check_request::<revocation::Enforce>(&frozen, &mut seen);
    check_request::<revocation::GetReceipt>(&frozen, &mut seen);
    check_request::<edge::ListEdges>(&frozen, &mut seen);
    check_request::<session::SignIn>(&frozen, &mut seen);
    check_request::<session::SignInMfa>(&frozen, &mut seen);
    check_request::<session::SignOut>(&frozen, &mut seen);
    check_request::<session::Resolve>(&frozen, &mut seen);
    check_request::<session::List>(&frozen, &mut seen);
    check_request::<session::Revoke>(&frozen, &mut seen);
    check_request::<session::RevokeAll>(&frozen, &mut seen);
    check_request::<session::Touch>(&frozen, &mut seen);
    check_request::<account::Me>(&frozen, &mut seen);
    check_request::<user::ChangePassword>(&frozen, &mut seen);
    check_request::<user::SetPassword>(&frozen, &mut seen);
    check_request::<user::ForgotPassword>(&frozen, &mut seen);
    check_request::<user::ListUsers>(&frozen, &mut seen);
    check_request::<user::GetUser>(&frozen, &mut seen);
    check_request::<user::CreateUser>(&frozen, &mut seen);
    check_request::<user::ChangeUser>(&frozen, &mut seen);
    check_request::<user::ResetPassword>(&frozen, &mut seen);
    check_request::<mfa::Enroll>(&frozen, &mut seen);
    check_request::<mfa::Confirm>(&frozen, &mut seen);
    check_request::<mfa::Disable>(&frozen, &mut seen);
    check_request::<mfa::RenewBackupCodes>(&frozen, &mut seen);
    check_request::<mfa::Reset>(&frozen, &mut seen);
    check_request::<mfa::GetPolicy>(&frozen, &mut seen);
    check_request::<mfa::GetPolicyReach>(&frozen, &mut seen);
    check_request::<mfa::SetPolicy>(&frozen, &mut seen);
    check_request::<mfa::Deadline>(&frozen, &mut seen);
    check_request::<audit::ListAudit>(&frozen, &mut seen);
    check_request::<audit::ExportAudit>(&frozen, &mut seen);
    check_request::<audit::GetHead>(&frozen, &mut seen);
    check_request::<grant::RequestGrant>(&frozen, &mut seen);
    check_request::<grant::ListGrants>(&frozen, &mut seen);
    check_request::<grant::GetGrant>(&frozen, &mut seen);
    check_request::<grant::RevokeGrant>(&frozen, &mut seen);
    check_request::<grant::ExpireGrants>(&frozen, &mut seen);
    check_request::<grant::ExtendGrant>(&frozen, &mut seen);
    check_request::<grant::DecideGrant>(&frozen, &mut seen);
    check_request::<grant::CancelGrant>(&frozen, &mut seen);
    check_request::<grant::ReviewGrant>(&frozen, &mut seen);
    check_request::<grant::GetEmergencyPolicy>(&frozen, &mut seen);
    check_request::<grant::SetEmergencyPolicy>(&frozen, &mut seen);
    check_request::<grant::WarnOfEnd>(&frozen, &mut seen);
    check_request::<grant::RemindOfReview>(&frozen, &mut seen);
    check_request::<grant::GetEvidence>(&frozen, &mut seen);
    check_request::<grant::RecordActions>(&frozen, &mut seen);
    check_request::<mfa::VerifyCode>(&frozen, &mut seen);
    check::<notification::Happened>(&frozen, "event", &mut seen);
    check_request::<notification::ListEndpoints>(&frozen, &mut seen);
    check_request::<notification::GetEndpoint>(&frozen, &mut seen);
    check_request::<notification::CreateEndpoint>(&frozen, &mut seen);
    check_request::<notification::ChangeEndpoint>(&frozen, &mut seen);
    check_request::<notification::DeleteEndpoint>(&frozen, &mut seen);
    check_request::<notification::RotateSecret>(&frozen, &mut seen);
    check_request::<notification::TestEndpoint>(&frozen, &mut seen);
    check_request::<notification::ListDeliveries>(&frozen, &mut seen);
    check_request::<notification::RetryDelivery>(&frozen, &mut seen);
    check_request::<user::IssueReset>(&frozen, &mut seen);
    check::<Outcome<grant::Told>>(&frozen, "outcome ok", &mut seen);
    check::<Outcome<grant::Told>>(&frozen, "outcome refused", &mut seen);
    check::<Refusal>(&frozen, "refusal", &mut seen);
    let unused: Vec<_> = frozen.keys().filter(|name| !seen.contains(name)).collect();
    assert!(unused.is_empty(), "examples of nothing: {unused:?}");
}
