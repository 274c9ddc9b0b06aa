//! The client: the command line's, and anybody's who speaks Rust.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{ETAG, HeaderValue, IF_MATCH};
use reqwest::{Method, RequestBuilder, Response};
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::control::{Explanation, HookReport, HostState, Misfit, Question};
use crate::problem::{Code, Problem};
use crate::wire::{
    ApplyAnswer, AuditLine, DocumentInput, EditsAnswer, EditsInput, HookInput, Page, Refreshed, Rule,
    RuleInput, Status, WatchAnswer,
};

/// Longer than any request takes that the server lets live.
const TIME: Duration = Duration::from_secs(700);
const CONNECT: Duration = Duration::from_secs(10);

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each variant's message says it")]
pub enum ClientError {
    /// The daemon says why not.
    #[error("{0}")]
    Problem(Box<Problem>),
    #[error("cannot reach the daemon at {place}: is `drawbridge serve` running?")]
    Unreachable { place: String, source: reqwest::Error },
    #[error("the daemon's answer is not understood: is it of another version?")]
    Answer(#[source] reqwest::Error),
    #[error("cannot set up TLS")]
    Tls(#[source] rustls::Error),
    #[error("cannot set up the client")]
    Setup(#[source] reqwest::Error),
}

/// Something with the revision that says which version of it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Versioned<T> {
    /// What was read.
    pub value: T,
    /// Its ETag: for `if_match`.
    pub etag: Option<String>,
}

/// A client of the API. Paths are as in docs/api.md, such as `/v1/groups`; ids in them go through [`segment`].
#[derive(Clone, Debug)]
pub struct ApiClient {
    http: reqwest::Client,
    base: String,
    place: String,
    token: Option<SecretString>,
}

/// An id or a name as a part of a path.
#[must_use]
pub fn segment(id: &str) -> String {
    let mut text = String::with_capacity(id.len());
    for byte in id.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~') {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}

impl ApiClient {
    /// Over the daemon's unix socket.
    ///
    /// # Errors
    /// [`ClientError::Setup`], [`ClientError::Tls`]
    pub fn unix(path: &Path) -> Result<Self, ClientError> {
        // reqwest wants to know whom to trust even where nothing is encrypted: here, nobody.
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(ClientError::Tls)?
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth();
        let http = reqwest::Client::builder().tls_backend_preconfigured(tls).unix_socket(path).no_proxy();
        Self::new(http, "http://localhost", path.display().to_string(), None)
    }

    /// Over TCP and TLS. `url` is `https://host:port`, `tls` says whom to trust.
    ///
    /// # Errors
    /// [`ClientError::Setup`]
    pub fn https(url: &str, tls: rustls::ClientConfig, token: SecretString) -> Result<Self, ClientError> {
        let http = reqwest::Client::builder().tls_backend_preconfigured(tls).https_only(true).no_proxy();
        Self::new(http, url.trim_end_matches('/'), url.to_owned(), Some(token))
    }

    fn new(
        http: reqwest::ClientBuilder,
        base: &str,
        place: String,
        token: Option<SecretString>,
    ) -> Result<Self, ClientError> {
        let http = http.connect_timeout(CONNECT).timeout(TIME).build().map_err(ClientError::Setup)?;
        Ok(Self { http, base: base.to_owned(), place, token })
    }

    /// A request, unless the path has a part that a URL would swallow: then it would be about something else.
    fn request(&self, method: Method, path: &str) -> Result<RequestBuilder, ClientError> {
        let mut parts = path.split('?').next().unwrap_or_default().split('/').skip(1);
        if let Some(part @ ("" | "." | "..")) = parts.find(|part| matches!(*part, "" | "." | "..")) {
            let problem = Problem::new(Code::NotFound, format!("there is nothing of the id {part:?}"));
            return Err(ClientError::Problem(Box::new(problem)));
        }
        let request = self.http.request(method, format!("{}{path}", self.base));
        Ok(match &self.token {
            Some(token) => request.bearer_auth(token.expose_secret()),
            None => request,
        })
    }

    async fn send(&self, request: RequestBuilder) -> Result<Response, ClientError> {
        let response = request.send().await;
        let response =
            response.map_err(|source| ClientError::Unreachable { place: self.place.clone(), source })?;
        if response.status().is_success() {
            return Ok(response);
        }
        Err(ClientError::Problem(response.json().await.map_err(ClientError::Answer)?))
    }

    /// Reads.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<Versioned<T>, ClientError> {
        let response = self.send(self.request(Method::GET, path)?).await?;
        let etag = response.headers().get(ETAG).and_then(|value| value.to_str().ok()).map(str::to_owned);
        Ok(Versioned { value: response.json().await.map_err(ClientError::Answer)?, etag })
    }

    /// Makes something, or asks for something to be done.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn post<I: Serialize + Sync, T: DeserializeOwned>(
        &self,
        path: &str,
        input: &I,
    ) -> Result<T, ClientError> {
        let response = self.send(self.request(Method::POST, path)?.json(input)).await?;
        response.json().await.map_err(ClientError::Answer)
    }

    /// Changes something; with `if_match`, only if it is still what was read.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn put<I: Serialize + Sync, T: DeserializeOwned>(
        &self,
        path: &str,
        input: &I,
        if_match: Option<&str>,
    ) -> Result<T, ClientError> {
        let request = with_etag(self.request(Method::PUT, path)?.json(input), if_match);
        self.send(request).await?.json().await.map_err(ClientError::Answer)
    }

