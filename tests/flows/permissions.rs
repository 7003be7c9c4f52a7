//! Who may do what to which object: every route of the gateway's own document, every kind of
//! caller, every kind of object.
//!
//! Each cell plays in tenants of its own, with fresh sessions and grants. A refused call must have
//! changed nothing, an allowed one exactly what its row says.

mod stage;

use std::collections::BTreeSet;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use reqwest::Method;
use serde_json::{Value, json};
use shared::role::Role;
use tests::{Answer, World};

use self::stage::{Caller, Stage};
use crate::problem::assert_problem;

/// What is called upon: for routes with ids, whose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Object {
    Nothing,
    /// The caller's: their other session, their grant, themselves.
    Own,
    /// Of another user of the same tenant.
    Colleagues,
    /// Of a user of another tenant.
    Strangers,
    /// An id that nothing has.
    Nobodys,
    /// The caller's grant, ended before.
    OwnPast,
    /// The colleague's grant, ended before.
    ColleaguesPast,
    /// The stranger's grant, ended before.
    StrangersPast,
    /// The caller's request, which waits for approval.
    OwnPending,
    /// The colleague's request, which waits for approval.
    ColleaguesPending,
    /// The stranger's request, which waits for approval.
    StrangersPending,
    /// The colleague's session, named as the caller's.
    ColleaguesAsOwn,
    /// The stranger's session, named as the colleague's.
    StrangersAsColleagues,
}

