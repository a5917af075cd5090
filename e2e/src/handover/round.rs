//! One round: two tabs under a stream of ticks, something dies, the follower is asked what it saw.

use std::time::Duration;

use serde_json::{Value, json};

use crate::{
    Result, Stop,
    browser::{Kind, Tab},
    engine::{Engine, Session},
    handover::{Death, Tier},
    pages::PageServer,
    paths, ports,
    proxy::Proxy,
    server::{LinkServer, Program},
    wait,
};

/// What a page saw from just before the death until the ticks came again.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    /// The longest time without a tick, in milliseconds.
    pub(super) gap: f64,
    /// Ticks that never came, with a close in between.
    pub(super) said: u64,
    /// Ticks that never came, and nothing told.
    pub(super) silent: u64,
    /// Ticks that came twice.
    pub(super) duplicated: u64,
    /// Whether the page was hidden, as it said itself.
    pub(super) was_hidden: bool,
}

/// Browser and servers of the cells of one tier.
pub(super) struct Bench {
    session: Session,
    engine: Engine,
    tier: Tier,
    pages: PageServer,
    server: LinkServer,
    proxy: Proxy,
    /// The follower is hidden.
    hides: bool,
}

/// Ticks that prove that all is well, before and after.
const STEADY: u64 = 15;

const LIMIT: Duration = Duration::from_secs(20);

/// How long a page is hidden before the other one dies, and how long it may take to notice.
const HIDDEN: Duration = Duration::from_secs(15);
const LIMIT_HIDDEN: Duration = Duration::from_secs(150);

impl Bench {
    pub(super) fn start(engine: Engine, tier: Tier, hides: bool) -> Result<Self> {
        let pages = PageServer::start(paths::assets()?)?;
        let plain = ports::free()?;
        let program = Program::Numbers { topics: 0, plain: Some(plain), upstream: None };
        let server = LinkServer::start(program, &[pages.origin()])?;
        let proxy =
            if tier == Tier::None { Proxy::start(plain)? } else { Proxy::watching(server.port())? };
        let session = match hides {
            true => Session::start_for_hidden_crashes(engine)?,
            false => Session::start_for_crashes(engine)?,
        };
        Ok(Self { session, engine, tier, pages, server, proxy, hides })
    }

    /// Why no cell of this tier can be.
    pub(super) fn obstacle(&mut self) -> Result<Option<String>> {
        if self.tier == Tier::None {
            return Ok(None);
        }
        let tab = self.open(Kind::Tab)?;
        let url = self.url("/");
        let tier = self.session.browser.run(&tab, &format!("await H.tier({url})"))?;
        self.session.browser.close_all()?;
        let tier = tier.as_str().unwrap_or_default();
        let wanted = self.tier.name();
        Ok((tier != wanted).then(|| format!("asked for {wanted}, the page got: {tier}")))
    }

    pub(super) fn round(&mut self, death: Death) -> Result<Seen> {
        let leader = self.streaming(Kind::Tab)?;
        let follower =
            if death == Death::Reloaded { leader.clone() } else { self.follower(&leader)? };
        if death == Death::WorkerCrashed {
            // What is left in its process is the worker alone.
            self.session.browser.close(&leader)?;
            self.steady(&follower)?;
        }
        self.session.browser.run(&follower, "H.reset()")?;
        let seen = match self.hides {
            true => self.notice_hidden(death, &leader, &follower)?,
            false => self.notice(death, &leader, &follower)?,
        };
        self.session.browser.close_all()?;
        // The next round's first tab is to be the first, and to host the worker.
        // Chromium's outlives its tabs.
        if self.engine == Engine::Chromium {
            self.session.browser.end_workers().map_err(text)?;
        }
        let port = self.server.port();
        wait::until("the link to go", LIMIT, || {
            wait::equal("connections", crate::sockets::established(port)?, 0)
        })?;
        let faults = self.proxy.history(|history| history.faults().join("\n"));
        wait::equal("what the links tell", faults, String::new())?;
        let count = |name: &str| seen[name].as_u64().unwrap_or_default();
        Ok(Seen {
            gap: seen["gap"].as_f64().unwrap_or_default(),
            said: count("said"),
            silent: count("silent"),
            duplicated: count("duplicated"),
            was_hidden: seen["is"] == "hidden",
        })
    }

