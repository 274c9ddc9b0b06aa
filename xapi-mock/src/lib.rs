//! xapi-mock
