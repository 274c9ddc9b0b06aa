//! What becomes of a packet, by what the store and the pool hold at this moment.

use api::control::{ControlError, Explanation, Question};

use super::Engine;
use crate::explain::{self, ExplainError, InvalidQuestion};
use crate::report::chain;

impl Engine {
    /// Answers; nothing is written, so whoever stands by answers as well.
    ///
    /// # Errors
    /// [`ControlError`]
    pub(super) async fn explain(&self, question: Question) -> Result<Explanation, ControlError> {
        let Question { from, to, packet, live } = question;
        let probe =
            packet.parse().map_err(|error: InvalidQuestion| ControlError::NoPacket(error.to_string()))?;
        let question = explain::Question { from, to, probe, live };
        let plan = self.plan_of_now().await?;
        let answer = explain::explain(self.hosts.pool(), &plan.hosts, &plan.seen.inventory, &question).await;
        answer.map_err(|error| match error {
            ExplainError::Live { .. } => ControlError::HostUnreadable(chain(&error)),
            ExplainError::From(..)
            | ExplainError::To(..)
            | ExplainError::Elsewhere
            | ExplainError::NoFamily(_) => ControlError::NoAnswer(chain(&error)),
        })
    }
}
