//! Some fixed seeds, and every seed that ever failed.

use tabmux_sim::{Summary, corpus, run};

/// How many seeds, unless `TABMUX_SIM_SEEDS` says otherwise.
const SEEDS: u64 = 50;

fn passed(seed: u64) -> Summary {
    run(seed, false).unwrap_or_else(|failure| panic!("{failure}"))
}

#[test]
fn fixed_seeds_keep_every_promise() {
    let seeds = std::env::var("TABMUX_SIM_SEEDS").ok();
    let seeds = seeds.map_or(SEEDS, |seeds| seeds.parse().expect("TABMUX_SIM_SEEDS: a number"));
    let echoes = (0..seeds).map(|seed| passed(seed).echoes).sum::<u64>();
    assert!(echoes > seeds * 50, "too little happened: {echoes} echoes");
}

#[test]
fn seeds_that_once_failed_pass() {
    for seed in corpus() {
        passed(seed);
    }
}

#[test]
fn the_same_seed_gives_the_same_log_and_another_seed_another() {
    let first = (0..5).map(passed).collect::<Vec<_>>();
    let again = (0..5).map(passed).collect::<Vec<_>>();
    assert_eq!(first, again);
    for (at, one) in first.iter().enumerate() {
        assert!(first[..at].iter().all(|other| other.hash != one.hash));
    }
}
