//! What can go wrong, for programs (`code`) and for people (`detail`): RFC 9457's problem+json.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use store::{DocumentRefused, EditError, EditFailed, StoreError};
use utoipa::ToSchema;

use crate::control::{ControlError, HookReport};

/// An answer that says why something was not done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Problem {
    /// `urn:drawbridge:problem:` and the code.
    #[serde(rename = "type")]
    pub kind: String,
    /// The HTTP status once more.
    pub status: u16,
    /// The cause, for programs.
    pub code: Code,
    /// The cause in general, for people.
    pub title: String,
    /// This case: what, where, what to do.
    pub detail: String,
    /// JSON pointer to the place in the request's body, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pointer: Option<String>,
    /// What became of a hook that was not enforced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub report: Option<Box<HookReport>>,
}

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $word:literal, $status:ident, $title:literal;)*) => {
        /// Why, for programs: one code per cause.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
        #[serde(rename_all = "kebab-case")]
        #[expect(missing_docs, reason = "the title says it")]
        pub enum Code {
            $($name,)*
        }

        impl Code {
            /// Every code.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// As it is written on the wire.
            #[must_use]
            pub fn word(self) -> &'static str {
                match self {
                    $(Self::$name => $word,)*
                }
            }

            /// The HTTP status it comes with.
            #[must_use]
            pub fn status(self) -> StatusCode {
                match self {
                    $(Self::$name => StatusCode::$status,)*
                }
            }

            /// In general, for people.
            #[must_use]
            pub fn title(self) -> &'static str {
                match self {
                    $(Self::$name => $title,)*
                }
            }
        }
    };
}

codes! {
    InvalidBody = "invalid-body", BAD_REQUEST, "the body is not JSON of the form that is asked for";
    InvalidQuery = "invalid-query", BAD_REQUEST, "a query parameter is unknown or of the wrong form";
    InvalidIfMatch = "invalid-if-match", BAD_REQUEST, "If-Match is neither * nor one revision in quotes";
    NotAuthenticated = "not-authenticated", UNAUTHORIZED, "the bearer token is missing or wrong";
    NotAllowed = "not-allowed", FORBIDDEN, "this user may not use the API";
    NotFound = "not-found", NOT_FOUND, "there is nothing of this id";
    NoSuchRoute = "no-such-route", NOT_FOUND, "the API has no such path";
    MethodNotAllowed = "method-not-allowed", METHOD_NOT_ALLOWED, "the path does not know this method";
    Exists = "exists", CONFLICT, "something of this id exists already";
    InUse = "in-use", CONFLICT, "something else needs it";
    DuplicateRule = "duplicate-rule", CONFLICT, "the group has a rule that says the same";
    DuplicatePort = "duplicate-port", CONFLICT, "another port is about the same VIF";
    DefaultGroup = "default-group", CONFLICT, "a project's default group keeps its name and goes with the project";
    DefaultName = "default-name", CONFLICT, "the name default belongs to the project's default group";
    RevisionMismatch = "revision-mismatch", PRECONDITION_FAILED, "it has changed since it was read";
    BodyTooLarge = "body-too-large", PAYLOAD_TOO_LARGE, "the body is larger than the limit";
    NotJson = "not-json", UNSUPPORTED_MEDIA_TYPE, "the content type is not application/json";
    InvalidValue = "invalid-value", UNPROCESSABLE_ENTITY, "a value makes no sense";
    UnknownReference = "unknown-reference", UNPROCESSABLE_ENTITY, "it refers to something that is not there";
    Immutable = "immutable", UNPROCESSABLE_ENTITY, "this field cannot be changed";
    ReservedId = "reserved-id", UNPROCESSABLE_ENTITY, "ids that begin with drawbridge: are the driver's own";
    NamedTwice = "named-twice", UNPROCESSABLE_ENTITY, "the document names it twice";
    UnknownVm = "unknown-vm", NOT_FOUND, "the pool has no such VM";
    AmbiguousVm = "ambiguous-vm", CONFLICT, "several VMs have this name";
    NotRunning = "not-running", CONFLICT, "the VM has no running domain";
    UnknownHost = "unknown-host", NOT_FOUND, "the pool has no such host";
    AmbiguousHost = "ambiguous-host", CONFLICT, "several hosts have this name";
    NoAnswer = "no-answer", UNPROCESSABLE_ENTITY, "what is asked fits nothing in the pool";
    Internal = "internal", INTERNAL_SERVER_ERROR, "the daemon has a fault; its log says more";
    NotEnforced = "not-enforced", BAD_GATEWAY, "it could not be enforced; the report says where and why";
    XapiUnavailable = "xapi-unavailable", BAD_GATEWAY, "XAPI is out of reach";
    HostUnreadable = "host-unreadable", BAD_GATEWAY, "a host's rules could not be read";
    NoPlan = "no-plan", BAD_GATEWAY, "what should hold cannot be worked out for the pool";
    Standby = "standby", SERVICE_UNAVAILABLE, "this driver does not write; the detail says why";
    NotReady = "not-ready", SERVICE_UNAVAILABLE, "the daemon cannot do its work at the moment";
    StoreUnavailable = "store-unavailable", SERVICE_UNAVAILABLE, "the store cannot save; nothing was changed";
    OutcomeUnknown = "outcome-unknown", SERVICE_UNAVAILABLE, "the store broke while it saved; read again";
    Busy = "busy", SERVICE_UNAVAILABLE, "too much at once; try again";
    ShuttingDown = "shutting-down", SERVICE_UNAVAILABLE, "the daemon is shutting down";
    Deadline = "deadline", GATEWAY_TIMEOUT, "the deadline is over; the work goes on";
}

