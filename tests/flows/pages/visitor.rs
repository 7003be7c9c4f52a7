//! A browser without a script: it keeps cookies and follows nothing by itself.

use std::collections::BTreeMap;

use parking_lot::Mutex;
use reqwest::{Method, RequestBuilder, header::HeaderMap, redirect::Policy};
use secrecy::ExposeSecret as _;
use shared::role::Role;
use tests::{Client, World};

/// Somebody at a browser.
pub(crate) struct Visitor {
    http: reqwest::Client,
    base: String,
    cookies: Mutex<BTreeMap<String, String>>,
}

/// What came of a request.
pub(crate) struct Page {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Page {
    /// Where it leads; empty if nowhere.
    pub(crate) fn location(&self) -> &str {
        self.headers.get("location").and_then(|value| value.to_str().ok()).unwrap_or("")
    }

    /// Fails unless the status is as expected.
    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}", self.text);
        self
    }

    /// Fails unless it leads there.
    #[track_caller]
    pub(crate) fn leads_to(self, place: &str) -> Self {
        assert_eq!((self.status, self.location()), (303, place), "{}", self.text);
        self
    }

    #[track_caller]
    pub(crate) fn shows(self, text: &str) -> Self {
        assert!(self.text.contains(text), "{text:?} is not in {}", self.text);
        self
    }

    #[track_caller]
    pub(crate) fn hides(self, text: &str) -> Self {
        assert!(!self.text.contains(text), "{text:?} is in {}", self.text);
        self
    }

    /// What stands between two texts, the first time.
    pub(crate) fn between(&self, before: &str, after: &str) -> &str {
        let (_, rest) = self.text.split_once(before).unwrap_or_default();
        rest.split_once(after).map_or("", |(found, _)| found)
    }
}

impl Visitor {
    /// A browser that was just opened, at an edge.
    pub(crate) fn at(base: &str) -> anyhow::Result<Self> {
        let http = reqwest::Client::builder().redirect(Policy::none()).build()?;
        Ok(Self { http, base: base.to_owned(), cookies: Mutex::default() })
    }

    /// The seeded user of a role, signed in by the form.
    pub(crate) async fn signed_in(world: &World, role: Role) -> anyhow::Result<Self> {
        let visitor = Self::at(&world.edge(1))?;
        let user = world.stack.credentials().and_then(|all| all.of(role)).expect("a seeded user");
        let form = [
            ("tenant", "acme"),
            ("email", user.email.as_str()),
            ("password", user.password.expose_secret()),
        ];
        visitor.post("/login", &form).await?.leads_to("/dashboard?view=rbac-emergency-access");
        Ok(visitor)
    }

    /// The API with this browser's session.
    pub(crate) fn program(&self, world: &World) -> Client {
        let mut client = world.anonymous();
        client.token = self.cookies.lock().get("__Host-breakglass").cloned();
        client
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let cookies: Vec<_> =
            self.cookies.lock().iter().map(|(name, value)| format!("{name}={value}")).collect();
        let request = self.http.request(method, format!("{}{path}", self.base));
        if cookies.is_empty() { request } else { request.header("cookie", cookies.join("; ")) }
    }

    pub(crate) async fn send(&self, request: RequestBuilder) -> anyhow::Result<Page> {
        let answer = request.send().await?;
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        for cookie in headers.get_all("set-cookie") {
            let cookie = cookie.to_str()?;
            let (name, value) =
                cookie.split(';').next().and_then(|pair| pair.split_once('=')).unwrap_or_default();
            if cookie.contains("Max-Age=0") {
                self.cookies.lock().remove(name);
            } else {
                self.cookies.lock().insert(name.to_owned(), value.to_owned());
            }
        }
        Ok(Page { status, headers, text: answer.text().await? })
    }

    pub(crate) async fn get(&self, path: &str) -> anyhow::Result<Page> {
        self.send(self.request(Method::GET, path)).await
    }

    /// Fails unless a page has a receipt, which says that all edges enforce it, then or soon.
    pub(crate) async fn is_enforced(&self, page: &Page) -> anyhow::Result<()> {
        let receipt = format!("/receipts/{}", page.between("id=\"receipt-", "\""));
        tests::eventually("every edge enforces it", async || {
            let page = self.get(&receipt).await;
            page.is_ok_and(|page| page.text.contains("3 of 3 edges enforce this"))
        })
        .await
    }

    /// Sends a form of a page of the same site.
    pub(crate) async fn post(&self, path: &str, form: &[(&str, &str)]) -> anyhow::Result<Page> {
        let request = self.request(Method::POST, path).header("sec-fetch-site", "same-origin");
        self.send(filled(request, form)).await
    }

    /// Sends a form from a page of another site.
    pub(crate) async fn post_from_elsewhere(
        &self,
        path: &str,
        form: &[(&str, &str)],
    ) -> anyhow::Result<Page> {
        let request = self.request(Method::POST, path).header("sec-fetch-site", "cross-site");
        self.send(filled(request, form)).await
    }
}

/// A request with a form as its body (`application/x-www-form-urlencoded`).
pub(crate) fn filled(request: RequestBuilder, form: &[(&str, &str)]) -> RequestBuilder {
    let encoded = |text: &str| -> String {
        let of_byte = |byte: u8| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => char::from(byte).to_string(),
            byte => format!("%{byte:02X}"),
        };
        text.bytes().map(of_byte).collect()
    };
    let pairs: Vec<_> =
        form.iter().map(|(name, value)| format!("{name}={}", encoded(value))).collect();
    let kind = "application/x-www-form-urlencoded";
    request.header("content-type", kind).body(pairs.join("&"))
}
