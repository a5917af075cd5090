//! Runs a table of tests in one browser session for each engine, and prints a line for each.

use std::{
    io::Write,
    panic::{AssertUnwindSafe, catch_unwind},
    process::ExitCode,
    sync::mpsc::{self, RecvTimeoutError, Sender},
    thread,
    time::{Duration, Instant},
};

use crate::{
    Result, Stop,
    context::Context,
    engine::{self, Engine, Session},
    process,
};

/// A named test.
#[derive(Clone, Copy)]
pub struct Test {
    name: &'static str,
    run: Steps,
    crashes: bool,
}

/// What a test does.
pub type Steps = fn(&mut Context<'_>) -> std::result::Result<(), Stop>;

impl Test {
    /// A test whose name is a sentence.
    pub const fn new(name: &'static str, run: Steps) -> Self {
        Self { name, run, crashes: false }
    }

    /// A test that kills what runs pages and workers, in a browser of its own: see
    /// [`Session::start_for_crashes`].
    pub const fn crashing(name: &'static str, run: Steps) -> Self {
        Self { name, run, crashes: true }
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
    let mut totals = Totals::default();
    for engine in &options.engines {
        run_engine(*engine, &tests, options.tries, &mut totals);
    }
    let Totals { passed, failed, skipped, unsteady } = totals;
    unsteady.iter().for_each(|test| println!("unsteady: {test}"));
    println!("{passed} passed, {failed} failed, {skipped} skipped");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

const USAGE: &str =
    "browsers [--engine chromium|firefox|webkit]... [--filter TEXT]... [--list] [--tries N]
--tries N tries a failed test again, N times in all; one that passes then is named as unsteady
TABMUX_E2E_SKIP_MISSING=1 skips an engine that is not installed instead of failing";

struct Options {
    engines: Vec<Engine>,
    filters: Vec<String>,
    list: bool,
    tries: u32,
}

impl Options {
    fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self> {
        let mut options = Self { engines: Vec::new(), filters: Vec::new(), list: false, tries: 1 };
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

#[derive(Default)]
struct Totals {
    passed: usize,
    failed: usize,
    skipped: usize,
    /// Tests that failed and then passed.
    unsteady: Vec<String>,
}

fn run_engine(engine: Engine, tests: &[&Test], tries: u32, totals: &mut Totals) {
    if let Err(missing) = engine.check() {
        if std::env::var_os("TABMUX_E2E_SKIP_MISSING").is_some() {
            println!("{engine:<9} all tests ... skipped: {missing}");
            totals.skipped += tests.len();
        } else {
            println!("{engine:<9} all tests ... FAILED: {missing}");
            totals.failed += tests.len();
        }
        return;
    }
    let start = Instant::now();
    let mut session = None;
    for test in tests {
        if test.crashes {
            // What earlier tests left may host its workers, and what it kills may be missed later.
            session = None;
        }
        print!("{engine:<9} {} ... ", test.name);
        // The name is there while the test runs; nothing is lost where that fails.
        drop(std::io::stdout().flush());
        let begin = Instant::now();
        let mut outcome = run_test(engine, test, &mut session);
        for _ in 1..tries {
            let Err(Stop::Failed(reason)) = &outcome else { break };
            print!("FAILED\n    {reason}\n{engine:<9} {}, tried again ... ", test.name);
            outcome = run_test(engine, test, &mut session);
            if outcome.is_ok() {
                totals.unsteady.push(format!("{engine} {}", test.name));
            }
        }
        if test.crashes {
            session = None;
        }
        let seconds = begin.elapsed().as_secs_f32();
        match outcome {
            Ok(()) => {
                println!("ok ({seconds:.1} s)");
                totals.passed += 1;
            }
            Err(Stop::Skipped(reason)) => {
                println!("skipped: {reason}");
                totals.skipped += 1;
            }
            Err(Stop::Failed(reason)) => {
                println!("FAILED ({seconds:.1} s)\n    {reason}");
                totals.failed += 1;
            }
        }
    }
    println!("{engine:<9} {:.1} s in all", start.elapsed().as_secs_f32());
}

/// Runs one test in `session`, which is started where there is none and dropped where it may be
/// broken.
fn run_test(
    engine: Engine,
    test: &Test,
    session: &mut Option<Session>,
) -> std::result::Result<(), Stop> {
    let current = match session {
        Some(current) => current,
        None if test.crashes => session.insert(Session::start_for_crashes(engine)?),
        None => session.insert(Session::start(engine)?),
    };
    let deadline = Deadline::start(current.group_ids());
    let mut outcome = catch_unwind(AssertUnwindSafe(|| attempt(engine, test, current)))
        .unwrap_or_else(|_| Err(Stop::Failed("the test panicked".into())));
    if deadline.passed() {
        let step = match outcome {
            Ok(()) => String::new(),
            Err(Stop::Failed(reason) | Stop::Skipped(reason)) => {
                format!("; it ended with {reason}")
            }
        };
        outcome = Err(format!("{LIMIT:?} were not enough{step}").into());
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

/// How long one test may take.
const LIMIT: Duration = Duration::from_secs(60);

/// How long a test may go on after its browser was killed.
const GRACE: Duration = Duration::from_secs(60);

/// Kills the browser of a test that takes too long, so that its next command fails.
struct Deadline {
    _end: Sender<()>,
    start: Instant,
}

impl Deadline {
    fn start(groups: Vec<i32>) -> Self {
        let (end, ended) = mpsc::channel();
        thread::spawn(move || {
            if ended.recv_timeout(LIMIT) != Err(RecvTimeoutError::Timeout) {
                return;
            }
            groups.into_iter().for_each(process::kill);
            if ended.recv_timeout(GRACE) == Err(RecvTimeoutError::Timeout) {
                println!("FAILED: it hangs even without its browser");
                process::kill_all();
                std::process::exit(1);
            }
        });
        Self { _end: end, start: Instant::now() }
    }

    fn passed(&self) -> bool {
        self.start.elapsed() >= LIMIT
    }
}
