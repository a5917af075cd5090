//! The keys that tokens are checked with, and when they are fetched.

use std::{
    fmt, fs,
    path::Path,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jsonwebtoken::{
    Algorithm, DecodingKey,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet, PublicKeyUse},
};
use tokio::{sync::Mutex as Turn, time::Instant};

use super::{JwtConfig, fetch::Source};
use crate::{Error, logs::rarely};

/// How long keys count without a look at their source.
const FRESH: Duration = Duration::from_secs(300);
/// The time between two looks at the source.
const REST: Duration = Duration::from_secs(60);
/// The shortest secret, in bytes: RFC 7518, section 3.2.
const SHORTEST: usize = 32;
/// Keys of a set that are kept.
const MOST: usize = 64;

/// A key, and the one algorithm that it is for.
#[derive(Clone)]
pub(super) struct Key {
    id: Option<String>,
    pub(super) algorithm: Algorithm,
    pub(super) key: DecodingKey,
}

/// Why there is no key for a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoKey {
    /// None has the id that the token names.
    Unknown,
    /// The same, and the source was asked less than a minute ago: the key may be newer.
    Later,
    /// The key is for another algorithm.
    Mismatch,
    /// There are no keys, and none can be fetched.
    Unreachable,
}

/// Keys, from wherever they come.
pub(super) enum Keys {
    /// They do not change while the server runs.
    Fixed(Arc<[Key]>),
    /// They are fetched.
    Fetched(Arc<Fetched>),
}

/// Fetches a key set, as bytes.
type Asked =
    Box<dyn Fn() -> Pin<Box<dyn Future<Output = Result<Vec<u8>, String>> + Send>> + Send + Sync>;

/// Keys that are fetched.
pub(super) struct Fetched {
    source: Asked,
    keep: Duration,
    state: Mutex<State>,
    /// Only one fetches at a time; others wait for what comes of it.
    turn: Turn<()>,
}

#[derive(Default)]
struct State {
    keys: Arc<[Key]>,
    /// When the keys came.
    good: Option<Instant>,
    /// When they were last asked for.
    tried: Option<Instant>,
}

impl Keys {
    /// # Errors
    /// When no source or more than one is named, or a file has no key.
    pub(super) fn new(config: &JwtConfig) -> Result<Self, Error> {
        let JwtConfig { secret_file, public_key_file, jwks_file, jwks_url, .. } = config;
        match (secret_file, public_key_file, jwks_file, jwks_url) {
            (Some(path), None, None, None) => {
                Ok(Self::fixed(secret(&read("jwt.secret_file", path)?)?))
            }
            (None, Some(path), None, None) => {
                Ok(Self::fixed(public(&read("jwt.public_key_file", path)?)?))
            }
            (None, None, Some(path), None) => {
                let keys = set(&read("jwt.jwks_file", path)?);
                let keys =
                    keys.map_err(|error| Error::Config(format!("jwt.jwks_file: {error}")))?;
                Ok(Self::Fixed(keys))
            }
            (None, None, None, Some(url)) => {
                let source = Arc::new(Source::new(url, config.jwks_ca_file.as_deref())?);
                let keep = Duration::from_secs(config.jwks_keep_s);
                let ask = move || {
                    let source = Arc::clone(&source);
                    Box::pin(async move { source.fetch().await }) as Pin<Box<_>>
                };
                Ok(Self::fetched(Box::new(ask), keep))
            }
            _ => Err(Error::Config(ONE_SOURCE.to_owned())),
        }
    }

    fn fixed(key: Key) -> Self {
        Self::Fixed(Arc::new([key]))
    }

    fn fetched(source: Asked, keep: Duration) -> Self {
        let (state, turn) = (Mutex::default(), Turn::new(()));
        Self::Fetched(Arc::new(Fetched { source, keep, state, turn }))
    }

    /// Finds the key for a token.
    ///
    /// # Errors
    /// Why there is none.
    pub(super) async fn find(&self, id: Option<&str>, algorithm: Algorithm) -> Result<Key, NoKey> {
        match self {
            Self::Fixed(keys) => pick(keys, id, algorithm),
            Self::Fetched(fetched) => fetched.find(id, algorithm).await,
        }
    }
}

