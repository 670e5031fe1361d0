//! What must not be seen in a log.

use std::fmt;

use super::{DecodeError, Decoder, Encoder, Version, Wire};

/// A password, or what is made of one: `{:?}` tells neither what it is nor how long. On the wire it is what it holds.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret<T>(pub T);

impl<T> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<secret>")
    }
}

impl<T> From<T> for Secret<T> {
    fn from(value: T) -> Self {
        Self(value)
    }
}

impl From<&str> for Secret<String> {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl<T: Wire> Wire for Secret<T> {
    const LEAST: usize = T::LEAST;
    fn write(&self, out: &mut Encoder, v: Version) {
        self.0.write(out, v);
    }
    fn read(d: &mut Decoder, v: Version) -> Result<Self, DecodeError> {
        T::read(d, v).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use crate::wire::messages::*;
    use crate::wire::{Request, frame};

    use super::*;

    /// No part of the password in any form `{:?}` gives bytes and texts: as text, as numbers, as hex.
    fn hides(shown: &str) {
        for sign in ["hunter2", "104, 117, 110", "68756e74"] {
            assert!(!shown.to_lowercase().contains(sign), "{shown}");
        }
    }

    fn hidden_on_its_way<R: Request + fmt::Debug>(request: &R) {
        hides(&format!("{request:?} {request:#?}"));
        for version in R::VERSIONS.0..=R::VERSIONS.1 {
            let mut out = Encoder::new();
            request.write(&mut out, R::version(version));
            hides(&format!("{out:?}"));
            let bytes = out.into_bytes();
            assert!(bytes.windows(7).any(|part| part == b"hunter2"), "it was not sent");
            let mut d = Decoder::new(bytes);
            hides(&format!("{d:?}"));
            let back = R::read(&mut d, R::version(version)).expect("our own bytes are sound");
            hides(&format!("{back:?} {:?}", frame(request, version, 1, "client")));
        }
    }

    #[test]
    fn passwords_are_not_shown() {
        let auth_bytes = Secret(Bytes::from_static(b"\0user\0hunter2"));
        hidden_on_its_way(&SaslAuthenticateRequest { auth_bytes: auth_bytes.clone() });
        hides(&format!("{:?}", SaslAuthenticateResponse { auth_bytes, ..Default::default() }));

        let value = Secret(Some("hunter2".into()));
        let config = AlterableConfig { name: "ssl.key.password".into(), value, ..Default::default() };
        let resource = AlterConfigsResource { configs: vec![config], ..Default::default() };
        hidden_on_its_way(&IncrementalAlterConfigsRequest {
            resources: vec![resource],
            ..Default::default()
        });
    }
}
