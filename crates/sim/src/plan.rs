//! The selection of transitions of a plan.

use std::{fmt, str::FromStr};

/// The transitions of a plan that happen: these, or all if it is `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kept(pub Option<Vec<usize>>);

impl fmt::Display for Kept {
    /// Numbers and ranges: `3,7-9`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(kept) = &self.0 else { return f.write_str("all") };
        let mut ranges: Vec<(usize, usize)> = Vec::new();
        for at in kept {
            match ranges.last_mut() {
                Some((_, last)) if *last + 1 == *at => *last = *at,
                _ => ranges.push((*at, *at)),
            }
        }
        if ranges.is_empty() {
            return f.write_str("none");
        }
        for (place, (first, last)) in ranges.iter().enumerate() {
            let comma = if place > 0 { "," } else { "" };
            if first == last {
                write!(f, "{comma}{first}")?;
            } else {
                write!(f, "{comma}{first}-{last}")?;
            }
        }
        Ok(())
    }
}

impl FromStr for Kept {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "all" => return Ok(Self(None)),
            "none" => return Ok(Self(Some(Vec::new()))),
            _ => {}
        }
        let number = |word: &str| word.parse::<usize>().map_err(|_| format!("{word} is no number"));
        let mut kept = Vec::new();
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            kept.extend(number(first)?..=number(last)?);
        }
        Ok(Self(Some(kept)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kept_transitions_are_written_as_they_are_read() {
        for text in ["all", "none", "3", "3,7-9,11", "0-4"] {
            assert_eq!(text.parse::<Kept>().unwrap().to_string(), text);
        }
        assert!("3,x".parse::<Kept>().is_err());
    }
}
