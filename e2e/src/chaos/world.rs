//! The browser, the proxy and the server of a run, and how each action is applied to them.

use std::{
    thread::sleep,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use serde_json::{Value, json};

use crate::{
    Result, Stop,
    browser::{Kind, Tab},
    chaos::{action::Action, check::Told, draw::Draw},
    engine::{Engine, Session},
    pages::PageServer,
    paths, ports,
    proxy::{Proxy, Weather},
    server::{LinkServer, Program},
};

/// Everything that a run breaks.
pub(super) struct World {
    pub(super) session: Session,
    tier: Option<String>,
    pages: PageServer,
    pub(super) server: LinkServer,
    pub(super) proxy: Proxy,
    pub(super) tabs: Vec<Page>,
    /// Number of names that were given so far.
    names: u64,
    /// The time when the server last began to run, in milliseconds since 1970.
    pub(super) server_since: u64,
    pub(super) told: Told,
}

/// A tab with the page of the run.
pub(super) struct Page {
    pub(super) tab: Tab,
    /// The id of the page's current load.
    pub(super) load: String,
    pub(super) state: PageState,
}

/// What a tab shows.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum PageState {
    Here,
    /// The tab shows another page.
    Away,
    Frozen,
}

const MOST_TABS: usize = 5;
const MOST_SOCKETS: usize = 4;
const FEWEST_SOCKETS: usize = 2;
const TOPICS: u32 = 2;

impl World {
    /// Starts everything, with no tab.
    pub(super) fn start(engine: Engine, tier: Option<String>, gateway: bool) -> Result<Self> {
        let pages = PageServer::start(paths::assets()?)?;
        let upstream = if gateway { Some(ports::free()?) } else { None };
        let program = Program::Numbers { topics: TOPICS, plain: None, upstream };
        let server = LinkServer::start(program, &[pages.origin()])?;
        let proxy = Proxy::watching(server.port())?;
        let session = Session::start_for_crashes(engine)?;
        let (tabs, names) = (Vec::new(), 0);
        let (server_since, told) = (now(), Told::default());
        Ok(Self { session, tier, pages, server, proxy, tabs, names, server_since, told })
    }

    /// Applies `action`, if there is something to apply it to. Returns what was done, in words.
    pub(super) fn act(&mut self, action: Action, draw: &mut Draw) -> Result<Option<String>> {
        match action {
            Action::OpenTab if self.tabs.len() < MOST_TABS => self.open_tab().map(Some),
            Action::OpenTab => Ok(None),
            Action::CloseTab | Action::CrashTab if self.tabs.len() < 2 => Ok(None),
            Action::CloseTab => self.with(draw, &[PageState::Here], Self::close_tab),
            Action::CrashTab => self.with(draw, &[PageState::Here], Self::crash_tab),
            Action::Leave => self.with(draw, &[PageState::Here], Self::leave),
            Action::Back => self.with(draw, &[PageState::Away], Self::back),
            Action::Reload => self.with(draw, &[PageState::Here], Self::reload),
            Action::Freeze => self.with(draw, &[PageState::Here], Self::freeze),
            Action::Thaw => self.with(draw, &[PageState::Frozen], Self::thaw),
            Action::OpenSocket => self.with(draw, &[PageState::Here], Self::open_socket),
            Action::CloseSocket | Action::Burst => self.use_socket(action, draw),
            Action::CrashWorker => self.crash_worker(),
            Action::EndWorker => {
                let ended = done(self.session.browser.end_workers())?;
                Ok((ended > 0).then(|| format!("{ended} workers")))
            }
            Action::Cut => Ok(Some(format!("{} connections", self.proxy.cut()))),
            Action::Stall => self.weather(Weather::Stalled, 100 + draw.below(900)),
            Action::HalfOpen => self.weather(Weather::HalfOpen, 100 + draw.below(900)),
            Action::Refuse => {
                self.proxy.set(Weather::Refusing);
                self.proxy.cut();
                self.weather(Weather::Refusing, 100 + draw.below(1500))
            }
            Action::KillServer => {
                self.server.kill();
                self.start_server(draw.below(800))
            }
            Action::DrainServer => {
                self.server.terminate(Duration::from_secs(20))?;
                self.start_server(draw.below(300))
            }
        }
    }

    /// Ends all faults. Only after that everything must work.
    pub(super) fn heal(&mut self) -> Result<()> {
        self.proxy.set(Weather::Fair);
        for index in 0..self.tabs.len() {
            if self.tabs[index].state == PageState::Frozen {
                self.thaw(index)?;
            }
        }
        if self.tabs.iter().all(|page| page.state == PageState::Away) {
            self.open_tab()?;
        }
        Ok(())
    }

