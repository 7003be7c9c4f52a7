//! Forms: reading what was sent, and showing it again with what is wrong.

use std::{collections::BTreeMap, time::Duration};

use axum::{
    body::to_bytes,
    extract::{FromRequest, Request},
};
use serde::de::DeserializeOwned;
use shared::refusal::{Code, Refusal};

use super::{turned::Turned, wording};

/// Longer forms are refused.
const LIMIT: usize = 64 * 1024;
/// A form has to be there within this time.
const PATIENCE: Duration = Duration::from_secs(10);

/// A form as a browser sends it (`application/x-www-form-urlencoded`).
pub(super) struct Form<T>(pub(super) T);

impl<S: Sync, T: DeserializeOwned> FromRequest<S> for Form<T> {
    type Rejection = Turned;

    async fn from_request(request: Request, _: &S) -> Result<Self, Turned> {
        let read = tokio::time::timeout(PATIENCE, to_bytes(request.into_body(), LIMIT));
        let body = match read.await {
            Ok(Ok(body)) => body,
            Ok(Err(_)) => {
                let detail = wording::FORM_TOO_LONG;
                return Err(Refusal::new(Code::PayloadTooLarge, detail).into());
            }
            Err(_) => {
                let detail = wording::FORM_TOO_SLOW;
                return Err(Refusal::new(Code::BadRequest, detail).into());
            }
        };
        // What is wrong in a form that a page of ours has sent is shown beside its fields; this is
        // for the others.
        let form = serde_html_form::from_bytes(&body)
            .map_err(|_| Refusal::new(Code::BadRequest, wording::FORM_MISFIT))?;
        Ok(Self(form))
    }
}

/// What a form shows: what was typed, and what is wrong with it.
#[derive(Debug, Default)]
pub(super) struct Typed {
    values: BTreeMap<&'static str, String>,
    problems: BTreeMap<&'static str, String>,
    /// What is wrong with no field in particular.
    pub(super) problem: Option<String>,
}

impl Typed {
    /// With a value in a field.
    pub(super) fn with(mut self, field: &'static str, value: impl Into<String>) -> Self {
        self.values.insert(field, value.into());
        self
    }

    /// With what a refusal says, beside the field that it is about, if that is one of `fields`.
    pub(super) fn refused(mut self, refusal: Refusal, fields: &[(Code, &'static str)]) -> Self {
        let field = fields.iter().find(|(code, _)| *code == refusal.code);
        let detail = super::super::problem::detail(refusal);
        match field {
            Some((_, field)) => {
                self.problems.insert(field, detail);
            }
            None => self.problem = Some(detail),
        }
        self
    }

    /// With a problem of a field.
    pub(super) fn problem(mut self, field: &'static str, text: impl Into<String>) -> Self {
        self.problems.insert(field, text.into());
        self
    }

    /// What to show in a field.
    pub(super) fn value(&self, field: &str) -> &str {
        self.values.get(field).map_or("", String::as_str)
    }

    /// What is wrong with a field.
    pub(super) fn wrong(&self, field: &str) -> Option<&str> {
        self.problems.get(field).map(String::as_str)
    }

    /// Whether anything is wrong.
    pub(super) fn is_refused(&self) -> bool {
        self.problem.is_some() || !self.problems.is_empty()
    }
}
