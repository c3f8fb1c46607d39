//! What a message may hold, and AWS's words for what it may not.

use super::message::{Attribute, Value};

/// Bytes of a message, of all messages of one batch, and the default of a queue.
pub(crate) const MESSAGE_LEN_MAX: usize = 1_048_576;

/// Attributes of one message.
pub(crate) const ATTRIBUTES_MAX: usize = 10;

/// Bytes of an attribute's name or type, exclusive.
const NAME_LEN_END: usize = 257;

/// Characters of an id of a group or a deduplication.
const ID_LEN_MAX: usize = 128;

/// Characters of a batch entry's id, and of a queue's name.
pub(crate) const ENTRY_ID_LEN_MAX: usize = 80;

/// The text for characters that XML does not have.
pub(crate) const BAD_CONTENTS: &str = "Invalid characters found. Valid unicode characters are #x9 | #xA | #xD | #x20 to #xD7FF | #xE000 to #xFFFD | #x10000 to #x10FFFF";

/// Whether every character is one that XML has.
pub(crate) fn contents(text: &str) -> Result<(), String> {
    // Almost every body is plain: bytes from the space on, and none that begins U+FFFE or U+FFFF.
    if is_plain(text.as_bytes()) || text.chars().all(is_legal) {
        Ok(())
    } else {
        Err(BAD_CONTENTS.to_owned())
    }
}

/// Goes through whole blocks without a branch for each byte, so that the compiler can take many at a time.
fn is_plain(text: &[u8]) -> bool {
    let is_plain = |byte: &u8| (0x20..0xef).contains(byte);
    text.chunks(64).all(|block| block.iter().fold(true, |plain, byte| plain & is_plain(byte)))
}

fn is_legal(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..='\u{10ffff}')
}

/// Checks one attribute of a message.
pub(crate) fn attribute(attribute: &Attribute<'_>) -> Result<(), String> {
    let name = attribute.name.as_ref();
    check_name(name)?;
    check_type(name, &attribute.data_type)?;
    match &attribute.value {
        Value::Text(text) if text.is_empty() => Err(empty_value(name, base_type(&attribute.data_type))),
        Value::Binary(bytes) if bytes.is_empty() => Err(empty_value(name, "Binary")),
        Value::Binary(_) => Ok(()),
        Value::Text(text) => {
            contents(text)?;
            if base_type(&attribute.data_type) == "Number" { number(name, text) } else { Ok(()) }
        }
    }
}

/// The text for an attribute without a value, or with one of another type than it says.
pub(crate) fn empty_value(name: &str, data_type: &str) -> String {
    format!("Message (user) attribute '{name}' must contain a non-empty value of type '{data_type}'.")
}

/// What stands before the client's own word in a type.
pub(crate) fn base_type(data_type: &str) -> &str {
    data_type.split_once('.').map_or(data_type, |(base, _)| base)
}

fn check_name(name: &str) -> Result<(), String> {
    if name.is_empty() || name.len() >= NAME_LEN_END {
        return Err("Message (user) attribute names must be shorter than 256 Bytes".to_owned());
    }
    let is_legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    if !name.bytes().all(is_legal) {
        return Err(format!(
            "The message attribute name '{name}' is invalid. Attribute name can contain A-Z, a-z, 0-9, underscore (_), hyphen (-), and period (.) characters."
        ));
    }
    let lower = name.to_ascii_lowercase();
    let is_reserved = lower.starts_with("aws.") || lower.starts_with("amazon.");
    if is_reserved || name.starts_with('.') || name.ends_with('.') || name.contains("..") {
        return Err("You can't use message attribute names beginning with 'AWS.' or 'Amazon.'. These strings are reserved for internal use. Additionally, they cannot start or end with '.'.".to_owned());
    }
    Ok(())
}

fn check_type(name: &str, data_type: &str) -> Result<(), String> {
    if data_type.is_empty() {
        return Err(format!("The message attribute '{name}' must contain non-empty message attribute type."));
    }
    if data_type.len() >= NAME_LEN_END {
        return Err("Message (user) attribute types must be shorter than 256 Bytes".to_owned());
    }
    match base_type(data_type) {
        "String" | "Number" | "Binary" => Ok(()),
        _ => Err(bad_type(name)),
    }
}

