//! Tokens as the judge of a server.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use axum::{Router, response::Redirect, routing::get};
use jsonwebtoken::{
    Algorithm, EncodingKey, Header, encode,
    jwk::{Jwk, JwkSet},
};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use serde_json::{Value, json};
use tabmux_core::wire::{RefusedReason, ServerFrame};
use tabmux_server::{
    Config, Ctx, Message, Server, SocketHandler,
    jwt::{Jwt, JwtConfig, JwtError},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{ServerConfig, crypto::ring, pki_types::PrivatePkcs8KeyDer},
};

use super::{
    credentials::{renew, showing},
    support::{Hub, Running, claim, frame, hello, say_hello_on},
};

struct Quiet;

impl SocketHandler for Quiet {
    fn message(&mut self, _: &mut Ctx<'_>, _: Message<'_>) {}
}

const SECRET: &[u8] = b"a secret of more than thirty-two bytes";
const RSA: &[u8] = include_bytes!("keys/rsa.pem");
const EC: &[u8] = include_bytes!("keys/ec.pem");
const ED: &[u8] = include_bytes!("keys/ed.pem");

/// Seconds since 1970, and so many more.
fn in_seconds(seconds: i64) -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    i64::try_from(now).unwrap() + seconds
}

/// Good claims of ann, with these in place of some.
fn claims(other: &Value) -> Value {
    let mut claims = json!({ "sub": "ann", "exp": in_seconds(600) });
    for (name, value) in other.as_object().unwrap() {
        claims[name] = value.clone();
    }
    claims
}

fn sign(algorithm: Algorithm, id: Option<&str>, key: &EncodingKey, claims: &Value) -> String {
    let mut header = Header::new(algorithm);
    header.kid = id.map(str::to_owned);
    encode(&header, claims, key).unwrap()
}

fn secret() -> EncodingKey {
    EncodingKey::from_secret(SECRET).unwrap()
}

/// A token that is signed by the secret.
fn token(other: &Value) -> String {
    sign(Algorithm::HS256, None, &secret(), &claims(other))
}

/// A file that is removed at the end.
struct File(PathBuf);

