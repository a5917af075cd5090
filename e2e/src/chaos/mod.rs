//! The chaos run. Tabs, workers, links and the server come and go under streams of numbered
//! messages, and every number is checked. What happens is drawn from a seed.

mod action;
mod check;
mod draw;
mod world;

use std::{
    collections::BTreeMap,
    io::{IsTerminal, Write},
    thread::sleep,
    time::{Duration, Instant},
};

pub use check::Counts;

use crate::{
    Result,
    chaos::{action::Action, draw::Draw, world::World},
    engine::Engine,
    links::{History, Seen},
};

/// The options of a run.
#[derive(Clone, Debug)]
pub struct Options {
    /// The engine of the browser.
    pub engine: Engine,
    /// How the hub is hosted. The page library chooses if it is not given.
    pub tier: Option<String>,
    /// Sockets go through the gateway to a server that knows nothing of tabmux.
    pub gateway: bool,
    /// The seed from which everything is drawn.
    pub seed: u64,
    /// How long the run lasts.
    pub duration: Duration,
    /// The names of the actions to draw from. Empty means all.
    pub only: Vec<String>,
}

impl Options {
    /// Returns the command that does the same run again.
    pub fn replay(&self) -> String {
        let Self { engine, seed, .. } = self;
        let seconds = self.duration.as_secs();
        let tier = self.tier.as_ref().map(|tier| format!(" --tier {tier}")).unwrap_or_default();
        let only: String = self.only.iter().map(|name| format!(" --only {name}")).collect();
        let more = if self.gateway { " --gateway" } else { "" };
        let draw = format!("--engine {engine} --seed {seed} --seconds {seconds}");
        format!("cargo xtask chaos {draw}{tier}{more}{only}")
    }
}

/// Runs, and prints what it does. The last line is the result.
pub fn run(options: &Options) -> Result<()> {
    for name in &options.only {
        if !Action::all().any(|action| action.to_string() == *name) {
            let names: Vec<_> = Action::all().map(|action| action.to_string()).collect();
            return Err(format!("no action {name}; there are {}", names.join(", ")));
        }
    }
    println!("{}", options.replay());
    for action in Action::all() {
        if let Some(why) = action.obstacle(options.engine) {
            println!("{:<9} {action} ... skipped: {why}", options.engine);
        }
    }
    let mut run = Run::start(options)?;
    let outcome = run.all(options);
    run.progress.end();
    match outcome {
        Ok(()) => {
            println!("{}", run.summary());
            Ok(())
        }
        Err(error) => Err(format!("{error}\n{}", run.story(options))),
    }
}

struct Run {
    world: World,
    draw: Draw,
    start: Instant,
    actions: Vec<String>,
    done: BTreeMap<String, u32>,
    /// True if an action broke something in this run.
    has_broken: bool,
    /// True if an action since the last check may have cost publications.
    may_gap: bool,
    progress: Progress,
}

/// Number of actions between two checks.
const STEPS: u64 = 8;

impl Run {
    fn start(options: &Options) -> Result<Self> {
        Ok(Self {
            world: World::start(options.engine, options.tier.clone(), options.gateway)?,
            draw: Draw::new(options.seed),
            start: Instant::now(),
            actions: Vec::new(),
            done: BTreeMap::new(),
            has_broken: false,
            may_gap: false,
            progress: Progress::new(),
        })
    }

    fn all(&mut self, options: &Options) -> Result<()> {
        let direct = options.tier.as_deref() == Some("direct");
        for _ in 0..3 {
            let said = self.world.open_tab()?;
            self.note("open-tab", &said);
        }
        self.check(direct)?;
        while self.start.elapsed() < options.duration {
            for _ in 0..=self.draw.below(STEPS) {
                let action = Action::draw(&mut self.draw, options.engine, &options.only);
                let said = self.world.act(action, &mut self.draw);
                let said = said.map_err(|error| format!("{action}: {error}"))?;
                if let Some(said) = said {
                    self.has_broken |= action.breaks();
                    self.may_gap |= action.may_cost_publications();
                    self.note(&action.to_string(), &said);
                    sleep(Duration::from_millis(self.draw.below(400)));
                }
            }
            self.check(direct)?;
        }
        // Each check has seen that everything moves. That proves nothing if nothing was broken.
        if !self.has_broken {
            return Err("nothing was broken: give it more time".into());
        }
        Ok(())
    }

    fn check(&mut self, direct: bool) -> Result<()> {
        let start = Instant::now();
        let faults = self.world.check(direct, std::mem::take(&mut self.may_gap))?;
        self.note("check", &format!("took {} ms", start.elapsed().as_millis()));
        if faults.is_empty() { Ok(()) } else { Err(faults.join("\n")) }
    }

    fn note(&mut self, action: &str, said: &str) {
        *self.done.entry(action.to_owned()).or_default() += 1;
        let line = format!("{:8.3} s  {action:<12} {said}", self.start.elapsed().as_secs_f64());
        self.progress.show(&line);
        self.actions.push(line);
    }

    fn summary(&self) -> String {
        let Counts { down, up, publications, gaps, sockets } = self.world.told.counts;
        let Seen { links, sessions, terms, fenced } = self.world.proxy.history(History::seen);
        let done: Vec<_> =
            self.done.iter().map(|(name, count)| format!("{count} {name}")).collect();
        format!(
            "nothing lost, nothing twice, nothing out of order: {down} messages down, {up} up, \
             {publications} publications, {gaps} gaps told, {sockets} sockets; \
             never two links in one term: {links} links, {sessions} sessions, {terms} terms, \
             {fenced} fenced; {}",
            done.join(", ")
        )
    }

    /// Returns what helps to understand a failure, and the command that repeats it.
    fn story(&self, options: &Options) -> String {
        let log = self.world.server.log();
        let last = &log[log.len().saturating_sub(15)..];
        let last: String = last.iter().map(|line| format!("\n  server: {line}")).collect();
        let actions = self.actions.join("\n  ");
        format!("what was done:\n  {actions}{last}\nagain: {}", options.replay())
    }
}

/// The progress of a run: one line that changes on a terminal, and a line now and then elsewhere.
struct Progress {
    terminal: bool,
    last: Instant,
}

impl Progress {
    fn new() -> Self {
        Self { terminal: std::io::stdout().is_terminal(), last: Instant::now() }
    }

    fn show(&mut self, line: &str) {
        if self.terminal {
            print!("\r\x1b[K{}", line.chars().take(79).collect::<String>());
            // A failure to flush loses nothing.
            drop(std::io::stdout().flush());
        } else if self.last.elapsed() > Duration::from_secs(10) {
            println!("{line}");
            self.last = Instant::now();
        }
    }

    fn end(&self) {
        if self.terminal {
            print!("\r\x1b[K");
        }
    }
}
