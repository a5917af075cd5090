//! Runs a table of tests in one browser session for each engine, and prints a line for each test.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    process::ExitCode,
    sync::mpsc::{self, RecvTimeoutError, Sender},
    thread,
    time::{Duration, Instant},
};

use crate::{
    Result, Stop,
    context::Context,
    engine::{self, Engine, Session},
    process, wait,
};

/// A test and its name.
#[derive(Clone, Copy, Debug)]
pub struct Test {
    name: &'static str,
    run: Steps,
    browser: Setup,
    /// Longest time that the test may take.
    limit: Duration,
}

/// The browser that a test needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Setup {
    /// The browser that the tests before it used.
    Usual,
    /// A browser of its own that outlives the processes of pages.
    ForCrashes,
    /// A browser of its own, in which sites keep no data.
    WithoutStorage,
}

/// The function of a test.
pub type Steps = fn(&mut Context<'_>) -> std::result::Result<(), Stop>;

impl Test {
    /// Returns a test. Its name is a sentence.
    pub const fn new(name: &'static str, run: Steps) -> Self {
        Self { name, run, browser: Setup::Usual, limit: LIMIT }
    }

    /// Returns a test that takes minutes.
    pub const fn long(name: &'static str, run: Steps) -> Self {
        Self { name, run, browser: Setup::Usual, limit: Duration::from_secs(300) }
    }

    /// Returns a test that kills the processes of pages and workers. It has a browser of its own:
    /// see [`Session::start_for_crashes`].
    pub const fn crashing(name: &'static str, run: Steps) -> Self {
        Self { name, run, browser: Setup::ForCrashes, limit: LIMIT }
    }

    /// Returns a test in a browser of its own, in which no site keeps data: see
    /// [`Session::start_without_storage`].
    pub const fn without_storage(name: &'static str, run: Steps) -> Self {
        Self { name, run, browser: Setup::WithoutStorage, limit: LIMIT }
    }
}

/// Runs `tests` as the arguments of the command line say.
pub fn main(tests: &[Test]) -> ExitCode {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(error) => {
            eprintln!("{error}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let tests: Vec<&Test> = tests.iter().filter(|test| options.wants(test)).collect();
    if options.list {
        tests.iter().for_each(|test| println!("{}", test.name));
        return ExitCode::SUCCESS;
    }
    if let Err(error) = process::end_children_on_signals(engine::remove_folders) {
        eprintln!("{error}");
        return ExitCode::FAILURE;
    }
    let mut totals = run_all(&options, &tests);
    totals.try_again(options.tries);
    let Totals { passed, failed, skipped, unsteady } = totals;
    unsteady.iter().for_each(|test| println!("unsteady: {test}"));
    println!("{passed} passed, {} failed, {skipped} skipped", failed.len());
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

const USAGE: &str = "\
browsers [--engine chromium|firefox|webkit]... [--filter TEXT]... [--list] [--at-once] [--tries N]
--at-once runs the engines beside each other, and waits longer for everything
--tries N tries what failed again when all else is through, N times in all; a test that passes
    then is named as unsteady
TABMUX_E2E_SKIP_MISSING=1 skips an engine that is not installed instead of failing";

struct Options {
    engines: Vec<Engine>,
    filters: Vec<String>,
    list: bool,
    at_once: bool,
    tries: u32,
}

impl Options {
    fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self> {
        let (engines, filters) = (Vec::new(), Vec::new());
        let mut options = Self { engines, filters, list: false, at_once: false, tries: 1 };
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--engine" => {
                    let name = arguments.next().ok_or("--engine needs a name")?;
                    let engine = Engine::named(&name);
                    options.engines.push(engine.ok_or_else(|| format!("no engine {name}"))?);
                }
                "--filter" => {
                    options.filters.push(arguments.next().ok_or("--filter needs a text")?);
                }
                "--list" => options.list = true,
                "--at-once" => options.at_once = true,
                "--help" => {
                    println!("{USAGE}");
                    std::process::exit(0);
                }
                "--tries" => {
                    let number = arguments.next().and_then(|number| number.parse().ok());
                    options.tries = number.ok_or("--tries needs a number")?;
                }
                other => return Err(format!("unknown argument {other}")),
            }
        }
        if options.engines.is_empty() {
            options.engines = Engine::ALL.to_vec();
        }
        Ok(options)
    }

    fn wants(&self, test: &Test) -> bool {
        self.filters.is_empty() || self.filters.iter().any(|text| test.name.contains(text))
    }
}

/// Factor by which things may take longer when engines run beside each other.
const PATIENCE: u32 = 3;

#[derive(Default)]
struct Totals<'a> {
    passed: usize,
    failed: Vec<(Engine, Option<&'a Test>)>,
    skipped: usize,
    /// The names of tests that failed and then passed.
    unsteady: Vec<String>,
}

fn run_all<'a>(options: &Options, tests: &[&'a Test]) -> Totals<'a> {
    if !options.at_once {
        let runs = options.engines.iter().map(|engine| run_engine(*engine, tests));
        return runs.fold(Totals::default(), Totals::plus);
    }
    wait::set_patience(PATIENCE);
    thread::scope(|scope| {
        let run = |engine: &Engine| {
            let engine = *engine;
            scope.spawn(move || run_engine(engine, tests))
        };
        let runs: Vec<_> = options.engines.iter().map(run).collect();
        // Only the harness itself can panic here, because the panic of a test is caught.
        let joined = runs.into_iter().map(|run| run.join().unwrap_or_else(|panic| resume(panic)));
        joined.fold(Totals::default(), Totals::plus)
    })
}

fn resume(panic: Box<dyn Any + Send>) -> ! {
    process::kill_all();
    resume_unwind(panic)
}

