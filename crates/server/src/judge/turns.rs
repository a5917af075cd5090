//! Turns at the judge: the questions of one client's address wait for each other, so that no other
//! client waits for them.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// An address may have one of so many calls of the judge that may run at a time.
const SHARE: usize = 8;

/// The turns of all clients. A client is kept while it has questions.
pub(super) struct Turns {
    each: usize,
    clients: Mutex<HashMap<u32, Client>>,
}

struct Client {
    calls: Arc<Semaphore>,
    questions: usize,
}

/// A client's question, and its turn once it has one.
pub(super) struct Turn<'a> {
    turns: &'a Turns,
    /// Nothing for an address that has no limits, such as one of this machine.
    client: Option<u32>,
    permit: Option<OwnedSemaphorePermit>,
}

impl Turns {
    /// `calls` is how many calls may run at a time.
    pub(super) fn new(calls: usize) -> Self {
        Self { each: (calls / SHARE).clamp(1, Semaphore::MAX_PERMITS), clients: Mutex::default() }
    }

    /// Lets a client's question queue up behind the others of its address.
    pub(super) fn queue(&self, client: Option<u32>) -> Turn<'_> {
        if let Some(client) = client {
            let fresh = || Client { calls: Arc::new(Semaphore::new(self.each)), questions: 0 };
            self.clients().entry(client).or_insert_with(fresh).questions += 1;
        }
        Turn { turns: self, client, permit: None }
    }

    fn clients(&self) -> MutexGuard<'_, HashMap<u32, Client>> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Turn<'_> {
    /// Waits until it is the question's turn. Dropping it lets the next one go on.
    pub(super) async fn comes(&mut self) {
        let calls = self.client.and_then(|client| {
            self.turns.clients().get(&client).map(|client| Arc::clone(&client.calls))
        });
        if let Some(calls) = calls {
            self.permit = calls.acquire_owned().await.ok();
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        drop(self.permit.take());
        let Some(client) = self.client else { return };
        let mut clients = self.turns.clients();
        if let Some(entry) = clients.get_mut(&client) {
            entry.questions -= 1;
            if entry.questions == 0 {
                clients.remove(&client);
            }
        }
        // A crowd that went leaves no memory behind.
        if clients.len() < clients.capacity() / 8 {
            clients.shrink_to_fit();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, pin::pin, task::Poll};

    use super::*;

    /// Whether it is a question's turn now.
    async fn is_next(turn: &mut Turn<'_>) -> bool {
        let mut comes = pin!(turn.comes());
        poll_fn(|context| Poll::Ready(comes.as_mut().poll(context).is_ready())).await
    }

    #[tokio::test]
    async fn a_client_has_its_share_of_the_calls_and_others_do_not_wait_for_it() {
        let turns = Turns::new(16);
        let mut mine = [(); 3].map(|()| turns.queue(Some(1)));
        assert!(is_next(&mut mine[0]).await && is_next(&mut mine[1]).await);
        assert!(!is_next(&mut mine[2]).await, "two are a client's share of sixteen");
        assert!(is_next(&mut turns.queue(Some(2))).await);
        let [first, _second, mut third] = mine;
        drop(first);
        assert!(is_next(&mut third).await);
    }

    #[tokio::test]
    async fn an_address_without_limits_has_every_turn() {
        let turns = Turns::new(1);
        let mut turn = [(); 3].map(|()| turns.queue(None));
        for turn in &mut turn {
            assert!(is_next(turn).await);
        }
    }

    #[tokio::test]
    async fn nothing_is_kept_of_clients_that_went() {
        let turns = Turns::new(8);
        let crowd = (0..1_000).map(|client| turns.queue(Some(client))).collect::<Vec<_>>();
        drop(crowd);
        assert_eq!(turns.clients().len(), 0);
        assert!(turns.clients().capacity() < 100);
    }
}
