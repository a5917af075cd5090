//! Questions what came of a topic while a browser was away: the broker answers.

use tabmux_core::{
    Timestamp,
    feed::Recalled,
    session::{Answer, AskId, Denial, Registry},
    wire::{ErrorCode, Position},
};

use super::home::Home;

/// Asks the broker, and answers if it knows at once.
pub(super) fn ask(
    registry: &mut Registry,
    (home, now): (&Home, Timestamp),
    ask: AskId,
    wanted: (&str, Position, usize),
) {
    if let Some(answer) = home.fanout.recall(home.index, ask, wanted) {
        answered(registry, now, &(ask, answer));
    }
}

/// Takes the broker's answer. `None`: the history cannot be had. An answer to a question that is
/// over does nothing.
pub(super) fn answered(
    registry: &mut Registry,
    now: Timestamp,
    (ask, answer): &(AskId, Option<Recalled>),
) {
    let (code, message) = (ErrorCode::Failed.into(), "the history cannot be had");
    let denial = Denial { code, message, retry: None };
    let answer = answer.as_ref().map_or(Answer::Deny(denial), Answer::Recalled);
    let _ = registry.answer(now, *ask, answer);
}