fn run_engine<'a>(engine: Engine, tests: &[&'a Test]) -> Totals<'a> {
    let mut totals = Totals::default();
    if let Err(missing) = engine.check() {
        if std::env::var_os("TABMUX_E2E_SKIP_MISSING").is_some() {
            println!("{engine:<9} all tests ... skipped: {missing}");
            totals.skipped += tests.len();
        } else {
            println!("{engine:<9} all tests ... FAILED: {missing}");
            totals.failed.push((engine, None));
        }
        return totals;
    }
    let start = Instant::now();
    let mut session = None;
    for test in tests {
        match run_and_tell(engine, test, &mut session) {
            Ok(()) => totals.passed += 1,
            Err(Stop::Skipped(_)) => totals.skipped += 1,
            Err(Stop::Failed(_)) => totals.failed.push((engine, Some(test))),
        }
    }
    println!("{engine:<9} {:.1} s in all", start.elapsed().as_secs_f32());
    totals
}

impl Totals<'_> {
    fn plus(mut self, other: Self) -> Self {
        self.passed += other.passed;
        self.failed.extend(other.failed);
        self.skipped += other.skipped;
        self.unsteady.extend(other.unsteady);
        self
    }

    /// Runs each failed test alone, until it passes or has had `tries` tries.
    fn try_again(&mut self, tries: u32) {
        for _ in 1..tries {
            for (engine, test) in std::mem::take(&mut self.failed) {
                let Some(test) = test else {
                    self.failed.push((engine, None));
                    continue;
                };
                println!("{engine:<9} once more:");
                match run_and_tell(engine, test, &mut None) {
                    Ok(()) => {
                        self.passed += 1;
                        self.unsteady.push(format!("{engine} {}", test.name));
                    }
                    Err(_) => self.failed.push((engine, Some(test))),
                }
            }
        }
    }
}

/// Runs one test and prints its line.
fn run_and_tell(
    engine: Engine,
    test: &Test,
    session: &mut Option<Session>,
) -> std::result::Result<(), Stop> {
    let has_own = test.browser != Setup::Usual;
    if has_own {
        // A page of an earlier test may host the workers of this test, and later tests may miss
        // what this test kills.
        *session = None;
    }
    let begin = Instant::now();
    let outcome = run_test(engine, test, session);
    if has_own {
        *session = None;
    }
    let seconds = begin.elapsed().as_secs_f32();
    let line = match &outcome {
        Ok(()) => format!("ok ({seconds:.1} s)"),
        Err(Stop::Skipped(reason)) => format!("skipped: {reason}"),
        Err(Stop::Failed(reason)) => format!("FAILED ({seconds:.1} s)\n    {reason}"),
    };
    // The line is printed in one piece, because another engine may print at the same time.
    println!("{engine:<9} {} ... {line}", test.name);
    outcome
}

/// Runs one test in `session`. A session is started if there is none, and dropped if it may be
/// broken.
fn run_test(
    engine: Engine,
    test: &Test,
    session: &mut Option<Session>,
) -> std::result::Result<(), Stop> {
    let current = match session {
        Some(current) => current,
        None => session.insert(match test.browser {
            Setup::Usual => Session::start(engine)?,
            Setup::ForCrashes => Session::start_for_crashes(engine)?,
            Setup::WithoutStorage => Session::start_without_storage(engine)?,
        }),
    };
    let deadline = Deadline::start(current.group_ids(), wait::patient(test.limit));
    let mut outcome = catch_unwind(AssertUnwindSafe(|| attempt(engine, test, current)))
        .unwrap_or_else(|_| Err(Stop::Failed("the test panicked".into())));
    if deadline.passed() {
        let step = match outcome {
            Ok(()) => String::new(),
            Err(Stop::Failed(reason) | Stop::Skipped(reason)) => {
                format!("; it ended with {reason}")
            }
        };
        outcome = Err(format!("{:?} were not enough{step}", wait::patient(test.limit)).into());
    }
    if let Err(error) = current.browser.close_all() {
        // The next test gets a new browser.
        let log = current.driver_log();
        *session = None;
        if outcome.is_ok() {
            outcome = Err(format!("the browser is broken after the test: {error}{log}").into());
        }
    }
    outcome
}

fn attempt(engine: Engine, test: &Test, session: &mut Session) -> std::result::Result<(), Stop> {
    let mut context = Context::new(engine, &mut session.browser)?;
    let outcome = (test.run)(&mut context);
    let Err(Stop::Failed(mut reason)) = outcome else {
        return outcome;
    };
    for line in context.evidence() {
        reason.push_str("\n    ");
        reason.push_str(&line);
    }
    Err(Stop::Failed(reason))
}

/// Longest time that a test may take.
const LIMIT: Duration = Duration::from_secs(60);

/// Longest time that a test may go on after its browser was killed.
const GRACE: Duration = Duration::from_secs(60);

/// Kills the browser of a test that takes too long, so that its next command fails.
struct Deadline {
    _end: Sender<()>,
    start: Instant,
    limit: Duration,
}

impl Deadline {
    fn start(groups: Vec<i32>, limit: Duration) -> Self {
        let (end, ended) = mpsc::channel();
        thread::spawn(move || {
            if ended.recv_timeout(limit) != Err(RecvTimeoutError::Timeout) {
                return;
            }
            groups.into_iter().for_each(process::kill);
            if ended.recv_timeout(GRACE) == Err(RecvTimeoutError::Timeout) {
                println!("FAILED: it hangs even without its browser");
                process::kill_all();
                std::process::exit(1);
            }
        });
        Self { _end: end, start: Instant::now(), limit }
    }

    fn passed(&self) -> bool {
        self.start.elapsed() >= self.limit
    }
}
