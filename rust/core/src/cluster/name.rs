//! Which names a topic may have (Kafka's `Topic.validate`), with the place of the mistake.

/// Longest name of a topic, in bytes (they are ASCII).
pub const TOPIC_NAME_MAX: usize = 249;

/// What is wrong with a topic name, or nothing. The text says where.
pub fn check_topic_name(name: &str) -> Result<(), TopicNameError> {
    let error = |wrong: String| Err(TopicNameError { name: name.to_owned(), wrong });
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if name.is_empty() {
        return Err(TopicNameError { name: String::new(), wrong: "has no name".to_owned() });
    }
    if let Some(at) = name.chars().position(|c| !legal(c)) {
        return error(format!("has an illegal character at {at} (allowed: letters, digits, . _ -)"));
    }
    if name.len() > TOPIC_NAME_MAX {
        return error(format!("is {} characters long, at most {TOPIC_NAME_MAX} are allowed", name.len()));
    }
    if name == "." || name == ".." {
        return error("must not be \".\" or \"..\"".to_owned());
    }
    Ok(())
}

/// A name no broker accepts.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("Topic \"{name}\" {wrong}")]
pub struct TopicNameError {
    name: String,
    wrong: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let text = |name: &str| check_topic_name(name).map_err(|e| e.to_string());
        assert_eq!(
            text("a b").unwrap_err(),
            "Topic \"a b\" has an illegal character at 1 (allowed: letters, digits, . _ -)"
        );
        assert_eq!(
            text("\u{e9}t\u{e9}").unwrap_err(),
            "Topic \"\u{e9}t\u{e9}\" has an illegal character at 0 (allowed: letters, digits, . _ -)"
        );
        assert!(text("").unwrap_err().contains("no name"));
        assert!(text(".").is_err() && text("..").is_err() && text("...").is_ok());
        assert!(text(&"x".repeat(249)).is_ok());
        assert_eq!(
            text(&"x".repeat(250)).unwrap_err(),
            format!("Topic \"{}\" is 250 characters long, at most 249 are allowed", "x".repeat(250))
        );
        assert!(text("A.z_9-").is_ok());
    }
}
