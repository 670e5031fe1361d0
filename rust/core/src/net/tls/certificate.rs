//! What an error says of a certificate: a walk through its DER to the names of the issuer, and times as people read them.
//! Nothing here decides whether it is good.

/// Who issued it, as `CN=X, O=Y`; what cannot be read is `unknown`.
pub(super) fn issuer(der: &[u8]) -> String {
    name(der).filter(|name| !name.is_empty()).unwrap_or_else(|| "unknown".to_owned())
}

/// The tag and the contents of the first element, and what follows it.
pub(super) fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = der.split_first()?;
    let (&first, mut rest) = rest.split_first()?;
    let mut length = usize::from(first);
    if first & 0x80 != 0 {
        let bytes = usize::from(first & 0x7f);
        if bytes == 0 || bytes > 4 {
            return None;
        }
        let (long, after) = rest.split_at_checked(bytes)?;
        length = long.iter().fold(0, |n, byte| n << 8 | usize::from(*byte));
        rest = after;
    }
    let (contents, after) = rest.split_at_checked(length)?;
    Some((tag, contents, after))
}

/// The fields from the issuer on.
fn from_issuer(der: &[u8]) -> Option<&[u8]> {
    let (_, certificate, _) = element(der)?;
    let (_, mut fields, _) = element(certificate)?;
    // The version may be absent; then come serial number and signature algorithm.
    if element(fields)?.0 == 0xa0 {
        fields = element(fields)?.2;
    }
    Some(element(element(fields)?.2)?.2)
}

/// The bits of the public key, with the number of those unused before them.
pub(super) fn public_key(der: &[u8]) -> Option<&[u8]> {
    // Issuer, validity and subject come first.
    let fields = element(element(element(from_issuer(der)?)?.2)?.2)?.2;
    let (_, algorithm_and_bits, _) = element(fields)?;
    Some(element(element(algorithm_and_bits)?.2)?.1)
}

fn name(der: &[u8]) -> Option<String> {
    let mut parts = element(from_issuer(der)?)?.1;
    let mut said = Vec::new();
    while let Some((_, mut set, after)) = element(parts) {
        while let Some((_, pair, rest)) = element(set) {
            let (_, oid, value) = element(pair)?;
            if let (Some(short), Some((tag, text, _))) = (short(oid), element(value)) {
                said.push(format!("{short}={}", text_of(tag, text)));
            }
            set = rest;
        }
        parts = after;
    }
    Some(said.join(", "))
}

/// The usual parts of a name (RFC 4514).
fn short(oid: &[u8]) -> Option<&'static str> {
    match oid {
        [0x55, 4, 3] => Some("CN"),
        [0x55, 4, 6] => Some("C"),
        [0x55, 4, 7] => Some("L"),
        [0x55, 4, 8] => Some("ST"),
        [0x55, 4, 10] => Some("O"),
        [0x55, 4, 11] => Some("OU"),
        [0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 1, 25] => Some("DC"),
        _ => None,
    }
}

/// Whoever made the certificate wrote this: no line ends and the like, and not without end.
fn text_of(tag: u8, bytes: &[u8]) -> String {
    let text = if tag == 0x1e {
        let units: Vec<u16> = bytes.chunks_exact(2).map(|two| u16::from_be_bytes([two[0], two[1]])).collect();
        String::from_utf16_lossy(&units)
    } else {
        String::from_utf8_lossy(bytes).into_owned()
    };
    text.chars().take(100).flat_map(char::escape_debug).collect()
}

/// `2026-01-31 12:00:00 UTC`.
pub(super) fn date(seconds: u64) -> String {
    let (days, of_day) = (seconds / 86_400, seconds % 86_400);
    // Days to a date of the Gregorian calendar, by eras of 400 years that begin in March.
    let days = days + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    format!("{year}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn dates() {
        for (seconds, text) in [
            (0, "1970-01-01 00:00:00 UTC"),
            (951_782_400, "2000-02-29 00:00:00 UTC"),
            (1_769_860_800 + 43_199, "2026-01-31 23:59:59 UTC"),
            (4_107_542_400, "2100-03-01 00:00:00 UTC"),
        ] {
            assert_eq!(date(seconds), text);
        }
    }

    fn der(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
        let contents = parts.concat();
        let mut out = vec![tag];
        match contents.len() {
            n @ 0..128 => out.push(n as u8),
            n => out.extend([0x82, (n >> 8) as u8, n as u8]),
        }
        [out, contents].concat()
    }

    fn certificate(version: bool, common: &[u8]) -> Vec<u8> {
        let part = |oid: u8, value: &[u8]| {
            der(0x31, &[&der(0x30, &[&der(6, &[&[0x55, 4, oid]]), &der(0x0c, &[value])])])
        };
        let issuer = der(0x30, &[&part(10, b"Acme"), &part(3, common), &part(99, b"?")]);
        let version = if version { der(0xa0, &[&der(2, &[&[2]])]) } else { Vec::new() };
        let fields = der(0x30, &[&version, &der(2, &[&[1]]), &der(0x30, &[]), &issuer, &der(0x30, &[])]);
        der(0x30, &[&fields, &der(0x30, &[])])
    }

    #[test]
    fn the_issuer_is_read() {
        assert_eq!(issuer(&certificate(true, b"Root")), "O=Acme, CN=Root");
        assert_eq!(issuer(&certificate(false, b"a\nb")), "O=Acme, CN=a\\nb");
        assert_eq!(issuer(&certificate(true, &[b'x'; 4000])).len(), "O=Acme, CN=".len() + 100);
        assert_eq!(issuer(b""), "unknown");
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_fail(bytes in prop::collection::vec(any::<u8>(), 0..200), at in 0usize..60, to in any::<u8>()) {
            issuer(&bytes);
            let mut near = certificate(true, b"Root");
            let at = at % near.len();
            near[at] = to;
            issuer(&near);
        }
    }
}