const ONE_SOURCE: &str =
    "jwt: set exactly one of secret_file, public_key_file, jwks_file, jwks_url";

impl Fetched {
    async fn find(self: &Arc<Self>, id: Option<&str>, algorithm: Algorithm) -> Result<Key, NoKey> {
        let now = Instant::now();
        let (keys, is_fresh, may_ask) = {
            let state = self.state();
            (state.keys(now, self.keep), state.is_fresh(now), state.may_ask(now))
        };
        let found = match &keys {
            Some(keys) => pick(keys, id, algorithm),
            None => Err(NoKey::Unreachable),
        };
        match found {
            Ok(key) => {
                if !is_fresh && may_ask {
                    let fetched = Arc::clone(self);
                    tokio::spawn(async move { fetched.ask_again(now).await });
                }
                Ok(key)
            }
            Err(NoKey::Mismatch) => Err(NoKey::Mismatch),
            Err(NoKey::Unknown | NoKey::Later | NoKey::Unreachable) => {
                // A client that leaves ends its own question, and not the one to the source.
                let fetched = Arc::clone(self);
                let asked = tokio::spawn(async move { fetched.ask_again(now).await }).await;
                let found = match self.state().keys(Instant::now(), self.keep) {
                    Some(keys) => pick(&keys, id, algorithm),
                    None => Err(NoKey::Unreachable),
                };
                match found {
                    Err(NoKey::Unknown) if asked.is_ok_and(|was_asked| !was_asked) => {
                        Err(NoKey::Later)
                    }
                    found => found,
                }
            }
        }
    }

