//! When two positions are the same place.

use tabmux_wire::Position;

/// Returns true if nothing can lie between two positions. Offset 0 means that nothing was published
/// yet. That is the same place in every epoch.
pub const fn is_same_place(one: Position, other: Position) -> bool {
    one.offset == other.offset && (one.epoch == other.epoch || one.offset == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_yet_is_the_same_place_in_every_epoch_and_no_other_place_is() {
        let at = |epoch, offset| Position { epoch, offset };
        assert!(is_same_place(at(1, 5), at(1, 5)));
        assert!(is_same_place(at(1, 0), at(2, 0)));
        assert!(!is_same_place(at(1, 5), at(2, 5)));
        assert!(!is_same_place(at(1, 0), at(1, 5)));
    }
}
