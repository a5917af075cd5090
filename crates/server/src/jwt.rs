//! JSON Web Tokens (RFC 7519) as the judge of a server: who a token is for, and until when.
//!
//! The key decides the algorithm: HS256 for a secret, RS256 for an RSA key, ES256 for a key on
//! P-256, EdDSA for Ed25519. A token that names another algorithm is refused.
//!
//! ```no_run
//! use tabmux_server::{Server, jwt::{Jwt, JwtConfig}};
//!
//! let mut config = JwtConfig::default();
//! config.jwks_url = Some("https://login.example.org/.well-known/jwks.json".to_owned());
//! config.issuer = Some("https://login.example.org/".to_owned());
//! config.audience = Some("chat".to_owned());
//! config.cookie = Some("token".to_owned());
//! let server = Server::builder().jwt(Jwt::new(&config)?).build()?;
//! # Ok::<(), tabmux_server::Error>(())
//! ```

mod fetch;
mod keys;

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use jsonwebtoken::{Validation, decode, decode_header, errors::ErrorKind};
use serde_json::{Map, Value};

use self::keys::{Keys, NoKey};
pub use crate::config::JwtConfig;
use crate::{Admitted, Error, Handshake, Refusal, Verdict};

/// The longest token that is looked at, in bytes. It is that of credentials in HELLO.
const MAX_TOKEN: usize = tabmux_core::wire::MAX_CREDENTIALS;
/// When a client may try again whose token could not be checked.
const RETRY: Duration = Duration::from_secs(5);
/// The same where the key may be newer than the ones that were fetched less than a minute ago.
const RETRY_NEW_KEY: Duration = Duration::from_secs(20);
/// The longest leeway, in seconds.
const MOST_LEEWAY: u64 = 86_400;

/// Checks tokens.
pub struct Jwt {
    keys: Keys,
    issuer: Option<String>,
    audience: Option<String>,
    leeway: Duration,
    user_claim: String,
    topics_claim: Option<String>,
    cookie: Option<String>,
    query: Option<String>,
    anonymous: bool,
}

/// What a good token says.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Claims {
    /// The user's name.
    pub user: String,
    /// When the token counts no more, leeway included.
    pub until: SystemTime,
    /// All claims.
    pub all: Map<String, Value>,
}

/// Why a token does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum JwtError {
    /// It is no token, has no `exp`, or is signed in a way that none of the keys is for: the client
    /// is at fault, or the login service.
    Malformed,
    /// The signature is not of one of the keys: as before.
    Forged,
    /// `exp` has passed: the page needs another token.
    Expired,
    /// `nbf` has not come: the login service's clock, or this one, is wrong.
    Early,
    /// `aud` or `iss` is another, or the user is not named: the token is for something else.
    Foreign,
    /// The token names a key that is not known, and the login service was asked for its keys less
    /// than a minute ago. The key may be newer.
    NewKey,
    /// The keys could not be fetched: the login service, or the network, is at fault.
    NoKeys,
}

impl Jwt {
    /// Takes the keys that the configuration names.
    ///
    /// # Errors
    /// When no key or more than one is named, or a file cannot be read or has no key.
    pub fn new(config: &JwtConfig) -> Result<Self, Error> {
        if config.user_claim.is_empty() {
            return Err(Error::Config("jwt.user_claim must not be empty".to_owned()));
        }
        if config.leeway_s > MOST_LEEWAY {
            let message = format!("jwt.leeway_s must be at most {MOST_LEEWAY}");
            return Err(Error::Config(message));
        }
        Ok(Self {
            keys: Keys::new(config)?,
            issuer: config.issuer.clone(),
            audience: config.audience.clone(),
            leeway: Duration::from_secs(config.leeway_s),
            user_claim: config.user_claim.clone(),
            topics_claim: config.topics_claim.clone(),
            cookie: config.cookie.clone(),
            query: config.query.clone(),
            anonymous: config.anonymous,
        })
    }

