//! Questions whether a browser may have a topic: a rule answers, or the application is asked.

use std::{collections::BTreeMap, time::Duration};

use tabmux_core::{
    Timestamp,
    session::{Answer, AskId, Denial, Registry},
    wire::{ErrorCode, SessionId},
};
use tokio::{runtime::Handle, task::AbortHandle};

use super::{home::Home, mailbox::Mail, post::Word};
use crate::{
    Refusal,
    topics::{Hook, Right, TopicRequest},
};

/// When a hub may ask again on a server that cannot ask its application.
const RETRY: Duration = Duration::from_secs(5);

/// The questions that the application is asked.
#[derive(Default)]
pub(super) struct Rights {
    cases: BTreeMap<AskId, Case>,
}

/// A call of the application, which ends with its question.
struct Case(AbortHandle);

impl Drop for Case {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Rights {
    /// Answers a question, now or later.
    pub(super) fn ask(
        &mut self,
        registry: &mut Registry,
        (home, now): (&Home, Timestamp),
        ask: AskId,
        (session, renews): (SessionId, bool),
        topic: &str,
    ) {
        let visitor = registry.visitor(session);
        let right = home.fanout.desk.rules().right(visitor.map(|it| &**it), topic);
        let denial = match right {
            Right::Allowed => {
                // It is open.
                let _ = registry.answer(now, ask, Answer::Allow);
                return;
            }
            Right::Denied(message) => {
                Denial { code: ErrorCode::Denied.into(), message, retry: None }
            }
            Right::Ask => {
                let request = TopicRequest::new(topic.to_owned(), renews, visitor.cloned());
                let hook = home.fanout.desk.hook.as_ref();
                if let Some(case) = hook.and_then(|hook| begin(home, hook, ask, request)) {
                    self.cases.insert(ask, case);
                    return;
                }
                let message = "the server cannot tell now who may have this topic";
                Denial { code: ErrorCode::Failed.into(), message, retry: Some(RETRY) }
            }
        };
        let _ = registry.answer(now, ask, Answer::Deny(denial));
    }

    /// Takes the application's answer. One to a question that is over does nothing.
    pub(super) fn answered(
        &mut self,
        registry: &mut Registry,
        now: Timestamp,
        ask: AskId,
        verdict: &Result<(), Refusal>,
    ) {
        if self.cases.remove(&ask).is_none() {
            return;
        }
        let answer = match verdict {
            Ok(()) => Answer::Allow,
            Err(refusal) => {
                let (message, retry) = (refusal.message(), refusal.retry());
                Answer::Deny(Denial { code: ErrorCode::Denied.into(), message, retry })
            }
        };
        let _ = registry.answer(now, ask, answer);
    }

    /// Forgets a question that is over.
    pub(super) fn withdrawn(&mut self, ask: AskId) {
        self.cases.remove(&ask);
    }
}

/// Has the application asked in a task. Returns nothing where no task can run.
fn begin(home: &Home, hook: &Hook, ask: AskId, request: TopicRequest) -> Option<Case> {
    let (mailbox, hook) = (std::sync::Arc::downgrade(&home.mailbox), hook.clone());
    let task = Handle::try_current().ok()?.spawn(async move {
        let verdict = hook.ask(request).await;
        if let Some(mailbox) = mailbox.upgrade() {
            // A shard that failed has no links.
            let _ = mailbox.push(Mail::Word(Word::Topic { ask, verdict }), 0);
        }
    });
    Some(Case(task.abort_handle()))
}