    /// Removes something; with `if_match`, only if it is still what was read.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn delete(&self, path: &str, if_match: Option<&str>) -> Result<(), ClientError> {
        self.send(with_etag(self.request(Method::DELETE, path)?, if_match)).await.map(drop)
    }

    /// All of a list, page by page. `query` is empty, or such as `project=acme`.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn list<T: DeserializeOwned>(&self, path: &str, query: &str) -> Result<Vec<T>, ClientError> {
        let mut items = Vec::new();
        let mut after = String::new();
        loop {
            let page: Page<T> = self.get(&format!("{path}?{query}{after}")).await?.value;
            items.extend(page.items);
            let Some(next) = page.next else { return Ok(items) };
            after = format!("{}after={}", if query.is_empty() { "" } else { "&" }, segment(&next));
        }
    }

    /// The rules of a group.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn rules(&self, group: &str) -> Result<Vec<Rule>, ClientError> {
        let page: Page<Rule> = self.get(&format!("/v1/groups/{}/rules", segment(group))).await?.value;
        Ok(page.items)
    }

    /// Makes a rule of a group.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn create_rule(&self, group: &str, rule: &RuleInput) -> Result<Rule, ClientError> {
        self.post(&format!("/v1/groups/{}/rules", segment(group)), rule).await
    }

    /// Several edits in one transaction.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn edit(&self, edits: &EditsInput) -> Result<EditsAnswer, ClientError> {
        self.post("/v1/edits", edits).await
    }

    /// Brings the store to what a document says, or says what that would change.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn apply(
        &self,
        document: &DocumentInput,
        prune: bool,
        dry_run: bool,
    ) -> Result<ApplyAnswer, ClientError> {
        self.post(&format!("/v1/apply?prune={prune}&dry_run={dry_run}"), document).await
    }

    /// Something happened to a VM or a host: returns when it is enforced.
    ///
    /// # Errors
    /// [`ClientError`]; the problem holds the report if it was not enforced.
    pub async fn hook(&self, event: &str, input: &HookInput) -> Result<HookReport, ClientError> {
        self.post(&format!("/v1/hooks/{}", segment(event)), input).await
    }

    /// Marks hosts whose rules may have changed, or (`members`) whose rules name the group's members.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn refresh(&self, group: &str, members: bool) -> Result<Refreshed, ClientError> {
        let what = if members { "refresh-members" } else { "refresh-rules" };
        self.post(&format!("/v1/groups/{}/{what}", segment(group)), &()).await
    }

    /// Every host, and how it stands.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn hosts(&self) -> Result<Vec<HostState>, ClientError> {
        self.get("/v1/hosts").await.map(|answer| answer.value)
    }

    /// What becomes of a packet.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn explain(&self, question: &Question) -> Result<Explanation, ClientError> {
        let Question { from, to, packet, live } = question;
        let [from, to, packet] = [from, to, packet].map(|text| segment(text));
        let path = format!("/v1/explain?from={from}&to={to}&packet={packet}&live={live}");
        self.get(&path).await.map(|answer| answer.value)
    }

    /// What fits nothing in the pool, and what of the pool cannot be enforced.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn misfits(&self) -> Result<Vec<Misfit>, ClientError> {
        self.get("/v1/misfits").await.map(|answer| answer.value)
    }

    /// The store and the daemon at a glance.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn status(&self) -> Result<Status, ClientError> {
        self.get("/v1/status").await.map(|answer| answer.value)
    }

    /// Says that the store is what should be.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn adopt(&self) -> Result<Status, ClientError> {
        self.post("/v1/adopt", &()).await
    }

    /// Waits until something changes behind an answer; without one, answers at once.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn watch(&self, last: Option<&WatchAnswer>) -> Result<WatchAnswer, ClientError> {
        let query = match last {
            Some(WatchAnswer { generation, engine, .. }) => format!("?after={generation}&engine={engine}"),
            None => String::new(),
        };
        self.get(&format!("/v1/watch{query}")).await.map(|answer| answer.value)
    }

    /// The audit behind a generation.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn audit(&self, after: u64, limit: u32) -> Result<Vec<AuditLine>, ClientError> {
        self.get(&format!("/v1/audit?after={after}&limit={limit}")).await.map(|answer| answer.value)
    }

    /// A page that is text: `/metrics`, `/healthz`, `/readyz`.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn text(&self, path: &str) -> Result<String, ClientError> {
        let response = self.send(self.request(Method::GET, path)?).await?;
        response.text().await.map_err(ClientError::Answer)
    }
}

fn with_etag(request: RequestBuilder, if_match: Option<&str>) -> RequestBuilder {
    match if_match.map(HeaderValue::from_str) {
        Some(Ok(value)) => request.header(IF_MATCH, value),
        // An ETag that no header can hold was never the server's: sent in a form that matches nothing.
        Some(Err(_)) => request.header(IF_MATCH, HeaderValue::from_static("\"-\"")),
        None => request,
    }
}
