//! SCRAM (RFC 5802, RFC 7677) without a socket: the client's three steps.
//!
//! Both sides prove that they know the password and neither says it: the client signs all that was said with a key made of the
//! password, the broker signs the same with another. A broker that only pretends to know the user is found out by the last
//! step. What goes over the wire still lets an eavesdropper try passwords, hence TLS.
//!
//! Names and passwords go as UTF-8, as they are. The RFC asks for SASLprep (RFC 4013), but neither brokers nor kafka-clients
//! apply it, and what was stored under one form would not be found under another.

use std::fmt;
use std::num::NonZeroU32;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use ring::rand::{SecureRandom, SystemRandom};
use ring::{digest, hmac, pbkdf2};

use crate::wire::Secret;

/// Rounds of hashing a broker may ask for. RFC 7677 asks for 4096 at least: with fewer an eavesdropper tries passwords faster.
/// More than a million would be half a second of work for whoever pretends to be a broker.
const ITERATIONS: std::ops::RangeInclusive<u32> = 4096..=1_000_000;

/// Bytes of what makes an exchange unique.
const NONCE: usize = 24;

/// No channel binding: Kafka knows none.
const GS2_HEADER: &str = "n,,";

/// The hash all is made with.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Hash {
    Sha256,
    Sha512,
}

impl Hash {
    const fn hmac(self) -> hmac::Algorithm {
        match self {
            Self::Sha256 => hmac::HMAC_SHA256,
            Self::Sha512 => hmac::HMAC_SHA512,
        }
    }

    fn digest(self, data: &[u8]) -> digest::Digest {
        digest::digest(self.hmac().digest_algorithm(), data)
    }

    /// The password, salted and hashed many times. Takes milliseconds and more.
    fn salted(self, password: &[u8], salt: &[u8], iterations: NonZeroU32) -> Secret<Vec<u8>> {
        let algorithm = match self {
            Self::Sha256 => pbkdf2::PBKDF2_HMAC_SHA256,
            Self::Sha512 => pbkdf2::PBKDF2_HMAC_SHA512,
        };
        let mut salted = vec![0; self.hmac().digest_algorithm().output_len()];
        pbkdf2::derive(algorithm, iterations, salt, password, &mut salted);
        Secret(salted)
    }

    fn sign(self, key: &[u8], data: &str) -> hmac::Tag {
        hmac::sign(&hmac::Key::new(self.hmac(), key), data.as_bytes())
    }
}

/// Why an exchange cannot go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ScramError {
    /// The broker says what is wrong.
    Server(String),
    /// What the broker says makes no sense, or is not to be trusted.
    Broken(String),
}

fn broken<T>(what: &str) -> Result<T, ScramError> {
    Err(ScramError::Broken(what.to_owned()))
}

/// The client before the broker has answered.
pub(super) struct ClientFirst {
    hash: Hash,
    nonce: String,
    bare: String,
}

/// The client before the broker has proved itself.
pub(super) struct ClientFinal {
    server_key: hmac::Key,
    /// All that was said.
    auth: String,
}

impl fmt::Debug for ClientFinal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientFinal")
    }
}

impl ClientFirst {
    /// With a nonce of the operating system's best random numbers.
    pub(super) fn new(hash: Hash, username: &str) -> Result<Self, ScramError> {
        let mut random = [0; NONCE];
        match SystemRandom::new().fill(&mut random) {
            Ok(()) => Ok(Self::with_nonce(hash, username, BASE64.encode(random))),
            Err(_) => broken("the operating system has no random numbers"),
        }
    }

    fn with_nonce(hash: Hash, username: &str, nonce: String) -> Self {
        let name = username.replace('=', "=3D").replace(',', "=2C");
        let bare = format!("n={name},r={nonce}");
        Self { hash, nonce, bare }
    }

    pub(super) fn message(&self) -> String {
        format!("{GS2_HEADER}{}", self.bare)
    }

    /// Takes the broker's first message; gives the proof to send. Blocks for as long as the hashing takes.
    pub(super) fn answer(
        self,
        password: &Secret<String>,
        server_first: &[u8],
    ) -> Result<(Secret<String>, ClientFinal), ScramError> {
        let Ok(server_first) = std::str::from_utf8(server_first) else {
            return broken("its first message is no text");
        };
        let mut fields = server_first.split(',');
        let mut field = |name: &str| fields.next().and_then(|field| field.strip_prefix(name));
        if server_first.starts_with("m=") {
            return broken("it asks for an extension that is not known");
        }
        let (Some(nonce), Some(salt), Some(iterations)) = (field("r="), field("s="), field("i=")) else {
            return broken("its first message has not the form of SCRAM");
        };
        if !nonce.starts_with(&self.nonce) || nonce.len() == self.nonce.len() {
            return broken("it did not take up the nonce");
        }
        let Ok(salt) = BASE64.decode(salt) else { return broken("its salt is not base64") };
        let known = iterations.parse().ok().filter(|n| ITERATIONS.contains(n)).and_then(NonZeroU32::new);
        let Some(iterations) = known else {
            return Err(ScramError::Broken(format!(
                "it asks for {} iterations, {} to {} are taken",
                iterations.escape_debug(),
                ITERATIONS.start(),
                ITERATIONS.end()
            )));
        };
        let without_proof = format!("c={},r={nonce}", BASE64.encode(GS2_HEADER));
        let auth = format!("{},{server_first},{without_proof}", self.bare);

        let hash = self.hash;
        let salted = hash.salted(password.0.as_bytes(), &salt, iterations);
        let client_key = hash.sign(&salted.0, "Client Key");
        let stored_key = hash.digest(client_key.as_ref());
        let client_signature = hash.sign(stored_key.as_ref(), &auth);
        let proof: Vec<u8> =
            client_key.as_ref().iter().zip(client_signature.as_ref()).map(|(key, sign)| key ^ sign).collect();
        let server_key = hash.sign(&salted.0, "Server Key");
        let server_key = hmac::Key::new(hash.hmac(), server_key.as_ref());
        let message = Secret(format!("{without_proof},p={}", BASE64.encode(proof)));
        Ok((message, ClientFinal { server_key, auth }))
    }
}

