//! What two structs of the same fields have in common: their `Debug` text, read back as a tree.
//!
//! Ours and the oracle's structs are named alike field by field, but differ in their types: names and ids are newtypes
//! there, and everything has a map of unknown tagged fields. A tree forgets that.

use std::collections::BTreeMap;

/// What `{:?}` says of a secret.
const HIDDEN: &str = "<secret>";

/// A value without its type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Tree {
    Leaf(String),
    List(Vec<Self>),
    Fields(BTreeMap<String, Self>),
}

impl Tree {
    /// Every field here is there with the same value; fields only the oracle has must be at rest.
    pub(crate) fn agrees_with(&self, oracle: &Self) {
        match (self, oracle) {
            (Self::Fields(ours), Self::Fields(theirs)) => {
                for (name, value) in ours {
                    let Some(their) = theirs.get(name) else {
                        // A field of a version the oracle does not know yet.
                        assert!(value.is_at_rest(), "the schema has no {name} = {value:?}");
                        continue;
                    };
                    // OffsetForLeaderEpoch's default is a "debugging consumer"; ours is a consumer. The bytes, where
                    // a version has the field, are compared elsewhere.
                    let consumer = name == "replica_id" && value.is("-1") && their.is("-2");
                    if !consumer {
                        value.agrees_with(their);
                    }
                }
                for (name, value) in theirs.iter().filter(|(name, _)| !ours.contains_key(*name)) {
                    assert!(value.is_at_rest(), "{name} = {value:?} is not read");
                }
            }
            (Self::List(ours), Self::List(theirs)) if ours.len() == theirs.len() => {
                ours.iter().zip(theirs).for_each(|(a, b)| a.agrees_with(b));
            }
            // What is not shown is compared by its bytes alone.
            _ if self.is(HIDDEN) || oracle.is(HIDDEN) => {}
            // A default: the schema's may be empty where ours is null. On the wire the bytes tell them apart.
            _ if self.is("None") && oracle.is_empty() => {}
            _ => assert_eq!(self, oracle),
        }
    }

    /// Every field here has the value that was written, or is at rest because the version does not have it.
    pub(crate) fn is_part_of(&self, written: &Self) {
        match (self, written) {
            (Self::Fields(read), Self::Fields(written)) => {
                read.iter().for_each(|(name, value)| value.is_part_of(&written[name]));
            }
            (Self::List(read), Self::List(written)) if read.len() == written.len() => {
                read.iter().zip(written).for_each(|(a, b)| a.is_part_of(b));
            }
            _ => assert!(self == written || self.is_at_rest(), "{written:?} became {self:?}"),
        }
    }

    fn is_empty(&self) -> bool {
        matches!(self, Self::List(items) if items.is_empty()) || self.is("\"\"")
    }

    fn is(&self, text: &str) -> bool {
        matches!(self, Self::Leaf(leaf) if leaf == text)
    }

    /// Whether it is what a field is when nobody sets it.
    fn is_at_rest(&self) -> bool {
        match self {
            Self::Leaf(text) => {
                let numbers = [0, -1, 1, 60_000, i32::MAX.into(), i32::MIN.into(), i64::MAX]
                    .map(|n: i64| n.to_string());
                let words = ["", "\"\"", "None", "true", "false"];
                words.contains(&text.as_str())
                    || numbers.contains(text)
                    || *text == "00000000000000000000000000000000"
            }
            Self::List(items) => items.is_empty(),
            Self::Fields(fields) => fields.values().all(Self::is_at_rest),
        }
    }
}

/// Reads the text `{:?}` gives.
pub(crate) fn tree(text: &str) -> Tree {
    let mut rest = text;
    let tree = value(&mut rest);
    assert!(rest.is_empty(), "cannot read {rest:?} of {text:?}");
    tree
}

fn value(rest: &mut &str) -> Tree {
    if eat(rest, "[") {
        return Tree::List(items(rest, "]"));
    }
    if eat(rest, "{") {
        // A map; only the unknown tagged fields are one, and those are left out.
        let end = rest.find('}').expect("a map ends");
        *rest = &rest[end + 1..];
        return Tree::Leaf(String::new());
    }
    let word = word(rest);
    if eat(rest, " { ") {
        let mut fields = BTreeMap::new();
        loop {
            let (name, after) = rest.split_once(": ").expect("a field has a name");
            *rest = after;
            let value = value(rest);
            if name != "unknown_tagged_fields" {
                fields.insert(name.to_owned(), value);
            }
            if eat(rest, " }") {
                return Tree::Fields(fields);
            }
            assert!(eat(rest, ", "), "fields are parted by a comma: {rest}");
        }
    }
    if eat(rest, "(") {
        let mut inner = items(rest, ")");
        assert_eq!(inner.len(), 1, "{word} has one value");
        let inner = inner.pop().expect("it has one");
        // A newtype is what it holds; "something" is told from "nothing" all the same, by the latter's name.
        return inner;
    }
    // The oracle's ids are written with hyphens.
    let is_id = word.len() == 36 && word.matches('-').count() == 4;
    Tree::Leaf(if is_id { word.replace('-', "") } else { word })
}

fn items(rest: &mut &str, end: &str) -> Vec<Tree> {
    let mut items = Vec::new();
    while !eat(rest, end) {
        items.push(value(rest));
        eat(rest, ", ");
    }
    items
}

/// A text in quotes, or everything up to what ends a value.
fn word(rest: &mut &str) -> String {
    let quoted = if rest.starts_with("b\"") { Some(2) } else { rest.starts_with('"').then_some(1) };
    let length = match quoted {
        Some(start) => {
            let mut escaped = false;
            let end = rest[start..].find(|c| {
                let ends = c == '"' && !escaped;
                escaped = c == '\\' && !escaped;
                ends
            });
            start + end.expect("a text ends") + 1
        }
        None => rest.find([',', ' ', '(', ')', ']', '}']).unwrap_or(rest.len()),
    };
    let (word, after) = rest.split_at(length);
    *rest = after;
    word.to_owned()
}

fn eat(rest: &mut &str, what: &str) -> bool {
    rest.strip_prefix(what).inspect(|after| *rest = after).is_some()
}
