//! Some hundred fixed seeds, and every run that ever failed.

use tabmux_sim::{Failure, Summary, corpus, open, plan::Kept, run, shrink::shrink};

/// How many seeds, unless `TABMUX_SIM_SEEDS` says otherwise.
const SEEDS: u64 = 300;

fn passed(seed: u64, kept: &Kept) -> Summary {
    let shrunk = |failure: Failure| -> Summary { panic!("{}", shrink(failure)) };
    run(seed, kept, false).unwrap_or_else(shrunk)
}

#[test]
fn fixed_seeds_keep_every_promise() {
    let seeds = std::env::var("TABMUX_SIM_SEEDS").ok();
    let seeds = seeds.map_or(SEEDS, |seeds| seeds.parse().expect("TABMUX_SIM_SEEDS: a number"));
    let known = open().collect::<Vec<_>>();
    let fixed = (0..seeds).filter(|seed| !known.contains(seed));
    let heard = fixed.map(|seed| passed(seed, &Kept::default()).heard).sum::<u64>();
    assert!(heard > seeds * 100, "too little happened: {heard} messages heard");
}

#[test]
fn runs_that_once_failed_pass() {
    for (seed, kept) in corpus() {
        passed(seed, &kept);
    }
}

#[test]
fn the_same_seed_gives_the_same_log_and_another_seed_another() {
    let all = |seed| passed(seed, &Kept::default());
    let first = (0..5).map(all).collect::<Vec<_>>();
    let again = (0..5).map(all).collect::<Vec<_>>();
    assert_eq!(first, again);
    for (at, one) in first.iter().enumerate() {
        assert!(first[..at].iter().all(|other| other.hash != one.hash));
    }
}

#[test]
fn a_run_without_transitions_is_quiet_and_converges() {
    let nothing = passed(1, &Kept(Some(Vec::new())));
    assert!(nothing.steps < passed(1, &Kept::default()).steps);
}