impl ClientFinal {
    /// Takes the broker's last message: whether it knows the password too.
    pub(super) fn verify(&self, server_final: &[u8]) -> Result<(), ScramError> {
        let text = std::str::from_utf8(server_final).unwrap_or_default();
        let first = text.split(',').next().unwrap_or_default();
        if let Some(error) = first.strip_prefix("e=") {
            return Err(ScramError::Server(error.to_owned()));
        }
        let signature = first.strip_prefix("v=").and_then(|v| BASE64.decode(v).ok());
        let matches = |s: Vec<u8>| hmac::verify(&self.server_key, self.auth.as_bytes(), &s).is_ok();
        if signature.is_some_and(matches) {
            return Ok(());
        }
        broken("it did not prove that it knows the password; somebody else may pretend to be this broker")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 7677, 3.
    const NONCE_256: &str = "rOprNGfwEbeRWgbNEkqO";
    const SERVER_FIRST: &str =
        "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";

    fn pencil() -> Secret<String> {
        "pencil".into()
    }

    fn user() -> ClientFirst {
        ClientFirst::with_nonce(Hash::Sha256, "user", NONCE_256.to_owned())
    }

    fn broken_by(server_first: &str) -> String {
        match user().answer(&pencil(), server_first.as_bytes()).unwrap_err() {
            ScramError::Broken(why) => why,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_exchange_of_rfc_7677() {
        assert_eq!(user().message(), "n,,n=user,r=rOprNGfwEbeRWgbNEkqO");
        let (proof, last) = user().answer(&pencil(), SERVER_FIRST.as_bytes()).unwrap();
        assert_eq!(
            proof.0,
            "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
             p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
        );
        last.verify(b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=").unwrap();
    }

    #[test]
    fn a_broker_that_does_not_know_the_password_is_found_out() {
        let (_, last) = user().answer(&pencil(), SERVER_FIRST.as_bytes()).unwrap();
        for wrong in ["v=7rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=", "v=", "v=!", "", "x=1", "v=6rriTQ=="]
        {
            let error = last.verify(wrong.as_bytes()).unwrap_err();
            assert!(matches!(&error, ScramError::Broken(why) if why.contains("prove")), "{wrong}: {error:?}");
        }
        assert_eq!(last.verify(b"e=unknown-user"), Err(ScramError::Server("unknown-user".into())));
    }

    #[test]
    fn what_a_broker_may_not_ask_for_is_refused() {
        let first = |iterations: &str| SERVER_FIRST.replace("i=4096", &format!("i={iterations}"));
        for iterations in ["0", "1", "4095", "1000001", "4294967296", "-1", "x", ""] {
            assert!(broken_by(&first(iterations)).contains("iterations, 4096 to 1000000"), "{iterations}");
        }
        assert!(broken_by(&SERVER_FIRST.replace("r=rO", "r=xO")).contains("nonce"));
        assert!(broken_by("r=rOprNGfwEbeRWgbNEkqO,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096").contains("nonce"));
        assert!(broken_by(&SERVER_FIRST.replace("s=W", "s=!")).contains("salt"));
        assert!(broken_by(&format!("m=x,{SERVER_FIRST}")).contains("extension"));
        assert!(broken_by("").contains("form"));
    }

    #[test]
    fn signs_that_have_a_meaning_are_escaped_in_names() {
        let first = ClientFirst::with_nonce(Hash::Sha256, "a=b,c\u{fc}", "n".to_owned());
        assert_eq!(first.message(), "n,,n=a=3Db=2Cc\u{fc},r=n");
    }

    /// The proof of SHA-512 is checked the way a broker does, from its stored key alone.
    #[test]
    fn sha_512_proves_what_a_broker_checks() {
        let hash = Hash::Sha512;
        let first = ClientFirst::with_nonce(hash, "user", NONCE_256.to_owned());
        let bare = first.bare.clone();
        let (message, last) = first.answer(&pencil(), SERVER_FIRST.as_bytes()).unwrap();
        let (without, proof) = message.0.split_once(",p=").unwrap();
        let auth = format!("{bare},{SERVER_FIRST},{without}");
        let salt = BASE64.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
        let salted = hash.salted(b"pencil", &salt, NonZeroU32::new(4096).unwrap());
        let stored = hash.digest(hash.sign(&salted.0, "Client Key").as_ref());
        let signature = hash.sign(stored.as_ref(), &auth);
        let proof = BASE64.decode(proof).unwrap();
        assert_eq!(proof.len(), 64);
        let key: Vec<u8> = proof.iter().zip(signature.as_ref()).map(|(p, s)| p ^ s).collect();
        assert_eq!(hash.digest(&key).as_ref(), stored.as_ref());
        let theirs = hash.sign(hash.sign(&salted.0, "Server Key").as_ref(), &auth);
        last.verify(format!("v={}", BASE64.encode(theirs.as_ref())).as_bytes()).unwrap();
    }

    #[test]
    fn no_two_exchanges_have_the_same_nonce() {
        let nonce = || ClientFirst::new(Hash::Sha256, "u").unwrap().nonce;
        let (one, other) = (nonce(), nonce());
        assert!(one != other && one.len() == 32 && !one.contains(','), "{one} {other}");
    }
}
