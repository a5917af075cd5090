//! Asking a judge: so many at a time, in time, and not at all while it keeps failing.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{sync::Semaphore, task::JoinSet, time::timeout};

use super::{Handshake, Hook, KeyOf, Verdict, breaker::Breaker, cache::Cache, turns::Turns};
use crate::{
    Config,
    admission::{Asking, Tickets},
};

/// Why a client is not judged. It is told when to try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoVerdict {
    /// Too many wait.
    Full,
    /// The judge did not answer in time.
    Overdue,
    /// The judge panicked, or has failed so often that it is not asked.
    Failed,
}

/// What a judge said of a client.
pub(crate) struct Answer {
    pub(crate) verdict: Verdict,
    /// Held until the verdict is carried out: it tells whether the user was ended meanwhile.
    pub(crate) asking: Asking,
}

/// Where clients wait for a judge.
pub(crate) struct Room {
    hook: Hook,
    patience: Duration,
    /// Calls that may run at a time.
    calls: Semaphore,
    /// Questions that may wait besides.
    queue: usize,
    limit: usize,
    open: AtomicUsize,
    asked: AtomicU64,
    cached: AtomicU64,
    withdrawn: AtomicU64,
    breaker: Mutex<Breaker>,
    turns: Turns,
    cache: Option<(KeyOf, Mutex<Cache>)>,
    tickets: Arc<Tickets>,
}

impl Room {
    pub(crate) fn new(
        config: &Config,
        hook: Hook,
        cache: Option<(Duration, KeyOf)>,
        tickets: Arc<Tickets>,
    ) -> Self {
        let limits = &config.limits;
        let cache =
            cache.map(|(life, key)| (key, Mutex::new(Cache::new(limits.judge_answers, life))));
        Self {
            hook,
            patience: Duration::from_millis(config.judge_timeout_ms),
            calls: Semaphore::new(limits.judging.min(Semaphore::MAX_PERMITS)),
            queue: limits.judging_queue,
            limit: limits.judging,
            open: AtomicUsize::new(0),
            asked: AtomicU64::new(0),
            cached: AtomicU64::new(0),
            withdrawn: AtomicU64::new(0),
            breaker: Mutex::default(),
            turns: Turns::new(limits.judging),
            cache,
            tickets,
        }
    }

    /// Asks the judge about a request. Dropping the future withdraws the question.
    ///
    /// # Errors
    /// When the judge gives no answer.
    pub(crate) async fn ask(&self, handshake: &Handshake) -> Result<Answer, NoVerdict> {
        let key = self.key(handshake)?;
        if let Some(answer) = key.as_deref().and_then(|key| self.remembered(key)) {
            self.cached.fetch_add(1, Ordering::Relaxed);
            return Ok(answer);
        }
        let mut question = Question::open(self)?;
        let client = handshake.client.and_then(|client| self.tickets.peer(client));
        let mut turn = self.turns.queue(client);
        let waiting = async {
            turn.comes().await;
            self.calls.acquire().await
        };
        let Ok(Ok(permit)) = timeout(self.patience, waiting).await else {
            return Err(question.ends(NoVerdict::Overdue));
        };
        let asking = self.tickets.begin_question();
        let verdict = match self.call(handshake.clone(), client).await {
            Ok(verdict) => verdict,
            Err(trouble) => return Err(question.ends(trouble)),
        };
        self.remember(key.as_deref(), &verdict, &asking);
        drop((permit, turn));
        question.is_over = true;
        Ok(Answer { verdict, asking })
    }

    /// Returns the key under which the answer is remembered, if it is.
    ///
    /// # Errors
    /// When the application's function panics.
    fn key(&self, handshake: &Handshake) -> Result<Option<String>, NoVerdict> {
        let Some((key_of, _)) = &self.cache else { return Ok(None) };
        // A key that was made for cookies does not tell one token from another.
        if handshake.credentials().is_some() {
            return Ok(None);
        }
        let key = catch_unwind(AssertUnwindSafe(|| key_of(handshake)));
        key.map_err(|_| NoVerdict::Failed)
    }

