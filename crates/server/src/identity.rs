//! Identity tags: names for users that tell nobody who they are.
//!
//! A tag is an HMAC of the user's name under a secret of the configuration, so it is equal on all
//! nodes and after restarts. Hubs compare tags, and pages see them.

use std::{fmt, path::Path};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use tracing::warn;

use crate::{Config, Error};

/// Keeps these HMACs apart from others that an application makes with the same secret.
const PURPOSE: &[u8] = b"tabmux identity tag 1\0";
/// The same for the names of topics.
const TOPIC_PURPOSE: &[u8] = b"tabmux topic name 1\0";
/// Bytes of an HMAC that a tag holds.
const TAG_BYTES: usize = 16;
/// The shortest secret, in bytes.
const SHORTEST: usize = 16;
/// The parameter by which a hub shows the tag that it knows.
const SHOWN: &str = "identity=";

/// A secret from which identity tags are made. `Debug` does not print it.
#[derive(Clone)]
pub(crate) struct Secret {
    users: Hmac<Sha256>,
    topics: Hmac<Sha256>,
}

/// Makes the identity tags of a server that knows users.
pub(crate) struct Identity {
    /// Makes tags.
    first: Secret,
    /// Its tags still count: those that were made before the secret was changed.
    second: Option<Secret>,
}

impl Secret {
    /// Takes a secret.
    ///
    /// # Errors
    /// When it is too short. `source` is named in the text.
    pub(crate) fn new(bytes: &[u8], source: &str) -> Result<Self, Error> {
        if bytes.len() < SHORTEST {
            let least = format!("must have at least {SHORTEST} bytes");
            return Err(Error::Config(format!("the identity secret of {source} {least}")));
        }
        Self::key(bytes)
    }

    /// Reads a secret from a file. White space at the end is not part of it.
    ///
    /// # Errors
    /// When the file cannot be read, or the secret is too short.
    fn from_file(path: &Path) -> Result<Self, Error> {
        let source = path.display().to_string();
        let bytes = std::fs::read(path).map_err(|error| {
            Error::Config(format!("identity_secret_files: cannot read {source}: {error}"))
        })?;
        Self::new(bytes.trim_ascii_end(), &source)
    }

    /// Returns the secrets that were given, or those of the files that the configuration names.
    ///
    /// # Errors
    /// When a file cannot be read, or a secret is too short.
    pub(crate) fn all(given: &[Self], config: &Config) -> Result<Vec<Self>, Error> {
        let files = config.identity_secret_files.iter();
        match given {
            [] => files.map(|path| Self::from_file(path)).collect(),
            given => Ok(given.to_vec()),
        }
    }