    /// Evaluates an expression in a page.
    pub(super) fn run(&mut self, index: usize, expression: &str) -> Result<Value> {
        self.session.browser.run(&self.tabs[index].tab, expression)
    }

    /// Returns the pages that are shown now, by index.
    pub(super) fn here(&self) -> Vec<usize> {
        let all = 0..self.tabs.len();
        all.filter(|index| self.tabs[*index].state == PageState::Here).collect()
    }

    fn with(
        &mut self,
        draw: &mut Draw,
        states: &[PageState],
        act: impl FnOnce(&mut Self, usize) -> Result<String>,
    ) -> Result<Option<String>> {
        let all = 0..self.tabs.len();
        let able: Vec<_> = all.filter(|at| states.contains(&self.tabs[*at].state)).collect();
        let at = draw.index(able.len().max(1));
        able.get(at).map(|index| act(self, *index)).transpose()
    }

    pub(super) fn open_tab(&mut self) -> Result<String> {
        let tier = self.tier.as_ref().map(|tier| format!("?tier={tier}")).unwrap_or_default();
        let url = self.pages.url(&format!("chaos.html{tier}"));
        let kind = if self.names.is_multiple_of(3) { Kind::Window } else { Kind::Tab };
        let tab = self.session.browser.open(kind, &url)?;
        self.tabs.push(Page { tab, load: String::new(), state: PageState::Here });
        let index = self.tabs.len() - 1;
        self.begin(index)
    }

    /// Lets a page that was just loaded open its sockets and topics.
    fn begin(&mut self, index: usize) -> Result<String> {
        self.run(index, "await ready")?;
        let load = self.run(index, "C.page")?;
        self.tabs[index].load = load.as_str().unwrap_or_default().to_owned();
        let url = self.url("/");
        self.run(index, &format!("C.connect({url})"))?;
        for topic in 0..TOPICS {
            self.run(index, &format!("C.topic('chaos:{topic}')"))?;
        }
        self.fill(index)?;
        Ok(format!("{} with {}", self.name_of(index), self.streams(index)?.join(", ")))
    }

    /// Opens sockets in a page until it has several. It may have lost some with a server.
    pub(super) fn fill(&mut self, index: usize) -> Result<()> {
        while self.streams(index)?.len() < FEWEST_SOCKETS {
            self.open_socket(index)?;
        }
        Ok(())
    }

    fn open_socket(&mut self, index: usize) -> Result<String> {
        let open = self.streams(index)?;
        if open.len() >= MOST_SOCKETS {
            return Ok("enough are open".into());
        }
        self.names += 1;
        let (name, pause) = (format!("s{}", self.names), 10 + self.names % 4 * 10);
        let url = self.url(&format!("/stream?name={name}&every={pause}"));
        self.run(index, &format!("C.open('{name}', {url})"))?;
        Ok(format!("{name} in {}", self.name_of(index)))
    }

    fn use_socket(&mut self, action: Action, draw: &mut Draw) -> Result<Option<String>> {
        let here = self.here();
        let Some(index) = here.get(draw.index(here.len().max(1))).copied() else {
            return Ok(None);
        };
        let streams = self.streams(index)?;
        let (at, count) = (draw.index(streams.len().max(1)), 1 + draw.below(60));
        let Some(name) = streams.get(at) else { return Ok(None) };
        let said = if action == Action::Burst {
            self.run(index, &format!("C.burst('{name}', {count})"))?;
            format!("{count} messages of {name}")
        } else {
            self.run(index, &format!("C.close('{name}')"))?;
            name.clone()
        };
        Ok(Some(said))
    }

    /// Returns the sockets of a page that are not closed.
    fn streams(&mut self, index: usize) -> Result<Vec<String>> {
        let names = "C.report().streams.filter((s) => s.readyState < 2).map((s) => s.name)";
        let names = self.run(index, names)?;
        let names = names.as_array().into_iter().flatten().filter_map(Value::as_str);
        Ok(names.map(String::from).collect())
    }

    fn close_tab(&mut self, index: usize) -> Result<String> {
        let name = self.name_of(index);
        self.hear(index)?;
        let page = self.tabs.remove(index);
        self.session.browser.close(&page.tab)?;
        Ok(name)
    }