    /// Fetches the keys, unless they were asked for since `since` or less than a minute before.
    /// Returns false if they were asked for before `since` alone.
    async fn ask_again(&self, since: Instant) -> bool {
        let _turn = self.turn.lock().await;
        let now = Instant::now();
        {
            let mut state = self.state();
            if state.tried.is_some_and(|tried| tried >= since) {
                return true;
            }
            if !state.may_ask(now) {
                return false;
            }
            state.tried = Some(now);
        }
        let fetched = match (self.source)().await {
            Ok(bytes) => set(&bytes),
            Err(error) => Err(error),
        };
        match fetched {
            Ok(keys) => {
                let mut state = self.state();
                (state.keys, state.good) = (keys, Some(now));
            }
            Err(error) => rarely!(warn, "no keys of jwt.jwks_url: {error}"),
        }
        true
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Returns the keys, while they count.
    fn keys(&self, now: Instant, keep: Duration) -> Option<Arc<[Key]>> {
        let age = now.saturating_duration_since(self.good?);
        (age <= keep).then(|| Arc::clone(&self.keys))
    }

    fn is_fresh(&self, now: Instant) -> bool {
        self.good.is_some_and(|good| now.saturating_duration_since(good) < FRESH)
    }

    fn may_ask(&self, now: Instant) -> bool {
        self.tried.is_none_or(|tried| now.saturating_duration_since(tried) >= REST)
    }
}

/// Picks the key that a token names, or the only one for its algorithm.
fn pick(keys: &[Key], id: Option<&str>, algorithm: Algorithm) -> Result<Key, NoKey> {
    let named = keys.iter().find(|key| id.is_some() && key.id.as_deref() == id);
    // A key that has no id is for every token.
    let open = || keys.iter().filter(|key| id.is_none() || key.id.is_none());
    let key = match named {
        Some(key) => key,
        None => {
            let mut fit = open().filter(|key| key.algorithm == algorithm);
            match (fit.next(), fit.next()) {
                (Some(key), None) => key,
                (None, _) if open().next().is_some() => return Err(NoKey::Mismatch),
                (None | Some(_), _) => return Err(NoKey::Unknown),
            }
        }
    };
    if key.algorithm == algorithm { Ok(key.clone()) } else { Err(NoKey::Mismatch) }
}

fn read(setting: &str, path: &Path) -> Result<Vec<u8>, Error> {
    let at = path.display();
    fs::read(path).map_err(|error| Error::Config(format!("{setting}: cannot read {at}: {error}")))
}

fn secret(bytes: &[u8]) -> Result<Key, Error> {
    let bytes = bytes.trim_ascii_end();
    if bytes.len() < SHORTEST {
        let message = format!("jwt.secret_file: the secret must have at least {SHORTEST} bytes");
        return Err(Error::Config(message));
    }
    let key = DecodingKey::from_secret(bytes);
    let key = key.map_err(|error| Error::Config(format!("jwt.secret_file: {error}")))?;
    Ok(Key { id: None, algorithm: Algorithm::HS256, key })
}

/// Reads a public key. Only one of the three readers takes it.
fn public(pem: &[u8]) -> Result<Key, Error> {
    let rsa = DecodingKey::from_rsa_pem(pem).map(|key| (Algorithm::RS256, key));
    let ec = || DecodingKey::from_ec_pem(pem).map(|key| (Algorithm::ES256, key));
    let ed = || DecodingKey::from_ed_pem(pem).map(|key| (Algorithm::EdDSA, key));
    if let Ok((algorithm, key)) = rsa.or_else(|_| ec()).or_else(|_| ed()) {
        return Ok(Key { id: None, algorithm, key });
    }
    let message = "jwt.public_key_file: there is no public key in PEM of RSA, P-256 or Ed25519";
    Err(Error::Config(message.to_owned()))
}

/// Reads a key set. Keys that are for something else are left out.
fn set(bytes: &[u8]) -> Result<Arc<[Key]>, String> {
    let set: JwkSet =
        serde_json::from_slice(bytes).map_err(|error| format!("this is no key set: {error}"))?;
    let keys = set.keys.iter().filter_map(of_set).take(MOST).collect::<Arc<[_]>>();
    if keys.is_empty() {
        return Err("the set has no key for RS256, ES256, EdDSA or HS256".to_owned());
    }
    Ok(keys)
}

#[expect(clippy::wildcard_enum_match_arm, reason = "the library adds kinds")]
fn of_set(jwk: &Jwk) -> Option<Key> {
    let algorithm = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => Algorithm::RS256,
        AlgorithmParameters::EllipticCurve(it) if it.curve == EllipticCurve::P256 => {
            Algorithm::ES256
        }
        AlgorithmParameters::OctetKeyPair(it) if it.curve == EllipticCurve::Ed25519 => {
            Algorithm::EdDSA
        }
        AlgorithmParameters::OctetKey(it) if bytes_of(&it.value) >= SHORTEST => Algorithm::HS256,
        // Short secrets, other curves, and kinds of keys that the library may come to know.
        _ => return None,
    };
    let common = &jwk.common;
    if common.public_key_use.as_ref().is_some_and(|it| *it != PublicKeyUse::Signature) {
        return None;
    }
    // A key that says what it is for is for nothing else.
    if common.key_algorithm.as_ref().is_some_and(|it| it.to_string() != format!("{algorithm:?}")) {
        return None;
    }
    let key = DecodingKey::from_jwk(jwk).ok()?;
    Some(Key { id: common.key_id.clone(), algorithm, key })
}

/// Returns the bytes that a text in base64url stands for.
fn bytes_of(text: &str) -> usize {
    text.trim_end_matches('=').len() * 3 / 4
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(keys) => f.debug_list().entries(keys.iter()).finish(),
            Self::Fetched(fetched) => f.debug_list().entries(fetched.state().keys.iter()).finish(),
        }
    }
}

impl fmt::Debug for Key {
    // The key may be a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key")
            .field("id", &self.id)
            .field("algorithm", &self.algorithm)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::time::advance;

    use super::*;

    /// A secret of 38 bytes, in base64url.
    const SECRET: &str = "YSBzZWNyZXQgb2YgbW9yZSB0aGFuIHRoaXJ0eS10d28gYnl0ZXM";

