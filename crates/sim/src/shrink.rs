//! Makes a failure small. Transitions are dropped as long as the failure stays.

use crate::{Failure, invariant::Invariant, plan::Kept};

/// Largest number of runs that shrinking may take.
const RUNS: usize = 400;

/// Returns the smallest failure that dropping transitions leads to. Large pieces are dropped first,
/// then smaller ones. The failure still breaks the same invariant in the same way.
pub(crate) fn smallest(
    failure: Failure,
    all: Vec<usize>,
    run: impl Fn(&Kept) -> Option<Failure>,
) -> Failure {
    let mut smallest = failure;
    let mut kept = smallest.kept.0.clone().unwrap_or(all);
    let mut piece = kept.len().div_ceil(2);
    let mut runs = 0;
    while piece > 0 && runs < RUNS {
        let mut from = 0;
        let mut dropped = false;
        while from < kept.len() && runs < RUNS {
            let until = (from + piece).min(kept.len());
            let rest = [&kept[..from], &kept[until..]].concat();
            runs += 1;
            match fails(&smallest, &rest, &run) {
                Some(failure) => {
                    (smallest, kept, dropped) = (failure, rest, true);
                }
                None => from = until,
            }
        }
        if !dropped || piece > 1 {
            piece /= 2;
        }
    }
    smallest
}

fn fails(
    like: &Failure,
    kept: &[usize],
    run: impl Fn(&Kept) -> Option<Failure>,
) -> Option<Failure> {
    // A panic prints its message each time, so it is not shrunk.
    if like.broken.invariant == Invariant::Panic {
        return None;
    }
    let failure = run(&Kept(Some(kept.to_vec())))?;
    let same = failure.broken.invariant == like.broken.invariant
        && kind(&failure.broken.what).eq(kind(&like.broken.what));
    same.then_some(failure)
}

/// Returns the words of a failure without names and numbers of one run. An invariant may be broken
/// in many ways, and a shorter run may find another one.
fn kind(what: &str) -> impl Iterator<Item = &str> {
    what.split_whitespace().filter(|word| !word.contains(|it: char| it.is_ascii_digit()))
}