    fn crash_tab(&mut self, index: usize) -> Result<String> {
        let name = self.name_of(index);
        let process = self.session.browser.process(&self.tabs[index].tab)?;
        // In Firefox other tabs may live in the same process.
        let mut dead = vec![index];
        if let Some(process) = process {
            dead.extend(self.in_process(process)?.into_iter().filter(|other| *other != index));
        }
        self.hear_all(&dead)?;
        done(self.session.browser.crash(&self.tabs[index].tab))?;
        self.bury(dead)?;
        Ok(name)
    }

    fn crash_worker(&mut self) -> Result<Option<String>> {
        let tabs: Vec<Tab> = self.tabs.iter().map(|page| page.tab.clone()).collect();
        // It is not known in advance which pages die with it.
        self.hear_all(&self.here())?;
        let Some(dead) = self.session.browser.crash_worker(&tabs)? else { return Ok(None) };
        let all = 0..self.tabs.len();
        self.bury(all.filter(|index| dead.contains(&self.tabs[*index].tab)).collect())?;
        Ok(Some(format!("{} tabs with it", dead.len())))
    }

    fn hear_all(&mut self, indices: &[usize]) -> Result<()> {
        let here = self.here();
        let mut both = indices.iter().filter(|index| here.contains(index));
        both.try_for_each(|index| self.hear(*index))
    }

    /// Returns the tabs that live in this process, as far as the driver knows.
    fn in_process(&mut self, wanted: i64) -> Result<Vec<usize>> {
        let mut found = Vec::new();
        for (index, page) in self.tabs.iter().enumerate() {
            if self.session.browser.process(&page.tab)? == Some(wanted) {
                found.push(index);
            }
        }
        Ok(found)
    }

    /// Closes what is left of dead tabs.
    fn bury(&mut self, mut dead: Vec<usize>) -> Result<()> {
        dead.sort_unstable();
        for index in dead.into_iter().rev() {
            let page = self.tabs.remove(index);
            self.session.browser.close(&page.tab)?;
        }
        Ok(())
    }

    fn leave(&mut self, index: usize) -> Result<String> {
        // The page may not come back as it was, so it is asked before.
        self.hear(index)?;
        let url = self.pages.url("blank.html");
        self.session.browser.navigate(&self.tabs[index].tab, &url)?;
        self.tabs[index].state = PageState::Away;
        Ok(self.name_of(index))
    }

    fn back(&mut self, index: usize) -> Result<String> {
        self.session.browser.back(&self.tabs[index].tab)?;
        self.tabs[index].state = PageState::Here;
        self.run(index, "await ready")?;
        if self.run(index, "C.page")? == json!(self.tabs[index].load) {
            return Ok(format!("{}, as it was", self.name_of(index)));
        }
        Ok(format!("{}, loaded anew", self.begin(index)?))
    }

    fn reload(&mut self, index: usize) -> Result<String> {
        self.hear(index)?;
        self.session.browser.reload(&self.tabs[index].tab)?;
        self.begin(index)
    }

    fn freeze(&mut self, index: usize) -> Result<String> {
        done(self.session.browser.freeze(&self.tabs[index].tab))?;
        self.tabs[index].state = PageState::Frozen;
        Ok(self.name_of(index))
    }

    fn thaw(&mut self, index: usize) -> Result<String> {
        done(self.session.browser.thaw(&self.tabs[index].tab))?;
        self.tabs[index].state = PageState::Here;
        Ok(self.name_of(index))
    }

    fn weather(&self, weather: Weather, ms: u64) -> Result<Option<String>> {
        self.proxy.set(weather);
        sleep(Duration::from_millis(ms));
        if weather == Weather::HalfOpen {
            self.proxy.cut();
        }
        self.proxy.set(Weather::Fair);
        Ok(Some(format!("{ms} ms")))
    }

    fn start_server(&mut self, ms: u64) -> Result<Option<String>> {
        let start = Instant::now();
        sleep(Duration::from_millis(ms));
        self.server.restart()?;
        self.server_since = now();
        Ok(Some(format!("gone for {} ms", start.elapsed().as_millis())))
    }

    fn url(&self, path: &str) -> Value {
        json!(format!("ws://127.0.0.1:{}{path}", self.proxy.port()))
    }

    pub(super) fn name_of(&self, index: usize) -> String {
        format!("page {}", self.tabs[index].load)
    }
}

/// Returns the milliseconds since 1970, as pages count them.
pub(super) fn now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    now.as_millis().try_into().unwrap_or(u64::MAX)
}

fn done<T>(outcome: std::result::Result<T, Stop>) -> Result<T> {
    outcome.map_err(|stop| match stop {
        Stop::Failed(reason) | Stop::Skipped(reason) => reason,
    })
}
