//! The program behind `cargo xtask chaos`.

use std::{process::ExitCode, time::Duration};

use tabmux_e2e::{
    Result,
    chaos::{self, Options},
    engine::{self, Engine},
    process,
};

fn main() -> ExitCode {
    let outcome = parse(std::env::args().skip(1)).and_then(|options| {
        process::end_children_on_signals(engine::remove_folders)?;
        chaos::run(&options)
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
    let mut options = Options {
        engine: Engine::Chromium,
        tier: None,
        seed: 1,
        duration: Duration::from_secs(60),
        only: Vec::new(),
    };
    while let Some(name) = arguments.next() {
        let value = arguments.next().ok_or_else(|| format!("{name} needs a value"))?;
        let number = || value.parse::<u64>().map_err(|_| format!("{name} {value} is no number"));
        match name.as_str() {
            "--engine" => {
                options.engine =
                    Engine::named(&value).ok_or_else(|| format!("there is no engine {value}"))?;
            }
            "--tier" => options.tier = Some(value),
            "--seed" => options.seed = number()?,
            "--seconds" => options.duration = Duration::from_secs(number()?),
            "--only" => options.only.push(value),
            _ => return Err(format!("there is no option {name}")),
        }
    }
    Ok(options)
}
