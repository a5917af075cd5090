//! The program behind `cargo xtask chaos`.

use std::{process::ExitCode, time::Duration};

use tabmux_e2e::{
    Result,
    chaos::{self, Options},
    engine::{self, Engine},
    process,
};

fn main() -> ExitCode {
    let (engines, options) = match parse(std::env::args().skip(1)) {
        Ok(parsed) => parsed,
        Err(error) => return fail(&error),
    };
    if let Err(error) = process::end_children_on_signals(engine::remove_folders) {
        return fail(&error);
    }
    let (mut passed, mut failed, mut skipped) = (0, 0, 0);
    for engine in engines {
        if std::env::var_os("TABMUX_E2E_SKIP_MISSING").is_some()
            && let Err(missing) = engine.check()
        {
            println!("skipped: {engine}: {missing}");
            skipped += 1;
            continue;
        }
        match chaos::run(&Options { engine, ..options.clone() }) {
            Ok(()) => passed += 1,
            Err(error) => {
                println!("FAILED: {error}");
                failed += 1;
            }
        }
    }
    println!("{passed} passed, {failed} failed, {skipped} skipped");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn fail(error: &str) -> ExitCode {
    eprintln!("{error}");
    ExitCode::from(2)
}

fn parse(mut arguments: impl Iterator<Item = String>) -> Result<(Vec<Engine>, Options)> {
    let mut engines = Vec::new();
    let mut options = Options {
        engine: Engine::Chromium,
        tier: None,
        gateway: false,
        seed: 1,
        duration: Duration::from_secs(60),
        only: Vec::new(),
    };
    while let Some(name) = arguments.next() {
        let value = arguments.next().ok_or_else(|| format!("{name} needs a value"))?;
        let number = || value.parse::<u64>().map_err(|_| format!("{name} {value} is no number"));
        match name.as_str() {
            "--engine" => {
                let engine = Engine::named(&value);
                engines.push(engine.ok_or_else(|| format!("there is no engine {value}"))?);
            }
            "--gateway" => options.gateway = value == "true",
            "--tier" => options.tier = Some(value),
            "--seed" => options.seed = number()?,
            "--seconds" => options.duration = Duration::from_secs(number()?),
            "--only" => options.only.push(value),
            _ => return Err(format!("there is no option {name}")),
        }
    }
    if engines.is_empty() {
        engines = Engine::ALL.to_vec();
    }
    Ok((engines, options))
}