    /// Checks a token. It waits only where keys must be fetched.
    ///
    /// # Errors
    /// Why the token does not count.
    pub async fn verify(&self, token: &str) -> Result<Claims, JwtError> {
        if token.len() > MAX_TOKEN {
            return Err(JwtError::Malformed);
        }
        let header = decode_header(token).map_err(|_| JwtError::Malformed)?;
        let key = self.keys.find(header.kid.as_deref(), header.alg).await;
        let key = key.map_err(|trouble| match trouble {
            NoKey::Unknown => JwtError::Forged,
            NoKey::Mismatch => JwtError::Malformed,
            NoKey::Later => JwtError::NewKey,
            NoKey::Unreachable => JwtError::NoKeys,
        })?;
        let mut rules = Validation::new(key.algorithm);
        rules.leeway = self.leeway.as_secs();
        rules.validate_nbf = true;
        let mut wanted = vec!["exp"];
        if let Some(audience) = &self.audience {
            rules.set_audience(&[audience]);
            wanted.push("aud");
        }
        if let Some(issuer) = &self.issuer {
            rules.set_issuer(&[issuer]);
            wanted.push("iss");
        }
        rules.set_required_spec_claims(&wanted);
        let decoded = decode::<Map<String, Value>>(token, &key.key, &rules);
        let all = decoded.map_err(|error| JwtError::of(error.kind()))?.claims;
        let user = all.get(&self.user_claim).and_then(Value::as_str);
        let user = user.filter(|user| !user.is_empty()).ok_or(JwtError::Foreign)?.to_owned();
        let exp = all.get("exp").and_then(Value::as_f64).unwrap_or_default().max(0.0);
        let lives = Duration::try_from_secs_f64(exp).unwrap_or(FOREVER).min(FOREVER);
        Ok(Claims { user, until: SystemTime::UNIX_EPOCH + lives + self.leeway, all })
    }

    /// Judges a request by its token.
    ///
    /// # Errors
    /// Why the link may not open, in words for the page.
    pub async fn judge(&self, handshake: &Handshake) -> Verdict {
        let Some(token) = self.token(handshake) else {
            return if self.anonymous {
                Ok(Admitted::nobody())
            } else if handshake.credentials().is_none() {
                Ok(Admitted::needs_credentials())
            } else {
                Err(Refusal::never("a token is needed; log in"))
            };
        };
        match self.verify(token).await {
            Ok(claims) => {
                let granted = self.granted(&claims);
                let admitted = Admitted::user(claims.user).until(claims.until);
                Ok(granted.into_iter().fold(admitted, Admitted::grant))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Returns the patterns of topics that a token grants: a text, or a list of texts.
    fn granted(&self, claims: &Claims) -> Vec<String> {
        let claim = self.topics_claim.as_ref().and_then(|name| claims.all.get(name));
        match claim {
            Some(Value::String(pattern)) => vec![pattern.clone()],
            Some(Value::Array(patterns)) => {
                patterns.iter().filter_map(|it| it.as_str().map(str::to_owned)).collect()
            }
            Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_)) | None => {
                Vec::new()
            }
        }
    }

    /// Returns the token of a request.
    fn token<'a>(&self, handshake: &'a Handshake) -> Option<&'a str> {
        let bearer = handshake.header("authorization").and_then(|value| {
            let (scheme, token) = value.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
        });
        let shown = handshake.credentials().filter(|token| !token.is_empty());
        shown
            .or(bearer)
            .or_else(|| handshake.cookie(self.cookie.as_deref()?))
            .or_else(|| handshake.query(self.query.as_deref()?))
    }
}

/// A time after which nothing expires, so that sums of times do not overflow: 1,000 years.
const FOREVER: Duration = Duration::from_secs(1_000 * 366 * 86_400);

impl JwtError {
    #[expect(clippy::wildcard_enum_match_arm, reason = "the library adds kinds")]
    fn of(kind: &ErrorKind) -> Self {
        match kind {
            ErrorKind::InvalidSignature => Self::Forged,
            ErrorKind::ExpiredSignature => Self::Expired,
            ErrorKind::ImmatureSignature => Self::Early,
            // Each token must expire, whoever it is for.
            ErrorKind::MissingRequiredClaim(claim) if claim == "exp" => Self::Malformed,
            ErrorKind::InvalidIssuer
            | ErrorKind::InvalidAudience
            | ErrorKind::InvalidSubject
            | ErrorKind::MissingRequiredClaim(_) => Self::Foreign,
            // The kinds of errors grow with the library, and all of them are about the token.
            _ => Self::Malformed,
        }
    }
}

impl From<JwtError> for Refusal {
    fn from(error: JwtError) -> Self {
        match error {
            JwtError::NoKeys => Self::retry_after(RETRY, error.to_string()),
            JwtError::NewKey => Self::retry_after(RETRY_NEW_KEY, error.to_string()),
            JwtError::Malformed
            | JwtError::Forged
            | JwtError::Expired
            | JwtError::Early
            | JwtError::Foreign => Self::never(error.to_string()),
        }
    }
}

impl fmt::Display for JwtError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed => "the token cannot be read, or is signed in a way that is not used",
            Self::Forged => "the token is not signed by a key that this server trusts",
            Self::Expired => "the token has expired; get another one",
            Self::Early => "the token does not count yet; a clock is wrong",
            Self::Foreign => "the token is not for this server",
            Self::NewKey => "the token names a key that this server does not know yet; try later",
            Self::NoKeys => "tokens cannot be checked now: the login service gives no keys",
        })
    }
}

impl std::error::Error for JwtError {}

impl fmt::Debug for Jwt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Jwt").field("keys", &self.keys).finish_non_exhaustive()
    }
}
