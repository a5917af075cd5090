//! What a hub is told when a shard refuses something.

use std::time::Duration;

use tabmux_core::{
    Timestamp,
    session::{Answer, AskId, Denial, DenialCode, Registry},
    wire::ErrorCode,
};

use crate::logs::rarely;

/// When a hub may ask again for a topic that is one too many for the server.
pub(super) const FULL_RETRY: Duration = Duration::from_secs(60);

/// When a hub may ask again for a topic that the broker could not join.
pub(super) const BROKER_RETRY: Duration = Duration::from_secs(5);

/// Refuses a request of a tab.
pub(super) fn refuse_request(registry: &mut Registry, now: Timestamp, ask: AskId) {
    let (code, message) = (ErrorCode::Unsupported.into(), "this server takes no requests");
    // The question is open.
    let _ = registry.answer(now, ask, Answer::Deny(Denial { code, message, retry: None }));
}

/// Returns the code of a handler's refusal. One that handlers have no right to is none.
pub(super) fn denial_code(code: u16) -> DenialCode {
    if (3_000..=4_999).contains(&code) {
        DenialCode::Application(code)
    } else {
        rarely!(error, "a handler refused a socket with {code}; its codes are from 3000 to 4999");
        ErrorCode::Rejected.into()
    }
}
