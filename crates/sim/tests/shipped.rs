//! Some fixed seeds, and every run that ever failed. They need the shipped scripts, which
//! `cargo xtask host` makes; without them each test says that it was skipped.

use std::rc::Rc;

use tabmux_sim::{
    Failure, Summary, corpus,
    engine::scripts::Scripts,
    plan::Kept,
    run,
    shipped::{KNOWN_SHARE, known},
    shrink,
};

/// How many seeds; `cargo ci` runs more, in release.
const SEEDS: u64 = 25;
/// What makes a missing script a failure, as in `cargo ci`, which has made them.
const NEEDED: &str = "TABMUX_HOST_SCRIPTS_NEEDED";

/// The scripts; none: the test is skipped.
fn scripts(test: &str) -> Option<Rc<Scripts>> {
    match Scripts::read() {
        Ok(scripts) => Some(scripts.into()),
        Err(why) if std::env::var_os(NEEDED).is_none() => {
            println!("SKIPPED: {test}: {why}");
            None
        }
        Err(why) => panic!("{why}"),
    }
}

fn passed(seed: u64, kept: &Kept, scripts: &Rc<Scripts>) -> Summary {
    let shrunk = |failure: Failure| -> Summary { panic!("{}", shrink(failure, scripts)) };
    run(seed, kept, false, scripts).unwrap_or_else(shrunk)
}

#[test]
fn fixed_seeds_keep_every_promise() {
    let Some(scripts) = scripts("fixed_seeds_keep_every_promise") else { return };
    let (mut heard, mut broken) = (0, Vec::new());
    for seed in 0..SEEDS {
        match run(seed, &Kept::default(), false, &scripts) {
            Ok(summary) => heard += summary.heard,
            Err(failure) => match known(&failure) {
                Some(known) => broken.push((seed, known.name)),
                None => panic!("{}", shrink(failure, &scripts)),
            },
        }
    }
    let count = broken.len() as u64;
    assert!(count * KNOWN_SHARE <= SEEDS, "much fails as is known: {broken:?}");
    assert!(heard > SEEDS * 100, "too little happened: {heard} messages heard");
}

#[test]
fn runs_that_once_failed_pass() {
    let Some(scripts) = scripts("runs_that_once_failed_pass") else { return };
    for (seed, kept) in corpus() {
        passed(seed, &kept, &scripts);
    }
}

#[test]
fn the_same_seed_gives_the_same_log_and_another_seed_another() {
    let name = "the_same_seed_gives_the_same_log_and_another_seed_another";
    let Some(scripts) = scripts(name) else { return };
    let all = |seed| passed(seed, &Kept::default(), &scripts);
    let first = [2, 3, 4].map(all);
    assert_eq!(first, [2, 3, 4].map(all));
    for (at, one) in first.iter().enumerate() {
        assert!(first[..at].iter().all(|other| other.hash != one.hash));
    }
}

#[test]
fn a_run_without_transitions_is_quiet_and_converges() {
    let Some(scripts) = scripts("a_run_without_transitions_is_quiet_and_converges") else { return };
    let nothing = passed(2, &Kept(Some(Vec::new())), &scripts);
    assert!(nothing.steps < passed(2, &Kept::default(), &scripts).steps);
}
