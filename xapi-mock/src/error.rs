//! XAPI's errors, with parameters exactly as xapi gives them.

use drawbridge_wire::xmlrpc::Value;

use crate::schema::Class;

/// What stands in `ErrorDescription`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ApiError {
    pub(crate) code: String,
    pub(crate) params: Vec<String>,
}

/// Every call's outcome.
pub(crate) type Reply = Result<Value, ApiError>;

impl ApiError {
    pub(crate) fn new<P: Into<String>>(code: &str, params: impl IntoIterator<Item = P>) -> Self {
        Self { code: code.to_owned(), params: params.into_iter().map(Into::into).collect() }
    }

    pub(crate) fn internal(message: impl Into<String>) -> Self {
        Self::new("INTERNAL_ERROR", [message.into()])
    }

    pub(crate) fn handle_invalid(class: Class, reference: &str) -> Self {
        Self::new("HANDLE_INVALID", [class.name(), reference])
    }

    pub(crate) fn not_allowed(why: &str) -> Self {
        Self::new("OPERATION_NOT_ALLOWED", [why])
    }

    pub(crate) fn host_offline(reference: &str) -> Self {
        Self::new("HOST_OFFLINE", [reference])
    }

    /// Code and parameters in one array: `ErrorDescription`, `task.error_info`.
    pub(crate) fn description(&self) -> Value {
        std::iter::once(&self.code).chain(&self.params).cloned().collect()
    }
}

impl From<std::io::Error> for ApiError {
    /// The data plane failed: xapi, too, has only this for what it did not foresee.
    fn from(error: std::io::Error) -> Self {
        Self::internal(format!("data plane: {error}"))
    }
}
