//! Saying who we are: SaslHandshake names the mechanism, SaslAuthenticate carries what it has to say (KIP-43, KIP-152).
//!
//! The steps are the same for a new connection, which has nothing else to do, and for one whose session is about to end
//! (KIP-368), where they take their turn among the requests. So they are written once, over [`Ask`]: whoever can put a request
//! to the broker and give back the answer.

mod plain;
mod scram;

use std::time::Duration;

use bytes::Bytes;
use tokio::task::spawn_blocking;

use super::error::ConnectError;
use crate::config::{BrokerAddress, SaslConf, SaslMechanism};
use crate::wire::messages::{SaslAuthenticateRequest, SaslHandshakeRequest};
use crate::wire::{ErrorCode, Request, Secret};
use scram::{ClientFirst, Hash, ScramError};

/// Most bytes of a message of a mechanism; those of SCRAM have a hundred or two.
const MESSAGE_MAX: usize = 16 << 10;
/// Most mechanisms that are named to people, and characters of what a broker says. It is nobody yet.
const OFFERS_MAX: usize = 20;
const WORDS_MAX: usize = 300;

/// The user of a connection.
#[derive(Debug, Clone)]
pub(super) struct Credentials {
    mechanism: SaslMechanism,
    username: String,
    password: Secret<String>,
}

impl Credentials {
    /// `None` when the settings name no mechanism; [`Config::check`](crate::config::Config::check) says so.
    pub(super) fn new(conf: &SaslConf) -> Option<Self> {
        let mechanism = conf.mechanism()?;
        Some(Self { mechanism, username: conf.username.clone(), password: conf.password.clone() })
    }
}

/// Puts a request to the broker.
pub(super) trait Ask {
    fn ask<R: Request>(
        &mut self,
        request: &R,
    ) -> impl Future<Output = Result<R::Response, ConnectError>> + Send;
}

/// Proves to the broker who we are. Returns how long that holds, when the broker sets an end.
pub(super) async fn authenticate(
    ask: &mut impl Ask,
    address: &BrokerAddress,
    user: &Credentials,
) -> Result<Option<Duration>, ConnectError> {
    let mut exchange = Exchange { ask, address, user, offers: Vec::new(), lifetime: None };
    exchange.agree().await?;
    match user.mechanism {
        SaslMechanism::Plain => {
            exchange.say(plain::message(&user.username, &user.password)).await?;
        }
        SaslMechanism::ScramSha256 => exchange.scram(Hash::Sha256).await?,
        SaslMechanism::ScramSha512 => exchange.scram(Hash::Sha512).await?,
    }
    Ok(exchange.lifetime)
}

struct Exchange<'a, A> {
    ask: &'a mut A,
    address: &'a BrokerAddress,
    user: &'a Credentials,
    /// The mechanisms the broker has.
    offers: Vec<String>,
    lifetime: Option<Duration>,
}

impl<A: Ask> Exchange<'_, A> {
    /// Names the mechanism.
    async fn agree(&mut self) -> Result<(), ConnectError> {
        let mechanism = self.user.mechanism.name();
        let answer = self.ask.ask(&SaslHandshakeRequest { mechanism: mechanism.into() }).await?;
        let names = answer.mechanisms.iter().take(OFFERS_MAX);
        self.offers = names.filter_map(|name| self.words(name)).collect();
        let address = self.address.clone();
        match ErrorCode(answer.error_code) {
            ErrorCode::NONE => Ok(()),
            ErrorCode::UNSUPPORTED_SASL_MECHANISM => {
                Err(ConnectError::SaslMechanism { address, mechanism, offers: self.offers.join(", ") })
            }
            ErrorCode::ILLEGAL_SASL_STATE => Err(ConnectError::NoSasl { address }),
            code => Err(self.broken(&code.to_string())),
        }
    }

    /// One message of the mechanism, and the broker's.
    async fn say(&mut self, auth_bytes: Secret<Bytes>) -> Result<Secret<Bytes>, ConnectError> {
        let answer = self.ask.ask(&SaslAuthenticateRequest { auth_bytes }).await?;
        match ErrorCode(answer.error_code) {
            ErrorCode::NONE => {}
            ErrorCode::SASL_AUTHENTICATION_FAILED => {
                return Err(self.rejected(answer.error_message.as_deref()));
            }
            code => return Err(self.broken(&code.to_string())),
        }
        if let Ok(ms @ 1..) = u64::try_from(answer.session_lifetime_ms) {
            self.lifetime = Some(Duration::from_millis(ms));
        }
        let length = answer.auth_bytes.0.len();
        if length > MESSAGE_MAX {
            return Err(self.broken(&format!("its message has {length} bytes, {MESSAGE_MAX} are taken")));
        }
        Ok(answer.auth_bytes)
    }

    /// What a broker says, for people: no line ends and the like, not without end, and nothing that nobody is to see.
    fn words(&self, said: &str) -> Option<String> {
        let secret = &self.user.password.0;
        if said.is_empty() || (!secret.is_empty() && said.contains(secret)) {
            return None;
        }
        let plain = |c: char| if c.is_control() { c.escape_debug().to_string() } else { c.into() };
        Some(said.chars().take(WORDS_MAX).map(plain).collect())
    }

    async fn scram(&mut self, hash: Hash) -> Result<(), ConnectError> {
        let client = ClientFirst::new(hash, &self.user.username).map_err(|e| self.failed(e))?;
        let server_first = self.say(Secret(client.message().into())).await?;
        let password = self.user.password.clone();
        // Thousands of rounds of hashing, at the broker's word: not on a thread that others wait for.
        let answered = spawn_blocking(move || client.answer(&password, &server_first.0)).await;
        let answered = answered.unwrap_or_else(|e| Err(ScramError::Broken(e.to_string())));
        let (proof, last) = answered.map_err(|e| self.failed(e))?;
        let server_final = self.say(Secret(proof.0.into())).await?;
        last.verify(&server_final.0).map_err(|e| self.failed(e))
    }

    fn failed(&self, error: ScramError) -> ConnectError {
        match error {
            ScramError::Server(why) => self.rejected(Some(&why)),
            ScramError::Broken(why) => self.broken(&why),
        }
    }

    fn rejected(&self, reason: Option<&str>) -> ConnectError {
        let reason = reason.and_then(|reason| self.words(reason));
        ConnectError::Authentication {
            address: self.address.clone(),
            user: self.user.username.clone(),
            mechanism: self.user.mechanism.name(),
            offers: self.offers.join(", "),
            reason: reason.map_or(String::new(), |words| format!(" ({words})")),
        }
    }

    fn broken(&self, reason: &str) -> ConnectError {
        ConnectError::SaslBroken {
            address: self.address.clone(),
            mechanism: self.user.mechanism.name(),
            reason: reason.to_owned(),
        }
    }
}
