//! The program behind `cargo xtask bench browser`.

use std::process::ExitCode;

use tabmux_e2e::{
    Result,
    engine::{self, Engine},
    figures::{self, Options},
    process,
};

fn main() -> ExitCode {
    let outcome = parse(std::env::args().skip(1)).and_then(|options| {
        process::end_children_on_signals(engine::remove_folders)?;
        figures::run(&options)
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Options> {
    let mut options =
        Options { engines: Vec::new(), runs: 7, only: None, is_short: false, write: None };
    while let Some(name) = arguments.next() {
        if name == "--short" {
            options.is_short = true;
            continue;
        }
        let value = arguments.next().ok_or_else(|| format!("{name} needs a value"))?;
        let unknown = || format!("there is no {} {value}", name.trim_start_matches('-'));
        match name.as_str() {
            "--engine" => options.engines.push(Engine::named(&value).ok_or_else(unknown)?),
            "--runs" => options.runs = value.parse().map_err(|_| unknown())?,
            "--only" => options.only = Some(value),
            "--write" => options.write = Some(value.into()),
            _ => return Err(format!("there is no option {name}")),
        }
    }
    if options.engines.is_empty() {
        options.engines = vec![Engine::Chromium, Engine::Firefox];
    }
    if std::env::var_os("TABMUX_E2E_SKIP_MISSING").is_some() {
        options.engines.retain(|engine| match engine.check() {
            Ok(()) => true,
            Err(missing) => {
                println!("{engine} skipped: {missing}");
                false
            }
        });
    }
    Ok(options)
}