/// What an allowed call does. All else stays as it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Effect {
    /// Nothing; the answer has this field (none, if it is empty).
    Shows(&'static str),
    /// The answer has a token that works.
    Opens,
    /// The session that calls ends.
    EndsCaller,
    /// The caller's other session ends.
    EndsOther,
    /// The object, a session, ends.
    EndsSession,
    /// All sessions of the object, a user, end.
    EndsUser,
    /// The caller has one more active grant.
    Grants,
    /// The object, a grant, ends.
    EndsGrant,
    /// The object, a request, becomes active.
    Activates,
    /// The object, a grant, is replaced by another one.
    Extends,
    /// The object, a request, ends in this state, and no right changes.
    Moves(&'static str),
    /// The rights of many are looked at again.
    Revises,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cell {
    Ok(u16),
    No(u16, &'static str),
}

/// One route and object, with a cell for each of [`stage::CALLERS`].
#[derive(Debug, Clone, Copy)]
struct Row(&'static str, Object, Effect, [Cell; 7]);

use Cell::{No, Ok as Yes};
use Effect::{
    Activates, EndsCaller, EndsGrant, EndsOther, EndsSession, EndsUser, Extends, Grants, Moves,
    Opens, Revises, Shows,
};
use Object::{
    Colleagues, ColleaguesAsOwn, ColleaguesPast, ColleaguesPending, Nobodys, Nothing, Own, OwnPast,
    OwnPending, Strangers, StrangersAsColleagues, StrangersPast, StrangersPending,
};

const OKAY: Cell = Yes(200);
const MADE: Cell = Yes(201);
const NOTE: Cell = Yes(202);
const GONE: Cell = Yes(204);
const WHO_: Cell = No(401, "unauthenticated");
const DENY: Cell = No(403, "forbidden");
const NONE: Cell = No(404, "not-found");
const BADC: Cell = No(401, "invalid-credentials");
const OVER: Cell = No(409, "grant-ended");
const SELF: Cell = No(409, "conflict");
const MINE: Cell = No(403, "self-approval");
const DONE: Cell = No(409, "already-decided");

#[rustfmt::skip]
const TABLE: &[Row] = &[
    //                                                                                                  nobody garbage dead  member manager admin elevated
    Row("GET /healthz",                                Nothing,               Shows(""),              [OKAY, OKAY, OKAY, OKAY, OKAY, OKAY, OKAY]),
    Row("GET /readyz",                                 Nothing,               Shows(""),              [OKAY, OKAY, OKAY, OKAY, OKAY, OKAY, OKAY]),
    Row("GET /openapi.json",                           Nothing,               Shows("paths"),         [OKAY, OKAY, OKAY, OKAY, OKAY, OKAY, OKAY]),

    Row("GET /authorize",                              Nothing,               Shows(""),              [WHO_, WHO_, WHO_, OKAY, OKAY, OKAY, OKAY]),
    Row("HEAD /authorize",                             Nothing,               Shows(""),              [WHO_, WHO_, WHO_, OKAY, OKAY, OKAY, OKAY]),
    Row("POST /authorize",                             Nothing,               Shows(""),              [WHO_, WHO_, WHO_, OKAY, OKAY, OKAY, OKAY]),
    Row("PUT /authorize",                              Nothing,               Shows(""),              [WHO_, WHO_, WHO_, OKAY, OKAY, OKAY, OKAY]),
    Row("PATCH /authorize",                            Nothing,               Shows(""),              [WHO_, WHO_, WHO_, OKAY, OKAY, OKAY, OKAY]),
    Row("DELETE /authorize",                           Nothing,               Shows(""),              [WHO_, WHO_, WHO_, OKAY, OKAY, OKAY, OKAY]),
    Row("OPTIONS /authorize",                          Nothing,               Shows(""),              [WHO_, WHO_, WHO_, OKAY, OKAY, OKAY, OKAY]),
    Row("TRACE /authorize",                            Nothing,               Shows(""),              [WHO_, WHO_, WHO_, OKAY, OKAY, OKAY, OKAY]),
    Row("GET /authorize?role=member",                  Nothing,               Shows(""),              [WHO_, WHO_, WHO_, OKAY, OKAY, OKAY, OKAY]),
    Row("GET /authorize?role=manager",                 Nothing,               Shows(""),              [WHO_, WHO_, WHO_, DENY, OKAY, OKAY, OKAY]),
    Row("GET /authorize?role=admin",                   Nothing,               Shows(""),              [WHO_, WHO_, WHO_, DENY, DENY, OKAY, OKAY]),
    Row("GET /authorize?permission=emergency.request", Nothing,               Shows(""),              [WHO_, WHO_, WHO_, OKAY, OKAY, OKAY, OKAY]),
    Row("GET /authorize?permission=emergency.approve", Nothing,               Shows(""),              [WHO_, WHO_, WHO_, DENY, OKAY, OKAY, DENY]),
    Row("GET /authorize?permission=emergency.revoke",  Nothing,               Shows(""),              [WHO_, WHO_, WHO_, DENY, OKAY, OKAY, OKAY]),
    Row("GET /authorize?permission=audit.read",        Nothing,               Shows(""),              [WHO_, WHO_, WHO_, DENY, OKAY, OKAY, OKAY]),
    Row("GET /authorize?permission=session.revoke-any", Nothing,              Shows(""),              [WHO_, WHO_, WHO_, DENY, DENY, OKAY, OKAY]),
    Row("GET /authorize?permission=tenant.manage",     Nothing,               Shows(""),              [WHO_, WHO_, WHO_, DENY, DENY, OKAY, DENY]),

    Row("GET /v1/events",                              Nothing,               Shows(""),              [WHO_, WHO_, WHO_, OKAY, OKAY, OKAY, OKAY]),

    Row("POST /v1/login",                              Nothing,               Opens,                  [OKAY, OKAY, OKAY, OKAY, OKAY, OKAY, OKAY]),
    Row("POST /v1/logout",                             Nothing,               EndsCaller,             [WHO_, WHO_, WHO_, GONE, GONE, GONE, GONE]),
    Row("GET /v1/me",                                  Nothing,               Shows("permissions"),   [WHO_, WHO_, WHO_, OKAY, OKAY, OKAY, OKAY]),

    Row("POST /v1/login/mfa",                              Nothing,               Shows(""),               [BADC, BADC, BADC, BADC, BADC, BADC, BADC]),
    Row("POST /v1/password-reset",                         Nothing,               Shows(""),               [BADC, BADC, BADC, BADC, BADC, BADC, BADC]),
    Row("POST /v1/password-reset/request",                 Nothing,               Shows(""),               [NOTE, NOTE, NOTE, NOTE, NOTE, NOTE, NOTE]),
    Row("POST /v1/me/password",                            Nothing,               EndsOther,               [WHO_, WHO_, WHO_, OKAY, OKAY, OKAY, OKAY]),
    Row("POST /v1/mfa/totp",                               Nothing,               Shows("secret"),         [WHO_, WHO_, WHO_, MADE, MADE, MADE, MADE]),
    Row("POST /v1/mfa/totp/confirm",                       Nothing,               Shows(""),               [WHO_, WHO_, WHO_, NONE, NONE, NONE, NONE]),
    Row("DELETE /v1/mfa/totp",                             Nothing,               Shows(""),               [WHO_, WHO_, WHO_, NONE, NONE, NONE, NONE]),
    Row("POST /v1/mfa/backup-codes",                       Nothing,               Shows(""),               [WHO_, WHO_, WHO_, NONE, NONE, NONE, NONE]),
    Row("GET /v1/mfa-policy",                              Nothing,               Shows("grace_period_days"), [WHO_, WHO_, WHO_, OKAY, OKAY, OKAY, OKAY]),
    Row("PUT /v1/mfa-policy",                              Nothing,               Revises,                 [WHO_, WHO_, WHO_, DENY, DENY, OKAY, DENY]),

    Row("GET /v1/users",                                   Nothing,               Shows("users"),          [WHO_, WHO_, WHO_, DENY, DENY, OKAY, DENY]),
    Row("POST /v1/users",                                  Nothing,               Shows("set_password_token"), [WHO_, WHO_, WHO_, DENY, DENY, MADE, DENY]),
    Row("GET /v1/users/{id}",                              Own,                   Shows("user"),           [WHO_, WHO_, WHO_, DENY, DENY, OKAY, DENY]),
    Row("GET /v1/users/{id}",                              Colleagues,            Shows("user"),           [WHO_, WHO_, WHO_, DENY, DENY, OKAY, DENY]),
    Row("GET /v1/users/{id}",                              Strangers,             Shows("user"),           [WHO_, WHO_, WHO_, DENY, DENY, NONE, DENY]),
    Row("GET /v1/users/{id}",                              Nobodys,               Shows("user"),           [WHO_, WHO_, WHO_, DENY, DENY, NONE, DENY]),
    Row("PATCH /v1/users/{id}",                            Own,                   Shows("user"),           [WHO_, WHO_, WHO_, DENY, DENY, OKAY, DENY]),
    Row("PATCH /v1/users/{id}",                            Colleagues,            Shows("user"),           [WHO_, WHO_, WHO_, DENY, DENY, OKAY, DENY]),
    Row("PATCH /v1/users/{id}",                            Strangers,             Shows("user"),           [WHO_, WHO_, WHO_, DENY, DENY, NONE, DENY]),
    Row("PATCH /v1/users/{id}",                            Nobodys,               Shows("user"),           [WHO_, WHO_, WHO_, DENY, DENY, NONE, DENY]),
    // One's own password needs the present one: `/v1/me/password`.
    Row("POST /v1/users/{id}/reset-password",              Own,                   Shows("expires_at"),     [WHO_, WHO_, WHO_, DENY, DENY, SELF, DENY]),
    Row("POST /v1/users/{id}/reset-password",              Colleagues,            Shows("expires_at"),     [WHO_, WHO_, WHO_, DENY, DENY, OKAY, DENY]),
    Row("POST /v1/users/{id}/reset-password",              Strangers,             Shows("expires_at"),     [WHO_, WHO_, WHO_, DENY, DENY, NONE, DENY]),
    Row("POST /v1/users/{id}/reset-password",              Nobodys,               Shows("expires_at"),     [WHO_, WHO_, WHO_, DENY, DENY, NONE, DENY]),
    Row("DELETE /v1/users/{id}/mfa",                       Own,                   EndsUser,                [WHO_, WHO_, WHO_, DENY, DENY, OKAY, DENY]),
    Row("DELETE /v1/users/{id}/mfa",                       Colleagues,            EndsUser,                [WHO_, WHO_, WHO_, DENY, DENY, OKAY, DENY]),
    Row("DELETE /v1/users/{id}/mfa",                       Strangers,             EndsUser,                [WHO_, WHO_, WHO_, DENY, DENY, NONE, DENY]),
    Row("DELETE /v1/users/{id}/mfa",                       Nobodys,               EndsUser,                [WHO_, WHO_, WHO_, DENY, DENY, NONE, DENY]),

    Row("GET /v1/sessions",                            Nothing,               Shows("sessions"),      [WHO_, WHO_, WHO_, OKAY, OKAY, OKAY, OKAY]),
    Row("POST /v1/sessions/revoke-others",             Nothing,               EndsOther,              [WHO_, WHO_, WHO_, OKAY, OKAY, OKAY, OKAY]),
    Row("DELETE /v1/sessions/{id}",                    Own,                   EndsSession,            [WHO_, WHO_, WHO_, OKAY, OKAY, OKAY, OKAY]),
    Row("DELETE /v1/sessions/{id}",                    Colleagues,            EndsSession,            [WHO_, WHO_, WHO_, NONE, NONE, NONE, NONE]),
    Row("DELETE /v1/sessions/{id}",                    Strangers,             EndsSession,            [WHO_, WHO_, WHO_, NONE, NONE, NONE, NONE]),
    Row("DELETE /v1/sessions/{id}",                    Nobodys,               EndsSession,            [WHO_, WHO_, WHO_, NONE, NONE, NONE, NONE]),

    Row("GET /v1/users/{id}/sessions",                 Own,                   Shows("sessions"),      [WHO_, WHO_, WHO_, DENY, DENY, OKAY, OKAY]),
    Row("GET /v1/users/{id}/sessions",                 Colleagues,            Shows("sessions"),      [WHO_, WHO_, WHO_, DENY, DENY, OKAY, OKAY]),
    Row("GET /v1/users/{id}/sessions",                 Strangers,             Shows("sessions"),      [WHO_, WHO_, WHO_, DENY, DENY, NONE, NONE]),
    Row("GET /v1/users/{id}/sessions",                 Nobodys,               Shows("sessions"),      [WHO_, WHO_, WHO_, DENY, DENY, NONE, NONE]),
    Row("POST /v1/users/{id}/sessions/revoke-all",     Own,                   EndsUser,               [WHO_, WHO_, WHO_, DENY, DENY, OKAY, OKAY]),
    Row("POST /v1/users/{id}/sessions/revoke-all",     Colleagues,            EndsUser,               [WHO_, WHO_, WHO_, DENY, DENY, OKAY, OKAY]),
    Row("POST /v1/users/{id}/sessions/revoke-all",     Strangers,             EndsUser,               [WHO_, WHO_, WHO_, DENY, DENY, NONE, NONE]),
    Row("POST /v1/users/{id}/sessions/revoke-all",     Nobodys,               EndsUser,               [WHO_, WHO_, WHO_, DENY, DENY, NONE, NONE]),
    Row("DELETE /v1/users/{id}/sessions/{sid}",        Own,                   EndsSession,            [WHO_, WHO_, WHO_, DENY, DENY, OKAY, OKAY]),
    Row("DELETE /v1/users/{id}/sessions/{sid}",        Colleagues,            EndsSession,            [WHO_, WHO_, WHO_, DENY, DENY, OKAY, OKAY]),
    Row("DELETE /v1/users/{id}/sessions/{sid}",        Strangers,             EndsSession,            [WHO_, WHO_, WHO_, DENY, DENY, NONE, NONE]),
    Row("DELETE /v1/users/{id}/sessions/{sid}",        Nobodys,               EndsSession,            [WHO_, WHO_, WHO_, DENY, DENY, NONE, NONE]),
    Row("DELETE /v1/users/{id}/sessions/{sid}",        ColleaguesAsOwn,       EndsSession,            [WHO_, WHO_, WHO_, DENY, DENY, NONE, NONE]),
    Row("DELETE /v1/users/{id}/sessions/{sid}",        StrangersAsColleagues, EndsSession,            [WHO_, WHO_, WHO_, DENY, DENY, NONE, NONE]),

    Row("POST /v1/emergency/grants",                   Nothing,               Grants,                 [WHO_, WHO_, WHO_, MADE, MADE, MADE, MADE]),
    Row("GET /v1/emergency/grants",                    Nothing,               Shows("grants"),        [WHO_, WHO_, WHO_, OKAY, OKAY, OKAY, OKAY]),
    Row("GET /v1/emergency/grants/{id}",               Own,                   Shows("grant"),         [WHO_, WHO_, WHO_, OKAY, OKAY, OKAY, OKAY]),
    Row("GET /v1/emergency/grants/{id}",               OwnPast,               Shows("grant"),         [WHO_, WHO_, WHO_, OKAY, OKAY, OKAY, OKAY]),
    Row("GET /v1/emergency/grants/{id}",               Colleagues,            Shows("grant"),         [WHO_, WHO_, WHO_, OKAY, OKAY, OKAY, OKAY]),
    Row("GET /v1/emergency/grants/{id}",               ColleaguesPast,        Shows("grant"),         [WHO_, WHO_, WHO_, NONE, OKAY, OKAY, OKAY]),
    Row("GET /v1/emergency/grants/{id}",               Strangers,             Shows("grant"),         [WHO_, WHO_, WHO_, NONE, NONE, NONE, NONE]),
    Row("GET /v1/emergency/grants/{id}",               Nobodys,               Shows("grant"),         [WHO_, WHO_, WHO_, NONE, NONE, NONE, NONE]),
    Row("POST /v1/emergency/grants/{id}/revoke",       Own,                   EndsGrant,              [WHO_, WHO_, WHO_, OKAY, OKAY, OKAY, OKAY]),
    Row("POST /v1/emergency/grants/{id}/revoke",       OwnPast,               EndsGrant,              [WHO_, WHO_, WHO_, OVER, OVER, OVER, OVER]),
    Row("POST /v1/emergency/grants/{id}/revoke",       Colleagues,            EndsGrant,              [WHO_, WHO_, WHO_, DENY, OKAY, OKAY, OKAY]),
    Row("POST /v1/emergency/grants/{id}/revoke",       ColleaguesPast,        EndsGrant,              [WHO_, WHO_, WHO_, NONE, OVER, OVER, OVER]),
    Row("POST /v1/emergency/grants/{id}/revoke",       Strangers,             EndsGrant,              [WHO_, WHO_, WHO_, NONE, NONE, NONE, NONE]),
    Row("POST /v1/emergency/grants/{id}/revoke",       Nobodys,               EndsGrant,              [WHO_, WHO_, WHO_, NONE, NONE, NONE, NONE]),

    // Of one's own tenant, and another's: `receipts`.
    Row("GET /v1/receipts/{revision}",                 Nobodys,               Shows("receipt"),       [WHO_, WHO_, WHO_, NONE, NONE, NONE, NONE]),
    Row("GET /v1/edges",                               Nothing,               Shows("edges"),         [WHO_, WHO_, WHO_, DENY, OKAY, OKAY, OKAY]),

    Row("GET /v1/emergency/grants/{id}",               OwnPending,            Shows("grant"),         [WHO_, WHO_, WHO_, OKAY, OKAY, OKAY, OKAY]),
    Row("GET /v1/emergency/grants/{id}",               ColleaguesPending,     Shows("grant"),         [WHO_, WHO_, WHO_, NONE, OKAY, OKAY, OKAY]),
    Row("GET /v1/emergency/grants/{id}",               StrangersPending,      Shows("grant"),         [WHO_, WHO_, WHO_, NONE, NONE, NONE, NONE]),
    Row("POST /v1/emergency/grants/{id}/revoke",       OwnPending,            EndsGrant,              [WHO_, WHO_, WHO_, SELF, SELF, SELF, SELF]),
    Row("POST /v1/emergency/grants/{id}/revoke",       ColleaguesPending,     EndsGrant,              [WHO_, WHO_, WHO_, NONE, SELF, SELF, SELF]),
    Row("POST /v1/emergency/grants/{id}/approve",      OwnPending,            Activates,              [WHO_, WHO_, WHO_, DENY, MINE, MINE, DENY]),
    Row("POST /v1/emergency/grants/{id}/approve",      ColleaguesPending,     Activates,              [WHO_, WHO_, WHO_, DENY, OKAY, OKAY, DENY]),
    Row("POST /v1/emergency/grants/{id}/approve",      Colleagues,            Activates,              [WHO_, WHO_, WHO_, DENY, DONE, DONE, DENY]),
    Row("POST /v1/emergency/grants/{id}/approve",      ColleaguesPast,        Activates,              [WHO_, WHO_, WHO_, DENY, OVER, OVER, DENY]),
    Row("POST /v1/emergency/grants/{id}/approve",      StrangersPending,      Activates,              [WHO_, WHO_, WHO_, DENY, NONE, NONE, DENY]),
    Row("POST /v1/emergency/grants/{id}/approve",      Nobodys,               Activates,              [WHO_, WHO_, WHO_, DENY, NONE, NONE, DENY]),
    Row("POST /v1/emergency/grants/{id}/deny",         OwnPending,            Moves("denied"),        [WHO_, WHO_, WHO_, DENY, MINE, MINE, DENY]),
    Row("POST /v1/emergency/grants/{id}/deny",         ColleaguesPending,     Moves("denied"),        [WHO_, WHO_, WHO_, DENY, OKAY, OKAY, DENY]),
    Row("POST /v1/emergency/grants/{id}/deny",         Colleagues,            Moves("denied"),        [WHO_, WHO_, WHO_, DENY, DONE, DONE, DENY]),
    Row("POST /v1/emergency/grants/{id}/deny",         ColleaguesPast,        Moves("denied"),        [WHO_, WHO_, WHO_, DENY, OVER, OVER, DENY]),
    Row("POST /v1/emergency/grants/{id}/deny",         StrangersPending,      Moves("denied"),        [WHO_, WHO_, WHO_, DENY, NONE, NONE, DENY]),
    Row("POST /v1/emergency/grants/{id}/deny",         Nobodys,               Moves("denied"),        [WHO_, WHO_, WHO_, DENY, NONE, NONE, DENY]),
    Row("POST /v1/emergency/grants/{id}/cancel",       OwnPending,            Moves("cancelled"),     [WHO_, WHO_, WHO_, OKAY, OKAY, OKAY, OKAY]),
    Row("POST /v1/emergency/grants/{id}/cancel",       Own,                   Moves("cancelled"),     [WHO_, WHO_, WHO_, SELF, SELF, SELF, SELF]),
    Row("POST /v1/emergency/grants/{id}/cancel",       OwnPast,               Moves("cancelled"),     [WHO_, WHO_, WHO_, OVER, OVER, OVER, OVER]),
    Row("POST /v1/emergency/grants/{id}/cancel",       ColleaguesPending,     Moves("cancelled"),     [WHO_, WHO_, WHO_, NONE, DENY, DENY, DENY]),
    Row("POST /v1/emergency/grants/{id}/cancel",       Colleagues,            Moves("cancelled"),     [WHO_, WHO_, WHO_, DENY, DENY, DENY, DENY]),
    Row("POST /v1/emergency/grants/{id}/cancel",       StrangersPending,      Moves("cancelled"),     [WHO_, WHO_, WHO_, NONE, NONE, NONE, NONE]),
    Row("POST /v1/emergency/grants/{id}/cancel",       Nobodys,               Moves("cancelled"),     [WHO_, WHO_, WHO_, NONE, NONE, NONE, NONE]),
    Row("POST /v1/emergency/grants/{id}/extend",       Own,                   Extends,                [WHO_, WHO_, WHO_, MADE, MADE, MADE, MADE]),
    Row("POST /v1/emergency/grants/{id}/extend",       OwnPast,               Extends,                [WHO_, WHO_, WHO_, OVER, OVER, OVER, OVER]),
    Row("POST /v1/emergency/grants/{id}/extend",       OwnPending,            Extends,                [WHO_, WHO_, WHO_, SELF, SELF, SELF, SELF]),
    Row("POST /v1/emergency/grants/{id}/extend",       Colleagues,            Extends,                [WHO_, WHO_, WHO_, DENY, DENY, DENY, DENY]),
    Row("POST /v1/emergency/grants/{id}/extend",       ColleaguesPast,        Extends,                [WHO_, WHO_, WHO_, NONE, DENY, DENY, DENY]),
    Row("POST /v1/emergency/grants/{id}/extend",       Strangers,             Extends,                [WHO_, WHO_, WHO_, NONE, NONE, NONE, NONE]),
    Row("POST /v1/emergency/grants/{id}/extend",       Nobodys,               Extends,                [WHO_, WHO_, WHO_, NONE, NONE, NONE, NONE]),
    Row("POST /v1/emergency/grants/{id}/review",       OwnPast,               Shows("grant"),         [WHO_, WHO_, WHO_, DENY, MINE, MINE, DENY]),
    Row("POST /v1/emergency/grants/{id}/review",       ColleaguesPast,        Shows("grant"),         [WHO_, WHO_, WHO_, DENY, OKAY, OKAY, DENY]),
    Row("POST /v1/emergency/grants/{id}/review",       Colleagues,            Shows("grant"),         [WHO_, WHO_, WHO_, DENY, SELF, SELF, DENY]),
    Row("POST /v1/emergency/grants/{id}/review",       ColleaguesPending,     Shows("grant"),         [WHO_, WHO_, WHO_, DENY, SELF, SELF, DENY]),
    Row("POST /v1/emergency/grants/{id}/review",       StrangersPast,         Shows("grant"),         [WHO_, WHO_, WHO_, DENY, NONE, NONE, DENY]),
    Row("POST /v1/emergency/grants/{id}/review",       Nobodys,               Shows("grant"),         [WHO_, WHO_, WHO_, DENY, NONE, NONE, DENY]),
    Row("GET /v1/emergency/grants/{id}/evidence",      Own,                   Shows("record"),        [WHO_, WHO_, WHO_, OKAY, OKAY, OKAY, OKAY]),
    Row("GET /v1/emergency/grants/{id}/evidence",      OwnPast,               Shows("record"),        [WHO_, WHO_, WHO_, OKAY, OKAY, OKAY, OKAY]),
    Row("GET /v1/emergency/grants/{id}/evidence",      Colleagues,            Shows("record"),        [WHO_, WHO_, WHO_, DENY, OKAY, OKAY, OKAY]),
    Row("GET /v1/emergency/grants/{id}/evidence",      ColleaguesPast,        Shows("record"),        [WHO_, WHO_, WHO_, NONE, OKAY, OKAY, OKAY]),
    Row("GET /v1/emergency/grants/{id}/evidence",      ColleaguesPending,     Shows("record"),        [WHO_, WHO_, WHO_, NONE, OKAY, OKAY, OKAY]),
    Row("GET /v1/emergency/grants/{id}/evidence",      Strangers,             Shows("record"),        [WHO_, WHO_, WHO_, NONE, NONE, NONE, NONE]),
    Row("GET /v1/emergency/grants/{id}/evidence",      Nobodys,               Shows("record"),        [WHO_, WHO_, WHO_, NONE, NONE, NONE, NONE]),
    Row("GET /v1/emergency/policy",                    Nothing,               Shows("role"),          [WHO_, WHO_, WHO_, OKAY, OKAY, OKAY, OKAY]),
    Row("PUT /v1/emergency/policy",                    Nothing,               Shows("policy"),        [WHO_, WHO_, WHO_, DENY, DENY, OKAY, DENY]),

    // Another tenant's, and what each of them does: `notifications`.
    Row("GET /v1/notifications/endpoints",                    Nothing,               Shows("endpoints"),      [WHO_, WHO_, WHO_, DENY, DENY, OKAY, DENY]),
    Row("POST /v1/notifications/endpoints",                   Nothing,               Shows("endpoint"),       [WHO_, WHO_, WHO_, DENY, DENY, MADE, DENY]),
    Row("GET /v1/notifications/endpoints/{id}",               Nobodys,               Shows("endpoint"),       [WHO_, WHO_, WHO_, DENY, DENY, NONE, DENY]),
    Row("PATCH /v1/notifications/endpoints/{id}",             Nobodys,               Shows("endpoint"),       [WHO_, WHO_, WHO_, DENY, DENY, NONE, DENY]),
    Row("DELETE /v1/notifications/endpoints/{id}",            Nobodys,               Shows("endpoint"),       [WHO_, WHO_, WHO_, DENY, DENY, NONE, DENY]),
    Row("POST /v1/notifications/endpoints/{id}/test",         Nobodys,               Shows("endpoint"),       [WHO_, WHO_, WHO_, DENY, DENY, NONE, DENY]),
    Row("POST /v1/notifications/endpoints/{id}/rotate-secret",Nobodys,               Shows("endpoint"),       [WHO_, WHO_, WHO_, DENY, DENY, NONE, DENY]),
    Row("GET /v1/notifications/endpoints/{id}/deliveries",    Nobodys,               Shows("endpoint"),       [WHO_, WHO_, WHO_, DENY, DENY, NONE, DENY]),
    Row("POST /v1/notifications/endpoints/{id}/deliveries/{delivery}/retry",Nobodys,               Shows("endpoint"),       [WHO_, WHO_, WHO_, DENY, DENY, NONE, DENY]),

    Row("GET /v1/audit",                               Nothing,               Shows("entries"),       [WHO_, WHO_, WHO_, DENY, OKAY, OKAY, OKAY]),
    Row("GET /v1/audit/export",                        Nothing,               Shows(""),              [WHO_, WHO_, WHO_, DENY, OKAY, OKAY, OKAY]),
    // None is signed yet: `record`.
    Row("GET /v1/audit/head",                          Nothing,               Shows("hash"),          [WHO_, WHO_, WHO_, DENY, NONE, NONE, NONE]),
];

/// The path of one grant.
const GRANT: &str = "/v1/emergency/grants/{id}";

/// Cells that play at once.
const AT_ONCE: usize = 8;

#[tokio::test]
async fn every_route_by_every_caller_upon_every_object() -> anyhow::Result<()> {
    let world = World::start().await?;
    let document = world.anonymous().get("/openapi.json").await?.expect(200).body;
    let served: BTreeSet<_> = document["paths"]
        .as_object()
        .expect("paths")
        .iter()
        .flat_map(|(path, item)| {
            let methods = item.as_object().expect("operations").keys();
            methods.map(move |method| format!("{} {path}", method.to_uppercase()))
        })
        .collect();
    let listed: BTreeSet<_> = TABLE.iter().map(|row| route(row).to_owned()).collect();
    assert_eq!(served, listed, "the document (left) and the table (right) differ");

    let cells = TABLE
        .iter()
        .flat_map(|row| stage::CALLERS.into_iter().zip(row.3).map(move |cell| (row, cell)));
    let wrong: Vec<String> = stream::iter(cells.enumerate())
        .map(|(number, (row, (caller, expected)))| play(&world, number, row, caller, expected))
        .buffer_unordered(AT_ONCE)
        .try_filter_map(async |complaint| Ok(complaint))
        .try_collect()
        .await?;
    assert!(wrong.is_empty(), "{} cells are wrong:\n{}", wrong.len(), wrong.join("\n"));
    world.end().await;
    Ok(())
}

/// Plays one cell; says what was wrong with it, if anything.
async fn play(
    world: &World,
    number: usize,
    row: &Row,
    caller: Caller,
    expected: Cell,
) -> anyhow::Result<Option<String>> {
    let Row(text, object, effect, _) = *row;
    let (method, path) = text.split_once(' ').expect("a method and a path");
    let stage = Stage::set(world, number, caller, path, object).await?;
    let before = stage.state(world).await?;
    let body = match route(row) {
        "POST /v1/login" => stage::credentials(world, Role::Member)?,
        "POST /v1/emergency/grants" => json!({"reason": "Orders are not being paid out"}),
        "POST /v1/login/mfa" => json!({"challenge": "bgc_x", "code": "123456"}),
        "POST /v1/password-reset" => json!({"token": "bgp_x", "new_password": "plum-harbour-9"}),
        "POST /v1/password-reset/request" => json!({"tenant": "x", "email": "nobody@x.test"}),
        "POST /v1/me/password" => {
            json!({"current_password": stage::PASSWORD, "new_password": "plum-harbour-9"})
        }
        "POST /v1/mfa/totp" | "DELETE /v1/users/{id}/mfa" => json!({"password": stage::PASSWORD}),
        "POST /v1/mfa/totp/confirm" => json!({"code": "123456"}),
        "DELETE /v1/mfa/totp" | "POST /v1/mfa/backup-codes" => {
            json!({"password": stage::PASSWORD, "code": "123456"})
        }
        "PUT /v1/mfa-policy" => {
            json!({"require_2fa": false, "required_roles": ["admin"], "grace_period_days": 3})
        }
        "POST /v1/users" => json!({"email": "new@matrix.test", "name": "New", "role": "admin"}),
        "POST /v1/notifications/endpoints" => json!({"kind": "webhook", "url": "https://8.8.8.8/"}),
        "PATCH /v1/users/{id}" => json!({"name": "Another name"}),
        "POST /v1/emergency/grants/{id}/extend" => {
            json!({"reason": "The payments need some more time", "duration_seconds": 600})
        }
        "POST /v1/emergency/grants/{id}/review" => {
            json!({"note": "As it should be", "outcome": "justified"})
        }
        "PUT /v1/emergency/policy" => emergency_policy(),
        _ => json!({}),
    };
    let bodied = matches!(method, "POST" | "PUT" | "PATCH") || body != json!({});
    let path = stage.fill(path, object);
    let answer =
        stage.caller.send(Method::try_from(method)?, &path, bodied.then_some(body)).await?;
    let after = stage.state(world).await?;

    let right = match expected {
        Yes(status) => answer.status.as_u16() == status && shows(effect, &answer),
        No(status, _) if method == "HEAD" => answer.status.as_u16() == status,
        No(status, code) => {
            answer.status.as_u16() == status && {
                assert_problem(&answer, status, code);
                true
            }
        }
    };
    let wanted = match expected {
        Yes(_) => stage.with_effect(before, effect, object),
        No(..) => before,
    };
    let mut complaints = Vec::new();
    if !right {
        let Answer { status, body, .. } = &answer;
        complaints.push(format!("{expected:?} was expected, {status} {body} came"));
    }
    if after != wanted {
        complaints.push(format!("should be {wanted:?}\n    but is    {after:?}"));
    }
    let opened = (expected, effect) == (OKAY, Opens);
    if opened && stage.signed_in(&answer).authorize().await?.0 != 200 {
        complaints.push("the new session does not work".to_owned());
    }
    let complaint = complaints.join("\n    ");
    Ok((!complaint.is_empty())
        .then(|| format!("{text} on {object:?} by {caller:?}:\n    {complaint}")))
}

/// A policy for emergency access.
pub(crate) fn emergency_policy() -> Value {
    json!({
        "role": "manager", "applies_to": "session", "requesters": ["member"],
        "max_duration_seconds": 600, "default_duration_seconds": 60, "approvals_needed": 1,
        "approvers": ["admin"], "require_fresh_mfa": false, "min_reason_length": 1,
        "ticket_pattern": null, "max_active_per_user": 1, "cooldown_seconds": 1,
        "pending_timeout_seconds": 60, "review_within_hours": 1, "extensions_allowed": 0,
        "bypass": {"allowed": true, "max_duration_seconds": 60},
    })
}

fn shows(effect: Effect, answer: &Answer) -> bool {
    match effect {
        Shows(field) => {
            field.is_empty() || answer.body.get(field).is_some_and(|value| !value.is_null())
        }
        Opens => answer.body["token"].is_string(),
        EndsCaller => answer.body.is_null(),
        EndsOther | EndsUser => {
            answer.body["revoked"].as_u64().is_none_or(|n| n > 0) && enforced(answer)
        }
        EndsSession | EndsGrant | Grants | Activates | Extends | Revises => enforced(answer),
        Moves(to) => answer.body["grant"]["state"] == to && answer.body["receipt"].is_null(),
    }
}

fn enforced(answer: &Answer) -> bool {
    answer.body["receipt"]["enforced"] == true
}

/// Method and path as the document has them.
fn route(row: &Row) -> &'static str {
    row.0.split_once('?').map_or(row.0, |(route, _)| route)
}

#[tokio::test]
async fn lists_show_no_more_than_one_may_see() -> anyhow::Result<()> {
    let world = World::start().await?;
    for (number, (caller, sees_past)) in [
        (Caller::Member, false),
        (Caller::Manager, true),
        (Caller::Admin, true),
        (Caller::Elevated, true),
    ]
    .into_iter()
    .enumerate()
    {
        let stage = Stage::set(&world, number, caller, GRANT, Nothing).await?;
        let listed = async |query: &str| -> anyhow::Result<BTreeSet<String>> {
            let path = format!("/v1/emergency/grants?{query}");
            let answer = stage.caller.get(&path).await?.expect(200);
            let grants = answer.body["grants"].as_array().expect("a list").iter();
            Ok(grants
                .map(|grant| {
                    format!("/v1/emergency/grants/{}", grant["id"].as_str().expect("an id"))
                })
                .collect())
        };
        let elevation = stage.elevation.map(|id| GRANT.replace("{id}", &id.to_string()));
        let colleagues = stage.fill(GRANT, Colleagues);
        let active: BTreeSet<_> = elevation.into_iter().chain([colleagues]).collect();
        let theirs_of = |object| sees_past.then(|| stage.fill(GRANT, object)).into_iter().collect();
        let (past, pending) = (theirs_of(ColleaguesPast), theirs_of(ColleaguesPending));
        let own_past = BTreeSet::from([stage.fill(GRANT, OwnPast)]);
        let seen: BTreeSet<_> = &(&(&active | &past) | &pending) | &own_past;
        assert_eq!(listed("").await?, seen, "{caller:?}");
        assert_eq!(listed("state=pending").await?, pending, "{caller:?}");
        assert_eq!(listed("state=active").await?, active, "{caller:?}");
        assert_eq!(listed("state=revoked").await?, &past | &own_past, "{caller:?}");
        let user = |object| stage.fill("user={id}", object);
        assert_eq!(
            listed(&format!("{}&state=revoked", user(Colleagues))).await?,
            past,
            "{caller:?}"
        );
        assert_eq!(listed(&user(Strangers)).await?, BTreeSet::new(), "{caller:?}");
        // A cursor of another tenant opens nothing of it.
        let theirs = stage.fill(GRANT, Strangers);
        let cursor = theirs.rsplit('/').next().expect("an id");
        assert!(listed(&format!("cursor={cursor}")).await?.is_subset(&seen), "{caller:?}");
    }
    world.end().await;
    Ok(())
}