impl Problem {
    /// A problem of this cause.
    #[must_use]
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self {
            kind: format!("urn:drawbridge:problem:{}", code.word()),
            status: code.status().as_u16(),
            code,
            title: code.title().to_owned(),
            detail: detail.into(),
            pointer: None,
            report: None,
        }
    }

    /// At a place in the request's body.
    #[must_use]
    pub fn at(mut self, pointer: impl Into<String>) -> Self {
        self.pointer = Some(pointer.into());
        self
    }

    /// The place, seen from further up in the body.
    #[must_use]
    pub fn under(mut self, prefix: &str) -> Self {
        self.pointer = Some(format!("{prefix}{}", self.pointer.unwrap_or_default()));
        self
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.pointer.as_deref() {
            None | Some("") => write!(f, "{}", self.detail),
            Some(pointer) => write!(f, "{pointer}: {}", self.detail),
        }
    }
}

impl std::error::Error for Problem {}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, Json(self)).into_response();
        let json = HeaderValue::from_static("application/problem+json");
        response.headers_mut().insert(header::CONTENT_TYPE, json);
        if status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

impl From<EditError> for Problem {
    fn from(error: EditError) -> Self {
        let detail = error.to_string();
        let (code, pointer) = match error {
            EditError::Exists { .. } => (Code::Exists, None),
            EditError::NotFound { .. } => (Code::NotFound, None),
            EditError::Conflict { .. } => (Code::RevisionMismatch, None),
            EditError::UnknownReference { .. } => (Code::UnknownReference, None),
            EditError::InUse { .. } => (Code::InUse, None),
            EditError::DuplicateRule { .. } => (Code::DuplicateRule, None),
            EditError::DuplicateTarget { .. } => (Code::DuplicatePort, None),
            EditError::DefaultGroup { .. } => (Code::DefaultGroup, None),
            EditError::DefaultName { .. } => (Code::DefaultName, Some("/name".to_owned())),
            EditError::Immutable { field, .. } => (Code::Immutable, Some(format!("/{field}"))),
            EditError::ReservedId { .. } => (Code::ReservedId, Some("/id".to_owned())),
            EditError::BadText { field, .. } => (Code::InvalidValue, Some(format!("/{field}"))),
            EditError::NotAGuestsAddress { field, .. } => (Code::InvalidValue, Some(format!("/{field}"))),
            EditError::FamilyMismatch { .. } => (Code::InvalidValue, Some("/remote_cidr".to_owned())),
            EditError::Service(_) => (Code::InvalidValue, None),
            EditError::NamedTwice { .. } => (Code::NamedTwice, None),
        };
        Self { pointer, ..Self::new(code, detail) }
    }
}

impl From<DocumentRefused> for Problem {
    fn from(DocumentRefused { path, error }: DocumentRefused) -> Self {
        Self::from(error).under(&path)
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        let detail = error.to_string();
        match error {
            StoreError::Edit(EditFailed { index: _, error }) => error.into(),
            StoreError::Document(refused) => refused.into(),
            StoreError::Database(_) => Self::new(Code::StoreUnavailable, detail),
            StoreError::Unknown(_) => Self::new(Code::OutcomeUnknown, detail),
            StoreError::Overtaken => Self::new(Code::Busy, detail),
            StoreError::Closed => Self::new(Code::ShuttingDown, detail),
        }
    }
}

impl From<ControlError> for Problem {
    fn from(error: ControlError) -> Self {
        let code = match error {
            ControlError::UnknownVm(_) => Code::UnknownVm,
            ControlError::AmbiguousVm(_) => Code::AmbiguousVm,
            ControlError::NotRunning(_) => Code::NotRunning,
            ControlError::UnknownHost(_) => Code::UnknownHost,
            ControlError::AmbiguousHost(_) => Code::AmbiguousHost,
            ControlError::XapiUnavailable(_) => Code::XapiUnavailable,
            ControlError::Standby(_) => Code::Standby,
            ControlError::NoPacket(_) => Code::InvalidQuery,
            ControlError::NoAnswer(_) => Code::NoAnswer,
            ControlError::HostUnreadable(_) => Code::HostUnreadable,
            ControlError::NoPlan(_) => Code::NoPlan,
            ControlError::ShuttingDown => Code::ShuttingDown,
        };
        Self::new(code, error.to_string())
    }
}
