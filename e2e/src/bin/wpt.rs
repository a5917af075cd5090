//! The program behind `cargo xtask wpt`.

use std::{path::PathBuf, process::ExitCode};

use tabmux_e2e::{
    Result,
    engine::{self, Engine, Session},
    process,
    wpt::{self, Cases},
};

fn main() -> ExitCode {
    match Options::parse(std::env::args().skip(1)).and_then(|options| run(&options)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

struct Options {
    tests: PathBuf,
    engine: Engine,
    modes: Vec<String>,
    filter: String,
}

impl Options {
    fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self> {
        let (mut tests, mut engine) = (None, Engine::Chromium);
        let (mut modes, mut filter) = (Vec::new(), String::new());
        while let Some(name) = arguments.next() {
            let value = arguments.next().ok_or_else(|| format!("{name} needs a value"))?;
            match name.as_str() {
                "--tests" => tests = Some(PathBuf::from(value)),
                "--engine" => {
                    let named = Engine::named(&value);
                    engine = named.ok_or_else(|| format!("there is no engine {value}"))?;
                }
                "--mode" => modes.push(value),
                "--filter" => filter = value,
                _ => return Err(format!("there is no option {name}")),
            }
        }
        if modes.is_empty() {
            modes = ["exclusive", "mux"].map(str::to_owned).to_vec();
        }
        let tests = tests.ok_or("--tests DIR is missing")?;
        let tests =
            tests.canonicalize().map_err(|error| format!("{}: {error}", tests.display()))?;
        Ok(Self { tests, engine, modes, filter })
    }
}

fn run(options: &Options) -> Result<()> {
    let Options { tests, engine, modes, filter } = options;
    engine.check()?;
    let root = tests.parent().ok_or("the folder of the tests is in no folder")?;
    let harness = root.join("resources/testharness.js");
    if !harness.exists() {
        return Err(format!("{} is missing: give the folder of a checkout", harness.display()));
    }
    let Cases { mut all, left_out } = Cases::find(tests)?;
    all.retain(|case| case.page.contains(filter));
    left_out.iter().for_each(|page| println!("left out: {page}"));
    process::end_children_on_signals(engine::remove_folders)?;
    let mut session = Session::start(*engine)?;
    let report = wpt::run(&mut session.browser, root, &all, modes, |case| {
        println!("{}", case.page);
    })?;
    println!("\n{engine}, {} pages, {} left out\n{report}", all.len(), left_out.len());
    Ok(())
}
