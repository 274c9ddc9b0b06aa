//! `event.from`

use std::time::Duration;

use drawbridge_wire::xmlrpc::Value;

use super::transport::aside;
use super::{CallError, Client};
use crate::event::{EventClass, Events, Token};

/// How far XAPI's events have been read.
///
/// Sessions do not outlive the XAPI process they were opened in; nor does what it remembers of deletions, and another
/// master's tokens may be older than what this one's meant. So a token counts in the session it was given in alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    session: u64,
    token: Token,
}

/// What [`Client::event_from`] read.
#[derive(Clone, Debug)]
pub struct Batch {
    /// XAPI's answer.
    pub events: Events,
    /// Whether it tells of every object there is, not just of what changed.
    pub complete: bool,
    /// Where the next call goes on.
    pub position: Position,
    /// The token given is before the one asked with: the database was set back.
    pub went_back: bool,
}

impl Client {
    /// `event.from`: what changed in `classes` since `position`, waited for at most `wait` (then the answer has no
    /// events). Without a position, or in another session than the position's: all there is, at once.
    ///
    /// The call may take as long as `wait` and [`call_timeout`](super::ClientConfig::call_timeout) together.
    ///
    /// # Errors
    /// [`CallError`]; one record that cannot be understood is an error for all of them.
    pub async fn event_from(
        &self,
        classes: &[EventClass],
        position: Option<&Position>,
        wait: Duration,
    ) -> Result<Batch, CallError> {
        const METHOD: &str = "event.from";
        let token_in = |session: u64| match position {
            Some(position) if position.session == session => position.token.clone(),
            _ => Token::start(),
        };
        let classes: Value = classes.iter().map(|class| class.as_str()).collect();
        let patient = self.with_call_timeout(self.call_timeout.saturating_add(wait));
        let (session, answer) = patient
            .call_in_session(METHOD, |session| {
                let token = token_in(session);
                vec![classes.clone(), token.as_str().into(), Value::Double(wait.as_secs_f64())]
            })
            .await?;
        // Whole pools come this way.
        let events = aside(move || Events::decode(&answer)).await;
        let events = events.map_err(|error| CallError::record(METHOD, error))?;
        let asked = token_in(session);
        Ok(Batch {
            complete: asked == Token::start(),
            went_back: events.token < asked,
            position: Position { session, token: events.token.clone() },
            events,
        })
    }
}