    /// Draws a secret.
    ///
    /// # Errors
    /// When the system gives no random bytes.
    fn draw() -> Result<Self, Error> {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes).map_err(|error| Error::Io(error.into()))?;
        Self::key(&bytes)
    }

    fn key(bytes: &[u8]) -> Result<Self, Error> {
        let mac = Hmac::new_from_slice(bytes);
        let mac: Hmac<Sha256> =
            mac.map_err(|error| Error::Config(format!("an identity secret: {error}")))?;
        let users = mac.clone().chain_update(PURPOSE);
        Ok(Self { users, topics: mac.chain_update(TOPIC_PURPOSE) })
    }

    fn tag(&self, user: &str) -> Box<str> {
        let bytes = self.users.clone().chain_update(user).finalize().into_bytes();
        URL_SAFE_NO_PAD.encode(&bytes[..TAG_BYTES]).into()
    }

    /// Returns the signature of a topic's name.
    pub(crate) fn sign_topic(&self, name: &str) -> String {
        let bytes = self.topics.clone().chain_update(name).finalize().into_bytes();
        URL_SAFE_NO_PAD.encode(&bytes[..TAG_BYTES])
    }

    /// Returns true if the tag is the user's, in a time that does not tell where it differs.
    fn made(&self, tag: &str, user: &str) -> bool {
        let bytes = URL_SAFE_NO_PAD.decode(tag).unwrap_or_default();
        let mac = self.users.clone().chain_update(user);
        bytes.len() == TAG_BYTES && mac.verify_truncated_left(&bytes).is_ok()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl Identity {
    /// Takes the secrets that were given, or those of the files that the configuration names. Draws
    /// one if there is none, and warns of it.
    ///
    /// # Errors
    /// When a file cannot be read, or a secret is too short.
    pub(crate) fn new(given: &[Secret], config: &Config) -> Result<Self, Error> {
        let mut secrets = Secret::all(given, config)?.into_iter();
        if let Some(first) = secrets.next() {
            return Ok(Self { first, second: secrets.next() });
        }
        warn!(
            "there is no identity secret, so one was drawn for this process: after each restart, \
             and on each other node, every user counts as another one. Name a file with a secret \
             in identity_secret_files, or set TABMUX_IDENTITY_SECRET"
        );
        Ok(Self { first: Secret::draw()?, second: None })
    }

    /// Returns the tag of a user.
    pub(crate) fn tag(&self, user: &str) -> Box<str> {
        self.first.tag(user)
    }

    /// Returns the tag of a user for a hub that has shown one. A tag that the second secret made
    /// for the same user stays as it is, so that nothing changes for the hub when secrets do.
    pub(crate) fn tag_for(&self, user: &str, shown: Option<&str>) -> Box<str> {
        let old = shown.zip(self.second.as_ref());
        match old.filter(|(tag, secret)| secret.made(tag, user)) {
            Some((tag, _)) => tag.into(),
            None => self.tag(user),
        }
    }
}

/// Returns the tag that a hub shows in the query of its request.
pub(crate) fn shown(target: &str) -> Option<&str> {
    let (_, query) = target.split_once('?')?;
    query.split('&').find_map(|pair| pair.strip_prefix(SHOWN))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(secrets: &[&str]) -> Identity {
        let secrets = secrets.iter().map(|text| Secret::new(text.as_bytes(), "a test").unwrap());
        Identity::new(&secrets.collect::<Vec<_>>(), &Config::default()).unwrap()
    }

    const OLD: &str = "the secret of last year";
    const NEW: &str = "the secret of this year";

    #[test]
    fn a_tag_is_the_same_wherever_the_secret_is_and_tells_no_name() {
        let tag = identity(&[NEW]).tag("ann");
        assert_eq!(tag, identity(&[NEW]).tag("ann"));
        assert_eq!(tag.len(), 22);
        assert!(tag.bytes().all(|it| it.is_ascii_alphanumeric() || it == b'-' || it == b'_'));
        assert_ne!(tag, identity(&[NEW]).tag("bob"));
        assert_ne!(tag, identity(&[OLD]).tag("ann"));
    }

    #[test]
    fn a_tag_of_the_second_secret_still_counts_and_of_a_third_does_not() {
        let (old, new) = (identity(&[OLD]).tag("ann"), identity(&[NEW]).tag("ann"));
        let both = identity(&[NEW, OLD]);
        assert_eq!(both.tag("ann"), new, "the first makes tags");
        assert_eq!(both.tag_for("ann", Some(&old)), old);
        assert_eq!(both.tag_for("bob", Some(&old)), both.tag("bob"), "it is another user's");
        assert_eq!(identity(&[NEW]).tag_for("ann", Some(&old)), new);
        for nonsense in ["", "x", "\u{e4}", &"A".repeat(1_000)] {
            assert_eq!(both.tag_for("ann", Some(nonsense)), new, "{nonsense}");
        }
    }

    #[test]
    fn a_prefix_of_a_tag_is_no_tag() {
        let old = identity(&[OLD]).tag("ann");
        let both = identity(&[NEW, OLD]);
        for len in 0..old.len() {
            assert_eq!(both.tag_for("ann", Some(&old[..len])), both.tag("ann"), "{len}");
        }
    }

    #[test]
    fn a_short_secret_is_refused_and_none_is_printed() {
        let error = Secret::new(b"short", "/run/secret").unwrap_err().to_string();
        assert!(error.contains("/run/secret") && error.contains("16 bytes"), "{error}");
        assert!(!error.contains("short"), "{error}");
        assert_eq!(format!("{:?}", Secret::new(NEW.as_bytes(), "a test").unwrap()), "Secret(…)");
    }

    #[test]
    fn a_file_has_a_secret_and_white_space_behind_it() {
        let path = std::env::temp_dir().join(format!("tabmux-secret-{}", std::process::id()));
        std::fs::write(&path, format!("{NEW}\r\n")).unwrap();
        let config = Config { identity_secret_files: vec![path.clone()], ..Config::default() };
        let tag = Identity::new(&[], &config).unwrap().tag("ann");
        std::fs::remove_file(&path).unwrap();
        assert_eq!(tag, identity(&[NEW]).tag("ann"));
        let error = Identity::new(&[], &config).err().unwrap().to_string();
        assert!(error.contains("identity_secret_files: cannot read"), "{error}");
    }

    #[test]
    fn a_server_without_a_secret_draws_one_each_time() {
        assert_ne!(identity(&[]).tag("ann"), identity(&[]).tag("ann"));
    }

    #[test]
    fn the_tag_that_a_hub_shows_is_in_the_query() {
        for (target, tag) in [
            ("/tabmux/ws", None),
            ("/tabmux/ws?identity=abc", Some("abc")),
            ("/tabmux/ws?v=1&identity=abc&x", Some("abc")),
            ("/tabmux/ws?my-identity=abc", None),
        ] {
            assert_eq!(shown(target), tag, "{target}");
        }
    }
}
