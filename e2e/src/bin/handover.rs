//! The program behind `cargo xtask bench handover`.

use std::process::ExitCode;

use tabmux_e2e::{
    Result,
    engine::{self, Engine},
    handover::{self, Death, Options, Tier},
    process,
};

fn main() -> ExitCode {
    let outcome = parse(std::env::args().skip(1)).and_then(|options| {
        process::end_children_on_signals(engine::remove_folders)?;
        handover::run(&options)
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
        engines: Vec::new(),
        tiers: Vec::new(),
        deaths: Vec::new(),
        rounds: 20,
        hides: false,
        write: None,
    };
    while let Some(name) = arguments.next() {
        if name == "--hidden" {
            options.hides = true;
            continue;
        }
        let value = arguments.next().ok_or_else(|| format!("{name} needs a value"))?;
        let unknown = || format!("there is no {} {value}", name.trim_start_matches('-'));
        match name.as_str() {
            "--engine" => options.engines.push(Engine::named(&value).ok_or_else(unknown)?),
            "--tier" => {
                let tier = Tier::ALL.into_iter().find(|tier| tier.name() == value);
                options.tiers.push(tier.ok_or_else(unknown)?);
            }
            "--only" => {
                let deaths = Death::ALL.into_iter().filter(|death| death.name().contains(&value));
                let before = options.deaths.len();
                options.deaths.extend(deaths);
                if options.deaths.len() == before {
                    return Err(unknown());
                }
            }
            "--rounds" => options.rounds = value.parse().map_err(|_| unknown())?,
            "--write" => options.write = Some(value.into()),
            _ => return Err(format!("there is no option {name}")),
        }
    }
    fill(&mut options.engines, &Engine::ALL);
    fill(&mut options.tiers, &Tier::ALL);
    fill(&mut options.deaths, &Death::ALL);
    Ok(options)
}

/// An option without a choice stands for everything.
fn fill<T: Clone>(chosen: &mut Vec<T>, all: &[T]) {
    if chosen.is_empty() {
        chosen.extend_from_slice(all);
    }
}
