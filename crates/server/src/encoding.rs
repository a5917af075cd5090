//! Which content codings a request accepts.

use axum::http::{HeaderMap, header};

/// A coding in which there may be a copy of a script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Encoding {
    Brotli,
    Gzip,
}

impl Encoding {
    /// What the name of a copy ends in.
    pub(crate) const fn suffix(self) -> &'static str {
        match self {
            Self::Brotli => ".br",
            Self::Gzip => ".gz",
        }
    }

    /// What `Content-Encoding` says of it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Brotli => "br",
            Self::Gzip => "gzip",
        }
    }

    fn is(self, coding: &str) -> bool {
        match self {
            Self::Brotli => coding.eq_ignore_ascii_case("br"),
            Self::Gzip => {
                coding.eq_ignore_ascii_case("gzip") || coding.eq_ignore_ascii_case("x-gzip")
            }
        }
    }
}

/// The codings that a request likes at least as much as none, the best first. Who says nothing
/// gets none; so does who accepts nothing at all, which RFC 9110 leaves to the server.
pub(crate) fn accepted(request: &HeaderMap) -> Vec<Encoding> {
    let lines = request.get_all(header::ACCEPT_ENCODING).into_iter();
    let items = lines.filter_map(|line| line.to_str().ok()).flat_map(|line| line.split(','));
    let weights = items.filter_map(weight).collect::<Vec<_>>();
    let weight_of = |is: &dyn Fn(&str) -> bool| {
        weights.iter().find(|(coding, _)| is(coding)).map(|&(_, weight)| weight)
    };
    let rest = weight_of(&|coding| coding == "*").unwrap_or_default();
    let none = weight_of(&|coding| coding.eq_ignore_ascii_case("identity")).unwrap_or_default();
    let mut accepted = [Encoding::Brotli, Encoding::Gzip]
        .map(|encoding| (encoding, weight_of(&|coding| encoding.is(coding)).unwrap_or(rest)))
        .to_vec();
    accepted.retain(|&(_, weight)| weight > 0.0 && weight >= none);
    // Stable: of two that are liked as much, the shorter copy comes first.
    accepted.sort_by(|(_, one), (_, other)| other.total_cmp(one));
    accepted.into_iter().map(|(encoding, _)| encoding).collect()
}

/// A coding and its weight, from 0 to 1; `None` if it is written in no way that RFC 9110 knows.
fn weight(item: &str) -> Option<(&str, f32)> {
    let Some((coding, parameter)) = item.split_once(';') else {
        return Some((item.trim(), 1.0));
    };
    let (name, value) = parameter.split_once('=')?;
    let weight = value.trim().parse().ok().filter(|weight| (0.0..=1.0).contains(weight))?;
    name.trim().eq_ignore_ascii_case("q").then_some((coding.trim(), weight))
}
