//! `sasl.jaas.config`, as kafka-clients have it: one login module and its options.
//!
//! `class flag name=value ...;` - values stand in quotes or bare. In quotes the escapes are those of Java's StreamTokenizer,
//! which kafka-clients read it by. Errors never show the text, for a password is in it.

use super::ConfigError;
use super::security::SaslConf;
use crate::wire::Secret;

const NAME: &str = "sasl.jaas.config";

fn bad(expected: &'static str) -> ConfigError {
    ConfigError::BadSecret { name: NAME, expected }
}

/// Takes user and password out of the text. The empty text changes nothing.
pub(super) fn read(conf: &mut SaslConf, text: &str) -> Result<(), ConfigError> {
    if text.trim().is_empty() {
        conf.jaas_is_scram = None;
        return Ok(());
    }
    let mut words = Words { rest: text };
    let form = "CLASS required username=\"...\" password=\"...\";";
    let Some(Word::Plain(class)) = words.next()? else { return Err(bad(form)) };
    let is_scram = match class.rsplit('.').next() {
        Some("ScramLoginModule") => true,
        Some("PlainLoginModule") => false,
        _ => {
            return Err(bad(
                "of a login module this client has (PlainLoginModule, ScramLoginModule of org.apache.kafka.common.security)",
            ));
        }
    };
    match words.next()? {
        Some(Word::Plain(flag))
            if ["required", "requisite", "sufficient", "optional"]
                .iter()
                .any(|known| flag.eq_ignore_ascii_case(known)) => {}
        _ => return Err(bad(form)),
    }
    let (mut username, mut password) = (None, None);
    loop {
        let name = match words.next()? {
            Some(Word::End) => break,
            Some(Word::Plain(name)) => name,
            Some(_) => return Err(bad(form)),
            None => return Err(bad("ended by a semicolon")),
        };
        let Some(Word::Equals) = words.next()? else { return Err(bad(form)) };
        let (Some(Word::Plain(value)) | Some(Word::Quoted(value))) = words.next()? else {
            return Err(bad(form));
        };
        match name.as_str() {
            "username" => username = Some(value),
            "password" => password = Some(value),
            "tokenauth" if value != "false" => {
                return Err(bad("without tokenauth: tokens are not supported"));
            }
            // Options of the broker's side mean nothing here, as in kafka-clients.
            _ => {}
        }
    }
    if words.next()?.is_some() {
        return Err(bad("one login module"));
    }
    let (Some(username), Some(password)) = (username, password) else {
        return Err(bad("with username and password"));
    };
    conf.username = username;
    conf.password = Secret(password);
    conf.jaas_is_scram = Some(is_scram);
    Ok(())
}

enum Word {
    Plain(String),
    Quoted(String),
    Equals,
    End,
}

struct Words<'a> {
    rest: &'a str,
}

impl Words<'_> {
    fn next(&mut self) -> Result<Option<Word>, ConfigError> {
        self.rest = self.rest.trim_start();
        let Some(first) = self.rest.chars().next() else { return Ok(None) };
        match first {
            '=' | ';' => {
                self.rest = &self.rest[1..];
                Ok(Some(if first == '=' { Word::Equals } else { Word::End }))
            }
            '"' | '\'' => self.quoted(first).map(Some),
            _ => {
                let ends = |c: char| c.is_whitespace() || matches!(c, '=' | ';' | '"' | '\'');
                let length = self.rest.find(ends).unwrap_or(self.rest.len());
                let (word, rest) = self.rest.split_at(length);
                self.rest = rest;
                Ok(Some(Word::Plain(word.to_owned())))
            }
        }
    }

    fn quoted(&mut self, quote: char) -> Result<Word, ConfigError> {
        let mut chars = self.rest.char_indices().skip(1).peekable();
        let mut value = String::new();
        while let Some((at, c)) = chars.next() {
            match c {
                '\\' => match chars.next() {
                    Some((_, first @ '0'..='7')) => {
                        // One to three octal digits, at most 377.
                        let (mut code, most) = (first as u32 - 48, if first <= '3' { 2 } else { 1 });
                        for _ in 0..most {
                            let Some((_, digit)) = chars.next_if(|(_, c)| matches!(c, '0'..='7')) else {
                                break;
                            };
                            code = code * 8 + (digit as u32 - 48);
                        }
                        value.extend(char::from_u32(code));
                    }
                    Some((_, escaped)) => value.push(match escaped {
                        'a' => '\u{7}',
                        'b' => '\u{8}',
                        'f' => '\u{c}',
                        'n' => '\n',
                        'r' => '\r',
                        't' => '\t',
                        'v' => '\u{b}',
                        other => other,
                    }),
                    None => break,
                },
                // A text in quotes ends with its line.
                '\n' | '\r' => break,
                c if c == quote => {
                    self.rest = &self.rest[at + 1..];
                    return Ok(Word::Quoted(value));
                }
                c => value.push(c),
            }
        }
        Err(bad("of closed quotes"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<(String, String, bool), String> {
        let mut conf = SaslConf::default();
        read(&mut conf, text).map_err(|e| e.to_string())?;
        Ok((conf.username, conf.password.0, conf.jaas_is_scram.unwrap()))
    }

    fn ok(user: &str, password: &str, is_scram: bool) -> Result<(String, String, bool), String> {
        Ok((user.to_owned(), password.to_owned(), is_scram))
    }

    #[test]
    fn user_and_password_are_found_however_they_are_written() {
        let plain = "org.apache.kafka.common.security.plain.PlainLoginModule";
        let scram = "org.apache.kafka.common.security.scram.ScramLoginModule";
        let text = format!("{plain} required username=\"alice\" password=\"a;b=c \\\" \\\\\";");
        assert_eq!(parsed(&text), ok("alice", "a;b=c \" \\", false));
        let text = format!("\n  {scram} REQUIRED\n  username = bob\n  password='it is \"x\"' ;\n");
        assert_eq!(parsed(&text), ok("bob", "it is \"x\"", true));
        assert_eq!(
            parsed(&format!(
                "{scram} required password=\"\\101\\t\u{fc}\" tokenauth=false x=\"y\" username=u;"
            )),
            ok("u", "A\t\u{fc}", true)
        );
    }

    #[test]
    fn mistakes_are_told_without_the_text() {
        let scram = "a.ScramLoginModule";
        for (text, said) in [
            ("a.Krb5LoginModule required;".to_owned(), "PlainLoginModule, ScramLoginModule"),
            (format!("{scram} required username=u password=pass"), "semicolon"),
            (format!("{scram} required username=u password=\"pass;"), "closed quotes"),
            (format!("{scram} required username=u;"), "username and password"),
            (format!("{scram} username=u password=pass;"), "CLASS required"),
            (format!("{scram} required username=u password=pass; {scram} required;"), "one login module"),
            (
                format!("{scram} required username=u password=pass tokenauth=true;"),
                "tokens are not supported",
            ),
            ("=".to_owned(), "CLASS required"),
        ] {
            let error = parsed(&text).unwrap_err();
            assert!(error.starts_with("sasl.jaas.config: ") && error.contains(said), "{text}: {error}");
            assert!(!error.contains("pass;") && !error.contains("=pass"), "{error}");
        }
    }
}
