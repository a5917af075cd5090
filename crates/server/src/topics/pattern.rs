//! Patterns for the names of topics.

use crate::Error;

/// A pattern for the names of topics, in parts between slashes.
#[derive(Debug)]
pub(crate) struct Pattern {
    parts: Vec<Part>,
    /// What a last part begins with that ends in `*`, and behind which anything may stand.
    rest: Option<Box<str>>,
}

#[derive(Debug)]
enum Part {
    /// This text and no other.
    Text(Box<str>),
    /// Any text that is not empty.
    Any,
    /// The name of a user.
    User,
}

impl Pattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// When it has no meaning.
    pub(crate) fn new(text: &str) -> Result<Self, Error> {
        let fault = |why: &str| Err(Error::Config(format!("topics: the pattern {text:?} {why}")));
        if text.is_empty() {
            return fault("is empty; write * for all topics");
        }
        let (body, has_rest) = text.strip_suffix('*').map_or((text, false), |body| (body, true));
        if body.contains('*') {
            return fault("may have a * at its end alone");
        }
        let mut texts = body.split('/').collect::<Vec<_>>();
        let rest = if has_rest { texts.pop() } else { None };
        if rest.is_some_and(|rest| rest.contains(['{', '}'])) {
            return fault("may have no braces in the part that ends with *");
        }
        let mut parts = Vec::with_capacity(texts.len());
        for part in texts {
            let inner = part.strip_prefix('{').and_then(|part| part.strip_suffix('}'));
            parts.push(match inner {
                Some("user") => Part::User,
                Some(inner) if !inner.is_empty() && !inner.contains(['{', '}']) => Part::Any,
                None if !part.contains(['{', '}']) => Part::Text(part.into()),
                Some(_) | None => return fault("has braces that do not stand for a whole part"),
            });
        }
        if parts.iter().filter(|part| matches!(part, Part::User)).count() > 1 {
            return fault("names two users");
        }
        Ok(Self { parts, rest: rest.map(Box::from) })
    }

    /// Returns true if the pattern has `{user}`.
    pub(crate) fn names_user(&self) -> bool {
        self.parts.iter().any(|part| matches!(part, Part::User))
    }

    /// Returns true if a name has the pattern.
    pub(crate) fn fits(&self, name: &str) -> bool {
        self.compare(name, None)
    }

    /// Returns true if a name has the pattern, with this user where it has `{user}`.
    pub(crate) fn is_of(&self, name: &str, user: &str) -> bool {
        self.compare(name, Some(user))
    }

    fn compare(&self, name: &str, user: Option<&str>) -> bool {
        let mut left = Some(name);
        for part in &self.parts {
            let Some(text) = left else {
                return false;
            };
            let (first, behind) = match text.split_once('/') {
                Some((first, behind)) => (first, Some(behind)),
                None => (text, None),
            };
            let fits = match part {
                Part::Text(text) => **text == *first,
                Part::Any => !first.is_empty(),
                Part::User => !first.is_empty() && user.is_none_or(|user| user == first),
            };
            if !fits {
                return false;
            }
            left = behind;
        }
        match &self.rest {
            Some(rest) => left.is_some_and(|left| left.starts_with(&**rest)),
            None => left.is_none(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fits(pattern: &str, name: &str) -> bool {
        Pattern::new(pattern).unwrap().fits(name)
    }

    #[test]
    fn a_pattern_fits_whole_parts_and_a_star_any_rest() {
        for (pattern, name, expected) in [
            ("prices", "prices", true),
            ("prices", "prices2", false),
            ("prices", "prices/a", false),
            ("*", "anything/at/all", true),
            ("pri*", "prices", true),
            ("room/*", "room/", true),
            ("room/*", "room/5/chat", true),
            ("room/*", "room", false),
            ("room/{id}", "room/5", true),
            ("room/{id}", "room/", false),
            ("room/{id}", "room/5/chat", false),
            ("room/{id}/*", "room/5/chat", true),
            ("room/{id}/*", "room/5", false),
            ("{user}/x", "ann/x", true),
        ] {
            assert_eq!(fits(pattern, name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn a_user_has_the_topics_with_the_whole_name_alone() {
        let pattern = Pattern::new("inbox/{user}/*").unwrap();
        assert!(pattern.is_of("inbox/ann/new", "ann"));
        for (name, user) in [
            ("inbox/ann/new", "bob"),
            ("inbox/anna/new", "ann"),
            ("inbox/ann/new", "anna"),
            ("inbox/ann/new/x", "ann/new"),
            ("inbox//new", ""),
        ] {
            assert!(!pattern.is_of(name, user), "{name} {user}");
        }
    }

    #[test]
    fn a_pattern_without_meaning_is_refused() {
        for text in ["", "a*b", "a/*/b", "a{user}", "{user}/{user}", "{}", "a/{b", "a/{user}*"] {
            assert!(Pattern::new(text).is_err(), "{text}");
        }
    }
}
