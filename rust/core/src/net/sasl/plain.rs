//! PLAIN (RFC 4616): the password itself, in one message.

use crate::wire::Secret;
use bytes::Bytes;

/// No authorisation id: the broker derives it from the user, and refuses another.
pub(super) fn message(username: &str, password: &Secret<String>) -> Secret<Bytes> {
    Secret(["", username, password.0.as_str()].join("\0").into())
}

#[test]
fn the_form_of_rfc_4616() {
    assert_eq!(&message("tim", &"tanstaaftanstaaf".into()).0[..], b"\0tim\0tanstaaftanstaaf");
}