    /// A key set of secrets with these ids.
    fn secrets(ids: &[&str]) -> Vec<u8> {
        let key = |id: &&str| format!(r#"{{"kty":"oct","kid":"{id}","k":"{SECRET}"}}"#);
        let keys = ids.iter().map(key).collect::<Vec<_>>().join(",");
        format!(r#"{{"keys":[{keys}]}}"#).into_bytes()
    }

    /// A login service.
    #[derive(Default)]
    struct Service {
        fetches: AtomicUsize,
        answer: Mutex<Option<Vec<u8>>>,
    }

    impl Service {
        fn says(&self, answer: Option<Vec<u8>>) {
            *self.answer.lock().unwrap() = answer;
        }

        fn fetches(&self) -> usize {
            self.fetches.load(Ordering::Relaxed)
        }
    }

    fn service(ids: &[&str]) -> (Keys, Arc<Service>) {
        let service = Arc::new(Service::default());
        service.says(Some(secrets(ids)));
        let there = Arc::clone(&service);
        let ask = move || {
            there.fetches.fetch_add(1, Ordering::Relaxed);
            let answer =
                there.answer.lock().unwrap().clone().ok_or_else(|| "it is down".to_owned());
            Box::pin(async move { answer }) as Pin<Box<_>>
        };
        (Keys::fetched(Box::new(ask), KEEP), service)
    }

    const KEEP: Duration = Duration::from_secs(3_600);
    const MOMENT: Duration = Duration::from_millis(1);

    async fn find(keys: &Keys, id: &str) -> Result<(), NoKey> {
        let found = keys.find(Some(id), Algorithm::HS256).await.map(|_| ());
        // What was begun in the background is done.
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        found
    }

    #[tokio::test(start_paused = true)]
    async fn keys_are_fetched_once_for_many_tokens() {
        let (keys, service) = service(&["a"]);
        for _ in 0..10 {
            assert_eq!(find(&keys, "a").await, Ok(()));
        }
        assert_eq!(service.fetches(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn an_unknown_key_is_asked_for_at_most_once_a_minute() {
        let (keys, service) = service(&["a"]);
        assert_eq!(find(&keys, "a").await, Ok(()));
        service.says(Some(secrets(&["b"])));
        advance(MOMENT).await;
        for _ in 0..10 {
            assert_eq!(find(&keys, "b").await, Err(NoKey::Later));
        }
        assert_eq!(service.fetches(), 1);
        advance(REST).await;
        assert_eq!(find(&keys, "c").await, Err(NoKey::Unknown));
        advance(MOMENT).await;
        for _ in 0..10 {
            assert_eq!(find(&keys, "b").await, Ok(()));
            assert_eq!(find(&keys, "c").await, Err(NoKey::Later));
        }
        assert_eq!(service.fetches(), 2);
        assert_eq!(find(&keys, "a").await, Err(NoKey::Later), "the service took it back");
    }

    #[tokio::test(start_paused = true)]
    async fn keys_that_are_in_use_are_looked_at_again_in_the_background() {
        let (keys, service) = service(&["a"]);
        assert_eq!(find(&keys, "a").await, Ok(()));
        service.says(Some(secrets(&["b"])));
        advance(FRESH).await;
        assert_eq!(find(&keys, "a").await, Ok(()), "nobody waits");
        advance(MOMENT).await;
        assert_eq!(find(&keys, "a").await, Err(NoKey::Later));
        assert_eq!(find(&keys, "b").await, Ok(()));
        assert_eq!(service.fetches(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn old_keys_count_for_the_stated_time_while_the_service_is_down() {
        let (keys, service) = service(&["a"]);
        assert_eq!(find(&keys, "a").await, Ok(()));
        for answer in [None, Some(b"<html>".to_vec()), Some(b"{\"keys\":[]}".to_vec())] {
            service.says(answer);
            advance(KEEP / 4).await;
            assert_eq!(find(&keys, "a").await, Ok(()));
        }
        assert_eq!(service.fetches(), 4);
        advance(KEEP / 4 + Duration::from_secs(1)).await;
        assert_eq!(find(&keys, "a").await, Err(NoKey::Unreachable));
        service.says(Some(secrets(&["a"])));
        advance(REST).await;
        assert_eq!(find(&keys, "a").await, Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn keys_come_although_the_client_that_needed_them_left() {
        let ask = || {
            let answer = async {
                tokio::time::sleep(Duration::from_secs(2)).await;
                Ok(secrets(&["a"]))
            };
            Box::pin(answer) as Pin<Box<_>>
        };
        let keys = Arc::new(Keys::fetched(Box::new(ask), KEEP));
        let its = Arc::clone(&keys);
        let leaves = tokio::spawn(async move { find(&its, "a").await });
        tokio::time::sleep(Duration::from_secs(1)).await;
        leaves.abort();
        assert_eq!(find(&keys, "a").await, Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn tokens_that_come_at_once_share_one_fetch() {
        let (keys, service) = service(&["a"]);
        let (one, two) = tokio::join!(find(&keys, "a"), find(&keys, "a"));
        assert_eq!((one, two, service.fetches()), (Ok(()), Ok(()), 1));
    }

    #[test]
    fn a_key_is_for_one_algorithm() {
        let keys = set(&secrets(&["a", "b"])).unwrap();
        let found = |id, algorithm| pick(&keys, id, algorithm).map(|key| key.id.unwrap());
        assert_eq!(found(Some("a"), Algorithm::HS256).unwrap(), "a");
        assert_eq!(found(Some("a"), Algorithm::RS256), Err(NoKey::Mismatch));
        assert_eq!(found(Some("c"), Algorithm::HS256), Err(NoKey::Unknown));
        assert_eq!(found(None, Algorithm::HS256), Err(NoKey::Unknown), "which of the two?");
        let one = set(&secrets(&["a"])).unwrap();
        assert!(pick(&one, None, Algorithm::HS256).is_ok(), "there is only one");
    }

    #[test]
    fn keys_for_something_else_are_left_out() {
        let set_of = |key: &str| {
            let key = key.replace("SECRET", SECRET);
            set(format!(r#"{{"keys":[{key}]}}"#).as_bytes())
        };
        for key in [
            r#"{"kty":"oct","k":"c2VjcmV0"}"#,
            r#"{"kty":"oct","k":"SECRET","use":"enc"}"#,
            r#"{"kty":"oct","k":"SECRET","alg":"HS512"}"#,
            r#"{"kty":"EC","crv":"P-384","x":"AA","y":"AA"}"#,
        ] {
            assert!(set_of(key).is_err(), "{key}");
        }
        assert!(set_of(r#"{"kty":"oct","k":"SECRET","use":"sig","alg":"HS256"}"#).is_ok());
    }

    #[test]
    fn exactly_one_source_is_named_and_errors_name_the_setting() {
        let fault = |config: &JwtConfig| Keys::new(config).err().unwrap().to_string();
        assert!(fault(&JwtConfig::default()).contains("exactly one"));
        let url = |url: &str| JwtConfig { jwks_url: Some(url.to_owned()), ..JwtConfig::default() };
        assert!(fault(&url("http://login.example/keys")).contains("must be an https: address"));
        assert!(fault(&url("ftp://login.example/keys")).contains("is no https: address"));
        assert!(Keys::new(&url("http://127.0.0.1:9/keys")).is_ok());
        let both = JwtConfig { secret_file: Some("a".into()), ..url("https://a.example") };
        assert!(fault(&both).contains("exactly one"));
        let missing = JwtConfig { secret_file: Some("/nowhere".into()), ..JwtConfig::default() };
        assert!(fault(&missing).contains("jwt.secret_file: cannot read /nowhere"));
    }

    #[test]
    fn a_key_is_not_printed() {
        let keys = Keys::Fixed(set(&secrets(&["a"])).unwrap());
        assert_eq!(format!("{keys:?}"), r#"[Key { id: Some("a"), algorithm: HS256, .. }]"#);
    }
}
