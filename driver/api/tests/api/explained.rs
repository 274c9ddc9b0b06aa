//! What a fake daemon explains.

use api::control::{ControlError, Explanation, FamilyAnswer, LiveAnswer, Question, Side};
use api::wire::{Direction, Ethertype};

/// An answer with something in each of its fields; the installed rules contradict it.
pub(crate) fn explained(question: Question) -> Result<Explanation, ControlError> {
    let Question { from, to, packet, live } = question;
    if from == "nobody" {
        return Err(ControlError::NoAnswer("--from \"nobody\": the pool has no such VM".to_owned()));
    }
    let side = |passes| Side {
        direction: Direction::Egress,
        passes,
        because: "rule r of group web".to_owned(),
        group: Some("web".to_owned()),
        rule: Some("r".to_owned()),
    };
    let installed = LiveAnswer {
        host: "xen1".to_owned(),
        allowed: false,
        agrees: false,
        steps: vec!["-j DROP".to_owned()],
    };
    let live = live.then_some(installed).into_iter().collect();
    let answer = FamilyAnswer { family: Ethertype::Ipv4, allowed: true, sides: vec![side(true)], live };
    Ok(Explanation { from, to, packet, answers: vec![answer] })
}