    /// Calls the judge once.
    async fn call(&self, handshake: Handshake, client: Option<u32>) -> Result<Verdict, NoVerdict> {
        if !lock(&self.breaker).may_ask(Instant::now(), self.patience) {
            return Err(NoVerdict::Failed);
        }
        self.asked.fetch_add(1, Ordering::Relaxed);
        // A task of its own, so that a judge that panics loses this question and no more. Dropping
        // the set ends the task.
        let mut task = JoinSet::new();
        let hook = Arc::clone(&self.hook);
        task.spawn(async move { hook(handshake).await });
        let answer = match timeout(self.patience, task.join_next()).await {
            Ok(Some(Ok(verdict))) => Ok(verdict),
            Ok(Some(Err(_)) | None) => Err(NoVerdict::Failed),
            Err(_) => Err(NoVerdict::Overdue),
        };
        match answer {
            Ok(_) => lock(&self.breaker).answered(),
            Err(_) => lock(&self.breaker).failed(Instant::now(), client),
        }
        answer
    }

    /// Remembers an answer, unless its user was ended meanwhile. A refusal names no user, so every
    /// end counts. One with a time to try again holds for nobody else: the judge could not tell.
    fn remember(&self, key: Option<&str>, verdict: &Verdict, asking: &Asking) {
        let (Some(key), Some((_, cache))) = (key, &self.cache) else { return };
        let mut cache = lock(cache);
        let is_outdated = match verdict {
            Ok(admitted) => admitted.name().is_some_and(|user| asking.is_outdated(user)),
            Err(refusal) => refusal.retry().is_some() || asking.is_old(),
        };
        if !is_outdated {
            cache.put(Instant::now(), key, verdict.clone());
        }
    }

    fn remembered(&self, key: &str) -> Option<Answer> {
        let (_, cache) = self.cache.as_ref()?;
        let cache = lock(cache);
        let verdict = cache.get(Instant::now(), key)?.clone();
        if verdict.as_ref().is_ok_and(|it| it.lives() == Some(Duration::ZERO)) {
            return None;
        }
        // Under the lock: who is ended from now on is ended after the answer was given.
        Some(Answer { verdict, asking: self.tickets.begin_question() })
    }

    /// Ends a user: no answer that names the user and was given or asked for before counts. What
    /// is remembered of the user is forgotten under the same lock, so it never outlives this.
    pub(crate) fn end_user(&self, user: &str) {
        let cache = self.cache.as_ref().map(|(_, cache)| lock(cache));
        self.tickets.end_user(user);
        if let Some(mut cache) = cache {
            cache.forget(user);
        }
    }

    /// Returns how many questions are open.
    pub(crate) fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Returns how often the judge was asked, how often an earlier answer served, and how many
    /// questions were withdrawn.
    pub(crate) fn counts(&self) -> [u64; 3] {
        [&self.asked, &self.cached, &self.withdrawn].map(|count| count.load(Ordering::Relaxed))
    }
}

/// A question that is open.
struct Question<'a> {
    room: &'a Room,
    /// It was answered, or given up by the room; else its client left.
    is_over: bool,
}

impl<'a> Question<'a> {
    fn open(room: &'a Room) -> Result<Self, NoVerdict> {
        let before = room.open.fetch_add(1, Ordering::Relaxed);
        let mut question = Self { room, is_over: false };
        if before >= room.limit.saturating_add(room.queue) {
            return Err(question.ends(NoVerdict::Full));
        }
        Ok(question)
    }

    const fn ends(&mut self, trouble: NoVerdict) -> NoVerdict {
        self.is_over = true;
        trouble
    }
}

impl Drop for Question<'_> {
    fn drop(&mut self) {
        self.room.open.fetch_sub(1, Ordering::Relaxed);
        if !self.is_over {
            self.room.withdrawn.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