/// The text for a type that is none.
pub(crate) fn bad_type(name: &str) -> String {
    format!(
        "The message attribute '{name}' has an invalid message attribute type, the set of supported type prefixes is Binary, Number, and String."
    )
}

/// Checks the value of a number.
pub(crate) fn number(name: &str, text: &str) -> Result<(), String> {
    let is_number =
        text.len() <= 4_096 && text.trim() == text && text.parse::<f64>().is_ok_and(f64::is_finite);
    if is_number {
        Ok(())
    } else {
        Err(format!("Can't cast the value of message (user) attribute '{name}' to a number."))
    }
}

/// Whether a text may name a group or a deduplication.
pub(crate) fn is_id(id: &str) -> bool {
    (1..=ID_LEN_MAX).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Checks the id of a group or a deduplication.
pub(crate) fn id(parameter: &str, id: &str) -> Result<(), String> {
    if is_id(id) {
        return Ok(());
    }
    Err(format!(
        "Value {id} for parameter {parameter} is invalid. Reason: {parameter} can only include alphanumeric and punctuation characters. 1 to 128 in length."
    ))
}

/// Whether a text may be the id of a batch's entry.
pub(crate) fn is_entry_id(id: &str) -> bool {
    (1..=ENTRY_ID_LEN_MAX).contains(&id.len()) && id.bytes().all(is_word)
}

/// The bytes of names: letters, digits, hyphen, underscore.
pub(crate) fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_that_xml_does_not_have_are_refused() {
        for legal in ["a", "\t\n\r", "\u{20}", "\u{d7ff}", "\u{e000}", "\u{fffd}", "\u{10000}", "\u{10ffff}"]
        {
            assert_eq!(contents(legal), Ok(()), "{legal:?}");
        }
        for illegal in ["\0", "\u{8}", "\u{b}", "\u{1f}", "\u{fffe}", "\u{ffff}", "a\u{1}b"] {
            assert_eq!(contents(illegal), Err(BAD_CONTENTS.to_owned()), "{illegal:?}");
        }
    }

    #[track_caller]
    fn is_refused(attribute_: &Attribute<'_>, part: &str) {
        let text = attribute(attribute_).unwrap_err();
        assert!(text.contains(part), "{text}");
    }

    #[test]
    fn names_types_and_values_of_attributes_have_their_rules() {
        let of = |name: &str| Attribute::text(name.to_owned(), "x");
        let longest = "n".repeat(256);
        for name in ["a", "A-b_c.9", longest.as_str()] {
            assert_eq!(attribute(&of(name)), Ok(()));
        }
        is_refused(&of(&"n".repeat(257)), "shorter than 256");
        is_refused(&of("öther"), "Attribute name can contain");
        for name in ["AWS.x", "aws.x", "Amazon.x", ".x", "x.", "a..b"] {
            is_refused(&of(name), "reserved");
        }
        let typed = |data_type: &'static str, text: &'static str| Attribute {
            data_type: data_type.into(),
            ..Attribute::text("a", text)
        };
        assert_eq!(attribute(&typed("Number.int", "-1.5e3")), Ok(()));
        is_refused(&typed("", "x"), "non-empty message attribute type");
        is_refused(&typed("Strings", "x"), "invalid message attribute type");
        is_refused(&typed("Number", "x"), "Can't cast");
        is_refused(&typed("String", ""), "non-empty value of type 'String'");
        is_refused(&typed("String", "\u{1}"), "Invalid characters");
        let empty = Attribute { value: Value::Binary(Vec::new().into()), ..typed("Binary", "") };
        is_refused(&empty, "non-empty value of type 'Binary'");
    }

    #[test]
    fn ids_have_1_to_128_characters_without_a_space() {
        assert!(is_id("a") && is_id(&"!".repeat(128)));
        for bad in ["", "a b", "ä", &"a".repeat(129)] {
            assert!(
                id("MessageGroupId", bad).unwrap_err().starts_with(&format!("Value {bad} for parameter"))
            );
        }
    }

    #[test]
    fn ids_of_entries_have_1_to_80_word_characters() {
        assert!(is_entry_id("a-B_9") && is_entry_id(&"a".repeat(80)));
        assert!(!is_entry_id("") && !is_entry_id("a:b") && !is_entry_id(&"a".repeat(81)));
    }
}