impl File {
    fn new(content: &[u8]) -> Self {
        static FILES: AtomicUsize = AtomicUsize::new(0);
        let number = FILES.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("tabmux-jwt-{}-{number}", std::process::id()));
        std::fs::write(&path, content).unwrap();
        Self(path)
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// A checker that has the secret, and what else it wants.
fn checker(set: impl FnOnce(&mut JwtConfig)) -> Jwt {
    let file = File::new(SECRET);
    let mut config = JwtConfig::default();
    config.secret_file = Some(file.0.clone());
    set(&mut config);
    Jwt::new(&config).unwrap()
}

async fn user(jwt: &Jwt, token: &str) -> Result<String, JwtError> {
    jwt.verify(token).await.map(|claims| claims.user)
}

#[tokio::test]
async fn a_token_of_each_kind_of_key_names_its_user() {
    for (algorithm, key, public) in [
        (Algorithm::RS256, EncodingKey::from_rsa_pem(RSA), "rsa"),
        (Algorithm::ES256, EncodingKey::from_ec_pem(EC), "ec"),
        (Algorithm::EdDSA, EncodingKey::from_ed_pem(ED), "ed"),
    ] {
        let keys = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/server/keys");
        let mut config = JwtConfig::default();
        config.public_key_file = Some(keys.join(format!("{public}.pub.pem")));
        let jwt = Jwt::new(&config).unwrap();
        let good = sign(algorithm, Some("any"), &key.unwrap(), &claims(&json!({})));
        assert_eq!(user(&jwt, &good).await.as_deref(), Ok("ann"), "{public}");
        // Who knows the public key must not be able to sign with it.
        let confused = EncodingKey::from_secret(
            &std::fs::read(config.public_key_file.as_ref().unwrap()).unwrap(),
        );
        let forged = sign(Algorithm::HS256, None, &confused.unwrap(), &claims(&json!({})));
        assert_eq!(user(&jwt, &forged).await, Err(JwtError::Malformed), "{public}");
    }
    assert_eq!(user(&checker(|_| {}), &token(&json!({}))).await.as_deref(), Ok("ann"));
}

#[tokio::test]
async fn a_token_counts_from_nbf_to_exp_with_leeway() {
    let jwt = checker(|_| {});
    let check = async |other| user(&jwt, &token(&other)).await;
    assert!(check(json!({ "exp": in_seconds(-30) })).await.is_ok());
    assert_eq!(check(json!({ "exp": in_seconds(-90) })).await, Err(JwtError::Expired));
    assert!(check(json!({ "nbf": in_seconds(30) })).await.is_ok());
    assert_eq!(check(json!({ "nbf": in_seconds(90) })).await, Err(JwtError::Early));
    assert_eq!(check(json!({ "exp": null })).await, Err(JwtError::Malformed), "it never expires");
    let exp = in_seconds(600);
    let until = jwt.verify(&token(&json!({ "exp": exp }))).await.unwrap().until;
    let wanted = UNIX_EPOCH + Duration::from_secs(u64::try_from(exp).unwrap() + 60);
    assert_eq!(until, wanted);
    assert!(check(json!({ "exp": 1_000_000_000_000_i64 })).await.is_ok());
    assert!(check(json!({ "exp": 1e300 })).await.is_err());
}

#[tokio::test]
async fn audience_and_issuer_must_be_those_of_the_configuration() {
    let jwt = checker(|config| {
        config.audience = Some("chat".to_owned());
        config.issuer = Some("login".to_owned());
    });
    let check = async |other| user(&jwt, &token(&other)).await;
    assert!(check(json!({ "aud": ["mail", "chat"], "iss": "login" })).await.is_ok());
    for other in [
        json!({ "aud": "mail", "iss": "login" }),
        json!({ "aud": "chat", "iss": "evil" }),
        json!({ "aud": "chat" }),
        json!({ "iss": "login" }),
    ] {
        assert_eq!(check(other.clone()).await, Err(JwtError::Foreign), "{other}");
    }
    let any = checker(|_| {});
    let elsewhere = user(&any, &token(&json!({ "aud": "mail" }))).await;
    assert_eq!(elsewhere, Err(JwtError::Foreign), "it is meant for somebody");
}

#[tokio::test]
async fn nonsense_is_refused_with_a_reason() {
    let jwt = checker(|_| {});
    let good = token(&json!({}));
    let unsigned = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhbm4iLCJleHAiOjk5OTk5OTk5OTl9.";
    for bad in ["", "a.b.c", "....", unsigned, &"A".repeat(100_000), "\u{e4}.\u{e4}.\u{e4}"] {
        assert_eq!(user(&jwt, bad).await, Err(JwtError::Malformed), "{bad:.40}");
    }
    let cut = &good[..good.len() - 4];
    assert!(matches!(user(&jwt, cut).await, Err(JwtError::Forged | JwtError::Malformed)));
    for other in [json!({ "sub": "" }), json!({ "sub": 7 }), json!({ "sub": null })] {
        assert_eq!(user(&jwt, &token(&other)).await, Err(JwtError::Foreign), "{other}");
    }
    let strange = EncodingKey::from_secret(b"another secret of thirty-two bytes").unwrap();
    let forged = sign(Algorithm::HS256, None, &strange, &claims(&json!({})));
    assert_eq!(user(&jwt, &forged).await, Err(JwtError::Forged));
}

#[tokio::test]
async fn a_claim_of_the_configuration_names_the_user() {
    let jwt = checker(|config| config.user_claim = "email".to_owned());
    let good = user(&jwt, &token(&json!({ "email": "ann@a.example" }))).await;
    assert_eq!(good.as_deref(), Ok("ann@a.example"));
    assert_eq!(user(&jwt, &token(&json!({}))).await, Err(JwtError::Foreign));
}

/// What a hub hears whose request has these headers.
async fn answer(server: &Running, headers: &[(&'static str, &str)]) -> (Hub, Vec<u8>) {
    let mut hub = Hub::dial_with(server.address, headers).await.unwrap();
    hub.say(&hello()).await;
    let bytes = hub.next().await;
    (hub, bytes)
}

#[tokio::test]
async fn links_are_those_of_the_users_of_their_tokens() {
    let file = File::new(SECRET);
    let text = format!("[jwt]\nsecret_file = {:?}\ncookie = \"token\"\n", file.0.to_str().unwrap());
    let config = File::new(text.as_bytes());
    let config = Config::from_file(&config.0).unwrap();
    let server = Running::start(Server::builder().config(config)).await;
    let bearer = format!("bearer {}", token(&json!({})));
    let (_one, answered) = answer(&server, &[("authorization", &bearer)]).await;
    assert!(matches!(frame(&answered), ServerFrame::Welcome(_)));
    let cookie = format!("token={}", token(&json!({ "sub": "bob" })));
    let (_two, answered) = answer(&server, &[("cookie", &cookie)]).await;
    assert!(matches!(frame(&answered), ServerFrame::Welcome(_)));
    assert_eq!(server.handle.users().await, ["ann", "bob"]);
    let expired = format!("token={}", token(&json!({ "exp": in_seconds(-90) })));
    for (headers, reason) in [
        (vec![], "a token is needed; log in"),
        (vec![("cookie", expired.as_str())], "the token has expired; get another one"),
    ] {
        match frame(&answer(&server, &headers).await.1) {
            ServerFrame::Denied(denied) => {
                assert_eq!((denied.code, denied.retry_ms), (RefusedReason::Denied, None));
                assert_eq!(denied.message, reason);
            }
            other => panic!("not denied: {other:?}"),
        }
    }
}

#[tokio::test]
async fn the_address_of_a_link_may_have_the_token() {
    let builder = Server::builder().jwt(checker(|config| config.query = Some("token".to_owned())));
    let server = Running::start(builder).await;
    let query = format!("?token={}", token(&json!({})));
    let mut hub = Hub::dial_at(server.address, &query, &[]).await.unwrap();
    hub.say(&hello()).await;
    assert!(matches!(frame(&hub.next().await), ServerFrame::Welcome(_)));
    assert_eq!(server.handle.users().await, ["ann"]);
}

#[tokio::test]
async fn a_token_in_hello_names_the_user_and_is_renewed_on_the_link() {
    let checker = checker(|config| config.leeway_s = 0);
    let server = Running::start(Server::builder().jwt(checker)).await;
    let dial = || Hub::dial_at(server.address, "?credentials", &[]);
    let mut hub = dial().await.unwrap();
    hub.say(&showing(&hello(), &token(&json!({ "exp": in_seconds(60) })))).await;
    assert!(matches!(frame(&hub.next().await), ServerFrame::Welcome(_)));
    let told = hub.next().await;
    let ServerFrame::Credentials(it) = frame(&told) else { panic!("{told:?}") };
    assert!(it.expires_ms.is_some_and(|ms| (50_000..=60_000).contains(&ms)), "{it:?}");
    let (accepted, expires, _) = renew(&mut hub, 1, &token(&json!({}))).await;
    assert!(accepted && expires.is_some_and(|ms| ms > 590_000), "{expires:?}");
    let refused = renew(&mut hub, 2, &token(&json!({ "sub": "bob" }))).await;
    assert_eq!((refused.0, &*refused.2), (false, "these credentials are of another user"));
    assert!(refused.1.is_some_and(|ms| ms > 590_000), "the earlier token goes on to count");
    assert!(!renew(&mut hub, 3, "nonsense").await.0);
    assert_eq!(server.handle.users().await, ["ann"]);
    let mut hub = dial().await.unwrap();
    hub.say(&showing(&hello(), &token(&json!({ "exp": in_seconds(-1) })))).await;
    let told = hub.next().await;
    let ServerFrame::Denied(denied) = frame(&told) else { panic!("{told:?}") };
    assert_eq!((denied.code, denied.retry_ms), (RefusedReason::Denied, None));
    assert_eq!(denied.message, "the token has expired; get another one");
}

#[tokio::test]
async fn a_link_ends_when_its_token_expires_and_its_session_goes_on_with_a_newer_one() {
    let builder = Server::builder().jwt(checker(|config| {
        config.query = Some("token".to_owned());
        config.leeway_s = 0;
    }));
    let server = Running::start(builder.socket("/quiet", || Quiet)).await;
    let query = |seconds| format!("?token={}", token(&json!({ "exp": in_seconds(seconds) })));
    let hub = Hub::dial_at(server.address, &query(2), &[]).await.unwrap();
    let (mut hub, welcome) = say_hello_on(hub, &hello()).await;
    let told = hub.next().await;
    assert!(matches!(frame(&told), ServerFrame::Credentials(it) if it.expires_ms.is_some()));
    let tab = hub.attach(1).await;
    hub.open(tab, 1, "/quiet", &[]).await;
    let go_away = hub.next().await;
    assert!(matches!(frame(&go_away), ServerFrame::GoAway { after_ms: 0, .. }), "{go_away:?}");
    let closed = hub.closed().await;
    assert_eq!(closed, (1008, "the credentials of this link have expired".to_owned()));
    let hub = Hub::dial_at(server.address, &query(600), &[]).await.unwrap();
    let (_hub, again) = say_hello_on(hub, &claim(&welcome, 1)).await;
    assert!(again.resumed && again.session == welcome.session);
    assert_eq!(server.stats(|stats| stats.links.open == 1).await.links.expired, 1);
}

#[tokio::test]
async fn links_without_a_token_are_nobodys_if_the_configuration_says_so() {
    let builder = Server::builder().jwt(checker(|config| config.anonymous = true));
    let server = Running::start(builder).await;
    assert!(matches!(frame(&answer(&server, &[]).await.1), ServerFrame::Welcome(_)));
    assert!(server.handle.users().await.is_empty());
}

/// A key set with the public halves of two keys.
fn key_set() -> String {
    let public = |id: &str, algorithm, key: Result<EncodingKey, _>| {
        let mut jwk = Jwk::from_encoding_key(&key.unwrap(), algorithm).unwrap();
        jwk.common.key_id = Some(id.to_owned());
        jwk
    };
    let keys = vec![
        public("one", Algorithm::RS256, EncodingKey::from_rsa_pem(RSA)),
        public("two", Algorithm::ES256, EncodingKey::from_ec_pem(EC)),
    ];
    serde_json::to_string(&JwkSet { keys }).unwrap()
}

#[tokio::test]
async fn a_key_set_in_a_file_has_a_key_for_each_id() {
    let file = File::new(key_set().as_bytes());
    let mut config = JwtConfig::default();
    config.jwks_file = Some(file.0.clone());
    let jwt = Jwt::new(&config).unwrap();
    let (rsa, ec) =
        (EncodingKey::from_rsa_pem(RSA).unwrap(), EncodingKey::from_ec_pem(EC).unwrap());
    let claims = claims(&json!({}));
    let check =
        async |algorithm, id, key| user(&jwt, &sign(algorithm, Some(id), key, &claims)).await;
    assert!(check(Algorithm::RS256, "one", &rsa).await.is_ok());
    assert!(check(Algorithm::ES256, "two", &ec).await.is_ok());
    assert_eq!(check(Algorithm::RS256, "two", &rsa).await, Err(JwtError::Malformed));
    assert_eq!(check(Algorithm::RS256, "three", &rsa).await, Err(JwtError::Forged));
}

#[tokio::test]
async fn a_key_set_is_fetched_from_its_address() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let keys = get(move || {
        count.fetch_add(1, Ordering::Relaxed);
        async { key_set() }
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let service = axum::serve(listener, Router::new().route("/keys", keys));
    let service = tokio::spawn(service.into_future());
    let mut config = JwtConfig::default();
    config.jwks_url = Some(format!("http://{address}/keys"));
    let jwt = Jwt::new(&config).unwrap();
    let key = EncodingKey::from_ec_pem(EC).unwrap();
    let good = sign(Algorithm::ES256, Some("two"), &key, &claims(&json!({})));
    for _ in 0..3 {
        assert_eq!(user(&jwt, &good).await.as_deref(), Ok("ann"));
    }
    assert_eq!(asked.load(Ordering::Relaxed), 1);
    service.abort();
}

#[tokio::test]
async fn a_key_set_of_this_machine_is_fetched_from_no_other_address() {
    let there = Router::new().route("/keys", get(|| async { key_set() }));
    let there = serve(there).await;
    let here = get(move || async move { Redirect::temporary(&there) });
    let mut config = JwtConfig::default();
    config.jwks_url = Some(serve(Router::new().route("/keys", here)).await);
    let jwt = Jwt::new(&config).unwrap();
    let key = EncodingKey::from_ec_pem(EC).unwrap();
    let good = sign(Algorithm::ES256, Some("two"), &key, &claims(&json!({})));
    assert_eq!(user(&jwt, &good).await, Err(JwtError::NoKeys));
}

/// Serves this until the test ends. Returns the address of its `/keys`.
async fn serve(router: Router) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/keys", listener.local_addr().unwrap());
    tokio::spawn(axum::serve(listener, router).into_future());
    url
}

#[test]
fn one_setting_names_users_and_a_leeway_is_at_most_a_day() {
    let file = File::new(SECRET);
    let path = file.0.to_str().unwrap();
    let header = "user_header = \"X-User\"\ntrusted_proxies = [\"127.0.0.1\"]\n";
    let tokens = format!("[jwt]\nsecret_file = {path:?}\n");
    for (text, fault) in [
        (format!("{header}{tokens}"), "both name users"),
        (format!("{tokens}leeway_s = 86401\n"), "leeway_s must be at most"),
    ] {
        let config = File::new(text.as_bytes());
        let config = Config::from_file(&config.0).unwrap();
        let error = Server::builder().config(config).build().unwrap_err().to_string();
        assert!(error.contains(fault), "{error}");
    }
}

#[tokio::test]
async fn a_login_service_that_is_down_is_said_to_be_the_reason() {
    // Nobody listens there: the port was free a moment ago.
    let address = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let mut config = JwtConfig::default();
    config.jwks_url = Some(format!("http://{address}/keys"));
    let jwt = Jwt::new(&config).unwrap();
    let key = EncodingKey::from_ec_pem(EC).unwrap();
    let good = sign(Algorithm::ES256, Some("two"), &key, &claims(&json!({})));
    assert_eq!(user(&jwt, &good).await, Err(JwtError::NoKeys));
}

/// Serves the key set by HTTPS, with a certificate of an authority of its own. Returns the address
/// and the authority's certificate.
async fn serve_keys() -> (String, String) {
    let ca_key = KeyPair::generate().unwrap();
    let mut ca = CertificateParams::new(Vec::new()).unwrap();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = ca.self_signed(&ca_key).unwrap().pem();
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let certificate = params.signed_by(&key, &Issuer::new(ca, ca_key)).unwrap().der().clone();
    let key = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let config = config.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
    let config = config.with_single_cert(vec![certificate], key).unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            // A client that trusts another authority leaves.
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let mut request = [0; 4_096];
            if stream.read(&mut request).await.is_ok() {
                let body = key_set();
                let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
                let _ = stream.write_all((head + &body).as_bytes()).await;
                let _ = stream.shutdown().await;
            }
        }
    });
    (format!("https://localhost:{port}/keys"), authority)
}

#[tokio::test]
async fn a_key_set_is_fetched_by_https_from_whom_the_configuration_trusts() {
    let (url, authority) = serve_keys().await;
    let file = File::new(authority.as_bytes());
    let key = EncodingKey::from_rsa_pem(RSA).unwrap();
    let good = sign(Algorithm::RS256, Some("one"), &key, &claims(&json!({})));
    let mut config = JwtConfig::default();
    config.jwks_url = Some(url);
    let stranger = Jwt::new(&config).unwrap();
    assert_eq!(user(&stranger, &good).await, Err(JwtError::NoKeys), "nobody vouches for it");
    config.jwks_ca_file = Some(file.0.clone());
    let jwt = Jwt::new(&config).unwrap();
    assert_eq!(user(&jwt, &good).await.as_deref(), Ok("ann"));
}
