//! Making a failure small: transitions are dropped as long as it stays.

use crate::{Failure, invariant::Invariant, plan::Kept};

/// Runs that shrinking may take.
const RUNS: usize = 400;

/// The smallest failure that dropping transitions leads to, of a run that has all these: first in
/// large pieces, then in ever smaller ones. It still breaks the same invariant, in the same way.
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
    // A panic prints itself each time, so it is not made smaller.
    if like.broken.invariant == Invariant::Panic {
        return None;
    }
    let failure = run(&Kept(Some(kept.to_vec())))?;
    let same = failure.broken.invariant == like.broken.invariant
        && kind(&failure.broken.what).eq(kind(&like.broken.what));
    same.then_some(failure)
}

/// What is broken, without the names and numbers of one run: an invariant may be broken in many
/// ways, and a shorter run may find another one.
fn kind(what: &str) -> impl Iterator<Item = &str> {
    what.split_whitespace().filter(|word| !word.contains(|it: char| it.is_ascii_digit()))
}
