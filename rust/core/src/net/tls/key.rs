//! Elliptic private keys as Java writes them.
//!
//! A PKCS#8 text of such a key may hold the public key too (RFC 5915). Java leaves it out, ring wants it; the certificate has it,
//! so it is put back. Whether the two belong together is then checked as always.

use super::certificate::{element, public_key};

/// `id-ecPublicKey`.
const EC: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1];

/// The key with its public key from the certificate; `None` when there is nothing to do, or it is not understood.
pub(super) fn completed(pkcs8: &[u8], certificate: &[u8]) -> Option<Vec<u8>> {
    let (0x30, fields, _) = element(pkcs8)? else { return None };
    let (2, _, rest) = element(fields)? else { return None };
    let (0x30, algorithm, after) = element(rest)? else { return None };
    if element(algorithm)?.1 != EC {
        return None;
    }
    let head = &fields[..fields.len() - after.len()];
    let (4, key, _) = element(after)? else { return None };
    let (0x30, parts, _) = element(key)? else { return None };
    let mut rest = parts;
    while !rest.is_empty() {
        let (tag, _, after) = element(rest)?;
        if tag == 0xa1 {
            return None;
        }
        rest = after;
    }
    let public = tagged(0xa1, &tagged(3, public_key(certificate)?)?)?;
    let key = tagged(4, &tagged(0x30, &[parts, &public].concat())?)?;
    tagged(0x30, &[head, &key].concat())
}

/// An element of DER; contents of up to 64 KB.
pub(super) fn tagged(tag: u8, contents: &[u8]) -> Option<Vec<u8>> {
    let mut out = vec![tag];
    match u16::try_from(contents.len()).ok()? {
        n @ 0..128 => out.push(n as u8),
        n @ 128..256 => out.extend([0x81, n as u8]),
        n => out.extend([0x82, (n >> 8) as u8, n as u8]),
    }
    out.extend_from_slice(contents);
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pkcs8(parts: &[&[u8]]) -> Vec<u8> {
        let algorithm = tagged(0x30, &tagged(6, EC).unwrap()).unwrap();
        let key = tagged(4, &tagged(0x30, &parts.concat()).unwrap()).unwrap();
        tagged(0x30, &[&[2, 1, 0], &algorithm[..], &key].concat()).unwrap()
    }

    fn certificate(point: &[u8]) -> Vec<u8> {
        let public = tagged(0x30, &[&[0x30, 0][..], &tagged(3, point).unwrap()].concat()).unwrap();
        // Serial number, algorithm, issuer, validity, subject.
        let fields = [&[2, 1, 1, 0x30, 0, 0x30, 0, 0x30, 0, 0x30, 0][..], &public].concat();
        tagged(0x30, &tagged(0x30, &fields).unwrap()).unwrap()
    }

    #[test]
    fn the_public_key_is_put_back_where_it_was_left_out() {
        let (version, secret, point) = (&[2, 1, 1][..], &[4, 3, 7, 8, 9][..], &[0, 4, 5, 6][..]);
        let public = tagged(0xa1, &tagged(3, point).unwrap()).unwrap();
        let whole = pkcs8(&[version, secret, &public]);
        assert_eq!(completed(&pkcs8(&[version, secret]), &certificate(point)), Some(whole.clone()));
        assert_eq!(completed(&whole, &certificate(point)), None);
        assert_eq!(completed(&pkcs8(&[version, secret]), b""), None);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_fail(bytes in prop::collection::vec(any::<u8>(), 0..100), at in 0usize..60, to in any::<u8>()) {
            completed(&bytes, &bytes);
            let mut near = pkcs8(&[&[2, 1, 1], &[4, 3, 7, 8, 9]]);
            let at = at % near.len();
            near[at] = to;
            completed(&near, &certificate(&[0, 4]));
        }
    }
}
