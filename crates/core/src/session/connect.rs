//! Links whose user the shell tells once it has seen their credentials.
//!
//! HELLO shows the credentials. Until the answer comes, the link is *pending*: nothing is read of
//! it, no claim is looked at, and a session that the hub claims keeps the link that it has.

use std::{sync::Arc, time::Duration};

use tabmux_wire::{Hello, RefusedReason, Term};

use super::{
    LinkDown, LinkId, Refusal, Registry, Visitor,
    asks::{Answer, AnswerError, Ask, AskId, Asker, Denial, Secret},
    ledger::{ASK, Charge},
    link::{Greeting, Hi, Pending, Phase},
    visitor,
};

impl Registry {
    /// Returns true for a link of which the shell reads nothing, since it was asked whose it is. It
    /// reads on when it has answered, or when the link is closed.
    pub fn is_pending(&self, link: LinkId) -> bool {
        self.links.get(link).is_some_and(|link| matches!(link.phase, Phase::Pending(_)))
    }

    /// Returns true if the shell is asked whose a link is that says this.
    pub(super) fn asks_about(&self, greeting: &Greeting, hello: &Hello<'_>) -> bool {
        matches!(greeting.visitor.as_deref(), Some(Visitor::Undecided(_)))
            || self.fx.config.credentials && !hello.credentials.is_empty()
    }

    /// Asks whose a link is.
    pub(super) fn ask_about(&mut self, link: LinkId, greeting: Greeting, hello: &Hello<'_>) {
        let what = Ask::Connect {
            link,
            renews: false,
            visitor: greeting.visitor.clone(),
            credentials: Secret(hello.credentials.into()),
        };
        // As long as the hub waits for WELCOME.
        let deadline = self.fx.now + self.fx.config.handshake_timeout;
        let ask = self.fx.ask_until(deadline, Asker::Connect(link), what);
        let cost = ASK + hello.credentials.len();
        self.fx.charge(Charge::Asks, 0, cost);
        let pending = Pending { greeting, hello: Hi::from(hello), ask, cost };
        self.links.suspend(link, pending, self.fx.now);
        self.links.set_timer(&self.fx.config, link);
    }

    /// Takes the answer to the question whose a link is.
    pub(super) fn connect_answered(
        &mut self,
        ask: AskId,
        link: LinkId,
        answer: Answer<'_>,
    ) -> Result<(), AnswerError> {
        let answer = match answer {
            Answer::Admit(visitor) => Ok(visitor),
            Answer::Deny(denial) => Err(denial),
            Answer::Open { .. }
            | Answer::Reply { .. }
            | Answer::Allow
            | Answer::Joined { .. }
            | Answer::Recalled(_) => {
                return Err(AnswerError::Unfit);
            }
        };
        self.fx.asks.close(ask);
        let Some(Phase::Pending(pending)) = self.links.get(link).map(|link| &link.phase) else {
            return Ok(());
        };
        let hello = pending.hello;
        match answer {
            Ok(visitor) => {
                self.visited_by(link, visitor);
                if let Err(what) = self.enter_session(link, hello) {
                    self.misbehaved(link, what);
                }
            }
            Err(Denial { code: _, message, retry }) => {
                // To a hub that claims a session, `Denied` with a time means that the claim is
                // wrong, and it gives the session up. Who is to come back later goes on with it.
                let reason = retry.map_or(RefusedReason::Denied, |_| RefusedReason::Limit);
                let retry = retry.map(|retry| retry.max(Duration::from_millis(1)));
                let refusal = Refusal { reason, term: Term(0), retry, message };
                self.refuse_because(link, hello.version, &refusal, LinkDown::TurnedAway);
            }
        }
        Ok(())
    }

    /// Notes whose a link is that waits for that.
    fn visited_by(&mut self, link: LinkId, visitor: &Arc<Visitor>) {
        self.credentials.set(link, visitor.until());
        let Some(Phase::Pending(pending)) = self.links.get_mut(link).map(|link| &mut link.phase)
        else {
            return;
        };
        let before = pending.greeting.visitor.replace(Arc::clone(visitor));
        let after = pending.greeting.visitor.as_ref();
        let costs = (visitor::cost(before.as_ref()), visitor::cost(after));
        self.fx.charge(Charge::Visitors, costs.0, costs.1);
    }
}