    /// What the follower sees of the death.
    fn notice(&mut self, death: Death, leader: &Tab, follower: &Tab) -> Result<Value> {
        self.die(death, leader)?;
        // The follower's next ticks, told apart from those before by the clock.
        let then = tick_now();
        wait::until("ticks after the death", LIMIT, || {
            let last = self.session.browser.run(follower, "H.last")?;
            enough_after(then, &last)
        })?;
        self.session.browser.run(follower, "H.seen")
    }

    /// The same of a follower that is behind another tab all the time.
    fn notice_hidden(&mut self, death: Death, leader: &Tab, follower: &Tab) -> Result<Value> {
        let front = self.open(Kind::Tab)?;
        self.session.browser.run(follower, "H.tells = true")?;
        self.session.browser.run(&front, "1")?;
        std::thread::sleep(HIDDEN);
        self.die(death, leader)?;
        let then = tick_now();
        wait::until("ticks after the death", LIMIT_HIDDEN, || {
            let told = self.session.browser.run(&front, "JSON.parse(localStorage.told)")?;
            enough_after(then, &told["last"]).map(|()| told)
        })
    }

    fn die(&mut self, death: Death, leader: &Tab) -> Result<()> {
        match death {
            Death::TabClosed => self.session.browser.close(leader),
            Death::TabCrashed => self.session.browser.crash(leader).map_err(text),
            Death::WorkerCrashed => self.crash_worker(),
            Death::Reloaded => {
                self.session.browser.reload(leader)?;
                self.begin(leader)
            }
            Death::ServerRestarted => {
                self.server.kill();
                self.server.restart()
            }
            Death::LinkCut => {
                let cut = self.proxy.cut();
                if cut == 0 { Err("there was no link to cut".into()) } else { Ok(()) }
            }
        }
    }

    fn crash_worker(&mut self) -> Result<()> {
        match self.session.browser.crash_worker(&[])? {
            Some(_) => Ok(()),
            None => Err("no process runs a worker".into()),
        }
    }

    /// A second tab, in a process that is not the first one's.
    fn follower(&mut self, leader: &Tab) -> Result<Tab> {
        let tab = self.streaming(Kind::Tab)?;
        if self.engine != Engine::Firefox {
            return Ok(tab);
        }
        let first = self.session.browser.process(leader)?;
        let mut tab = tab;
        for _ in 0..8 {
            if self.session.browser.process(&tab)? != first {
                return Ok(tab);
            }
            tab = self.streaming(Kind::Tab)?;
        }
        Err("every tab lives in the process of the first".into())
    }

    /// A new tab that gets its ticks.
    fn streaming(&mut self, kind: Kind) -> Result<Tab> {
        let tab = self.open(kind)?;
        self.begin(&tab)?;
        self.steady(&tab)?;
        Ok(tab)
    }

    fn open(&mut self, kind: Kind) -> Result<Tab> {
        let url = self.pages.url(&format!("handover.html?tier={}", self.tier.name()));
        let tab = self.session.browser.open(kind, &url)?;
        self.session.browser.run(&tab, "await ready")?;
        Ok(tab)
    }

    fn begin(&mut self, tab: &Tab) -> Result<()> {
        let url = self.url("/ticks");
        self.session.browser.run(tab, "await ready")?;
        self.session.browser.run(tab, &format!("H.open({url})")).map(drop)
    }

    fn steady(&mut self, tab: &Tab) -> Result<()> {
        self.session.browser.run(tab, "H.reset()")?;
        wait::until("ticks", LIMIT, || {
            let ticks = self.session.browser.run(tab, "H.seen.ticks")?.as_u64();
            let ticks = ticks.unwrap_or_default();
            if ticks >= STEADY { Ok(()) } else { Err(format!("{ticks} ticks")) }
        })
    }

    fn url(&self, path: &str) -> Value {
        json!(format!("ws://127.0.0.1:{}{path}", self.proxy.port()))
    }
}

/// Whether enough ticks have come since then.
fn enough_after(then: u64, last: &Value) -> Result<()> {
    let after = last.as_u64().unwrap_or_default().saturating_sub(then);
    if after >= STEADY { Ok(()) } else { Err(format!("{after} ticks after it")) }
}

/// Hundredths of a second since 1970, as the server counts them.
fn tick_now() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    (now.unwrap_or_default().as_millis() / 10).try_into().unwrap_or(u64::MAX)
}

fn text(stop: Stop) -> String {
    match stop {
        Stop::Failed(reason) | Stop::Skipped(reason) => reason,
    }
}
